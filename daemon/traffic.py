"""What the front door and Triton's counters say together of a model's requests.

Owns the arithmetic that joins the two: a request held at the door is counted when it
comes and not again when Triton has served it; what is inside is counted where every
request came through the door, and estimated where some go straight to Triton.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.frontdoor.gate import AtDoor
from daemon.metrics import Activity

PASSED_BY_S = 600.0
"""Where one request went past the door, others may, and no count is believed for so long."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Fields of the same names in a snapshot's `Model`."""

    arrivals: float
    in_flight: float | None
    in_flight_counted: bool
    leases: int


@dataclass(slots=True)
class Traffic:
    """sequence_idle_s: by model with sequences, after what silence Triton ends one by itself."""

    sequence_idle_s: Mapping[str, float] = field(default_factory=dict)
    _queued: dict[str, float] = field(default_factory=dict)
    _replays: dict[str, float] = field(default_factory=dict)
    _sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    _sequence_at_s: dict[str, float] = field(default_factory=dict)
    _passed_by_at_s: float = float("-inf")

    def of(
        self, name: str, activity: Activity | None, at_door: AtDoor, now_s: float, elapsed_s: float
    ) -> Requests:
        """``name``'s requests since the last look, ``elapsed_s`` ago; no activity is unknown."""
        served = activity.successes + activity.failures if activity else 0.0
        come = self._come(name, activity, served)
        in_flight, counted = self._in_flight(name, activity, served, at_door, now_s, elapsed_s)
        return Requests(
            arrivals=at_door.missed + come - self._held_before(name, come, at_door),
            in_flight=in_flight,
            in_flight_counted=counted,
            leases=at_door.leases + self._open_sequences(name, served, now_s, elapsed_s),
        )

    def left(self, name: str) -> None:
        """``name`` is not there: what Triton has not served of it by now, it never will."""
        for each in (self._queued, self._replays, self._sent, self._sequence_at_s):
            each.pop(name, None)

    def _come(self, name: str, activity: Activity | None, served: float) -> float:
        """How many have come to Triton: those served, and by how much its queue has grown.

        One that has left the queue and executes is in neither, and not to be counted again when
        it has been served: so what counts is a new high of both together.
        """
        if activity is None:
            return 0.0
        counted = self._queued.get(name, 0.0)
        inside_or_served = served + (activity.pending or 0)
        self._queued[name] = max(counted, inside_or_served) - served
        return max(0.0, inside_or_served - counted)

    def _held_before(self, name: str, come: float, at_door: AtDoor) -> float:
        """How many of those that have come had been held, and were counted then."""
        owed = max(0.0, self._replays.get(name, 0.0) + at_door.replayed)
        again = min(owed, come)
        self._replays[name] = owed - again
        return again

    def _in_flight(
        self,
        name: str,
        activity: Activity | None,
        served: float,
        at_door: AtDoor,
        now_s: float,
        elapsed_s: float,
    ) -> tuple[float | None, bool]:
        """Requests inside, and whether that is a count.

        They are counted where the door sends the model's requests on and Triton has of late
        served none that it did not send. Else it is the mean over the time since the last
        look: seconds spent inside, by the clock.
        """
        through_us = self._through_us(name, at_door)
        if served > (through_us or 0):
            self._passed_by_at_s = now_s
        passed_by = now_s - self._passed_by_at_s < PASSED_BY_S
        if through_us is not None and not passed_by:
            return at_door.in_flight, True
        if activity is None or elapsed_s <= 0:
            return at_door.in_flight or None, False
        mean = (activity.queue_s + activity.compute_s) / elapsed_s
        return max(at_door.in_flight, round(mean, 2)), False

    def _through_us(self, name: str, at_door: AtDoor) -> int | None:
        """How many of ``name``'s requests through the door can have been served of late.

        What was inside two looks ago may be served only now, since Triton answers before it
        counts. None while the door has sent none.
        """
        before = self._sent.get(name)
        if before is None and not at_door.forwarded:
            return None
        last, last_but_one = before or (0, 0)
        self._sent[name] = (at_door.in_flight + at_door.forwarded, last)
        return at_door.forwarded + last + last_but_one

    def _open_sequences(self, name: str, served: float, now_s: float, elapsed_s: float) -> int:
        """1 while sequences may be open that nobody has shown us, else 0.

        One that is quiet for its model's idle time is ended by Triton itself; a request can
        have come at any moment since the last look.
        """
        idle_s = self.sequence_idle_s.get(name)
        if idle_s is None:
            return 0
        if served > 0:
            self._sequence_at_s[name] = now_s
        used_at_s = self._sequence_at_s.get(name)
        return int(used_at_s is not None and now_s - used_at_s < idle_s + elapsed_s)
