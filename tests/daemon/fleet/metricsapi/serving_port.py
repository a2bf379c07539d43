"""The metrics APIs on a port of loopback, and callers with certificates, for tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from daemon.fleet.metricsapi.serving import Listening, listen
from daemon.fleet.samples import Samples
from daemon.fleet.settings import FleetSettings
from tests.controlplane.authority import Authority, Pair
from tests.daemon.fleet.metricsapi.serving_apiserver import ApiServer, running

LOADS = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/models/pods/*/remora_load"
NAME = "remora-fleet.ours.svc"
MASTER = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
PROXY = "front-proxy-client"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]
    json: Any

    def is_refusal(self, code: int, reason: str) -> bool:
        """Whether it is one, in the words of Kubernetes."""
        told = tuple(self.json[key] for key in ("kind", "status", "code", "reason"))
        return self.status == code and told == ("Status", "Failure", code, reason)


@dataclass(frozen=True, slots=True)
class Port:
    """front_proxy: the authority that signs the API server's client certificate."""

    listening: Listening
    api_server: ApiServer
    front_proxy: Authority
    proxy: Pair
    bundle: bytes | None = None

    @property
    def url(self) -> str:
        host, port = self.listening.runner.addresses[0][:2]
        return f"https://{host}:{port}"

    def context(self, shown: Pair | None) -> ssl.SSLContext:
        """A caller who shows this certificate, and believes what is published."""
        bundle = self.listening.serving.ca_bundle()
        if bundle is None:
            assert self.bundle is not None
            return believing(self.bundle, shown)
        # As strict as the platform is: what we sign ourselves stands up to it.
        context = ssl.create_default_context(cadata=bundle.decode())
        if shown:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    @asynccontextmanager
    async def session(self, shown: Pair | None) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=self.context(shown))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session

    async def get(
        self, path: str, headers: Mapping[str, str] = MASTER, method: str = "GET"
    ) -> Answer:
        """As the front proxy asks, over a connection of its own."""
        async with self.session(self.proxy) as session:
            return await self.ask(session, path, headers, method)

    async def get_as(
        self, shown: Pair | None, path: str = LOADS, headers: Mapping[str, str] = MASTER
    ) -> Answer:
        """As one who shows this certificate asks, whatever headers they add."""
        async with self.session(shown) as session:
            return await self.ask(session, path, headers)

    async def ask(
        self,
        session: aiohttp.ClientSession,
        path: str,
        headers: Mapping[str, str] = MASTER,
        method: str = "GET",
    ) -> Answer:
        async with session.request(
            method, self.url + path, headers=headers, server_hostname=NAME
        ) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json" and body
            told = await answer.json() if is_json else None
            return Answer(answer.status, body, answer.headers, told)


def believing(bundle: bytes, shown: Pair | None) -> ssl.SSLContext:
    """A caller who shows this certificate, and believes a test's authority."""
    context = ssl.create_default_context(cadata=bundle.decode())
    # Python 3.13 insists on key identifiers, which the API server does not, nor that authority.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if shown:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


@asynccontextmanager
async def open_port(samples: Samples, folder: Path, **settings: Any) -> AsyncIterator[Port]:
    front_proxy = Authority.create(folder, "front-proxy-ca")
    async with running() as (api_server, cluster):
        api_server.describe_front_proxy(front_proxy.certificate.read_text(), PROXY)
        chosen = {"own_namespace": "ours", "host": "127.0.0.1", "api_port": 0, **settings}
        listening = await listen(samples, cluster, FleetSettings(**chosen))
        try:
            yield Port(listening, api_server, front_proxy, front_proxy.issue(PROXY))
        finally:
            await listening.close()
            # The transports of TLS close a turn of the loop later.
            await asyncio.sleep(0)
