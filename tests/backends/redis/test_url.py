"""What a storage URL says about the Redis to use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcouch.backends.redis.layout import Layout
from redcouch.backends.redis.url import RedisLocation, read_location
from redcouch.errors import ConfigurationError


def _cluster(*addresses: tuple[str, int]) -> RedisLocation:
    return RedisLocation("", addresses, cluster=True, layout=Layout(cluster=True))


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis:", RedisLocation("", (("127.0.0.1", 6379),))),
        ("redis://", RedisLocation("", (("127.0.0.1", 6379),))),
        ("redis:///3", RedisLocation("", (("127.0.0.1", 6379),), database=3)),
        ("REDIS://host", RedisLocation("", (("host", 6379),))),
        ("redis://host:7/12", RedisLocation("", (("host", 7),), database=12)),
        ("redis://host/", RedisLocation("", (("host", 6379),))),
        ("redis://[::1]:7", RedisLocation("", (("::1", 7),))),
        ("redis://[::1]", RedisLocation("", (("::1", 6379),))),
        ("redis://:pw@host", RedisLocation("", (("host", 6379),), password="pw")),
        ("redis://u:pw@host", RedisLocation("", (("host", 6379),), username="u", password="pw")),
        ("redis://u:@host", RedisLocation("", (("host", 6379),), username="u", password="")),
        (
            "redis://a%3ab:p%40%2f%3f%23%25@host",
            RedisLocation("", (("host", 6379),), username="a:b", password="p@/?#%"),
        ),
        (
            "redis://?prefix=\udce4%E4:",  # bytes that are no UTF-8, as Python has them
            RedisLocation("", (("127.0.0.1", 6379),), layout=Layout(b"\xe4\xe4:")),
        ),
        ("redis://:p:w@host", RedisLocation("", (("host", 6379),), password="p:w")),
        ("redis://host?cache=64m", RedisLocation("", (("host", 6379),), cache=64 * 2**20)),
        ("redis://host?timeout=2.5", RedisLocation("", (("host", 6379),), timeout=2.5)),
        (
            "redis://host?prefix=a%3a%2a%00%ff&encoding=raw",
            RedisLocation("", (("host", 6379),), layout=Layout(b"a:*\0\xff", raw=True)),
        ),
        ("redis://host?encoding=hex", RedisLocation("", (("host", 6379),))),
        ("rediss://host", RedisLocation("", (("host", 6379),), tls=True)),
        ("redis+cluster://a,b:7", _cluster(("a", 6379), ("b", 7))),
        ("redis+cluster://u:pw@a/0", replace(_cluster(("a", 6379)), username="u", password="pw")),
        (
            "redis+cluster://a?map=10.0.0.1:1=b:2,10.0.0.2=c,[::1]:3=d:4",
            replace(
                _cluster(("a", 6379)),
                reached_at=(
                    (("10.0.0.1", 1), ("b", 2)),
                    (("10.0.0.2", None), ("c", None)),
                    (("::1", 3), ("d", 4)),
                ),
            ),
        ),
        (
            "rediss+cluster://[::1]:7?tls_name=cache.example",
            replace(_cluster(("::1", 7)), tls=True, tls_name="cache.example"),
        ),
        ("redis+unix:///run/my%20redis", RedisLocation("", socket="/run/my redis")),
        ("redis+unix:///run/\udce4%E4", RedisLocation("", socket="/run/\udce4\udce4")),
        (
            "redis+unix://u:pw@/run/redis?db=3",
            RedisLocation("", socket="/run/redis", username="u", password="pw", database=3),
        ),
        (
            "redis+sentinel://a,b:7,[::1]:8/main",
            RedisLocation("", (("a", 26379), ("b", 7), ("::1", 8)), master="main"),
        ),
        (
            "redis+sentinel://u:pw@a/main/3?sentinel_user=me&sentinel_password=s%26",
            RedisLocation(
                "",
                (("a", 26379),),
                master="main",
                database=3,
                username="u",
                password="pw",
                sentinel_user="me",
                sentinel_password="s&",
            ),
        ),
    ],
)
def test_url(url: str, location: RedisLocation) -> None:
    """Each part of a URL means what the manual says."""
    found = read_location(url)
    for name in RedisLocation.__slots__:
        if name != "shown":
            assert getattr(found, name) == getattr(location, name), name


def test_certificates(tmp_path: Path) -> None:
    """TLS takes three files, and each has to be there."""
    for name in ("ca.pem", "my cert.pem", "key.pem"):
        (tmp_path / name).touch()
    url = f"rediss://host?ca={tmp_path}/ca.pem&cert={tmp_path}/my%20cert.pem&key={tmp_path}/key.pem"
    location = read_location(url)
    assert location.ca == tmp_path / "ca.pem"
    assert location.certificate == tmp_path / "my cert.pem"
    assert location.key == tmp_path / "key.pem"
    for name in ("ca", "cert", "key"):
        with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path}/none"):
            read_location(f"rediss://host?{name}={tmp_path}/none")
    with pytest.raises(ConfigurationError, match="key: write cert= too"):
        read_location(f"rediss://host?ca={tmp_path}/ca.pem&key={tmp_path}/key.pem")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis:host", "write redis:// and what follows it"),
        ("redis:host:6379", "write redis:// and what follows it"),
        ("redis://host:port", "'host:port' is no host:port"),
        ("redis://host:0", "is no host:port"),
        ("redis://host:65536", "is no host:port"),
        ("redis://host:-1", "is no host:port"),
        ("redis://[::1", "cannot read its hosts"),
        ("redis://:p\udce4@host", "have to be UTF-8"),
        ("redis://:p%E4@host", "have to be UTF-8"),
        ("redis://h\udce4", "have to be UTF-8"),
        ("redis://a,b", "write redis://host:port/database"),
        ("redis://host/0/1", "write redis://host:port/database"),
        ("redis://host/one", "'one' is no database number"),
        ("redis://host/-1", "is no database number"),
        ("redis://host/٣", "is no database number"),
        ("redis://host/0#1", "# as %23"),
        ("redis://host?prefix=a@b", "@ as %40"),
        ("redis://host?ca=/x", "unknown parameter 'ca'"),
        ("redis://host?db=1", "unknown parameter 'db'"),
        ("redis://host?timeout=1&timeout=2", "gives 'timeout' twice"),
        ("redis://host?timeout=soon", "timeout has to be seconds, from 0.01 to 3600"),
        ("redis://host?timeout=0", "timeout has to be"),
        ("redis://host?timeout=-1", "timeout has to be"),
        ("redis://host?timeout=nan", "timeout has to be"),
        ("redis://host?timeout=inf", "timeout has to be"),
        ("redis://host?cache=511k", "cache has to be .* of at least 512k"),
        ("redis://host?cache=much", "cache has to be"),
        ("redis://host?cache=-64m", "cache has to be"),
        ("redis://host?encoding=utf-8", "'utf-8' is neither hex nor raw"),
        ("redis://host?prefix=", "must not be empty"),
        ("redis://host?prefix=redcouch", "must not run into redcouch:sys:"),
        ("redis://host?prefix=redcouch:sys:x", "must not run into redcouch:sys:"),
        ("redis+unix://", "write redis.unix:///path/to/socket"),
        ("redis+unix://host/path", "write redis.unix:///path/to/socket"),
        ("redis+unix:///path?db=x", "'x' is no database number"),
        ("redis+sentinel://a,b", "name the master"),
        ("redis+sentinel://a,b/", "name the master"),
        ("redis+sentinel://a,b/m/0/1", "name the master"),
        ("redis+sentinel://a,b:x/m", "'b:x' is no host:port"),
        ("redis+sentinel://a,b/m/x", "'x' is no database number"),
        ("redis+sentinel://a/m?sentinel_password=p%E4", "have to be UTF-8"),
        ("redis+sentinel://a/m?sentinel_user=u%E4&sentinel_password=p", "have to be UTF-8"),
    ],
)
def test_wrong_url(url: str, words: str) -> None:
    """What is wrong with a URL is said in one line."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_location(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:SEC/RET@host",
        "redis://:SEC?RET=1@host",
        "redis://:12?RET=1@host",
        "redis://:12/RET@host",
        "redis://:SEC#RET@host",
        "redis://u:SEC@RET/1@host",
        "redis://SECRET@host",
        "redis://:SECRET@host/database",
        "redis://:@?RET=1@host",
        "redis://:SEC@/RET@host",
        "redis://:SECRET@host:port",
        "redis://:SECRET@host?nosuch=1",
        "redis://:SECRET@host?encoding=x&prefix=",
        "redis://:SECRET@[host",
        "redis+unix://:SEC/RET@/run/redis",
        "redis+sentinel://:SECRET@a,b",
        "redis+sentinel://a,b?sentinel_password=SECRET",
        "redis+sentinel://a/m?sentinel_password=SECRET&x=1",
        "redis+sentinel://:SECRET@a/m?sentinel_user=me",
    ],
)
def test_wrong_url_with_a_password(url: str) -> None:
    """No piece of a password is shown, not even of one that makes the URL wrong."""
    with pytest.raises(ConfigurationError) as caught:
        read_location(url)
    assert "SEC" not in str(caught.value)
    assert "RET" not in str(caught.value)


def test_passwords_are_not_represented() -> None:
    """A location that is logged by mistake shows no password."""
    location = read_location("redis+sentinel://u:SECRET@a/m?sentinel_password=HIDDEN")
    assert "SECRET" not in repr(location)
    assert "HIDDEN" not in repr(location)


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever stands behind the scheme, it is read, or refused as a wrong option."""
    for scheme in ("redis:", "redis://", "redis+unix://", "redis+sentinel://:p@"):
        with suppress(ConfigurationError):
            read_location(scheme + text)
