"""A client of the API server for tests: objects in and out as they stand in manifests.

Owns paths, verbs and errors of the REST interface. Knows nothing of what the objects mean.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml

Object = dict[str, Any]

TIMEOUT_S = 15.0
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Refused(RuntimeError):
    """The API server answered, and not with what was asked for."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:500]}")
        self.status = status


class Client:
    """One caller: a certificate within `context`, or a bearer `token`. Threads may share it."""

    def __init__(self, url: str, context: ssl.SSLContext, token: str = "") -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(
            ssl_context=context, maxsize=32, block=True, retries=False, timeout=TIMEOUT_S
        )

    def close(self) -> None:
        self._pool.clear()

    def answer(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and body, whatever they are."""
        given = {"Content-Type": "application/json", "Accept": "application/json"}
        answer = self._pool.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body),
            headers=given | self._headers | dict(headers or {}),
        )
        text = answer.data.decode()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def get(self, path: str) -> Object:
        return self._wanted("GET", path)

    def items(self, path: str) -> list[Object]:
        return list(self.get(path)["items"])

    def create(self, wanted: Object) -> Object:
        return self._wanted("POST", collection(wanted), wanted)

    def apply(self, wanted: Object) -> Object:
        """Makes or changes an object, as `kubectl apply --server-side` would.

        A field that the kind does not have is refused.
        """
        query = "fieldManager=controlplane-test&force=true&fieldValidation=Strict"
        path = f"{path_of(wanted)}?{query}"
        return self._wanted("PATCH", path, wanted, content_type=APPLY)

    def apply_all(self, wanted: Iterable[Object]) -> None:
        for each in wanted:
            self.apply(each)

    def merge(self, path: str, change: Object) -> Object:
        return self.patch(path, change, MERGE)

    def patch(self, path: str, change: Object, content_type: str) -> Object:
        return self._wanted("PATCH", path, change, content_type=content_type)

    def delete(self, path: str, grace_s: int | None = None) -> None:
        query = "" if grace_s is None else f"?gracePeriodSeconds={grace_s}"
        status, body = self.answer("DELETE", path + query)
        if status not in (200, 202, 404):
            raise Refused("DELETE", path, status, str(body))

    def _wanted(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
    ) -> Object:
        status, found = self.answer(method, path, body, headers={"Content-Type": content_type})
        if status not in (200, 201) or not isinstance(found, dict):
            raise Refused(method, path, status, str(found))
        return found


def collection(of: Object) -> str:
    """Where objects of this kind live; every kind used here has a regular plural."""
    group = of["apiVersion"]
    prefix = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    namespace = of["metadata"].get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    kind = of["kind"].lower()
    plural = f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"
    return f"{prefix}{inside}/{plural}"


def path_of(one: Object) -> str:
    return f"{collection(one)}/{one['metadata']['name']}"


def manifests(path: Path, change: Callable[[Object], Object] = lambda each: each) -> list[Object]:
    """The documents of one file, or of every *.yaml of a folder in order.

    What says how a folder is put together is no object, and kustomize is not asked here.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    found = (each for file in files for each in yaml.safe_load_all(file.read_text()) if each)
    return [change(each) for each in found if each["kind"] != "Kustomization"]
