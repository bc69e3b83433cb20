"""What clients are called."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from unittest.mock import patch

import pytest

from redcouch.errors import ConfigurationError
from redcouch.telemetry.client_names import ClientNames


def test_names(tmp_path: Path) -> None:
    """The name of the smallest network counts; who is in none has no name."""
    path = tmp_path / "names"
    path.write_text(
        "\n# shops\n192.0.2.0/24 shops of all kinds\n  192.0.2.7\tcheckout  \n2001:db8::/32 six\n"
    )
    names = ClientNames(path)
    assert names.of("192.0.2.7") == names.of("::ffff:192.0.2.7") == "checkout"
    assert names.of("192.0.2.8") == "shops of all kinds"
    assert names.of("2001:db8::1") == "six"
    assert names.of("198.51.100.1") == names.of("unix") == names.of("") == names.of("::ffff:") == ""
    assert ClientNames().of("192.0.2.7") == ""


@pytest.mark.parametrize("text", ["192.0.2.7", "somebody shop", "192.0.2.7/24 shop", "/ shop"])
def test_nonsense(tmp_path: Path, text: str) -> None:
    """What is no address, or has no name, is told with its line; the names stay."""
    path = tmp_path / "names"
    path.write_text("192.0.2.7 checkout\n")
    names = ClientNames(path)
    path.write_text("# first\n" + text + "\n")
    with pytest.raises(ConfigurationError, match="line 2: write an address"):
        names.reload()
    assert names.of("192.0.2.7") == "checkout"


def test_looked_up_once(tmp_path: Path) -> None:
    """A page with hundreds of clients, every few seconds, keeps nobody waiting for their names."""
    path = tmp_path / "names"
    path.write_text("192.0.2.0/24 shop\n")
    names = ClientNames(path)
    with patch.object(ipaddress, "ip_address", wraps=ipaddress.ip_address) as looked_up:
        assert {names.of("192.0.2.7") for _ in range(1000)} == {"shop"}
        assert looked_up.call_count == 1
    path.write_text("192.0.2.0/24 bank\n")
    names.reload()
    assert names.of("192.0.2.7") == "bank"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        ClientNames(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no text"):
        ClientNames(tmp_path / "binary")
