"""The connection to the broker: made, lost, and made again.

Owns the MQTT client, its TLS and credentials, the last will and the pace of new attempts.
Refuses to know what messages mean. While there is no broker the sidecar goes on alone, and this
says so once.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from daemon.gossip.messages import LARGEST_BYTES
from daemon.gossip.topics import Topics

log = logging.getLogger("remora.gossip")
# The library would tell each message that it leaves out; we count them.
_quiet = logging.getLogger("remora.gossip.mqtt")
_quiet.setLevel(logging.CRITICAL)

KEEPALIVE_S = 10
"""A broker takes us for dead after one and a half times as long, and sends our last will."""
ANSWER_TIMEOUT_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
_OVERHEAD_BYTES = 2048
"""Topic and properties around a message's content."""
_DO_NOT_SEND_RETAINED = 2


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and what it is shown.

    url: mqtt://HOST:PORT, or mqtts:// for TLS. credentials: a file of one line, USER:PASSWORD.
    ca: authorities to trust instead of the system's. All files are read again at each attempt.
    """

    url: str
    credentials: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Listener(Protocol):
    """Who is told what comes."""

    def connected(self) -> None:
        """The broker may have forgotten us: what stands must be said again."""

    def received(self, topic: str, payload: bytes, stands_s: float | None) -> None:
        """A message; stands_s: for how long the broker would still keep it, where it says so."""


class CredentialsError(ValueError):
    """A file of credentials that cannot be used."""


@dataclass(slots=True)
class Connection:
    """One client's life, over many connections.

    run_name: tells this life of the pod from others. problem: why there is no connection, in
    words; None while there is one. _lost: of the present connection; each has its own.
    """

    broker: Broker
    topics: Topics
    pod: str
    run_name: str
    expiry_s: float
    listener: Listener
    problem: str | None = "not connected yet"
    _client: aiomqtt.Client | None = None
    _said_problem: bool = False
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    async def run(self) -> None:
        """Connects and listens, again and again, until it is cancelled."""
        attempts = 0
        while True:
            began_s = time.monotonic()
            try:
                async with self._connect() as client:
                    await self._listen(client)
            except (aiomqtt.MqttError, OSError, CredentialsError) as error:
                # ssl.SSLError is an OSError.
                self._trouble(str(error) or type(error).__name__)
            # A broker may throw us out as soon as we are in; only after what lasted we begin anew.
            lasted_s = time.monotonic() - began_s
            attempts = 1 if lasted_s > LONGEST_RETRY_S else attempts + 1
            await asyncio.sleep(retry_s(attempts, random.random()))

    async def publish(self, payload: bytes) -> bool:
        """Says this of our pod, retained; False when the broker did not take it.

        An answer that is waited for goes with its connection: the next one must not be thought
        broken, nor kept silent, for what the one before it has lost.
        """
        client, lost = self._client, self._lost
        if client is None:
            return False
        properties = _properties(PacketTypes.PUBLISH)
        # A pod that is gone for good leaves nothing behind, even if its last will got lost.
        properties.MessageExpiryInterval = round(self.expiry_s)
        # Once acknowledged it is the broker's: quality 1. It is delivered with 0, since the next
        # heartbeat repairs what is lost.
        taking = asyncio.ensure_future(
            client.publish(
                self.topics.pod(self.pod),
                payload,
                qos=1,
                retain=True,
                properties=properties if payload else None,
            )
        )
        try:
            await _first(taking, lost)
            if not taking.done():
                return False
            taking.result()
        except aiomqtt.MqttError as error:
            if not lost.is_set():
                self._trouble(f"the broker takes nothing: {error}")
                lost.set()
            return False
        finally:
            taking.cancel()
        return True

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[aiomqtt.Client]:
        async with await self._made() as client:
            for topic, options in (
                (self.topics.all_pods, SubscribeOptions(qos=0)),
                (self.topics.drain(self.pod), SubscribeOptions(qos=0)),
                (
                    self.topics.all_demand,
                    # A hint is for now: one that was left lying would be taken at every start.
                    SubscribeOptions(qos=0, retainHandling=_DO_NOT_SEND_RETAINED),
                ),
            ):
                await client.subscribe(topic, options=options)
            self._client, self._lost = client, asyncio.Event()
            self._trouble(None)
            self.listener.connected()
            try:
                yield client
            finally:
                self._client = None
                self._lost.set()

    async def _made(self) -> aiomqtt.Client:
        """A client that is not connected yet."""
        address = urlsplit(self.broker.url)
        is_tls = address.scheme == "mqtts"
        user, password = await asyncio.to_thread(_credentials, self.broker.credentials)
        context = await asyncio.to_thread(_context, self.broker) if is_tls else None
        limits = _properties(PacketTypes.CONNECT)
        limits.MaximumPacketSize = LARGEST_BYTES + _OVERHEAD_BYTES
        return aiomqtt.Client(
            address.hostname or "",
            address.port or (8883 if is_tls else 1883),
            username=user,
            password=password,
            # With the pod's name alone two pods of one name would throw each other out for ever,
            # and never hear why.
            identifier=f"remora-{self.pod}-{self.run_name}",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            # Our death, however sudden, takes back what stands about us.
            will=aiomqtt.Will(self.topics.pod(self.pod), b"", qos=1, retain=True),
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_TIMEOUT_S,
            queue_type=_handing_over(self.listener),
            properties=limits,
            tls_context=context,
            logger=_quiet,
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Until the connection is lost, or the broker takes nothing more from us."""
        reading = asyncio.ensure_future(anext(client.messages))
        try:
            await _first(reading, self._lost)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()

    def _trouble(self, text: str | None) -> None:
        """Says once when the broker is lost, and once when it is back."""
        if text is None:
            if self._said_problem:
                log.info("gossip: back")
            self._said_problem = False
        elif not self._said_problem:
            log.warning("gossip: %s; going on alone", text)
            self._said_problem = True
        self.problem = text


async def _first(doing: "asyncio.Future[Any]", lost: asyncio.Event) -> None:
    """Until ``doing`` is done, or the connection is lost."""
    losing = asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait((doing, losing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        losing.cancel()


def retry_s(attempts: int, drawn: float) -> float:
    """How long to wait after so many attempts; ``drawn``, 0 to 1, keeps a fleet apart."""
    longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts - 1, 16))
    return longest_s * (0.5 + 0.5 * drawn)


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call]


def _handing_over(listener: Listener) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue that is always empty: what is put in has been taken by the listener.

    The library's own iterator makes a task for each message, which costs as much as reading it.
    Nothing can pile up here either: what comes too fast waits at the broker.
    """

    class HandingOver(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            given = getattr(item.properties, "MessageExpiryInterval", None)
            stands_s = None if given is None else float(given)
            listener.received(item.topic.value, item.payload, stands_s)

    return HandingOver


def _credentials(path: Path | None) -> tuple[str | None, str | None]:
    if path is None:
        return None, None
    try:
        user, separator, password = path.read_text("utf-8").strip("\r\n").partition(":")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CredentialsError(f"{path}: {why}") from None
    if not user or not separator or "\n" in password:
        raise CredentialsError(f"{path}: allowed: one line, USER:PASSWORD")
    return user, password


def _context(broker: Broker) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=broker.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.certificate is not None:
        context.load_cert_chain(broker.certificate, broker.key)
    return context
