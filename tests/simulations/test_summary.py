"""What the summary says of a run."""

from collections.abc import Sequence
from pathlib import Path

from simulations.demo.chaos import Kill, judge
from simulations.demo.summary import Facts, summary
from simulations.testbed.protocols import Protocol
from simulations.testbed.traffic import Arrival, Outcome

MIB = 2**20
LOADS = 'remora_actions_total{{action="load",outcome="done"}} {}\n'
UNLOADS = 'remora_actions_total{{action="unload",outcome="done"}} {}\n'


def outcome(
    latency_s: float,
    *,
    protocol: Protocol = "http",
    cold: bool | None = False,
    error: str | None = None,
    at_s: float = 1.0,
    version: int | None = None,
) -> Outcome:
    arrival = Arrival(at_s, "ner", protocol, version)
    return Outcome(arrival, error, cold, at_s, at_s + latency_s)


def told(
    outcomes: Sequence[Outcome], kills: Sequence[Kill] = (), metrics: Sequence[str] = ()
) -> str:
    facts = Facts(
        outcomes=outcomes,
        kills=kills,
        size_bytes={"ner": 140 * MIB, "ocr": 220 * MIB},
        budget_bytes=150 * MIB,
        peak_reserved_bytes=149 * MIB,
        peak_measured_bytes=140 * MIB,
        metrics=metrics,
        directory=Path("somewhere"),
    )
    return summary(facts, judge(outcomes, kills))


def row(text: str, name: str) -> str:
    return next(" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == [name])


def test_warm_and_cold_are_told_apart_by_protocol() -> None:
    text = told(
        [
            *(outcome(0.010) for _ in range(98)),
            outcome(0.200),
            outcome(2.0, cold=True),
            outcome(0.050, protocol="grpc", error="gone"),
        ]
    )
    assert row(text, "http") == "http 100 0 1 10 / 10 / 200 2000 / 2000 / 2000"
    assert row(text, "grpc") == "grpc 0 1 0 none none"
    assert row(text, "all") == "all 100 1 1 10 / 10 / 200 2000 / 2000 / 2000"


def test_where_nobody_tells_cold_from_warm_the_summary_does_not_guess() -> None:
    text = told([outcome(0.010, protocol="stream", cold=None)])
    assert row(text, "stream").startswith("stream 1 0 ? 10 / 10 / 10")
    assert "not told apart" in text


def test_failures_are_grouped_and_listed_with_their_times() -> None:
    text = told(
        [
            outcome(0.5, error="503: 'ner' is away", at_s=3.0, version=2),
            outcome(0.5, error="503: 'ner' is away", at_s=4.0),
        ]
    )
    assert "\n2 failed\n" in text
    assert "  2 × http: 503: 'MODEL' is away" in text
    assert "3.0 s to    3.5 s  http  ner version 2  503: 'ner' is away" in text


def test_many_failures_are_not_all_listed() -> None:
    text = told([outcome(0.5, error="gone") for _ in range(50)])
    assert text.count("http  ner  gone") == 20
    assert text.endswith("and 30 more")


def test_what_a_kill_excuses_is_counted_and_not_listed() -> None:
    kills = [Kill("Triton", 3.0, 3.1), Kill("sidecar", 6.0, 6.1)]
    text = told(
        [outcome(1.0, at_s=2.1, error="reset"), outcome(1.0, at_s=4.0, error="late")], kills
    )
    assert "  Triton killed at 3.0 s: 1 http\n  sidecar killed at 6.0 s: none\n" in text
    assert "2 failed, of which 1 were executing inside a killed process" in text
    assert "reset" not in text
    assert "http  ner  late" in text


def test_decisions_are_summed_over_the_lives_of_the_sidecar() -> None:
    pages = [LOADS.format(3) + UNLOADS.format(2), LOADS.format(4)]
    assert "7 loads, 2 unloads" in told([outcome(0.1)], metrics=pages)
