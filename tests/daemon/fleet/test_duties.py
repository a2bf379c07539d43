"""What the writer writes: deletion costs, and events; against a fake API server."""

from daemon.fleet.pods import COST_ANNOTATION
from tests.daemon.fleet.apiserver import pod
from tests.daemon.fleet.duties import World, world
from tests.daemon.fleet.sidecar import model

EVENT = "/api/v1/namespaces/default/events/triton.d-1.pins-do-not-fit"


def three(it: World) -> None:
    """One is the only holder of a hot model, one of a cold one, and one of none."""
    shared = {"shared": model(0.1)}
    it.add("hot", load=0.3, models={**shared, "hot": model(0.5, absence_s=4.0)})
    it.add("cold", load=0.3, models={**shared, "cold": model(0.0, absence_s=4.0)})
    it.add("spare", load=0.3, models=shared)


async def test_the_sole_holder_of_a_hot_model_costs_most_to_remove() -> None:
    async with world() as it:
        three(it)
        await it.removal().step()
        assert (it.cost("hot"), it.cost("cold"), it.cost("spare")) == ("100", "-100", "-100")


async def test_a_cost_that_is_right_is_not_written_again() -> None:
    async with world() as it:
        three(it)
        await it.removal().step()
        for name in ("hot", "cold", "spare"):
            it.see(name)
        written = it.writes()
        assert len(written) == 3
        # Another writer, which remembers nothing of what this one wrote.
        await it.removal().step()
        assert it.writes() == written


async def test_a_pod_is_written_to_once_a_minute_at_most() -> None:
    async with world() as it:
        three(it)
        duty = it.removal()
        await duty.step()
        it.see("hot")
        it.tell("hot", load=0.0, models={"shared": model(0.1)})
        await duty.step()
        assert it.cost("hot") == "100"
        duty._written_s.clear()
        await duty.step()
        assert it.cost("hot") == "-100"


async def test_who_does_not_hold_the_lease_writes_nothing() -> None:
    async with world() as it:
        three(it)
        it.add("full", pins_fit=False)
        await it.lease.release()
        await it.removal().step()
        await it.telling(60.0).step()
        assert it.writes() == []
        assert EVENT not in it.server.objects


async def test_a_pod_of_the_same_name_is_not_taken_for_the_one_that_was_meant() -> None:
    async with world() as it:
        three(it)
        it.server.put(pod("hot", uid="another"))
        await it.removal().step()
        assert it.cost("hot") is None
        labels = {"outcome": "gone"}
        counted = it.telemetry.registry.get_sample_value(
            "remora_fleet_deletion_costs_total", labels
        )
        assert counted == 1


async def test_a_pod_that_is_unknown_is_left_as_it_is() -> None:
    async with world() as it:
        three(it)
        it.server.put(pod("silent", annotations={COST_ANNOTATION: "200"}))
        it.see("silent")
        await it.removal().step()
        assert it.cost("silent") == "200"


async def test_an_event_tells_the_deployment_that_its_pins_do_not_fit() -> None:
    async with world() as it:
        it.add("a")
        it.add("b", pins_fit=False, pinned_bytes=9_000_000_000, budget_bytes=8_000_000_000)
        await it.telling(60.0).step()
        event = it.server.objects[EVENT]
        assert event["message"] == (
            "Pinned models do not fit the memory budget in 1 of 2 pods: "
            "they need 8584 MiB of 7629 MiB"
        )
        assert event["involvedObject"]["uid"] == "d-1"
        assert (event["type"], event["reason"], event["count"]) == ("Warning", "PinsDoNotFit", 1)


async def test_the_event_is_counted_up_and_seldom() -> None:
    async with world() as it:
        it.add("a", pins_fit=False)
        duty = it.telling(60.0)
        for _ in range(3):
            await duty.step()
        assert it.server.objects[EVENT]["count"] == 1
        # A writer that takes over goes on with the event that is there.
        await it.telling(60.0).step()
        assert it.server.objects[EVENT]["count"] == 2
        first = it.server.objects[EVENT]["firstTimestamp"]
        assert it.server.objects[EVENT]["lastTimestamp"] >= first
        # The API server has dropped it by its age.
        del it.server.objects[EVENT]
        await it.telling(60.0).step()
        assert it.server.objects[EVENT]["count"] == 1


async def test_pins_that_fit_or_are_unknown_are_no_event() -> None:
    async with world() as it:
        it.add("a")
        it.add("b", reachable=False, pins_fit=False)
        await it.telling(60.0).step()
        assert it.writes("POST") == ["POST /apis/coordination.k8s.io/v1/namespaces/remora/leases"]


async def test_a_refused_event_is_tried_again_at_its_next_turn() -> None:
    async with world() as it:
        it.add("a", pins_fit=False)
        it.server.refuses = [403]
        await it.telling(60.0).step()
        assert EVENT not in it.server.objects
        await it.telling(60.0).step()
        assert EVENT in it.server.objects
