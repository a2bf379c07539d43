"""What KEDA is answered, by a client in Python over a real port."""

import asyncio
from pathlib import Path

import grpc
import pytest

from daemon.fleet.keda.scaler import whole
from daemon.fleet.keda.serving import Certificate
from daemon.fleet.samples import ModelSignal
from tests.controlplane.authority import Authority
from tests.daemon.fleet.keda.keda_port import Caller, calling, keda_port
from tests.daemon.fleet.prometheus import FakePrometheus
from tests.daemon.fleet.waiting import eventually_so


async def refusal(caller: Caller, method: str) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (caller.load() if method == "GetMetrics" else caller.is_active())
    return caught.value.code()


async def test_the_metric_is_the_sum_over_pods_in_thousandths() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("a", 0.5, served=0.7004)
        fleet.add("b", 1.0, served=1.2)
        assert await caller.load() == 1901
        assert fleet.calls("GetMetrics", "OK") == 1


async def test_the_target_is_told_alike_in_both_fields() -> None:
    async with keda_port() as fleet, calling(fleet, target="0.65") as caller:
        answer = await caller.call("GetMetricSpec", "GetMetricSpecResponse")
        (spec,) = answer.metricSpecs
        assert (spec.metricName, spec.targetSize) == ("remora_load_milli", 650)
        assert spec.targetSizeFloat == 650.0


async def test_one_models_load_may_be_asked_for() -> None:
    def of(load: float) -> dict[str, ModelSignal]:
        return {"resnet": ModelSignal(True, load, 3.0)}

    async with keda_port() as fleet, calling(fleet, model="resnet") as caller:
        fleet.add("a", 0.9, models=of(0.25))
        fleet.add("b", 0.9, models=of(0.5))
        fleet.add("c", 0.9)
        assert await caller.load() == 750


async def test_a_deployment_without_pods_has_the_load_0_so_that_it_can_wake() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add_deployment(replicas=0)
        assert await caller.load() == 0
        assert await caller.is_active() is False


@pytest.mark.parametrize("method", ["GetMetrics", "IsActive"])
async def test_trouble_is_unavailable_and_never_0(method: str) -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        # No such Deployment: a name written wrongly must not look idle.
        assert await refusal(caller, method) is grpc.StatusCode.UNAVAILABLE
        # The API server cannot say.
        fleet.server.refuses = [500]
        assert await refusal(caller, method) is grpc.StatusCode.UNAVAILABLE
        # Its sidecar does not answer.
        fleet.add("a")
        assert await refusal(caller, method) is grpc.StatusCode.UNAVAILABLE
        fleet.add("a", 0.0)
        fleet.is_ready = False
        assert await refusal(caller, method) is grpc.StatusCode.UNAVAILABLE
        assert fleet.calls(method, "UNAVAILABLE") == 4


async def test_pods_that_have_none_of_our_labels_are_no_idle_deployment() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add_deployment(replicas=3)
        assert await refusal(caller, "GetMetrics") is grpc.StatusCode.UNAVAILABLE


async def test_a_pod_that_starts_is_not_yet_a_load() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("starting", phase="Pending")
        assert await refusal(caller, "GetMetrics") is grpc.StatusCode.UNAVAILABLE
        fleet.add("a", 0.5)
        assert await caller.load() == 500


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [
        ([0.3, 0.3], 0.6),
        # Below the target: the one who is silent is taken for one at the target.
        ([0.3, 0.3, None], 1.3),
        # Above it: for one that idles, but never so that pods would be removed.
        ([1.4, 1.4, None], 2.8),
        ([0.8, None, None], 2.1),
        ([None, None], None),
        ([], None),
        ([0.0, None], 0.7),
    ],
)
def test_the_silent_neither_add_nor_remove_a_pod(
    loads: list[float | None], wanted: float | None
) -> None:
    assert whole(loads, 0.7) == (None if wanted is None else pytest.approx(wanted))


async def test_load_keeps_a_deployment_active() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("a", 0.02, served=0.02)
        assert await caller.is_active() is True
        # What falls slowly is served, but whether it runs at all hangs on what is offered.
        fleet.add("b", 0.0, served=0.5)
        assert await caller.is_active() is True
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("b", 0.0, served=0.5)
        assert await caller.is_active() is False


async def test_one_silent_sidecar_keeps_activity_unknown_unless_another_has_load() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("a", 0.0)
        fleet.add("silent")
        assert await refusal(caller, "IsActive") is grpc.StatusCode.UNAVAILABLE
        fleet.add("c", 0.4)
        assert await caller.is_active() is True


async def test_a_gateways_demand_wakes_a_deployment_from_zero() -> None:
    async with FakePrometheus([0.0]) as server, keda_port((server.url,)) as fleet:
        asked = {"activationQuery": "sum(rate(x[1m]))", "serverAddress": server.url}
        async with calling(fleet, **asked) as caller:
            fleet.add_deployment(replicas=0)
            assert await caller.is_active() is False
            server.result = [0.3]
            await eventually_so(caller.is_active)
            # Demand that is not known is not no demand.
            server.result = []
            await asyncio.sleep(0.1)
            assert await refusal(caller, "IsActive") is grpc.StatusCode.UNAVAILABLE


async def test_demand_must_exceed_its_threshold() -> None:
    async with FakePrometheus([5.0]) as server, keda_port((server.url,)) as fleet:
        asked = {"activationQuery": "x", "serverAddress": server.url, "activationThreshold": "5"}
        async with calling(fleet, **asked) as caller:
            fleet.add_deployment(replicas=0)
            assert await caller.is_active() is False


async def test_a_server_that_is_not_allowed_is_never_asked() -> None:
    async with FakePrometheus([5.0]) as server, keda_port() as fleet:
        asked = {"activationQuery": "x", "serverAddress": server.url}
        async with calling(fleet, **asked) as caller:
            assert await refusal(caller, "IsActive") is grpc.StatusCode.INVALID_ARGUMENT
    assert server.queries == []


async def test_another_metric_is_refused() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add("a", 0.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.load("queue_time")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "metric 'queue_time'; allowed: remora_load_milli"


async def test_the_stream_tells_changes_and_is_silent_while_nothing_is_known() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        fleet.add_deployment(replicas=0)
        stream = caller.activity()
        assert (await stream.read()).result is False
        await asyncio.sleep(0.2)
        fleet.add("a")
        await asyncio.sleep(0.2)
        fleet.add("a", 0.4)
        assert (await stream.read()).result is True
        stream.cancel()


async def test_a_stream_over_wrong_metadata_ends_with_the_reason() -> None:
    async with keda_port() as fleet, calling(fleet, target="much") as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in caller.activity():
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_of_targets_are_not_implemented() -> None:
    async with keda_port() as fleet, calling(fleet) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.call("StreamMetricSpec", "GetMetricSpecResponse")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_port_asks_for_client_certificates_and_takes_a_renewed_one(
    tmp_path: Path,
) -> None:
    authority = Authority.create(tmp_path, "keda")
    shown = authority.issue("first", hosts=["localhost"])
    certificate = Certificate(shown.certificate, shown.key, authority.certificate)
    mine = authority.issue("keda-operator")
    root = authority.certificate.read_bytes()
    known = grpc.ssl_channel_credentials(root, mine.key.read_bytes(), mine.certificate.read_bytes())
    async with keda_port(certificate=certificate) as fleet:
        fleet.add("a", 0.5)
        address = f"localhost:{fleet.port}"
        async with grpc.aio.secure_channel(address, known) as channel:
            assert await Caller(channel, {}).load() == 500
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
            assert await refusal(Caller(channel, {}), "IsActive") is grpc.StatusCode.UNAVAILABLE
        # Another authority's certificate takes its place: who trusts the first sees the change.
        other = Authority.create(tmp_path / "other", "other").issue("next", hosts=["localhost"])
        shown.certificate.write_bytes(other.certificate.read_bytes())
        shown.key.write_bytes(other.key.read_bytes())
        async with grpc.aio.secure_channel(address, known) as channel:
            assert await refusal(Caller(channel, {}), "IsActive") is grpc.StatusCode.UNAVAILABLE
