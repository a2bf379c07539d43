"""Takes the snapshots of a simulated pod, as the sidecar's observer does of a live one.

Owns what is remembered between two looks, and the arithmetic of counts: a request held at the
door is counted when it comes and not again when it has been served; where hot requests pass
the sidecar by, those inside are estimated from how long the ended ones took.

A model that nothing has happened to keeps its frozen `Model` from one snapshot to the next.
"""

from dataclasses import dataclass, field

from policies.snapshot import Device, ErrorClass, LoadFailure, Model, ModelState, Snapshot
from simulations.pod.agenda import Agenda
from simulations.pod.place import Place
from simulations.pod.servers import Request
from simulations.pod.spec import PodSpec
from simulations.pod.tally import Tally
from simulations.pod.triton import Gauge


@dataclass(slots=True)
class _Served:
    """What Triton's counters have grown by since the last look."""

    successes: float = 0.0
    executions: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    busy_s: float = 0.0


_NOTHING = _Served()


@dataclass(slots=True)
class Look:
    """active: places that something has happened to since they were last seen at rest.

    is_stirred: something beyond requests for residents has happened since a whole plan looked.
    leaving: the pod is on its way out.
    is_overlaid: the latest look still showed work of our own hand that ended while it was taken.
    """

    pod: PodSpec
    agenda: Agenda
    gauge: Gauge
    tally: Tally
    models: dict[str, Model] = field(default_factory=dict)
    active: dict[str, Place] = field(default_factory=dict)
    last: Snapshot = field(default_factory=lambda: Snapshot(0.0, reachable=False))
    leaving: bool = False
    is_overlaid: bool = False
    is_stirred: bool = True
    _last_s: float = float("-inf")
    _device: Device | None = None

    def touch(self, place: Place) -> None:
        """Something has happened to ``place`` that a whole plan must see."""
        self.active[place.name] = place
        self.is_stirred = True
        place.at_rest = None

    def changes(self, now_s: float) -> dict[str, Model]:
        """Every model that a plan made now must see, if it has seen all before."""
        began_s, elapsed_s = now_s - self.pod.look_s, now_s - self._last_s
        self._last_s = now_s
        self.is_overlaid = False
        changed = {}
        for name, place in list(self.active.items()):
            served = self.collect(place, now_s)
            if served is _NOTHING and place.at_rest is not None and not place.servers.inside():
                changed[name] = place.at_rest
                del self.active[name]
                continue
            model = self._model(place, served, now_s, began_s, elapsed_s)
            overlaid = place.ours_until_s > began_s
            self.is_overlaid |= overlaid
            if not overlaid and _is_quiet(model) and not place.servers.inside():
                del self.active[name]
                place.at_rest = model
            changed[name] = model
        self.models |= changed
        return changed

    def snapshot(self, now_s: float, unload_s: float | None, models: dict[str, Model]) -> Snapshot:
        """A snapshot of ``models``, as reachable as can be."""
        pod, used_bytes = self.pod, self.gauge.read(now_s)
        device = self._device
        if device is None or device.used_bytes != used_bytes:
            device = self._device = Device(pod.device_id, pod.device_bytes, used_bytes)
        at_s, devices = pod.epoch_s + now_s, {pod.device_id: device}
        return Snapshot(at_s, True, devices, models, unload_s, leaving=self.leaving)

    def collect(self, place: Place, now_s: float) -> _Served:
        """Takes in every request of ``place`` that has ended by now."""
        ended = place.servers.ended(now_s)
        if not ended:
            return _NOTHING
        served, deadline_s = _Served(), self.pod.client_deadline_s
        for end_s, request, queue_s, compute_s, share in ended:
            served.successes += request.weight
            served.executions += share
            served.queue_s += queue_s * request.weight
            served.compute_s += compute_s * request.weight
            served.busy_s += compute_s * share
            if deadline_s is not None and end_s - request.at_s > deadline_s:
                self.tally.failed(request, "client gone")
            else:
                self.tally.served(request, _wait_s(request, end_s, queue_s, compute_s))
        return served

    def _model(
        self, place: Place, served: _Served, now_s: float, began_s: float, elapsed_s: float
    ) -> Model:
        self._examine(place, served, now_s)
        missed, place.missed = place.missed, 0.0
        failed, place.failed = place.failed, 0.0
        entered = place.servers.entered - place.released
        place.servers.entered = place.released = 0.0
        state = self._state(place, began_s)
        forgotten = not place.known and place.was_ready and place.state is ModelState.UNLOADED
        is_ready = state is ModelState.READY
        model = Model(
            name=place.name,
            state=state,
            footprint=place.footprint,
            load_s=place.load_s,
            arrivals=missed + entered + failed,
            waiting=_waiting(place),
            oldest_wait_s=_oldest_wait_s(place, now_s),
            in_flight=self._in_flight(place, served, now_s, elapsed_s),
            in_flight_counted=not self.pod.through_envoy,
            leases=int(place.leased_until_s > now_s),
            draining=place.draining and is_ready,
            pending=place.servers.waiting() if is_ready else None,
            served=served.successes,
            queue_s=round(served.queue_s, 6),
            compute_s=round(served.compute_s, 6),
            executions=served.executions,
            busy_s=round(served.busy_s, 6),
            instances=place.profile.instances,
            overdue=place.overdue,
            sick=place.sick,
            forgotten=forgotten,
            updating=place.copying and is_ready,
            outdated_since_s=self._outdated_since_s(place) if is_ready else None,
            fallback=(1,) if place.former and not is_ready else (),
            revision=str(place.revision) if self.pod.changes else None,
            failure=place.failure,
            copies=place.copies,
        )
        place.was_ready = is_ready or (forgotten and place.was_ready)
        if state is ModelState.UNLOADED:
            place.sick = False
        return model

    def _outdated_since_s(self, place: Place) -> float | None:
        return self.pod.epoch_s + place.changed_s if place.outdated else None

    def _state(self, place: Place, began_s: float) -> ModelState:
        """What our hand was doing when the look began overlays what Triton says."""
        ours = place.ours
        if ours is None and place.ours_until_s > began_s:
            ours = place.ours_before
        if ours is None or (ours is ModelState.UNLOADING and place.draining):
            return place.state
        return ours

    def _in_flight(self, place: Place, served: _Served, now_s: float, elapsed_s: float) -> float:
        if not self.pod.through_envoy:
            return float(place.servers.inside())
        return round((served.queue_s + served.compute_s) / elapsed_s, 2) if elapsed_s > 0 else 0.0

    def _examine(self, place: Place, served: _Served, now_s: float) -> None:
        """Probes a model whose every request has failed since the last look."""
        if not place.failed or served.successes or place.sick:
            return
        if place.state is not ModelState.READY:
            return
        if now_s - place.probed_at_s < self.pod.probe_every_s:
            return
        place.probed_at_s = now_s

        def found(at_s: float) -> None:
            if place.dead:
                place.sick = True
                at_s += self.pod.epoch_s
                place.failure = LoadFailure(at_s, ErrorClass.UNHEALTHY, "its process has died")
                self.touch(place)

        self.agenda.at(now_s + self.pod.probe_s, found)


def _is_quiet(model: Model) -> bool:
    """Nothing of it would be different if it were looked at again, and nothing happened."""
    return not (
        model.arrivals
        or model.waiting
        or model.leases
        or model.in_flight
        or model.pending
        or model.executions
        or model.sick
    )


def _wait_s(request: Request, end_s: float, queue_s: float, compute_s: float) -> float:
    """Seconds beyond its own execution: for one that came straight in, free of rounding errors."""
    if request.cold:
        return max(0.0, end_s - request.at_s - request.service_s)
    return queue_s + compute_s - request.service_s


def _waiting(place: Place) -> int:
    if not place.waiters:
        return 0
    weight = sum([request.weight for request in place.waiters.values()])
    return max(len(place.waiters), round(weight))


def _oldest_wait_s(place: Place, now_s: float) -> float:
    oldest = next(iter(place.waiters.values()), None)
    return 0.0 if oldest is None else round(max(0.0, now_s - oldest.at_s), 3)
