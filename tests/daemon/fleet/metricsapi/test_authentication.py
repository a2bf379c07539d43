"""Who asks: the front proxy's certificate first, and only then its headers."""

from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from daemon.fleet.metricsapi.authentication import Trust, User, user_of
from daemon.fleet.metricsapi.status import Refusal

NOW_S = 1_764_000_000.0
TRUST = Trust(
    authorities_pem="",
    names=frozenset({"front-proxy-client"}),
    name_headers=("X-Remote-User",),
    uid_headers=("X-Remote-Uid",),
    group_headers=("X-Remote-Group",),
    extra_prefixes=("X-Remote-Extra-",),
)


def certificate(*names: str, until: str = "Jan  1 00:00:00 2030 GMT") -> dict[str, Any]:
    subject = (
        (("organizationName", "somebody"),),
        *((("commonName", name),) for name in names),
    )
    return {"subject": subject, "notAfter": until}


PROXY = certificate("front-proxy-client")


def told(*headers: tuple[str, str], trust: Trust | None = TRUST) -> User:
    return user_of(trust, PROXY, CIMultiDict(headers), NOW_S)


def refused(trust: Trust | None, shown: dict[str, Any] | None, *headers: tuple[str, str]) -> str:
    with pytest.raises(Refusal) as raised:
        user_of(trust, shown, CIMultiDict(headers), NOW_S)
    assert raised.value.code == 401
    assert raised.value.reason == "Unauthorized"
    return raised.value.message


def test_headers_count_for_nothing_without_a_certificate() -> None:
    spoofed = [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")]
    assert "certificate" in refused(TRUST, None, *spoofed)
    assert "certificate" in refused(TRUST, {}, *spoofed)


def test_nobody_is_known_before_the_front_proxy_is() -> None:
    assert "not known yet" in refused(None, PROXY, ("X-Remote-User", "a"))


@pytest.mark.parametrize(
    "names", [("somebody",), (), ("front-proxy-client", "x"), ("x", "front-proxy-client")]
)
def test_a_certificate_of_another_name_is_refused(names: tuple[str, ...]) -> None:
    assert "has the name" in refused(TRUST, certificate(*names), ("X-Remote-User", "a"))


def test_without_allowed_names_any_will_do() -> None:
    trust = replace(TRUST, names=frozenset())
    headers = CIMultiDict({"X-Remote-User": "a"})
    assert user_of(trust, certificate("somebody"), headers, NOW_S).name == "a"


def test_a_certificate_ends_while_its_connection_lasts() -> None:
    shown = certificate("front-proxy-client", until="Nov 24 16:00:00 2025 GMT")
    headers = CIMultiDict({"X-Remote-User": "a"})
    assert user_of(TRUST, shown, headers, 1_763_999_999.0).name == "a"
    assert "expired" in refused(TRUST, shown, ("X-Remote-User", "a"))


def test_a_user_is_read_whole() -> None:
    assert told(
        ("x-remote-user", "ann"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", ""),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-Scopes", "view"),
        ("X-Remote-Extra-scopes", "edit"),
        ("X-Remote-Extra-Example.com%2fTeam", "red"),
        ("X-Other", "ignored"),
    ) == User(
        "ann",
        "7",
        ("a", "b", "system:authenticated"),
        (("example.com/team", ("red",)), ("scopes", ("view", "edit"))),
    )


def test_the_first_header_that_is_filled_names_the_user() -> None:
    trust = replace(TRUST, name_headers=("X-First", "X-Second"))
    headers = [("X-First", ""), ("X-Second", "ann")]
    assert told(*headers, trust=trust).name == "ann"


def test_without_a_name_there_is_no_user() -> None:
    assert "names no user" in refused(TRUST, PROXY, ("X-Remote-Group", "system:masters"))
    assert "names no user" in refused(TRUST, PROXY, ("X-Remote-User", ""))


def test_discovery_comes_without_groups_and_is_authenticated() -> None:
    assert told(("X-Remote-User", "system:kube-aggregator")).groups == ("system:authenticated",)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("system:anonymous", ()),
        ("system:anonymous", ("system:unauthenticated",)),
        ("ann", ("system:unauthenticated",)),
        ("ann", ("system:authenticated", "a")),
    ],
)
def test_nobody_becomes_authenticated_here(name: str, groups: tuple[str, ...]) -> None:
    headers = [("X-Remote-User", name), *(("X-Remote-Group", group) for group in groups)]
    assert told(*headers).groups == groups


@pytest.mark.parametrize("header", ["X-Remote-User", "X-Remote-Group", "X-Remote-Extra-a"])
def test_what_is_no_text_is_refused(header: str) -> None:
    headers = [("X-Remote-User", "ann"), (header, "\udcff")]
    if header == "X-Remote-User":
        headers = headers[1:]
    assert "not UTF-8" in refused(TRUST, PROXY, *headers)
    assert "not UTF-8" in refused(TRUST, PROXY, headers[0], ("X-Remote-Extra-%ff", "x"))
