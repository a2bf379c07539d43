"""The journal's form: what is written is read back, and damage is never read as a tick."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.actions import Action, Hold, Load, Reason, Unload
from policies.forecast import Spells
from policies.history import History, ModelHistory
from policies.journal import JournalError, Recorder, Tick, read
from policies.snapshot import (
    Device,
    ErrorClass,
    Footprint,
    FootprintSource,
    LoadFailure,
    Model,
    ModelState,
    Snapshot,
)
from policies.work import NO_WORK, Work

# Drawing a series takes longer than what is tested with it.
EXAMPLES = settings(max_examples=60, deadline=None)
KINDS = (Device, Footprint, History, LoadFailure, Model, ModelHistory, Snapshot)

# NaN is left to a test of its own, for it equals nothing, itself included.
numbers = st.floats(allow_nan=False)
by_hint: dict[Any, st.SearchStrategy[Any]] = {
    float: numbers,
    float | None: st.none() | numbers,
    tuple[float, ...]: st.lists(numbers, max_size=3).map(tuple),
    tuple[float, float, float, float]: st.tuples(*[numbers] * 4),
}


def any_of(kind: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a dataclass with every field drawn, those that are added later too."""
    drawn = {name: by_hint.get(hint, ...) for name, hint in get_type_hints(kind).items()}
    return st.builds(kind, **(drawn | given))


footprints = any_of(Footprint, by_device=st.dictionaries(st.text(max_size=3), st.integers()))
failures = any_of(LoadFailure)
models = any_of(Model, footprint=st.none() | footprints, failure=st.none() | failures)
devices = any_of(Device)
remembered = any_of(ModelHistory, spells=any_of(Spells), work=any_of(Work))
used = st.dictionaries(st.text(max_size=3), numbers, max_size=2)
actions = st.lists(any_of(Load) | any_of(Unload), max_size=2).map(tuple)
holds = st.lists(any_of(Hold), max_size=2).map(tuple)
policies = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        st.none() | st.booleans() | numbers.filter(lambda x: abs(x) < 1e300) | st.text(max_size=3),
        lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(), below, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)
NAMES = st.sampled_from(["resnet", "team/bert", "naïve\u2028\x85", ""])


@st.composite
def tick_series(draw: st.DrawFn) -> list[Tick]:
    """Ticks that resemble each other: what they are made of is drawn from small pools."""

    def pool(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.sampled_from(draw(st.lists(values, min_size=1, max_size=3)))

    def table(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.dictionaries(NAMES, pool(values), max_size=4)

    snapshots = any_of(Snapshot, devices=table(devices), models=table(models))
    histories = any_of(History, models=table(remembered), utilisation=used)
    policy, action, hold = pool(policies), pool(actions), pool(holds)
    ticks: list[Tick] = []
    for _ in range(draw(st.integers(1, 6))):
        follows = draw(st.booleans()) and bool(ticks)
        tick = Tick(
            policy=draw(policy),
            snapshot=draw(snapshots),
            history=ticks[-1].next_history if follows else draw(histories),
            actions=draw(action),
            holds=draw(hold),
            next_history=draw(histories),
        )
        ticks.append(tick)
    return ticks


keyframe_every = st.integers(1, 4)


def written(ticks: list[Tick], every: int = 100) -> list[str]:
    recorder = Recorder(every)
    return [recorder.line(tick) for tick in ticks]


# --- what is written is read back ----------------------------------------------------------


@EXAMPLES
@given(tick_series(), keyframe_every)
def test_reading_gives_back_the_ticks(ticks: list[Tick], every: int) -> None:
    assert list(read(written(ticks, every))) == ticks


@EXAMPLES
@given(tick_series(), keyframe_every)
def test_reading_may_begin_at_any_keyframe(ticks: list[Tick], every: int) -> None:
    lines = written(ticks, every)
    for start in range(0, len(lines), every):
        assert list(read(lines[start:])) == ticks[start:]


@EXAMPLES
@given(tick_series(), keyframe_every, st.data())
def test_a_stream_cut_at_any_byte_gives_a_beginning_of_the_ticks(
    ticks: list[Tick], every: int, data: st.DataObject
) -> None:
    whole = "".join(line + "\n" for line in written(ticks, every)).encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    told = list(read(cut.decode(errors="surrogateescape").split("\n")))
    assert told == ticks[: len(told)]
    assert len(told) >= cut.count(b"\n")


@EXAMPLES
@given(tick_series(), tick_series(), keyframe_every, st.data())
def test_after_a_torn_line_reading_resumes_with_the_next_run(
    first: list[Tick], second: list[Tick], every: int, data: st.DataObject
) -> None:
    *whole, last = written(first, every)
    torn = last[: data.draw(st.integers(0, len(last) - 1))]
    told = list(read([*whole, torn, *written(second, every)]))
    assert told == first[:-1] + second


@EXAMPLES
@given(tick_series(), keyframe_every, st.data())
def test_a_missing_line_is_noticed_before_a_wrong_tick_is_told(
    ticks: list[Tick], every: int, data: st.DataObject
) -> None:
    lines = written(ticks, every)
    missing = data.draw(st.integers(0, len(lines) - 1))
    told: list[Tick] = []
    error: JournalError | None = None
    try:
        told.extend(read(lines[:missing] + lines[missing + 1 :]))
    except JournalError as raised:
        error = raised
    # What does not lean on the missing line is told; what does is an error.
    expected = ticks[:missing] + ticks[missing + 1 :]
    next_is_keyframe = (missing + 1) % every == 0 or missing + 1 == len(lines)
    if next_is_keyframe:
        assert error is None
        assert told == expected
    elif missing % every:
        assert error is not None
        assert error.line_number == missing + 1
        assert told == ticks[:missing]


def test_numbers_that_are_not_finite_survive_in_lines_that_are_json() -> None:
    nan, inf = float("nan"), float("inf")
    model = Model("m", load_s=nan, arrivals=inf, queue_s=nan, oldest_wait_s=-inf)
    history = History(at_s=inf, models={"m": ModelHistory(credit=-inf, retry_at_s=nan)})
    tick = a_tick(models={"m": model}, history=history, next_history=history)
    (line,) = written([tick])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(line, parse_constant=refuse)
    (told,) = read([line])
    assert repr(told) == repr(tick)


def test_reading_is_streaming() -> None:
    lines = written([a_tick(now_s=1.0), a_tick(now_s=2.0)])
    taken: list[str] = []

    def stream() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    told = read(stream())
    assert next(told).snapshot.now_s == 1.0
    assert taken == lines[:1]


def test_every_field_that_may_be_none_defaults_to_none() -> None:
    # A null in a change takes a key away and so brings its default back.
    for kind in KINDS:
        hints = get_type_hints(kind)
        for each in fields(kind):
            if NoneType in get_args(hints[each.name]):
                assert each.default is None, f"{kind.__name__}.{each.name}"
            else:
                assert each.default is not None or each.default is MISSING


# --- the form ------------------------------------------------------------------------------


def a_tick(
    now_s: float = 1.0,
    models: dict[str, Model] | None = None,
    history: History | None = None,
    next_history: History | None = None,
    actions: tuple[Action, ...] = (),
    holds: tuple[Hold, ...] = (),
) -> Tick:
    quiet = {name: Model(name, ModelState.READY) for name in ("bert", "resnet")}
    return Tick(
        policy={"budget": None},
        snapshot=Snapshot(now_s, models=quiet if models is None else models),
        history=history or History(),
        actions=actions,
        holds=holds,
        next_history=next_history or History(at_s=now_s),
    )


def parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_the_first_and_every_third_line_are_keyframes() -> None:
    lines = parsed(written([a_tick()] * 7, every=3))
    assert [line.get("v") for line in lines] == [4, None, None, 4, None, None, 4]


def test_a_restart_makes_the_next_line_a_keyframe() -> None:
    recorder = Recorder(keyframe_every=100)
    lines = [recorder.line(a_tick()), recorder.line(a_tick())]
    recorder.restart()
    lines.append(recorder.line(a_tick()))
    assert lines[2] == lines[0] != lines[1]


def test_a_tick_that_cannot_be_written_is_followed_by_a_keyframe() -> None:
    recorder = Recorder(keyframe_every=100)
    good = a_tick()
    recorder.line(good)
    with pytest.raises(ValueError, match="serialize"):
        recorder.line(replace(a_tick(now_s=2.0), policy={"what": object()}))
    assert list(read([recorder.line(good)])) == [good]


def test_a_change_tells_only_what_changed() -> None:
    used = Model("bert", ModelState.READY, arrivals=3.0, executions=1.0, compute_s=0.25)
    idle = Model("resnet", ModelState.READY)
    before = a_tick()
    after = a_tick(
        now_s=2.0,
        models={"bert": used, "resnet": idle},
        history=before.next_history,
        next_history=History(at_s=2.0, models={"bert": ModelHistory(uses=3.0)}),
    )
    _, line = parsed(written([before, after]))
    assert line == {
        "n": 1,
        "snapshot": {"now_s": 2.0, "flows": {"bert": [3.0, 0.0, 1.0, 0.0, 0.25, 0.0]}},
        "next": {
            "at_s": 2.0,
            "models": {"bert": {}},
            "demand": {"bert": [0.0, 0.0, None, 3.0, None, 0.0, [*NO_WORK]]},
        },
    }


def test_a_model_that_falls_quiet_costs_nothing_and_flows_no_more() -> None:
    used = Model("bert", ModelState.READY, arrivals=3.0)
    quiet = replace(used, arrivals=0.0)
    ticks = [a_tick(models={"bert": used}), a_tick(models={"bert": quiet})]
    ticks[1] = replace(ticks[1], history=ticks[0].next_history)
    lines = written(ticks)
    assert parsed(lines)[1] == {"n": 1}
    assert list(read(lines)) == ticks


def test_a_model_that_goes_away_is_told_as_null() -> None:
    ticks = [a_tick(), a_tick(models={"bert": Model("bert", ModelState.READY)})]
    lines = written(ticks)
    assert parsed(lines)[1]["snapshot"] == {"models": {"resnet": None}}
    assert list(read(lines)) == ticks


def test_actions_say_what_they_are() -> None:
    actions = (Unload("bert", Reason.EVICTED, for_model="t5"), Load("t5", Reason.DEMANDED))
    (line,) = parsed(written([a_tick(actions=actions)]))
    assert line["actions"] == [
        {"unload": {"model": "bert", "reason": "evicted", "for_model": "t5"}},
        {"load": {"model": "t5", "reason": "demanded"}},
    ]


def test_the_same_tick_gives_the_same_line() -> None:
    names = [f"model-{i}" for i in range(20)]
    one, other = (
        a_tick(history=History(leaving=frozenset(order))) for order in (names, names[::-1])
    )
    assert written([one]) == written([other])
    assert parsed(written([one]))[0]["history"]["leaving"] == sorted(names)


def test_a_keyframe_interval_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="keyframe_every is 0; it must be at least 1"):
        Recorder(0)


# --- damage and strangers ------------------------------------------------------------------


def rich_lines() -> list[str]:
    model = Model(
        "bert",
        ModelState.READY,
        Footprint({"gpu-0": 1}, FootprintSource.MEASURED),
        failure=LoadFailure(1.0, ErrorClass.MEMORY),
        arrivals=1.0,
    )
    history = History(models={"bert": ModelHistory(uses=1.0)})
    snapshot = Snapshot(1.0, devices={"gpu-0": Device("gpu-0")}, models={"bert": model})
    actions = (Load("bert", Reason.PINNED), Unload("t5", Reason.IDLE))
    hold = Hold("bert", Reason.NO_ROOM)
    tick = Tick({}, snapshot, history, actions, (hold,), History(at_s=1.0, models=history.models))
    return written([tick, replace(tick, snapshot=replace(snapshot, now_s=2.0)), tick])


@pytest.mark.parametrize(
    "damage", ["not json", "", "\0\0\0", '{"n":1', '{"n":1,"policy":{"\udc80":1}}']
)
def test_a_damaged_line_in_the_middle_is_an_error(damage: str) -> None:
    lines = rich_lines()
    told = read([lines[0], damage, lines[2]])
    next(told)
    with pytest.raises(JournalError, match="journal line 2: not JSON") as raised:
        next(told)
    assert raised.value.line_number == 2


def test_two_runs_that_both_crashed_at_once_are_passed_over() -> None:
    keyframe, *_ = rich_lines()
    assert len(list(read([keyframe[:9], keyframe[:20], keyframe]))) == 1


def test_a_change_without_a_keyframe_is_an_error() -> None:
    with pytest.raises(JournalError, match="no complete keyframe comes before"):
        list(read(rich_lines()[1:]))


def test_another_format_is_refused_by_its_number() -> None:
    with pytest.raises(JournalError, match="written in format 5, and this reader knows format 4"):
        list(read(['{"v":5,"wholly":"different"}']))


@pytest.mark.parametrize(
    "where",
    [
        [],
        ["snapshot"],
        ["snapshot", "devices", "gpu-0"],
        ["snapshot", "models", "bert"],
        ["snapshot", "models", "bert", "footprint"],
        ["snapshot", "models", "bert", "failure"],
        ["history"],
        ["history", "models", "bert"],
        ["next"],
        ["actions", 0],
        ["actions", 0, "load"],
        ["actions", 1, "unload"],
        ["holds", 0],
        ["columns"],
    ],
    ids=lambda where: ".".join(map(str, where)) or "line",
)
def test_a_key_of_a_newer_writer_is_refused(where: list[Any]) -> None:
    document = json.loads(rich_lines()[0])
    place = document
    for step in where:
        place = place[step]
    place["novelty"] = 1
    with pytest.raises(JournalError, match=r"unknown key '.*novelty'.*knows format 4"):
        list(read([json.dumps(document)]))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("[]", "not a JSON object"),
        ('{"n":2}', "number 2 since the keyframe, expected 1"),
        ('{"n":1,"snapshot":{"models":{"t5":null}}}', "'t5' goes away and was never there"),
        ('{"n":1,"snapshot":{"flows":{"t5":[1,1,1,1]}}}', "a row for 't5', which was never"),
        ('{"n":1,"snapshot":{"flows":{"bert":[1]}}}', "1 numbers for 'bert' in 6 columns"),
        ('{"n":1,"snapshot":{"now_s":"noon"}}', r"now_s: .* \(format 4\)"),
        ('{"n":1,"snapshot":{"models":{"bert":{"state":"lost"}}}}', "bert.state: .*'ready'"),
        ('{"n":1,"holds":[{"subject":"","reason":"whim"}]}', "holds.0.reason: "),
        ('{"n":1,"actions":[{}]}', "an action must be either a load or an unload"),
        ("{}", "n: Field required"),
    ],
)
def test_a_line_that_makes_no_sense_is_an_error(change: str, what: str) -> None:
    told = read([rich_lines()[0], change])
    next(told)
    with pytest.raises(JournalError, match=f"journal line 2: .*{what}"):
        next(told)


def test_a_journal_whose_columns_stood_elsewhere_is_still_understood() -> None:
    document = json.loads(rich_lines()[0])
    document["columns"]["flows"].reverse()
    document["snapshot"]["flows"]["bert"].reverse()
    assert list(read([json.dumps(document)])) == list(read(rich_lines()[:1]))
