"""The thread that asks: what stands, what fades, and that the loop never waits for it."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

import pytest

from daemon.foresight import part as asking
from daemon.foresight.part import Foresight
from daemon.foresight.past import COARSE_S, FINE_S, Past, asked
from daemon.foresight.server import Address, Server, TooLarge
from policies.history import History
from policies.policy import Policy, Prometheus
from tests.daemon.foresight.played import Answering, played, whole
from tests.daemon.pod import eventually

BEGAN_S = 1_764_547_200.0
POLICY = Policy(prometheus=Prometheus(window_s=1.0, history_s=7200.0))


def vector(rates: Mapping[str, float]) -> bytes:
    series = [{"metric": {"model": m}, "value": [0, str(r)]} for m, r in rates.items()]
    return json.dumps({"data": {"result": series}}).encode()


@contextmanager
def listening(url: str, policy: Policy = POLICY) -> Iterator[Foresight]:
    foresight = Foresight(
        server=Server(Address(url)),
        policy=lambda: policy,
        models=lambda: ("a", "b"),
        wake=lambda: None,
        began_s=BEGAN_S,
    )
    foresight.open()
    try:
        yield foresight
    finally:
        foresight.close()


def test_a_rate_stands_for_two_windows_and_no_longer() -> None:
    answering: list[Answering] = [whole(vector({"a": 2.0, "nobody": 1.0}))]
    with (
        played(lambda connection: answering[0](connection)) as url,
        listening(url) as foresight,
    ):
        eventually(lambda: foresight.rates() == {"a": 2.0}, 10)
        assert foresight.dropped["unknown_model"] > 0
        eventually(lambda: foresight.problem is None, 10)
        answering[0] = whole(b"", "503 Away")
        eventually(lambda: foresight.problem == "503 Away", 10)
        eventually(lambda: foresight.rates() == {}, 10)
        assert foresight.told()["answered_ago_s"] >= 2
        answering[0] = whole(vector({"b": 1.0}))
        eventually(lambda: foresight.rates() == {"b": 1.0}, 10)


def test_a_server_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_HANGS_S", 0.3)
    done = threading.Event()

    def drips_headers(connection: socket.socket) -> None:
        # No bound of the wire's own sees this: every byte comes in time.
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.05):
            connection.sendall(b"x")

    with played(drips_headers) as url, listening(url) as foresight:
        eventually(lambda: foresight.problem == "the server hangs", 10)
        assert foresight.rates() == {}
        assert foresight.joined(POLICY, History()) == History()
        began_s = time.monotonic()
        foresight.close()
        assert time.monotonic() - began_s < 4
        done.set()


def test_trouble_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "remora.prometheus")
    answering: list[Answering] = [whole(b"", "503 Away")]
    with (
        played(lambda connection: answering[0](connection)) as url,
        listening(url) as foresight,
    ):
        eventually(lambda: foresight.counted["failed"] >= 2, 10)
        answering[0] = whole(vector({}))
        eventually(lambda: foresight.problem is None, 10)
    words = [record.message for record in caplog.records]
    assert words.count("503 Away; going on without") == 1
    assert words.count("back") == 1


def test_the_past_is_fetched_once_newest_first_and_joined_once() -> None:
    pieces: list[tuple[int, int]] = []

    class Counting(Server):
        def now(self, query: str) -> list[object]:
            return []

        def stepped(self, query: str, first_s: int, last_s: int, step_s: int) -> list[object]:
            pieces.append((first_s, last_s))
            values = [[at_s, "0.5"] for at_s in range(first_s, last_s + 1, step_s)]
            return [{"metric": {"model": "a"}, "values": values}]

    foresight = Foresight(
        server=Counting(Address("http://127.0.0.1:1")),
        policy=lambda: POLICY,
        models=lambda: ("a", "b"),
        wake=lambda: None,
        began_s=BEGAN_S,
    )
    foresight.open()
    eventually(lambda: foresight.told()["learned_models"] == 1, 10)
    history = foresight.joined(POLICY, History())
    foresight.close()
    past = history.models["a"]
    assert past.last_use_s is not None
    # What came so late that it would call for its model is left to the rates.
    assert BEGAN_S - 200 < past.last_use_s <= BEGAN_S - POLICY.demand.want_s
    assert past.uses == pytest.approx(0.5 * 7200, rel=0.02)
    assert foresight.joined(POLICY, history) is history
    assert pieces == sorted(pieces, reverse=True)


@pytest.mark.parametrize("history_s", [0.0, 30.0, 3600.0, 86_400.0, 14 * 86_400.0])
def test_the_past_is_asked_for_without_gaps_or_overlaps(history_s: float) -> None:
    until_s = BEGAN_S - 30.5
    past = Past.before(Prometheus(history_s=history_s), until_s)
    stretches = sorted((end_s - layer.step, end_s) for layer in past.layers for end_s in layer)
    assert all(one[1] == other[0] for one, other in pairwise(stretches))
    if history_s >= COARSE_S:
        assert until_s - 1 <= stretches[-1][1] <= until_s
        assert 0 <= history_s - (stretches[-1][1] - stretches[0][0]) < COARSE_S
    assert {layer.step for layer in past.layers} <= {FINE_S, COARSE_S}
    assert len(stretches) <= 86_400 / FINE_S + 30 * 86_400 / COARSE_S


def test_a_past_that_is_too_large_is_asked_for_in_smaller_pieces_and_then_cut() -> None:
    class Refusing(Server):
        pieces: list[int] = []  # noqa: RUF012

        def stepped(self, query: str, first_s: int, last_s: int, step_s: int) -> list[object]:
            points = (last_s - first_s) // step_s + 1
            self.pieces.append(points)
            # What is older than an hour is too large however it is asked for.
            if points > 7 or first_s < BEGAN_S - 3600:
                raise TooLarge("more than you want")
            return []

    server = Refusing(Address("http://127.0.0.1:1"))
    past = Past.before(Prometheus(history_s=7200.0), BEGAN_S)
    for _ in range(100):
        if past.is_done:
            break
        past.fetch(server, ("a",), Counter())
    assert past.is_done
    assert past.is_cut
    assert sum(points for points in server.pieces if points <= 7) >= 58
    assert len(past.counts()) == 0


def test_the_braces_of_a_query_are_its_own() -> None:
    spec = Prometheus(query='sum by (m) (rate(x{a="{b}"}[{window}])) / ({window})')
    assert asked(spec, 90) == 'sum by (m) (rate(x{a="{b}"}[90000ms])) / (90000ms)'
