"""Drawn worlds: guests, policies and places in a fleet, for properties."""

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from policies.peers import Copies
from policies.policy import Policy, RankingName
from tests.policies.world import (
    GIB,
    Guest,
)

REPEATABLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SINGLES = ("a", "b", "c", "d", "e", "f")
ENSEMBLES = ("x", "y", "z")
CALLER = "w"
DEVICES = ("GPU-0", "GPU-1")
RANKINGS = st.sampled_from(list(RankingName))


@st.composite
def guests(draw: st.DrawFn) -> dict[str, Guest]:
    sizes = st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 6), min_size=1)
    found = {}
    for name in (*SINGLES[: draw(st.integers(2, len(SINGLES)))], CALLER):
        found[name] = Guest(
            name,
            {device: amount * GIB for device, amount in draw(sizes).items()},
            load_s=draw(st.sampled_from((0.5, 2.0, 7.0))),
            unload_s=draw(st.sampled_from((0.5, 3.0))),
            known_size=draw(st.integers(0, 9)) > 0,
            waits=draw(st.booleans()),
            reverts=draw(st.booleans()),
            drain_s=draw(st.sampled_from((0.0, 0.0, 2.5))),
        )
    singles = st.sampled_from([name for name in found if name != CALLER])
    for name in ENSEMBLES[: draw(st.integers(0, len(ENSEMBLES)))]:
        steps = draw(st.lists(singles, min_size=1, max_size=3, unique=True))
        found[name] = Guest(name, {}, load_s=0.1, unload_s=0.1, steps=tuple(steps))
    return found


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    night = [{"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}]
    names = st.sampled_from((*SINGLES, *ENSEMBLES))
    models: dict[str, dict[str, Any]] = {
        name: {"pin": draw(st.sampled_from((True, night)))}
        for name in draw(st.lists(names, max_size=2, unique=True))
    }
    models[CALLER] = {"calls": draw(st.lists(st.sampled_from(("a", "b")), unique=True))}
    if draw(st.booleans()):
        models.setdefault("a", {})["peak_factor"] = 2.5
    for name in draw(st.lists(names, max_size=2, unique=True)):
        models.setdefault(name, {})["copies"] = draw(st.integers(1, 3))
    return Policy.model_validate(
        {
            "budget": draw(st.sampled_from((9 * GIB, 16 * GIB))),
            "devices": {"GPU-1": {"budget": "75%", "headroom": "1GiB"}},
            "ranking": draw(RANKINGS).value,
            "residency": {
                "minimum": draw(st.sampled_from((0, 5))),
                "cooldown": draw(st.sampled_from((0, 5))),
                "idle_unload": draw(st.sampled_from((None, 8))),
                "hysteresis": draw(st.sampled_from((0, 0.25))),
            },
            "churn": {"evictions": draw(st.sampled_from((1, 60))), "window": "60s"},
            "loads": {
                "concurrent": draw(st.integers(1, 4)),
                "peak_factor": draw(st.sampled_from((1, 1.3))),
            },
            "scaling": {"routing": draw(st.sampled_from(("spread", "by-model")))},
            "fleet": {
                "hand_over": draw(st.booleans()),
                "let_go": draw(st.sampled_from((None, 7))),
            },
            "models": models,
        }
    )


@st.composite
def copies(draw: st.DrawFn) -> Copies | None:
    """Where a model may stand in a fleet."""
    if draw(st.integers(0, 3)) == 0:
        return None
    warm, rank = draw(st.integers(0, 3)), draw(st.sampled_from((0, 0, 1, 2, None)))
    ahead = draw(st.integers(0, min(warm, 8 if rank is None else rank)))
    asked = draw(st.sampled_from((0, 1, 64, 2**60)))
    return Copies(warm, draw(st.integers(0, 2)), rank, ahead, asked)


def budgets(policy: Policy) -> Mapping[str, int]:
    share = policy.budget
    assert isinstance(share, int)
    return {"GPU-0": min(share, 20 * GIB), "GPU-1": 15 * GIB - GIB}
