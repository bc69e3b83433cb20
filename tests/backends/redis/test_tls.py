"""Redis behind TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from redcouch.backends.redis.url import read_location
from redcouch.errors import BackendError, ConfigurationError
from tests.backends.redis.case import RedisCase
from tests.backends.redis.certificates import Authority
from tests.cli.running import run
from tests.support.polling import eventually_in_reactor
from tests.support.requirements import needs
from tests.support.servers import RedisServer, free_port, sentinel

# Twisted hands over what pyOpenSSL would rather not be given any more.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@needs("redis tls")
class TLSTests(RedisCase):
    """Debian's Redis 7.0, with certificates of the tests' own."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.directory = self.folder()
        self.authority = Authority(self.directory, "authority")

    def behind_tls(self, *options: str, address: str = "127.0.0.1") -> RedisServer:
        """A Redis that has a certificate for an address."""
        certificate, key = self.authority.issue("server", address)
        self.port = free_port()
        return self.start_redis(
            *("--tls-port", str(self.port)),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(self.authority.path)),
            *options,
        )

    async def enter(self, **parameters: Path | int) -> None:
        """Connect, with these files and the like as parameters."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        await self.connect(f"rediss://127.0.0.1:{self.port}/1?{query}")

    async def is_served(self) -> None:
        """Check that items can be stored and read, large ones too."""
        await self.set(b"v" * 100_000)
        self.assertEqual(await self.value(), b"v" * 100_000)

    async def is_refused(self, words: str) -> None:
        """Check that there is no connection, and the reason why not."""
        with self.assertRaisesRegex(BackendError, "storage not reachable"):
            await self.get()
        self.assertRegex(self.storage.health().reason, words)

    async def test_authority(self) -> None:
        """With the CA that signed Redis' certificate, Redis is trusted."""
        self.behind_tls("--tls-auth-clients", "no")
        await self.enter(ca=self.authority.path)
        await self.is_served()

    async def test_without_tls(self) -> None:
        """Who does not write rediss, service and command, is told of it."""
        self.behind_tls("--tls-auth-clients", "no")
        url = f"redis://127.0.0.1:{self.port}"
        lines = self.logged()
        await self.connect(url)
        await self.is_refused("it speaks TLS")
        (line,) = (line for line in lines if "Cannot reach Redis" in line)
        self.assertIn("write rediss in place of redis", line)
        said: Any = await deferToThread(run, "ls", "-s", url)
        self.assertEqual(said.status, 3)
        self.assertIn("write rediss in place of redis", said.err)

    async def test_several_authorities(self) -> None:
        """A file may hold more than one CA."""
        self.behind_tls("--tls-auth-clients", "no")
        other = Authority(self.directory, "other")
        both = self.directory / "both.pem"
        both.write_bytes(other.path.read_bytes() + self.authority.path.read_bytes())
        await self.enter(ca=both)
        await self.is_served()

    async def test_client_certificate(self) -> None:
        """A Redis that asks for a certificate is shown one, from two files or from one."""
        self.behind_tls("--tls-auth-clients", "yes")
        certificate, key = self.authority.issue("client")
        await self.enter(ca=self.authority.path, cert=certificate, key=key)
        await self.is_served()
        together = self.directory / "together.pem"
        together.write_bytes(certificate.read_bytes() + key.read_bytes())
        await self.enter(ca=self.authority.path, cert=together)
        await self.is_served()

    async def test_no_client_certificate(self) -> None:
        """Without the certificate that Redis asks for, TLS' own reason is given."""
        self.behind_tls("--tls-auth-clients", "yes")
        await self.enter(ca=self.authority.path)
        reasons = "certificate required|handshake failure|peer did not return"
        await self.is_refused(f"({reasons})[^.]*$")  # and no word of a Redis without TLS

    async def test_unknown_authority(self) -> None:
        """A certificate that somebody else signed is not trusted, and that is said."""
        self.behind_tls("--tls-auth-clients", "no")
        await self.enter(ca=Authority(self.directory, "other").path)
        await self.is_refused("certificate verify failed$")

    async def test_public_authorities(self) -> None:
        """Without C{ca}, only what the system trusts is trusted."""
        self.behind_tls("--tls-auth-clients", "no")
        await self.enter()
        await self.is_refused("certificate verify failed")

    async def test_another_host(self) -> None:
        """A certificate of another host's is not trusted."""
        self.behind_tls("--tls-auth-clients", "no", address="127.0.0.2")
        await self.enter(ca=self.authority.path)
        await self.is_refused("127.0.0.1|VerificationError|mismatch|verify")

    async def test_no_tls_there(self) -> None:
        """TLS spoken to a Redis that does not is an error, and not a long wait."""
        self.port = self.start_redis().port
        await self.enter(ca=self.authority.path, timeout=1)
        await self.is_refused("no answer for 1 s|closed|lost")

    async def test_no_tls_here(self) -> None:
        """So is a plain connection to a port that wants TLS."""
        self.behind_tls("--tls-auth-clients", "no")
        await self.connect(f"redis://127.0.0.1:{self.port}")
        await self.is_refused("does not answer as a Redis does|clean|lost|closed")

    async def test_sentinel(self) -> None:
        """Sentinels are spoken to over TLS, and so is each master that they name."""
        both = ("--tls-replication", "yes", "--repl-diskless-sync-delay", "0")
        native = self.native(self.behind_tls(*both))
        its_port = self.port
        master = self.behind_tls(*both)
        native.replicaof("127.0.0.1", self.port)
        await eventually_in_reactor(
            lambda: native.info("replication")["master_link_status"] == "up"
        )
        certificate, key = self.authority.issue("client")
        watching = self.enterContext(
            sentinel(
                self.port,
                f"tls-cert-file {certificate}",
                f"tls-key-file {key}",
                f"tls-ca-cert-file {self.authority.path}",
                "tls-replication yes",
            )
        )
        tls = f"ca={self.authority.path}&cert={certificate}&key={key}"
        await self.connect(f"rediss+sentinel://127.0.0.1:{watching.port}/main?{tls}")
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.is_served()
        await eventually_in_reactor(lambda: native.exists("rc:k"))
        watching.options = {
            "ssl": True,
            "ssl_ca_certs": str(self.authority.path),
            "ssl_certfile": str(certificate),
            "ssl_keyfile": str(key),
        }
        await eventually_in_reactor(lambda: watching.knows()["replicas"])
        watching.take_for_dead_after(300)
        master.kill()
        await self.replaced_for_good(native, its_port, [watching])
        await self.is_served()
        self.assertTrue(native.hexists("rc:k", "c"))
        for scheme, words in (
            ("redis+sentinel", "it speaks TLS|clean|lost|closed"),
            ("rediss+sentinel", "certificate verify failed$"),
        ):
            await self.connect(f"{scheme}://127.0.0.1:{watching.port}/main")
            await self.is_refused(words)

    async def test_restart(self) -> None:
        """A TLS connection is made again like any other."""
        certificate, key = self.authority.issue("server")
        self.port = free_port()
        server = self.start_redis(
            *("--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(self.authority.path)),
        )
        await self.enter(ca=self.authority.path)
        await self.is_served()
        server.stop()
        await eventually_in_reactor(lambda: not self.storage.health().ready)
        server.start()
        await eventually_in_reactor(lambda: self.storage.health().ready)
        await self.is_served()

    async def test_replaced_certificates(self) -> None:
        """Files that are replaced are read at the next connection, but for what cannot be used."""
        server = self.behind_tls()
        certificate, key = self.authority.issue("client")
        await self.enter(ca=self.authority.path, cert=certificate, key=key)
        await self.is_served()

        async def start_again() -> None:
            server.stop()
            await eventually_in_reactor(lambda: not self.storage.health().ready)
            server.start()
            await eventually_in_reactor(lambda: self.storage.health().ready)
            await self.is_served()

        another = Authority(self.directory, "authority")
        for name in ("server", "client"):
            another.issue(name)
        await start_again()
        certificate.write_text("half of it")
        await start_again()

    async def test_another_certificate_after_an_outage(self) -> None:
        """The log has what is wrong with TLS, too, where Redis was away before."""
        server = self.behind_tls("--tls-auth-clients", "no")
        await self.enter(ca=self.authority.path)
        await self.is_served()
        lines = self.logged()
        server.stop()
        await eventually_in_reactor(lambda: "refused" in "".join(lines))
        (self.directory / "other").mkdir()
        other = Authority(self.directory / "other", "authority")
        for made, used in zip(other.issue("server"), self.authority.issue("server"), strict=True):
            made.replace(used)
        server.start()
        await eventually_in_reactor(lambda: "certificate verify failed" in "".join(lines))

    async def test_files_without_certificates(self) -> None:
        """A file that is no certificate, or a key that is missing, ends the start with a line."""
        _, another = self.authority.issue("another")
        certificate, key = self.authority.issue("client")
        text = self.directory / "text.pem"
        text.write_text("no certificate")
        keys = (f"cert={certificate}&key={file}" for file in (text, another))
        for query in (f"cert={certificate}", f"cert={text}", *keys):
            url = f"rediss://:SECRET@127.0.0.1?{query}"
            read_location(url)
            with self.assertRaisesRegex(ConfigurationError, "cannot use its certif") as caught:
                await self.connect(url)
            self.assertNotIn("\n", str(caught.exception))
            self.assertNotIn("SECRET", str(caught.exception))
        with self.assertRaisesRegex(ConfigurationError, "cannot use its certificates"):
            await self.connect(f"rediss://127.0.0.1?ca={text}")
        self.assertTrue(key.is_file())
