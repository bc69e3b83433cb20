"""What of a URL may be shown, and what its parameters say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.errors import ConfigurationError
from redcouch.urls import read_parameters, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("redis:", "redis:"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://:@host", "redis://:***@host"),
        ("redis://user:secret@host:1/2?prefix=a", "redis://user:***@host:1/2?prefix=a"),
        ("redis://secret@host", "redis://***@host"),
        ("redis://:sec:ret@host", "redis://:***@host"),
        ("redis://u:sec@ret@host", "redis://u:***@host"),
        ("redis://u:sec/ret@host", "redis://u:***@host"),
        ("redis://u:sec?ret@host", "redis://u:***@host"),
        ("redis://u:sec#ret@host/1", "redis://u:***@host/1"),
        ("redis://u:12?3@host", "redis://u:***@host"),
        ("redis://u:12/3?4@host", "redis://u:***@host"),
        ("redis://u:secret@[::1]:7/1", "redis://u:***@[::1]:7/1"),
        ("redis://host/0?prefix=a@b", "redis://host/0?prefix=a@b"),
        ("redis://[::1]:1/0?prefix=a%40b", "redis://[::1]:1/0?prefix=a%40b"),
        ("redis://u:secret@host/0?prefix=a%40b", "redis://u:***@host/0?prefix=a%40b"),
        ("redis://u:sec@?ret@host", "redis://u:***@host"),
        ("redis+unix:///run/a@b/socket", "redis+unix:///run/a@b/socket"),
        ("redis+unix://u:secret@/run/socket", "redis+unix://u:***@/run/socket"),
        (
            "redis+sentinel://u:secret@a:1,b:2/m/0?sentinel_password=hidden&prefix=x",
            "redis+sentinel://u:***@a:1,b:2/m/0?sentinel_password=***&prefix=x",
        ),
        ("redis://host?Password=hidden", "redis://host?Password=***"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    """What is shown of a URL is all but its passwords."""
    assert redact(url) == shown


@given(st.text(min_size=1), st.sampled_from(["", "user"]), st.sampled_from(["", ":6379", "/0"]))
def test_no_password_is_shown(password: str, user: str, rest: str) -> None:
    """Whatever a password is made of, escaped or not, no piece of it is shown."""
    shown = redact(f"redis://{user}:{password}@host{rest}")
    assert shown == f"redis://{user}:***@host{rest}"


def test_parameters() -> None:
    """Parameters are bytes, with percent-encoding undone and plus signs left alone."""
    given = read_parameters("prefix=a%00%ff%26+b&empty=", ("prefix", "empty"), "redis:")
    assert given == {"prefix": b"a\x00\xff&+b", "empty": b""}
    assert read_parameters("", ("prefix",), "redis:") == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nosuch=1", "unknown parameter 'nosuch'; known are prefix, timeout"),
        ("prefix=1&prefix=2", "gives 'prefix' twice"),
        ("prefix", "cannot read the parameters"),
        ("prefix=1&&timeout=2", "cannot read the parameters"),
        ("&", "cannot read the parameters"),
    ],
)
def test_wrong_parameters(query: str, words: str) -> None:
    """A wrong parameter is named, with those that there are; the password is not."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_parameters(query, ("timeout", "prefix"), f"redis://:secret@host?{query}")
    assert "secret" not in str(caught.value)
