"""Our own authorities over the years: who signs, what is published, what overlaps."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from daemon.fleet.certificates import authority
from daemon.fleet.certificates.authority import Authority
from daemon.fleet.certificates.contexts import Identity

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = authority.names_of("remora-fleet", "ours")
DAY = timedelta(days=1)


def first() -> tuple[Authority, ...]:
    made = authority.renewed((), START)
    assert made is not None
    return made


def verified(identity: Identity, bundle: bytes, name: str, now: datetime) -> None:
    """As a strict client does. Raises where it would not connect."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    policy = PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(name))
    policy.verify(x509.load_pem_x509_certificates(identity.pem)[0], [])


def issuers(authorities: Sequence[Authority]) -> list[x509.Name]:
    return [each.certificate.subject for each in authorities]


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_bears_the_services_names(name: str) -> None:
    made = first()
    verified(authority.issue(made[0], NAMES, START), authority.bundle(made), name, START)


def test_the_names_are_those_of_a_service() -> None:
    assert NAMES == (
        "remora-fleet.ours.svc",
        "remora-fleet.ours.svc.cluster.local",
        "remora-fleet.ours",
        "remora-fleet",
    )


def test_a_long_service_name_fits() -> None:
    names = authority.names_of("s" * 63, "n" * 63)
    made = first()
    verified(authority.issue(made[0], names, START), authority.bundle(made), names[0], START)


def test_an_api_server_with_a_late_clock_believes_it() -> None:
    made = first()
    late = START - timedelta(minutes=50)
    verified(authority.issue(made[0], NAMES, START), authority.bundle(made), NAMES[0], late)


def test_a_certificate_ends_with_its_authority() -> None:
    (made,) = first()
    assert authority.issue(made, NAMES, START).not_after == START + timedelta(days=30)
    assert authority.issue(made, NAMES, made.until - DAY).not_after == made.until


def test_years_pass_and_every_client_connects_every_day() -> None:
    """Two replicas; the API server learns of a bundle a day later at most."""
    authorities: tuple[Authority, ...] = ()
    bundle = b""
    signers = []
    for day in range(3 * 365):
        now = START + day * DAY
        known = bundle
        authorities = authority.renewed(authorities, now) or authorities
        bundle = authority.bundle(authorities)
        assert len(authorities) <= 2
        signer = authority.signer(authorities, now)
        verified(authority.issue(signer, NAMES, now), known or bundle, NAMES[0], now)
        if signer.certificate.subject not in signers:
            signers.append(signer.certificate.subject)
    assert len(signers) > 3


def test_a_successor_is_published_before_it_signs() -> None:
    authorities = first()
    assert authority.renewed(authorities, START + 200 * DAY) is None
    due = START + timedelta(days=365) * 2 / 3
    both = authority.renewed(authorities, due)
    assert both is not None
    assert issuers(both)[0] == issuers(authorities)[0]
    old, new = both
    assert authority.signer(both, due) == old
    assert authority.signer(both, due + timedelta(hours=23)) == old
    assert authority.signer(both, due + DAY) == new
    assert authority.renewed(both, due + 2 * DAY) is None
    # The old one is published as long as anything that it signed may be shown.
    assert authority.renewed(both, old.until - timedelta(seconds=1)) is None
    assert authority.renewed(both, old.until) == (new,)


def test_after_a_long_sleep_a_new_authority_signs_at_once() -> None:
    authorities = first()
    later = authorities[0].until + DAY
    after = authority.renewed(authorities, later)
    assert after is not None
    assert len(after) == 1
    assert authority.signer(after, later) == after[0]


def test_what_was_written_is_read() -> None:
    due = START + timedelta(days=300)
    both = authority.renewed(first(), due)
    assert both is not None
    found = authority.read(authority.bundle(both), authority.keys(both))
    assert issuers(found) == issuers(both)
    # The keys work: what one signs, the other's certificate verifies.
    identity = authority.issue(found[1], NAMES, due)
    verified(identity, authority.bundle(both), NAMES[0], due)
    assert authority.read(b"", b"\n") == ()


def test_what_does_not_fit_together_is_refused() -> None:
    one, other = first(), first()
    bundle, keys = authority.bundle(one), authority.keys(other)
    with pytest.raises(ValueError, match="not its certificate's"):
        authority.read(bundle, keys)
    with pytest.raises(ValueError, match="1 certificates, but 2 keys"):
        authority.read(bundle, keys + keys)
    with pytest.raises(ValueError, match="1 certificates, but 0 keys"):
        authority.read(bundle, b"")
    with pytest.raises(ValueError, match=r"(?i)pem"):
        authority.read(b"nonsense", keys)
    with pytest.raises(ValueError, match=r"(?i)key|pem"):
        authority.read(bundle, b"nonsense")
