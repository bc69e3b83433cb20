"""The listening sockets, as C{stats conns} names them."""

from __future__ import annotations

import pytest

from redcouch.build import listening_addresses


@pytest.mark.parametrize(
    ("port", "address"),
    [
        ("11211", ["tcp:127.0.0.1:11211"]),
        ("tcp:11211", ["tcp:0.0.0.0:11211"]),
        ("tcp:port=11211:interface=10.0.0.1", ["tcp:10.0.0.1:11211"]),
        (r"tcp:11211:interface=\:\:1", ["tcp6:[::1]:11211"]),
        ("tcp6:11211", ["tcp6:[::]:11211"]),
        ("ssl:11211:privateKey=k.pem:certKey=c.pem", ["tcp:0.0.0.0:11211"]),
        ("unix:/run/redcouch.sock:mode=600", ["unix:/run/redcouch.sock"]),
        ("0", []),
        ("systemd:domain=INET:name=memcached", []),
    ],
)
def test_address(port: str, address: list[str]) -> None:
    """As memcached writes its own; what is not known is left out."""
    assert listening_addresses({"ports": [port], "interface": "127.0.0.1"}) == address
