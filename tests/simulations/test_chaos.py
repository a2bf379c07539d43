"""What a kill excuses: requests that were executing in the killed process, and nothing else."""

from simulations.demo.chaos import Kill, judge, strikes_over
from simulations.testbed.protocols import Protocol
from simulations.testbed.traffic import Arrival, Outcome

TRITON = Kill("Triton", 10.0, 10.1)
SIDECAR = Kill("sidecar", 20.0, 20.1)


def failed(began_s: float, ended_s: float, protocol: Protocol = "grpc") -> Outcome:
    return Outcome(Arrival(began_s, "ner", protocol), "UNAVAILABLE: gone", None, began_s, ended_s)


def excused(outcome: Outcome) -> bool:
    verdict = judge([outcome], [TRITON, SIDECAR])
    assert [*verdict.executing, *verdict.others] == [outcome]
    assert verdict.holds == (not verdict.others)
    return verdict.holds


def test_whoever_was_executing_when_triton_died_is_excused() -> None:
    assert excused(failed(9.9, 10.05))
    assert excused(failed(9.9, 10.3, "http"))
    assert excused(failed(4.0, 10.1, "stream"))


def test_whoever_came_after_the_kill_is_not_excused() -> None:
    assert not excused(failed(10.2, 10.3))


def test_whoever_had_failed_before_the_kill_is_not_excused() -> None:
    assert not excused(failed(9.0, 9.9))


def test_whoever_waited_through_the_kill_and_failed_later_is_not_excused() -> None:
    assert not excused(failed(9.0, 40.0))


def test_the_death_of_the_sidecar_excuses_its_streams_alone() -> None:
    assert excused(failed(19.0, 20.2, "stream"))
    assert not excused(failed(19.0, 20.2, "grpc"))
    assert not excused(failed(19.0, 20.2, "http"))
    assert not excused(failed(19.0, 20.2, "generate_stream"))


def test_without_a_kill_nothing_is_excused_and_the_served_are_no_matter() -> None:
    served = Outcome(Arrival(9.0, "ner"), None, False, 9.0, 10.0)
    assert judge([served], []).holds
    assert judge([served, failed(9.9, 10.05)], []).others == (failed(9.9, 10.05),)


def test_triton_dies_twice_and_the_sidecar_once_between() -> None:
    strikes = strikes_over(60)
    assert [(each.at_s, each.victim) for each in strikes] == [
        (15, "Triton"),
        (30, "sidecar"),
        (45, "Triton"),
    ]
