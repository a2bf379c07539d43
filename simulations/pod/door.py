"""The front door: who waits for a model, who is let in when it is there, and who is turned away.

Owns the requests held, and the bounds on them. Refuses to know why a model is absent; what the
plan says of it decides whether waiting helps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from policies.actions import Hold, Plan
from policies.policy import Mode, Policy
from simulations.pod.agenda import Agenda
from simulations.pod.place import Place
from simulations.pod.servers import Request
from simulations.pod.spec import PodSpec
from simulations.pod.tally import Tally


@dataclass(slots=True)
class Door:
    """wake: makes the sidecar look at once. touch: hears of every place that changed.

    waiting: requests held now, each counted once whatever it weighs; on_their_way: let in, and
    not yet back in Triton.
    """

    policy: Policy
    pod: PodSpec
    agenda: Agenda
    tally: Tally
    places: Mapping[str, Place]
    wake: Callable[[float], None]
    touch: Callable[[Place], None]
    waiting: int = 0
    on_their_way: int = 0
    _holds: dict[str, Hold] = field(default_factory=dict)
    _will_wake: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.on_their_way

    @property
    def _patience_s(self) -> float:
        wait_s, deadline_s = self.policy.front_door.wait_s, self.pod.client_deadline_s
        return wait_s if deadline_s is None else min(wait_s, deadline_s)

    # Requests.

    def come(self, place: Place, request: Request, now_s: float) -> None:
        """A request finds its model absent: it waits, or is turned away at once."""
        self.tally.cold(place, request.weight)
        place.missed += request.weight
        self.touch(place)
        if why := self._turned_away(place, request, now_s) or self._full(place):
            self.tally.failed(request, why)
            return
        self._hold(place, request._replace(cold=True), now_s)

    def enter(self, place: Place, request: Request, now_s: float) -> None:
        """A request reaches a model that serves, or seems to."""
        if place.dead:
            place.failed += request.weight
            self.tally.failed(request, "dead process")
        else:
            place.servers.enter(now_s, request)
        self.touch(place)

    def _hold(self, place: Place, request: Request, now_s: float) -> None:
        place.waiters[request.number] = request
        self.waiting += 1
        self.tally.waits(place, now_s)

        def gives_up(at_s: float) -> None:
            if place.waiters.get(request.number) is request:
                self._refuse(place, request, "timed out", at_s)

        self.agenda.at(max(now_s, request.at_s + self._patience_s), gives_up)
        self.wake(now_s)

    def _refuse(self, place: Place, request: Request, why: str, now_s: float) -> None:
        del place.waiters[request.number]
        self.waiting -= 1
        self.tally.failed(request, why)
        self.touch(place)
        if not place.waiters:
            self.tally.waits_no_more(place, now_s)

    def _full(self, place: Place) -> str:
        bounds = self.policy.front_door
        is_full = len(place.waiters) >= bounds.waiters_per_model or self.waiting >= bounds.waiters
        return "queue full" if is_full else ""

    def _turned_away(self, place: Place, request: Request, now_s: float) -> str:
        """Why waiting cannot help the request, by the latest plan; "" when it can."""
        if self.policy.mode is Mode.OBSERVE:
            return "not loaded"
        hold = self._holds.get(place.name)
        if hold is None:
            return ""
        if hold.retry_at_s is None:
            helps = not hold.reason.turns_away
        else:
            left_s = max(0.0, request.at_s + self._patience_s - now_s)
            bears_s = self.policy.front_door.retry_wait_s if hold.reason.turns_away else left_s
            helps = hold.retry_at_s - self.pod.epoch_s - now_s <= bears_s
        return "" if helps else f"turned away, {hold.reason.value}"

    # What the loop and our own hand tell.

    def saw(self, plan: Plan, now_s: float) -> None:
        """Takes in a plan, and turns those away whom it gives no hope."""
        self._holds = {hold.subject: hold for hold in plan.holds}
        if not self.waiting or (not self._holds and self.policy.mode is not Mode.OBSERVE):
            return
        for place in [place for place in self.places.values() if place.waiters]:
            for request in list(place.waiters.values()):
                if why := self._turned_away(place, request, now_s):
                    self._refuse(place, request, why, now_s)

    def shut(self, names: Iterable[str]) -> None:
        """Holds new requests for ``names`` back: they are about to leave."""
        for name in names:
            place = self.places[name]
            place.shut = True
            place.settle_open()
            self.touch(place)

    def unshut(self, places: Iterable[Place], now_s: float) -> None:
        """Ends `shut`: they have left, or they stay after all."""
        for place in places:
            place.shut = False
            self.changed(place, now_s)

    def changed(self, place: Place, now_s: float) -> None:
        """Lets the waiters in if the model can serve now."""
        self.touch(place)
        if place.settle_open():
            place.missed_before = False
            self.tally.waits_no_more(place, now_s)
            if place.waiters:
                self._release(place, now_s)

    def _release(self, place: Place, now_s: float) -> None:
        released = list(place.waiters.values())
        place.waiters.clear()
        self.waiting -= len(released)
        self.on_their_way += len(released)
        self.tally.asked(place)
        if self.pod.through_envoy:
            place.leased_until_s = now_s + self.pod.on_its_way_s
            if not self._will_wake:
                self._will_wake = True
                self.agenda.at(place.leased_until_s, self._have_arrived)

        def arrive(at_s: float) -> None:
            self.on_their_way -= len(released)
            for request in released:
                if place.open:
                    place.released += 0.0 if place.dead else request.weight
                    self.enter(place, request, at_s)
                else:
                    self._hold(place, request, at_s)
            # Whom a new absence sends back came before those who wait already.
            if not place.open:
                place.waiters = dict(sorted(place.waiters.items()))

        self.agenda.at(now_s + self.pod.release_s, arrive)

    def _have_arrived(self, now_s: float) -> None:
        """The leases of released requests have ended, and somebody may wait for just that."""
        self._will_wake = False
        if self.waiting:
            self.wake(now_s)
