"""Labels of resident models, on a clock of the test's own; against a fake API server."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from daemon.fleet.labelling import Labelling
from policies.labels import PREFIX
from tests.daemon.fleet.apiserver import pod
from tests.daemon.fleet.duties import World, world
from tests.daemon.fleet.sidecar import Json, model

SETTLE_S = 10.0
FORGET_S = 120.0
TICK_S = 5.0


@dataclass
class Clock:
    now_s: float = 1000.0


@dataclass
class Timeline:
    """A world in which time passes only by `after`."""

    world: World
    clock: Clock
    duty: Labelling

    async def after(self, seconds: float, told: Mapping[str, Iterable[str]] | None = None) -> None:
        """Time passes, tick by tick; meanwhile the pods in ``told`` hold those models."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s += TICK_S
            for name, models in (told or {}).items():
                self.world.tell(name, models=_held(models))
            await self.duty.step()
            for each in list(self.world.samples.pods("default")):
                self.world.see(each.name)

    def labels(self, name: str) -> set[str]:
        """Names of the models that the pod's labels name."""
        found = self.world.server.objects[f"/api/v1/namespaces/default/pods/{name}"]
        keys = found["metadata"]["labels"].items()
        return {
            key.removeprefix(PREFIX)
            for key, value in keys
            if key.startswith(PREFIX) and value == "true"
        }

    def counted(self, outcome: str) -> float:
        name = "remora_fleet_label_patches_total"
        found = self.world.telemetry.registry.get_sample_value(name, {"outcome": outcome})
        return found or 0.0

    def another(self, most: int = 64) -> Labelling:
        """A writer that has seen nothing yet."""
        it = self.world
        return Labelling(
            *(it.cluster, it.samples, it.lease, it.telemetry),
            interval_s=TICK_S,
            most=most,
            settle_s=SETTLE_S,
            forget_s=FORGET_S,
            between_s=0.0,
            now_s=lambda: self.clock.now_s,
        )


def _held(models: Iterable[str]) -> dict[str, Json]:
    return {name: model(0.1) for name in models}


@asynccontextmanager
async def timeline(most: int = 64, **pods: Iterable[str]) -> AsyncIterator[Timeline]:
    clock = Clock()
    async with world(lambda: clock.now_s) as it:
        for name, models in pods.items():
            it.add(name, models=_held(models))
        line = Timeline(it, clock, None)  # type: ignore[arg-type]
        line.duty = line.another(most)
        yield line


def key(name: str) -> str:
    return PREFIX + name


async def test_exactly_the_pods_that_hold_a_model_are_labelled_with_it() -> None:
    async with timeline(a=["x", "y"], b=["y"]) as line:
        line.world.add("c", models={"y": model(0.4, resident=False)})
        await line.after(20, {"a": ["x", "y"], "b": ["y"]})
        assert (line.labels("a"), line.labels("b"), line.labels("c")) == ({"x", "y"}, {"y"}, set())


async def test_a_model_that_comes_and_goes_is_not_written_at_all() -> None:
    async with timeline(a=["x"]) as line:
        for _ in range(5):
            await line.after(TICK_S, {"a": ["x"]})
            await line.after(TICK_S, {"a": []})
        assert line.world.writes() == []


async def test_a_model_that_has_gone_loses_its_label_at_the_next_look() -> None:
    async with timeline(a=["x", "y"]) as line:
        await line.after(20, {"a": ["x", "y"]})
        await line.after(TICK_S, {"a": ["y"]})
        assert line.labels("a") == {"y"}


async def test_what_comes_to_a_pod_within_some_seconds_is_one_write() -> None:
    async with timeline(a=["x"]) as line:
        await line.after(5, {"a": ["x"]})
        await line.after(5, {"a": ["x", "y"]})
        await line.after(30, {"a": ["x", "y", "z"]})
        assert line.labels("a") == {"x", "y", "z"}
        assert len(line.world.writes()) == 2


async def test_labels_that_are_right_are_not_written_again() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        await line.after(300, {"a": ["x"], "b": ["x"]})
        assert len(line.world.writes()) == 2


async def test_other_labels_are_never_touched() -> None:
    theirs = {"app": "triton", "resident.remora.dev": "mine", "x.resident.remora.dev/x": "true"}
    async with timeline() as line:
        line.world.add("a", labels={**theirs, key("gone"): "true"}, models=_held(["x"]))
        await line.after(20, {"a": ["x"]})
        found = line.world.server.objects["/api/v1/namespaces/default/pods/a"]["metadata"]
        assert theirs.items() <= found["labels"].items()
        assert found["labels"]["remora.dev/sidecar"] == "true"
        assert line.labels("a") == {"x"}


async def test_a_label_of_ours_with_another_value_is_put_right() -> None:
    async with timeline() as line:
        line.world.add("a", labels={key("x"): "false", key("y"): "no"}, models=_held(["x"]))
        await line.after(20, {"a": ["x"]})
        assert line.labels("a") == {"x"}
        found = line.world.server.objects["/api/v1/namespaces/default/pods/a"]
        assert key("y") not in found["metadata"]["labels"]


async def test_only_so_many_are_labelled_and_the_rest_is_told() -> None:
    async with timeline(most=2, a=["x", "y", "z"], b=["x"]) as line:
        await line.after(20, {"a": ["x", "y", "z"], "b": ["x"]})
        assert line.labels("a") == {"x", "y"}
        told = line.world.telemetry.registry.get_sample_value("remora_fleet_unlabelled_models")
        assert told == 1


# --- silence ---


async def test_a_silent_pod_keeps_its_labels_for_a_while_and_then_loses_them() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        await line.after(20, {"a": ["x"], "b": ["x"]})
        await line.after(FORGET_S, {"b": ["x"]})
        assert line.labels("a") == {"x"}
        await line.after(60, {"b": ["x"]})
        assert (line.labels("a"), line.labels("b")) == (set(), {"x"})


async def test_a_deployment_of_which_nobody_is_heard_keeps_its_labels() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        line.world.server.put(pod("other", deployment="other"))
        line.world.see("other")
        await line.after(20, {"a": ["x"], "b": ["x"], "other": ["x"]})
        await line.after(600, {"other": ["x"]})
        assert line.labels("a") == line.labels("b") == {"x"}


async def test_a_writer_that_takes_over_changes_nothing_that_is_right() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        await line.after(20, {"a": ["x"], "b": ["x"]})
        written = line.world.writes()
        line.duty = line.another()
        # It has never heard a, which is silent.
        await line.after(60, {"b": ["x"]})
        assert line.world.writes() == written


async def test_a_replica_that_does_not_write_knows_what_has_stood_when_it_does() -> None:
    async with timeline(a=["x"]) as line:
        await line.world.lease.release()
        await line.after(20, {"a": ["x"]})
        assert line.world.writes() == []
        await line.world.lease.attempt()
        await line.after(TICK_S, {"a": ["x"]})
        assert line.labels("a") == {"x"}


# --- switched off ---


async def test_without_labels_wanted_those_that_are_there_go_heard_or_not() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        await line.after(20, {"a": ["x"], "b": ["x"]})
        line.duty = line.another(most=0)
        await line.after(TICK_S, {"a": ["x"]})
        assert line.labels("a") == line.labels("b") == set()


async def test_without_labels_wanted_or_there_nothing_is_written() -> None:
    async with timeline(most=0, a=["x"]) as line:
        await line.after(60, {"a": ["x"]})
        assert line.world.writes() == []


# --- what the API server refuses ---


async def test_a_pod_of_the_same_name_is_not_taken_for_the_one_that_was_meant() -> None:
    async with timeline(a=["x"]) as line:
        line.world.server.put(pod("a", uid="another"))
        for _ in range(4):
            line.clock.now_s += TICK_S
            line.world.tell("a", models=_held(["x"]))
            await line.duty.step()
        assert line.labels("a") == set()
        assert (line.counted("gone"), line.counted("failed")) == (1, 0)


async def test_a_pod_that_has_gone_is_no_failure() -> None:
    async with timeline(a=["x"]) as line:
        line.world.server.refuses = [404]
        await line.after(15, {"a": ["x"]})
        assert (line.counted("gone"), line.counted("failed")) == (1, 0)


async def test_a_server_that_refuses_is_asked_seldom_and_then_as_before() -> None:
    pods = {f"p{number}": ["x"] for number in range(8)}
    async with timeline(64, **pods) as line:
        line.world.server.refuses = [429, 403, 500, 429, 403, 429, 500, 429]
        await line.after(60, pods)
        # One try, and a pause that doubles: at 10, 15, 20, 25, 35 and 55 s.
        assert line.counted("failed") <= 6
        await line.after(300, pods)
        assert all(line.labels(name) == {"x"} for name in pods)


async def test_one_pod_that_is_refused_holds_up_no_other() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        line.world.server.refuses = [422]
        await line.after(20, {"a": ["x"], "b": ["x"]})
        assert line.labels("b") == {"x"}
        assert line.labels("a") == set()
        await line.after(60, {"a": ["x"], "b": ["x"]})
        assert line.labels("a") == {"x"}


async def test_what_has_gone_is_written_before_what_has_come() -> None:
    async with timeline(a=["x"], b=["x"]) as line:
        await line.after(20, {"a": ["x"], "b": ["x"]})
        await line.after(10, {"a": ["x", "new"], "b": ["x"]})
        line.world.server.requests.clear()
        await line.after(TICK_S, {"a": ["x", "new"], "b": []})
        pods = [each.rsplit("/", 1)[1] for each in line.world.writes()]
        assert pods == ["b", "a"]


async def test_a_patch_says_only_what_changes() -> None:
    async with timeline(a=["x", "y"]) as line:
        await line.after(20, {"a": ["x", "y"]})
        sent: list[bytes] = []
        call = line.world.cluster.call

        async def listening(method: str, path: str, **more: object) -> dict[str, object]:
            sent.append(json.dumps(more["body"]).encode())
            return await call(method, path, **more)  # type: ignore[arg-type]

        line.world.cluster.call = listening  # type: ignore[method-assign]
        await line.after(TICK_S, {"a": ["y"]})
        assert json.loads(sent[0]) == {"metadata": {"uid": "uid-of-a", "labels": {key("x"): None}}}
