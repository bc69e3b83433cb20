"""What of a URL may be shown, and what its parameters say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.errors import ConfigurationError
from redcouch.urls import read_hosts, read_parameters, redact, split_url


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
        (
            "redis+sentinel://a/m?sentinel-password=hidden",
            "redis+sentinel://a/m?sentinel-password=***",
        ),
        ("redis:/u:sec/ret@host", "redis:/u:***@host"),
        ("redis:u:secret@host", "redis:u:***@host"),
        ("redis:///u:secret@host", "redis:///u:***@host"),
        ("redis//u:secret@host", "redis//u:***@host"),
        ("redis:\\\\u:secret@host", "redis:\\\\u:***@host"),
        ("u:secret@host", "u:***@host"),
        ("embedded:///data@1", "embedded:///data@1"),
        (
            "warm:redis:u:secret@host?from=memcached:///run/a@b",
            "warm:redis:u:***@host?from=memcached:///run/a@b",
        ),
        (
            "warm:redis://u:secret@a:1?from=memcached://b",
            "warm:redis://u:***@a:1?from=memcached://b",
        ),
        ("warm:redis://a?From=memcached:/u:secret@b", "warm:redis://a?From=***"),
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


HOSTS = {
    "": ("", 9),
    "a": ("a", 9),
    "A.example:7": ("a.example", 7),
    "127.0.0.1:65535": ("127.0.0.1", 65535),
    "[::1]": ("::1", 9),
    "[::1]:8": ("::1", 8),
    "[2001:DB8::7]:1": ("2001:db8::7", 1),
    "[::ffff:10.0.0.1]:2": ("::ffff:10.0.0.1", 2),
    "[fe80::1%25eth0]:3": ("fe80::1%eth0", 3),
    "a%2Db:4": ("a-b", 4),
}


@given(st.lists(st.sampled_from(sorted(HOSTS)), min_size=1, max_size=5))
def test_hosts(names: list[str]) -> None:
    """Names and addresses of both kinds stand in one list, in any order, with and without ports."""
    url = f"redis+sentinel://u:p@{','.join(names)}/main/3?timeout=1#x"
    parts = split_url(url)
    assert parts.geturl() == url
    assert (parts.scheme, parts.path, parts.query) == ("redis+sentinel", "/main/3", "timeout=1")
    hosts = parts.netloc.removeprefix("u:p@")
    assert read_hosts(hosts, 9) == tuple(HOSTS[name] for name in names)


WRONG_HOSTS = """
    a:x a:0 a:65536 a:-1 a:+1 a:1:2 a:\u0663 a@b ::1 [::1 ::1] [::1]7 [::1]:x [::1]]:1 [[::1]]
    x[::1] [a] [] [127.0.0.1] a..b .a:1
"""


@pytest.mark.parametrize("text", WRONG_HOSTS.split())
def test_wrong_hosts(text: str) -> None:
    """What is no host is named, wherever it stands in the list."""
    for hosts in (text, f"a,{text}", f"{text},[::1]:1"):
        with pytest.raises(ValueError, match="is no host:port") as caught:
            read_hosts(hosts, 9)
        assert repr(text) in str(caught.value)


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
