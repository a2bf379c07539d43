"""What the cluster says of its front proxy: read whole, refused by key, kept while it is away."""

from pathlib import Path

import pytest

from daemon.fleet.metricsapi.frontproxy import FrontProxy, TrustError, trust_in
from tests.controlplane.authority import Authority
from tests.daemon.fleet.metricsapi.serving_apiserver import running


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[str, str]:
    """Two, in PEM."""
    first, second = (Authority.create(tmp_path, name) for name in ("first", "second"))
    return first.certificate.read_text(), second.certificate.read_text()


def test_everything_is_read(authorities: tuple[str, str]) -> None:
    first, second = authorities
    trust = trust_in(
        {
            "client-ca-file": "not ours",
            "requestheader-client-ca-file": f"# front proxy\n{first}\n\n# the next\n{second}",
            "requestheader-allowed-names": '["front-proxy-client","aggregator"]',
            "requestheader-username-headers": '["X-Remote-User", "X-User"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-extra-headers-prefix": '[" X-Remote-Extra- "]',
        }
    )
    assert trust.authorities_pem == first + second
    assert trust.names == {"front-proxy-client", "aggregator"}
    assert trust.name_headers == ("X-Remote-User", "X-User")
    assert trust.uid_headers == ("X-Remote-Uid",)
    assert trust.group_headers == ("X-Remote-Group",)
    assert trust.extra_prefixes == ("X-Remote-Extra-",)


def test_headers_that_are_not_named_are_none(authorities: tuple[str, str]) -> None:
    trust = trust_in({"requestheader-client-ca-file": authorities[0]})
    assert (trust.name_headers, trust.extra_prefixes, trust.names) == ((), (), frozenset())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("requestheader-client-ca-file", ""),
        ("requestheader-client-ca-file", "-----BEGIN CERTIFICATE-----"),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-username-headers", '"X-Remote-User"'),
        ("requestheader-group-headers", "[1]"),
        ("requestheader-group-headers", '["X Remote"]'),
        ("requestheader-extra-headers-prefix", '[""]'),
    ],
)
def test_a_wrong_key_is_named(authorities: tuple[str, str], key: str, value: str) -> None:
    data = {"requestheader-client-ca-file": authorities[0], key: value}
    with pytest.raises(TrustError, match=f"extension-apiserver-authentication: {key}: .*allowed"):
        trust_in(data)


async def test_the_last_good_reading_holds(authorities: tuple[str, str]) -> None:
    async with running() as (server, cluster):
        front_proxy = FrontProxy(cluster)
        assert not await front_proxy.refresh()
        assert front_proxy.trust is None

        server.describe_front_proxy(authorities[0], "proxy")
        assert await front_proxy.refresh()
        first = front_proxy.trust
        assert not await front_proxy.refresh()

        server.is_down = True
        assert not await front_proxy.refresh()
        server.is_down = False
        server.describe_front_proxy("nonsense", "proxy")
        assert not await front_proxy.refresh()
        assert front_proxy.trust == first

        server.describe_front_proxy("".join(authorities), "proxy")
        assert await front_proxy.refresh()
        assert front_proxy.trust is not None
        assert front_proxy.trust.authorities_pem == "".join(authorities)
