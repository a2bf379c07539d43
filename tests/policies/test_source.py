"""What a broken policy is answered: file, line, key, value and what is allowed, word for word."""

from itertools import pairwise
from typing import Any

import pytest

from policies.policy import ModelPolicy, Policy, RankingName
from policies.problems import Problem
from policies.quantities import format_bytes
from policies.snapshot import ErrorClass
from policies.source import PRESETS, PolicyError, effective, parse, preset, schema

SHARE = "a percentage above 0% up to 100%, or an amount from 1MiB to 1024TiB, as 20GiB"
AMOUNT = "an amount of memory from 0 to 1024TiB, as 4GiB"
KEYS = (
    "budget, churn, demand, devices, fleet, footprints, front_door, headroom, horizon, loads,"
    " mode, models, preset, prewarm, prometheus, ranking, residency, restart_above, scaling,"
    " tick, unloads, versions"
)
GIB = 2**30


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(text, "team.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budgt: 90%", f"team.yaml:1: budgt: unknown key; allowed: {KEYS} (did you mean budget?)"),
        ("zzz: 1", f"team.yaml:1: zzz: unknown key; allowed: {KEYS}"),
        (
            "residency:\n  idle: 5m",
            "team.yaml:2: residency.idle: unknown key;"
            " allowed: cooldown, hysteresis, idle_unload, minimum",
        ),
        (
            "models:\n  bert:\n    wait: 2",
            "team.yaml:3: models.bert.wait: unknown key; allowed: calls, copies, footprint,"
            " idle_unload, minimum, peak_factor, pin, weight (did you mean weight?)",
        ),
        ("budget: 120%", f"team.yaml:1: budget: '120%'; allowed: {SHARE}"),
        ("budget: 0", f"team.yaml:1: budget: 0; allowed: {SHARE}"),
        ("budget: lots", f"team.yaml:1: budget: 'lots'; allowed: {SHARE}"),
        ("budget: [1, 2]", f"team.yaml:1: budget: [1, 2]; allowed: {SHARE}"),
        ("budget: .nan", f"team.yaml:1: budget: nan; allowed: {SHARE}"),
        ("budget: .inf", f"team.yaml:1: budget: inf; allowed: {SHARE}"),
        ("# first\n\nheadroom: -1GiB", f"team.yaml:3: headroom: '-1GiB'; allowed: {AMOUNT}"),
        ("headroom: 4 parsec", f"team.yaml:1: headroom: '4 parsec'; allowed: {AMOUNT}"),
        ("headroom: true", f"team.yaml:1: headroom: True; allowed: {AMOUNT}"),
        (
            "tick: 10ms",
            "team.yaml:1: tick: '10ms'; allowed: a duration from 50ms to 1h, as 1s",
        ),
        (
            "demand: {fast: 0s}",
            "team.yaml:1: demand.fast: '0s';"
            " allowed: a duration above 0s up to 366d, as 250ms, 30s or 5m",
        ),
        (
            "residency:\n  minimum: soon",
            "team.yaml:2: residency.minimum: 'soon';"
            " allowed: a duration from 0s to 366d, as 30s, 5m or 1h",
        ),
        (
            "residency:\n  hysteresis: -1",
            "team.yaml:2: residency.hysteresis: -1; allowed: a number from 0 up to 100",
        ),
        (
            "loads: {concurrent: 2.5}",
            "team.yaml:1: loads.concurrent: 2.5; allowed: a whole number from 1 up to 64",
        ),
        ("mode: on", "team.yaml:1: mode: True; allowed: act, observe"),
        ("preset: calm", "team.yaml:1: preset: 'calm'; allowed: balanced, latency-first, frugal"),
        (
            "ranking: mru",
            "team.yaml:1: ranking: 'mru'; allowed: expected-cold, greedy-dual, lfu, lru",
        ),
        ("churn: null", "team.yaml:1: churn: None; allowed: a mapping of keys to values"),
        (
            "loads:\n  backoff:\n    oops: {first: 1s}",
            "team.yaml:3: loads.backoff.oops: unknown key; allowed: config, initialisation,"
            " memory, unhealthy, unavailable, unknown",
        ),
        (
            "models:\n  bert:\n    pin: maybe",
            "team.yaml:3: models.bert.pin: 'maybe'; allowed: true or false or a list or null",
        ),
        (
            "models:\n  bert:\n    pin:\n      - days: [mon]\n      - days: [moon]",
            "team.yaml:5: models.bert.pin.1.days.0: 'moon';"
            " allowed: mon, tue, wed, thu, fri, sat, sun",
        ),
        (
            "models:\n  bert:\n    pin:\n      - from: 25:00",
            "team.yaml:4: models.bert.pin.0.from: 1500;"
            " allowed: a time of day from 00:00 to 24:00, as 08:30",
        ),
        (
            "models:\n  bert:\n    pin: [{timezone: Mars/Olympus}]",
            "team.yaml:3: models.bert.pin.0.timezone: 'Mars/Olympus';"
            " allowed: a name of the IANA time zone database, as Europe/Berlin",
        ),
        (
            "models:\n  bert:\n    weight: 0",
            "team.yaml:3: models.bert.weight: 0; allowed: a number above 0 up to 1000000 or null",
        ),
        (
            "models:\n  bert:\n    footprint:\n      GPU-0: lots",
            f"team.yaml:4: models.bert.footprint.GPU-0: 'lots'; allowed: {AMOUNT}",
        ),
        (
            "models:\n  intent-x:\n    weight: heavy",
            "team.yaml:3: models.intent-x.weight: 'heavy';"
            " allowed: a number above 0 up to 1000000 or null",
        ),
        (
            "models:\n  bool:\n    footprint: {int: lots}",
            f"team.yaml:3: models.bool.footprint.int: 'lots'; allowed: {AMOUNT}",
        ),
        (
            "models:\n  1: {weight: 2}",
            "team.yaml:2: models.1: the key 1 is no text; allowed: a key in quotes",
        ),
        ("models: 3", "team.yaml:1: models: 3; allowed: a mapping of keys to values"),
        (
            "models:\n  a: {calls: [b]}\n  b: {calls: [a]}",
            "team.yaml:2: models.a.calls: a -> b -> a; allowed: calls that end",
        ),
        (
            "models:\n  a: {calls: [a]}",
            "team.yaml:2: models.a.calls: a -> a; allowed: calls that end",
        ),
        (
            "budget: 1GiB\nbudget: 2GiB",
            "team.yaml:2: budget: written twice; allowed: each key once",
        ),
        (
            "models:\n  a: {weight: 2}\n  a: {weight: 3}",
            "team.yaml:3: models.a: written twice; allowed: each key once",
        ),
        ("- a", "team.yaml:1: (file): list ['a']; allowed: a mapping of keys to values"),
        (
            "\nbudget: {",
            "team.yaml:2: (file): expected the node content, but found '<stream end>';"
            " allowed: well-formed YAML",
        ),
        (
            "tick: 2024-99-99",
            "team.yaml: (file): month must be in 1..12; allowed: well-formed YAML",
        ),
        (
            "[" * 10_000,
            "team.yaml: (file): nested too deeply; allowed: well-formed YAML",
        ),
    ],
)
def test_a_broken_policy_is_answered_with_what_is_wrong_and_what_is_right(
    text: str, message: str
) -> None:
    assert complaint(text) == message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        parse("budget: 0\ntick: never\nmodels:\n  a:\n    weight: heavy\n    pin: 3\n", "p.yaml")
    assert [(p.line, p.key) for p in caught.value.problems] == [
        (2, "tick"),
        (1, "budget"),
        (6, "models.a.pin"),
        (5, "models.a.weight"),
    ]


def test_a_long_value_is_shortened() -> None:
    assert len(complaint("budget: " + "x" * 10_000)) < 300
    assert len(complaint("budget: " + "9" * 4_000)) < 300


@pytest.mark.parametrize("holder", ["budget: *z", "models: {m: {pin: *z}}", "zzz: *z", "- *z"])
def test_aliases_that_multiply_do_not_hang(holder: str) -> None:
    bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    for below, name in pairwise(letters):
        bomb.append(f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]")
    is_list = holder.startswith("-")
    text = "\n".join([f"- {{{line}}}" for line in bomb] if is_list else bomb) + "\n" + holder
    assert len(complaint(text)) < 10_000


def test_an_alias_that_holds_itself_does_not_hang() -> None:
    assert "models.a.pin" in complaint("models: {a: {pin: &p [*p]}}")


# --- good ones


def test_an_empty_file_is_the_balanced_preset() -> None:
    assert parse("") == parse("# nothing\n") == parse("preset: balanced")


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_parses_and_says_what_its_file_says(name: str) -> None:
    policy = parse(f"preset: {name}")
    assert policy.preset == name
    assert policy == Policy.model_validate({**preset(name), "preset": name})


def test_the_balanced_preset_is_what_the_code_takes_for_granted() -> None:
    assert parse("") == Policy()


def test_a_file_overrules_its_preset_key_by_key() -> None:
    policy = parse("preset: frugal\nresidency:\n  minimum: 5s\n")
    assert policy.residency.minimum_s == 5
    assert policy.residency.idle_unload_s == 900
    assert policy.budget == 0.7


WHOLE = """
preset: latency-first
mode: observe
tick: 250ms
budget: 20GiB
headroom: 512MiB
devices:
  GPU-5: {budget: 55.5%, headroom: 0}
ranking: lfu
loads:
  backoff:
    memory: {first: 2m, factor: 3}
models:
  "bert-*": {weight: 2, idle_unload: 1h, pin: true}
  bert-base: {idle_unload: null, footprint: {GPU-5: 2GiB}}
  gpt:
    pin:
      - {days: [mon, fri], from: 08:30, to: "18:00", timezone: Europe/Berlin}
      - {days: [sat], from: 22:00, to: 06:00}
    calls: [bert-base]
"""


def test_every_amount_is_read_with_its_unit() -> None:
    policy = parse(WHOLE)
    assert (policy.tick_s, policy.budget, policy.headroom_bytes) == (0.25, 20 * GIB, GIB // 2)
    assert policy.devices["GPU-5"].budget == 0.555
    assert policy.ranking is RankingName.LFU
    assert policy.loads.backoff[ErrorClass.MEMORY].wait_s(3) == 1080
    assert policy.loads.backoff[ErrorClass.CONFIG].wait_s(1) == 30
    windows = policy.wishes("gpt").pin
    assert isinstance(windows, tuple)
    assert [(w.from_, w.to) for w in windows] == [(510, 1080), (1320, 360)]


@pytest.mark.parametrize("text", [WHOLE, *(f"preset: {name}" for name in PRESETS)])
def test_the_effective_policy_is_read_back_unchanged(text: str) -> None:
    policy = parse(text)
    policy.wishes("bert-base")
    again = Policy.model_validate(effective(policy))
    assert again == policy
    assert effective(again) == effective(policy)
    for name in ("bert-base", "bert-large", "gpt", "other"):
        assert again.wishes(name) == policy.wishes(name)


def test_what_was_asked_of_a_policy_makes_it_no_other_policy() -> None:
    one, other = parse(WHOLE), parse(WHOLE)
    one.wishes("bert-base")
    assert one == other
    assert one != parse("")


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ("80%", 0.8),
        ("0.8", 0.8),
        ("'0.8'", 0.8),
        ("1.0", 1.0),
        ("100 %", 1.0),
        ("20GiB", 20 * GIB),
        ("20Gi", 20 * GIB),
        ("20 gb", 20 * 10**9),
        ("'1048576'", 2**20),
        ("1.5MiB", 1572864),
    ],
)
def test_a_budget_is_a_share_or_an_amount(written: str, budget: float) -> None:
    found = parse(f"budget: {written}").budget
    assert found == budget
    assert type(found) is type(budget)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h", 3600), ("90", 90), ("1.5m", 90), ("2 d", 172_800), ("250MS", 0.25)],
)
def test_a_duration_is_a_number_of_seconds_unless_it_has_a_unit(
    written: str, seconds: float
) -> None:
    assert parse(f"residency: {{minimum: {written}}}").residency.minimum_s == seconds


def test_later_patterns_win_and_an_exact_name_wins_over_all() -> None:
    policy = parse(
        "models:\n  a-1: {weight: 1}\n  'a-*': {weight: 2, pin: true}\n  '*-1': {weight: 3}\n"
    )
    assert (policy.weight("a-1"), policy.weight("a-2"), policy.weight("b-1")) == (1, 2, 3)
    assert [policy.wishes(name).pin for name in ("a-1", "a-2", "b-1")] == [True, True, None]
    assert policy.wishes("b-2") == ModelPolicy()


def test_the_schema_names_every_key_as_yaml_has_it() -> None:
    properties: dict[str, Any] = schema()["properties"]
    assert ", ".join(sorted(properties)) == KEYS


def test_a_problem_without_a_line_names_its_file_alone() -> None:
    assert str(Problem("p.yaml", None, "k", "v", "w")) == "p.yaml: k: v; allowed: w"


@pytest.mark.parametrize(
    ("amount_bytes", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (-GIB, "-1 GiB"), (2**50, "1024 TiB")],
)
def test_bytes_are_told_in_the_largest_fitting_unit(amount_bytes: int, words: str) -> None:
    assert format_bytes(amount_bytes) == words
