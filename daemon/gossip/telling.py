"""What this pod tells of itself, and when.

Owns the state's making from the latest tick, and the pace: what others decide from (residents,
leaving) is told at once, figures that drift are told seldom, and everything once a heartbeat.
Refuses to know how it is sent.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from daemon.gossip.messages import (
    LONGEST_NAME,
    MOST_DEVICES,
    MOST_LEARNED,
    MOST_RESIDENTS,
    LearnedModel,
    PodState,
)
from daemon.learned import Learned
from daemon.telemetry import Telemetry
from policies.demand import rates
from policies.memory import Ledger
from policies.pace import Pace
from policies.peers import per_hour
from policies.snapshot import HOST, ModelState, Snapshot
from policies.units import Units

NOTABLE_LOAD = 0.1
NOTABLE_HEADROOM = 0.1
"""Changes below these, the latter as a part of the greater value, wait for the heartbeat."""


@dataclass(slots=True)
class Telling:
    """Keeps what was said last, to know when there is something to say.

    place: what routers know this pod by. peers: how many other pods we know of. learned: what we
    have learned of a model. file_bytes: what its files weigh. leaving: whether this pod is on its
    way out.
    """

    run: str
    place: str
    pace: Pace
    telemetry: Telemetry
    peers: Callable[[], int]
    learned: Callable[[str], Learned | None]
    file_bytes: Callable[[str], int | None]
    leaving: bool = False
    _sequence: int = 0
    _said: PodState | None = None
    _said_at_s: float = float("-inf")
    _looked_at_s: float = float("-inf")
    _since_s: dict[str, float] = field(default_factory=dict)

    def took(self, snapshot: Snapshot) -> None:
        """Takes in a tick: since when each model can serve."""
        now_s = snapshot.now_s
        ready = [n for n, model in snapshot.models.items() if model.state is ModelState.READY]
        self._since_s = {name: self._since_s.get(name, now_s) for name in sorted(ready)}

    def due(self, now_s: float) -> PodState | None:
        """What is to be said now; None while there is nothing."""
        if not self.telemetry.latest.snapshot.models and not self.leaving:
            # Before the first tick nothing is known, and to say "no residents" would be untrue.
            return None
        quiet_s = now_s - self._said_at_s
        if self._said is None or quiet_s >= self.pace.heartbeat_s:
            return self._say(now_s)
        if self._said.leaving != self.leaving:
            return self._say(now_s)
        if quiet_s < self.pace.gap_s(self.peers() + 1):
            return None
        if self._said.residents.keys() != self._residents().keys():
            return self._say(now_s)
        if now_s - max(self._looked_at_s, self._said_at_s) < self.pace.drift_s:
            return None
        self._looked_at_s = now_s
        return self._say(now_s) if _has_moved(self._said, self._state(now_s)) else None

    def said_nothing(self) -> None:
        """What was to be said did not arrive, or the broker has forgotten it: say it again."""
        self._said = None

    def _say(self, now_s: float) -> PodState:
        self._sequence += 1
        self._said, self._said_at_s = self._state(now_s), now_s
        return self._said

    def _residents(self) -> dict[str, float]:
        """At most as many as a message holds, those that have been here longest first."""
        since = sorted(self._since_s.items(), key=lambda each: (each[1], each[0]))
        return dict([each for each in since if len(each[0]) <= LONGEST_NAME][:MOST_RESIDENTS])

    def _state(self, now_s: float) -> PodState:
        load, residents = self.telemetry.pressure().load, self._residents()
        return PodState(
            run=self.run,
            sequence=self._sequence,
            load=None if load is None else round(min(max(load, 0.0), 1e6), 3),
            headroom=_headroom(self.telemetry),
            leaving=self.leaving,
            residents={
                name: min(10**9, round(max(0.0, now_s - since_s)))
                for name, since_s in residents.items()
            },
            learned=self._learned(),
            place=self.place,
            asked=self._asked(residents, now_s),
        )

    def _asked(self, residents: Iterable[str], now_s: float) -> dict[str, int]:
        policy, pasts = self.telemetry.latest.policy, self.telemetry.latest.plan.history.models
        return {
            name: hourly
            for name in residents
            if (past := pasts.get(name)) is not None
            and (hourly := per_hour(max(rates(policy, past, now_s))))
        }

    def _learned(self) -> dict[str, LearnedModel]:
        """Of the residents, then of those last learned of; each model is told where it lives."""
        models = self.telemetry.latest.snapshot.models
        known = [
            (name not in self._since_s, -learned.learned_at_s, name, learned)
            for name, model in models.items()
            if len(name) <= LONGEST_NAME
            and (learned := self.learned(name)) is not None
            # What was learned of files that are no longer there would mislead.
            and (None in (model.revision, learned.revision) or model.revision == learned.revision)
        ]
        told = sorted(known, key=lambda each: each[:3])[:MOST_LEARNED]
        return {name: _told(learned, self.file_bytes(name)) for *_, name, learned in told}


def _told(learned: Learned, file_bytes: int | None) -> LearnedModel:
    by_device = learned.footprint_bytes or {}
    return LearnedModel(
        footprint_bytes=max(by_device.values(), default=None),
        load_s=None if learned.load_s is None else round(learned.load_s, 2),
        on_host=by_device.keys() == {HOST},
        file_bytes=file_bytes,
    )


def _headroom(telemetry: Telemetry) -> dict[str, int]:
    latest = telemetry.latest
    units = Units(latest.policy, latest.snapshot.models)
    accounts = sorted(Ledger(latest.policy, latest.snapshot, units).accounts.items())
    return {
        name: max(0, account.limit - account.reserved)
        for name, account in accounts[:MOST_DEVICES]
        if account.limit is not None
    }


def _has_moved(said: PodState, now: PodState) -> bool:
    if (said.load is None) != (now.load is None) or said.headroom.keys() != now.headroom.keys():
        return True
    if said.learned != now.learned or abs((said.load or 0) - (now.load or 0)) >= NOTABLE_LOAD:
        return True
    pairs = [(said.headroom[device], now.headroom[device]) for device in now.headroom]
    return any(abs(a - b) > NOTABLE_HEADROOM * max(a, b) for a, b in pairs)
