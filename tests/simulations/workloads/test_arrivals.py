"""Properties of the one form of traffic: parts make up the whole, together keeps what weighs."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.ordering import in_order, merged

MODELS = 3


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Up to three models over 100 s, cut into runs anywhere; some of the runs are empty."""
    times = sorted(draw(st.lists(st.floats(0, 99.5), max_size=30)))
    models = draw(st.lists(st.integers(0, MODELS - 1), min_size=len(times), max_size=len(times)))
    weights = draw(st.lists(st.integers(1, 5), min_size=len(times), max_size=len(times)))
    told = draw(st.booleans())
    whole = Arrivals(
        np.array(times, np.float64),
        np.array(models, np.int32),
        np.array(weights, np.float64),
        np.array(models, np.float64) if told else None,
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(times)), max_size=5)))
    bounds = [0, *cuts, len(times)]

    def runs() -> Iterator[Arrivals]:
        for first, last in pairwise(bounds):
            which = slice(first, last)
            service_s = None if whole.service_s is None else whole.service_s[which]
            yield Arrivals(whole.time_s[which], whole.model[which], whole.weight[which], service_s)

    return Workload(tuple("abc"), 100.0, runs)


def rows(workload: Workload) -> list[tuple[float, int, float]]:
    run = joined(list(workload.runs()))
    return list(zip(run.time_s.tolist(), run.model.tolist(), run.weight.tolist(), strict=True))


@given(workloads(), st.lists(st.floats(0, 100), max_size=4))
def test_parts_one_after_another_are_the_whole(workload: Workload, cuts: list[float]) -> None:
    bounds = [0.0, *sorted(cuts), 100.0]
    parts = [(begin, workload.part(begin, end)) for begin, end in pairwise(bounds)]
    told = [(time + begin, *rest) for begin, part in parts for time, *rest in rows(part)]
    assert [row[1:] for row in told] == [row[1:] for row in rows(workload)]
    assert [row[0] for row in told] == pytest.approx([row[0] for row in rows(workload)])
    assert sum(part.duration_s for _, part in parts) == pytest.approx(100.0)


@given(workloads())
def test_a_part_keeps_service_times(workload: Workload) -> None:
    whole, part = joined(list(workload.runs())), joined(list(workload.part(0, 100).runs()))
    if whole.service_s is None or not len(whole):
        assert part.service_s is None
    else:
        assert part.service_s is not None
        assert part.service_s.tolist() == whole.service_s.tolist()


@given(workloads(), st.sampled_from([0.1, 1.0, 7.0, 60.0, 1000.0]))
def test_together_keeps_the_first_of_each_step_and_all_weight(
    workload: Workload, step_s: float
) -> None:
    expected: dict[tuple[float, int], list[float]] = {}
    for time, model, weight in rows(workload):
        entry = expected.setdefault((time // step_s, model), [time, 0.0])
        entry[1] += weight
    told = rows(workload.together(step_s))
    found = {(time // step_s, model): [time, weight] for time, model, weight in told}
    assert found == expected
    assert len(told) == len(expected)
    assert [row[0] for row in told] == sorted(row[0] for row in told)


@given(st.lists(workloads(), max_size=4))
def test_merged_sources_come_in_order_and_whole(sources: list[Workload]) -> None:
    run = joined(list(merged([source.runs() for source in sources])))
    told = sorted(zip(run.time_s.tolist(), run.model.tolist(), run.weight.tolist(), strict=True))
    assert told == sorted(row for source in sources for row in rows(source))
    assert (np.diff(run.time_s) >= 0).all()


@given(workloads(), st.floats(0, 20))
def test_pieces_that_overlap_are_put_in_order(workload: Workload, late_s: float) -> None:
    runs = [run for run in workload.runs() if len(run)]
    begins = [float(run.time_s[0]) for run in runs]
    pieces = []
    for number, run in enumerate(runs):
        # Each arrival may come late, as one with jitter does.
        time_s = run.time_s + np.linspace(late_s, 0, len(run))
        bound_s = begins[number + 1] if number + 1 < len(runs) else np.inf
        pieces.append((bound_s, Arrivals(time_s, run.model, run.weight)))
    out = joined(list(in_order(pieces)))
    assert (np.diff(out.time_s) >= 0).all()
    assert sorted(out.time_s.tolist()) == sorted(t for _, p in pieces for t in p.time_s.tolist())


def test_equal_times_keep_the_order_they_came_in() -> None:
    same = Arrivals(np.zeros(3), np.array([2, 0, 1], np.int32), np.ones(3))
    assert joined(list(in_order([(1.0, same)]))).model.tolist() == [2, 0, 1]
    assert joined(list(merged([[same], [same]]))).model.tolist() == [2, 0, 1, 2, 0, 1]


def test_a_joining_keeps_service_times_only_where_all_runs_tell_them() -> None:
    told = Arrivals(np.zeros(1), np.zeros(1, np.int32), np.ones(1), np.ones(1))
    silent = Arrivals(np.zeros(1), np.zeros(1, np.int32), np.ones(1))
    assert joined([told, silent]).service_s is None
    both = joined([told, told]).service_s
    assert both is not None
    assert len(both) == 2
    assert len(joined([])) == 0
