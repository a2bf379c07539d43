"""Who asks: the user that the API server's front proxy vouches for.

Owns the rule that headers count only behind a client certificate that the front proxy's
authority signed and whose name is allowed. Pure: the certificate, the headers and the time come
in. What a user may do is decided elsewhere.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from multidict import CIMultiDict, CIMultiDictProxy

from daemon.fleet.metricsapi.status import unauthorized

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"

Headers = CIMultiDict[str] | CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class Trust:
    """The front proxy, as the cluster describes it.

    authorities_pem: who signs its certificate, one PEM after the other.
    names: common names it may have; empty is any.
    The rest: which headers carry the user; of several, the first that is filled.
    """

    authorities_pem: str
    names: frozenset[str]
    name_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


def user_of(
    trust: Trust | None, certificate: Mapping[str, Any] | None, headers: Headers, now_s: float
) -> User:
    """certificate: verified against ``trust.authorities_pem``, as `ssl` describes it.

    Raises Refusal.
    """
    if trust is None:
        raise unauthorized("who may ask is not known yet")
    if not certificate:
        raise unauthorized("a client certificate of the front proxy is needed")
    _check(trust, certificate, now_s)
    return _told_by(trust, headers)


def _check(trust: Trust, certificate: Mapping[str, Any], now_s: float) -> None:
    # The handshake has looked at it too, but a connection may outlive the certificate.
    if ssl.cert_time_to_seconds(certificate["notAfter"]) <= now_s:
        raise unauthorized("the client certificate has expired")
    names = [
        value
        for part in certificate.get("subject", ())
        for kind, value in part
        if kind == "commonName"
    ]
    if trust.names and not (len(names) == 1 and names[0] in trust.names):
        raise unauthorized(f"no front proxy has the name {', '.join(names) or '(none)'}")


def _told_by(trust: Trust, headers: Headers) -> User:
    name = _first(trust.name_headers, headers)
    if not name:
        raise unauthorized("the front proxy names no user")
    user = User(
        name,
        _first(trust.uid_headers, headers),
        _with_authenticated(name, _all(trust.group_headers, headers)),
        _extra(trust.extra_prefixes, headers),
    )
    told = (user.name, user.uid, *user.groups, *(key for key, _ in user.extra))
    try:
        "".join((*told, *(value for _, values in user.extra for value in values))).encode()
    except UnicodeEncodeError:
        raise unauthorized("the headers of the front proxy are not UTF-8") from None
    return user


def _with_authenticated(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Discovery comes without groups; whom the front proxy calls anonymous stays so."""
    if name == ANONYMOUS or AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return groups
    return (*groups, AUTHENTICATED)


def _first(names: tuple[str, ...], headers: Headers) -> str:
    return next((value for name in names if (value := headers.get(name))), "")


def _all(names: tuple[str, ...], headers: Headers) -> tuple[str, ...]:
    return tuple(value for name in names for value in headers.getall(name, ()) if value)


def _extra(prefixes: tuple[str, ...], headers: Headers) -> tuple[tuple[str, tuple[str, ...]], ...]:
    extra: dict[str, list[str]] = {}
    for prefix in (each.lower() for each in prefixes):
        for name, value in headers.items():
            if name.lower().startswith(prefix):
                key = unquote(name.lower().removeprefix(prefix), errors="surrogateescape")
                extra.setdefault(key, []).append(value)
    return tuple((key, tuple(values)) for key, values in sorted(extra.items()))
