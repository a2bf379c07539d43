"""TLS on our HTTP port: the certificate we show, and whose clients' certificates count.

Owns the files' reading while the port is open: a changed one holds for the next connection, and
nobody is dropped. Imported where a certificate is configured only, for its library is large.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from daemon.fleet.certificates.contexts import CertificateError, Serving
from daemon.fleet.certificates.files import GivenFiles

log = logging.getLogger("remora.tls")

LOOK_EVERY_S = 10.0


@dataclass(slots=True)
class PortTls:
    """certificate, key: what we show, PEM. client_ca: authorities of clients, PEM."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    _serving: Serving = field(init=False)
    _watch: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._serving = Serving(GivenFiles(self.certificate, self.key))

    async def open(self) -> SSLContext:
        """Raises CertificateError when the files cannot be used as they are."""
        await self._refresh()
        self._watch = asyncio.create_task(self._look_again(), name="certificates")
        return self._serving.ssl_context

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._refresh()
            except CertificateError as error:
                log.warning("%s", error)

    async def _refresh(self) -> None:
        await self._serving.refresh()
        if self.client_ca is not None:
            try:
                text = await asyncio.to_thread(self.client_ca.read_text, "ascii")
                self._serving.trust(text)
            except (OSError, ValueError) as error:
                raise CertificateError(f"{self.client_ca}: {error}") from None

    def knows(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether the caller has shown a certificate of an authority in force."""
        return self._serving.peer_certificate(transport) is not None
