"""The API server, spoken to in plain JSON.

Owns the connection, who we are to it, and what a failed call means. The client library reads
kubeconfigs, service accounts and their tokens, and keeps them fresh; its models of objects are
left out, since a thousand pods of them would be most of our memory.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

CALL_TIMEOUT_S = 10.0

MERGE_PATCH = "application/merge-patch+json"


class ClusterError(RuntimeError):
    """A call that did not succeed; `status` is None where no answer came."""

    def __init__(self, what: str, status: int | None = None) -> None:
        super().__init__(what)
        self.status = status


class Cluster:
    """Calls to one API server; close it."""

    def __init__(self, configuration: client.Configuration) -> None:
        self.client = client.ApiClient(configuration)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """The answer's object. Raises ClusterError."""
        limits = aiohttp.ClientTimeout(total=timeout_s)
        async with self._request(method, path, query, body, content_type, limits) as response:
            return _object(await response.read())

    async def lines(
        self, path: str, *, query: Mapping[str, str], silence_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """One object a line until the server ends it, as a watch does. Raises ClusterError.

        silence_s: how long the whole may take; a connection that died unseen ends by it.
        """
        limits = aiohttp.ClientTimeout(total=silence_s, sock_connect=CALL_TIMEOUT_S)
        async with self._request("GET", path, query, None, "", limits) as response:
            async for line in response.content:
                yield _object(line)

    async def close(self) -> None:
        await self.client.close()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            request = await self.client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self.client.call_api(*request, _request_timeout=limits)
            async with answer.response as response:
                if response.status >= 300:
                    raise ClusterError(await _refusal(response, path), response.status)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise ClusterError(f"{method} {path}: {said}") from None


async def connected(kubeconfig: Path | None) -> Cluster:
    """Raises ClusterError where there is neither a usable kubeconfig nor a service account."""
    configuration = client.Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration
            )
        return await asyncio.to_thread(Cluster, configuration)
    except (config.ConfigException, OSError, ssl.SSLError, ValueError) as error:
        where = str(kubeconfig) if kubeconfig else "service account"
        raise ClusterError(f"{where}: {error}") from None


def _object(text: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but an object."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the answer is no object")
    return found


async def _refusal(response: aiohttp.ClientResponse, path: str) -> str:
    """The server's own words, where it has some."""
    text = await response.content.read(4096)
    try:
        said = json.loads(text).get("message", "")
    except (ValueError, AttributeError):
        said = ""
    return f"{path}: {response.status} {said or response.reason}"
