"""Authorities shared through a Secret: by replicas that race, and while the cluster is away."""

import asyncio
import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from daemon.fleet.certificates.contexts import CertificateError, Identity, Serving
from daemon.fleet.certificates.secret import SelfSigned
from daemon.fleet.cluster import Cluster
from tests.daemon.fleet.metricsapi.serving_apiserver import SECRETS, running

KEYS = ("ca.crt", "ca.key")
PATH = f"{SECRETS}/remora-fleet-ca"
NAMES = ("remora-fleet.ours.svc",)
DAY = timedelta(days=1)


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def replica(cluster: Cluster, clock: Clock) -> SelfSigned:
    return SelfSigned(cluster, "ours", "remora-fleet-ca", NAMES, clock)


def signed_by(identity: Identity, bundle: bytes | None) -> int:
    """Which certificate of the bundle signed it, from 0."""
    leaf = x509.load_pem_x509_certificates(identity.pem)[0]
    known = x509.load_pem_x509_certificates(bundle or b"")
    found = [number for number, each in enumerate(known) if each.subject == leaf.issuer]
    leaf.verify_directly_issued_by(known[found[0]])
    return found[0]


def serial(identity: Identity) -> int:
    return x509.load_pem_x509_certificates(identity.pem)[0].serial_number


async def test_replicas_that_start_together_share_an_authority() -> None:
    async with running() as (server, cluster):
        clock = Clock()
        both = [replica(cluster, clock) for _ in range(2)]
        identities = await asyncio.gather(*(each.identity() for each in both))
        assert server.writes == [f"POST {PATH}"]
        assert both[0].ca_bundle() == both[1].ca_bundle()
        for one, other in zip(both, reversed(identities), strict=True):
            assert signed_by(other, one.ca_bundle()) == 0
        # Each has a key of its own.
        assert serial(identities[0]) != serial(identities[1])


async def test_a_certificate_stays_until_it_is_due() -> None:
    async with running() as (_, cluster):
        clock = Clock()
        ours = replica(cluster, clock)
        first = await ours.identity()
        clock.now += 19 * DAY
        assert await ours.identity() == first
        clock.now += DAY
        assert await ours.identity() != first


async def test_a_successor_is_shared_and_signs_a_day_later() -> None:
    async with running() as (server, cluster):
        clock = Clock()
        ours, other = replica(cluster, clock), replica(cluster, clock)
        await ours.identity()
        await other.identity()
        clock.now += 244 * DAY

        assert signed_by(await ours.identity(), ours.ca_bundle()) == 0
        assert server.writes == [f"POST {PATH}", f"PUT {PATH}"]
        await other.identity()
        assert len(server.writes) == 2
        assert ours.ca_bundle() == other.ca_bundle()
        assert len(x509.load_pem_x509_certificates(ours.ca_bundle() or b"")) == 2

        clock.now += DAY
        assert signed_by(await ours.identity(), other.ca_bundle()) == 1
        assert signed_by(await other.identity(), ours.ca_bundle()) == 1

        clock.now += 121 * DAY
        assert signed_by(await ours.identity(), ours.ca_bundle()) == 0
        await other.identity()
        assert ours.ca_bundle() == other.ca_bundle()


async def test_who_loses_a_race_for_a_successor_takes_the_winners() -> None:
    async with running() as (server, cluster):
        clock = Clock()
        ours = replica(cluster, clock)
        await ours.identity()
        clock.now += 244 * DAY
        winner = replica(cluster, clock)
        await winner.identity()
        won = server.objects[PATH]
        server.put(PATH, {**won, "data": _oldest(won)})
        server.meanwhile = lambda: server.put(PATH, won)
        await ours.identity()
        assert ours.ca_bundle() == winner.ca_bundle()


async def test_a_secret_that_was_made_empty_is_filled() -> None:
    async with running() as (server, cluster):
        server.put(PATH, {"metadata": {"labels": {"a": "b"}}, "data": {"other": "eA=="}})
        ours = replica(cluster, Clock())
        await ours.identity()
        assert server.writes == [f"PUT {PATH}"]
        assert server.objects[PATH]["metadata"]["labels"] == {"a": "b"}
        assert server.objects[PATH]["data"]["other"] == "eA=="


async def test_a_secret_that_was_deleted_is_made_anew_and_shared() -> None:
    async with running() as (server, cluster):
        clock = Clock()
        ours, other = replica(cluster, clock), replica(cluster, clock)
        first = await ours.identity()
        await other.identity()
        del server.objects[PATH]
        assert await other.identity() != first
        assert signed_by(await ours.identity(), other.ca_bundle()) == 0


async def test_while_the_cluster_is_away_what_was_read_signs_on() -> None:
    async with running() as (server, cluster):
        clock = Clock()
        ours = replica(cluster, clock)
        first = await ours.identity()
        server.is_down = True
        clock.now += 25 * DAY
        second = await ours.identity()
        assert second != first
        assert signed_by(second, ours.ca_bundle()) == 0
        with pytest.raises(CertificateError, match="Secret ours/remora-fleet-ca: "):
            await replica(cluster, clock).identity()
        # An authority that has expired signs nothing.
        clock.now += 365 * DAY
        with pytest.raises(CertificateError, match="Secret ours/remora-fleet-ca: "):
            await ours.identity()


@pytest.mark.parametrize(
    "data",
    [
        {"ca.crt": "eA==", "ca.key": "eA=="},
        {"ca.crt": "not base64"},
        {"ca.crt": "", "ca.key": "eA=="},
    ],
)
async def test_a_secret_that_is_not_ours_is_left_alone(data: dict[str, str]) -> None:
    async with running() as (server, cluster):
        server.put(PATH, {"data": data})
        with pytest.raises(
            CertificateError, match=r"Secret ours/remora-fleet-ca: ca\.crt, ca\.key"
        ):
            await replica(cluster, Clock()).identity()
        assert server.writes == []


async def test_a_certificate_that_cannot_be_renewed_is_shown_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as (server, cluster):
        clock = Clock()
        serving = Serving(replica(cluster, clock))
        assert await serving.refresh()
        server.put(PATH, {"data": {"ca.crt": "eA=="}})
        clock.now += 400 * DAY
        assert not await serving.refresh()
        assert "cannot have a newer certificate" in caplog.text


def _oldest(secret: Mapping[str, Any]) -> dict[str, str]:
    """Its data as it was before the successor came."""
    return {key: _encoded(_first_part(base64.b64decode(secret["data"][key]))) for key in KEYS}


def _first_part(pem: bytes) -> bytes:
    """The first object of a PEM: two dashed lines and what is between them."""
    end = pem.index(b"-----\n", pem.index(b"-----END ")) + 6
    return pem[:end]


def _encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
