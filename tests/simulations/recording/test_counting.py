"""From samples to counts: timelines of one counter, and what holds of every one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulations.recording.counting import Carry, Rows, Series, absorb, gaps, measured, merged
from simulations.recording.spec import Span

TARGET = ("triton", "here")
SPAN = Span(from_ms=0, step_ms=60_000, steps=1000)


def series(*samples: tuple[float, float], key: str = "a") -> Series:
    at_s, value = zip(*samples, strict=True)
    return Series(key, "alpha", TARGET, ms(*at_s), np.array(value, float))


def ms(*at_s: float) -> NDArray[np.int64]:
    return np.array([round(each * 1000) for each in at_s], np.int64)


def counts(rows: Rows) -> list[tuple[int, int, float | None]]:
    """First step, steps, requests; None where not known."""
    columns = (rows.first.tolist(), rows.steps.tolist(), rows.requests.tolist())
    return [(a, b, None if c != c else c) for a, b, c in zip(*columns, strict=True)]


def absorbed(*samples: tuple[float, float], scrapes: tuple[float, ...] = ()) -> Rows:
    up = {TARGET: ms(*scrapes)} if scrapes else {}
    return absorb(Carry(), [series(*samples)], up, SPAN)[0]


def test_an_increment_belongs_to_the_step_whose_scrape_saw_it() -> None:
    assert counts(absorbed((0, 5), (60, 8), (61, 10), (120, 10))) == [(0, 1, 3), (1, 1, 2)]


def test_the_first_value_of_a_target_is_no_count() -> None:
    assert counts(absorbed((0, 1000), (60, 1000))) == []


def test_a_counter_that_fell_began_again_at_zero() -> None:
    assert counts(absorbed((0, 50), (30, 58), (60, 3))) == [(0, 1, 11)]


def test_an_absence_is_one_long_step_with_the_exact_count() -> None:
    assert counts(absorbed((30, 50), (60 * 10, 62))) == [(1, 9, 12)]


def test_a_restart_in_an_absence_leaves_it_unknown_beside_what_came_after() -> None:
    assert counts(absorbed((30, 50), (60 * 10, 6))) == [(1, 9, 6), (1, 9, None)]


def test_an_absence_in_which_the_counter_stood_still_is_known_to_be_empty() -> None:
    assert counts(absorbed((30, 50), (60 * 10, 50))) == [(1, 9, 0)]


def test_a_series_that_scrapes_have_missed_counts_from_zero() -> None:
    scrapes = (0, 15, 30, 45, 60)
    assert counts(absorbed((45, 4), (60, 5), scrapes=scrapes)) == [(0, 1, 5)]


def test_a_model_unloaded_and_loaded_again_counts_from_zero_though_it_did_not_fall() -> None:
    scrapes = tuple(range(0, 601, 15))
    # One request before, one after: the difference would say none.
    assert counts(absorbed((0, 0), (15, 1), (600, 1), scrapes=scrapes)) == [(0, 1, 1), (9, 1, 1)]


def test_one_scrape_without_the_series_proves_nothing() -> None:
    assert counts(absorbed((0, 7), (30, 9), scrapes=(0, 15, 30))) == [(0, 1, 2)]


def test_samples_with_times_of_their_own_are_never_taken_for_absent() -> None:
    scrapes = tuple(range(0, 601, 15))
    assert counts(absorbed((7, 100), (307, 104), scrapes=scrapes)) == [(1, 5, 4)]


def test_absences_are_remembered_from_piece_to_piece() -> None:
    carry = absorb(Carry(), [series((0, 0), (15, 1))], {TARGET: ms(0, 15)}, SPAN)[1]
    rows, carry = absorb(carry, [], {TARGET: ms(30, 45, 60)}, SPAN)
    assert counts(rows) == []
    rows, carry = absorb(carry, [series((75, 1))], {TARGET: ms(75)}, SPAN)
    assert counts(rows) == [(1, 1, 1)]
    # A series of another name, on a target that has been scraped long enough without it.
    rows, _ = absorb(carry, [series((90, 2), key="b")], {TARGET: ms(90)}, SPAN)
    assert counts(rows) == [(1, 1, 2)]


def test_what_ends_before_the_range_is_left_out_and_what_reaches_in_is_cut() -> None:
    assert counts(absorbed((-300, 5), (-60, 9), (-1, 10), (100, 30))) == [(0, 2, 20)]


def test_gaps_are_what_no_stretch_covers() -> None:
    assert merged([(5, 6), (1, 3), (2, 4)]) == [(1, 4), (5, 6)]
    assert gaps([(5, 6), (1, 3), (2, 4)], 8) == [(0, 1), (4, 5), (6, 8)]
    assert gaps([(0, 8)], 8) == []
    assert measured([ms(0, 1, 60, 61), ms(121)], SPAN) == [(0, 3)]


lives = st.lists(
    st.tuples(st.integers(1, 200), st.integers(0, 30), st.booleans()), min_size=1, max_size=40
)


@given(lives, st.integers(1, 39))
def test_nothing_is_lost_or_counted_twice_wherever_the_pieces_end(
    life: list[tuple[int, int, bool]], cut: int
) -> None:
    """Each of a life is: seconds until the next scrape, requests meanwhile, restarted before."""
    at_s, value, asked = 0.0, 1000.0, 0.0
    samples = [(at_s, value)]
    for wait_s, requests, restarted in life:
        at_s += wait_s
        fell = restarted and requests < value
        value = requests if fell else value + requests
        asked += requests
        samples.append((at_s, value))
    whole, carry = absorb(Carry(), [series(*samples)], {}, SPAN)
    assert np.nansum(whole.requests) == asked
    assert set((whole.first + whole.steps).tolist()) <= set(range(1, SPAN.steps + 1))
    first, rest = samples[:cut], samples[cut:]
    if rest:
        some, middle = absorb(Carry(), [series(*first)], {}, SPAN)
        others, end = absorb(middle, [series(*rest)], {}, SPAN)
        assert end == carry
        assert np.nansum(some.requests) + np.nansum(others.requests) == asked
