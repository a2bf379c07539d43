"""The fleet on one clock: traffic, a router, pods, and gossip between their sidecars.

Owns the order of things. Every decision in a pod is the production plan's, what a sidecar knows of
its peers is the production `Fleet`, where the gateway looks the production `Places`, and how often
a pod speaks the production `Pace`.

Pods play a step each, one after the other, exactly inside; what one does to another (who is routed
where, what is said, who is gone) takes effect where a step ends. That is what lets a thousand pods
run in minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from policies.peers import Fleet
from policies.places import Places
from policies.policy import Policy
from simulations.fleet.broker import Broker, GossipSpec
from simulations.fleet.churn import Add, Change, Drain, Kill, Rollout
from simulations.fleet.member import Member, World
from simulations.fleet.outcome import Moves, Outcome, Spoken, outcome
from simulations.fleet.routing import ByModel, Random, Router, RoutingName
from simulations.pod.agenda import Agenda
from simulations.pod.spec import PodSpec
from simulations.scaling.routing import picked
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue

# How often sidecars look who has been silent for too long.
_FORGET_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """pods: that there are in the beginning. start_s: from a new pod's creation until its Triton
    and its sidecar run; ready_s: from there until requests are sent to it. noticed_s: for how
    long the gateway does not know that a pod is dead or leaves; a request for a dead one is tried
    elsewhere. balance: as the gateway's, a factor; 0: no limit. step_s: what pods do to each other
    takes effect so often.
    """

    pods: int
    start_s: float = 20.0
    ready_s: float = 5.0
    noticed_s: float = 2.0
    balance: float = 3.0
    step_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Setting:
    """All but who contends. warm_up_s: what happens before that does not count."""

    workload: Workload
    catalogue: Catalogue
    policy: Policy
    pod: PodSpec
    fleet: FleetSpec
    gossip: GossipSpec = field(default_factory=GossipSpec)
    churn: Sequence[Change] = ()
    warm_up_s: float = 0.0
    seed: int = 0


def simulate(setting: Setting, routing: RoutingName, *, gossip: bool, name: str = "") -> Outcome:
    """What becomes of the setting's traffic; the same for the same arguments."""
    return Run(setting, routing, gossip=gossip).outcome(name)


@dataclass(slots=True)
class Run:
    setting: Setting
    routing: RoutingName
    gossip: bool
    members: list[Member] = field(default_factory=list)
    broker: Broker | None = None
    _agenda: Agenda = field(default_factory=Agenda)
    _router: Router = field(init=False)
    _world: World = field(init=False)
    _random: np.random.Generator = field(init=False)
    _routed: Places = field(default_factory=lambda: Places(()))
    _moves: Moves = field(default_factory=Moves)
    _before: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        setting = self.setting
        names, models = setting.workload.names, setting.catalogue
        self._random = np.random.default_rng([setting.seed, 1])
        silent = Workload(names, setting.workload.duration_s, lambda: iter(()))
        self._world = World(silent, models, self.setting.policy, setting.pod, setting.seed)
        if self.routing is RoutingName.BY_MODEL:
            service_s = [models[name].service_s for name in names]
            self._router = ByModel(names, service_s, setting.fleet.balance)
        else:
            self._router = Random(np.random.default_rng([setting.seed, 2]))
        most = setting.fleet.pods + sum(self._new(change) for change in setting.churn)
        if self.gossip:
            random = np.random.default_rng([setting.seed, 3])
            told = tuple((name, max(1, setting.policy.copies(name))) for name in names)
            self.broker = Broker(setting.gossip, self._agenda, random, told, most)
        for change in setting.churn:
            self._agenda.at(change.at_s, partial(self._change, change))
        for _ in range(setting.fleet.pods):
            # Sidecars do not tick all at the same moment.
            self._made(began_s=-self._random.random() * setting.policy.tick_s, ready_s=0.0)
        if self.broker is not None:
            self.broker.are_there(self.members, 0.0)
            self.broker.look_around(self.members)

    def outcome(self, name: str) -> Outcome:
        setting = self.setting
        duration_s, step_s = setting.workload.duration_s, setting.fleet.step_s
        arrivals = _Stream(setting.workload)
        forgets_s, warms_s = _FORGET_EVERY_S, setting.warm_up_s
        for step in range(int(np.ceil(duration_s / step_s))):
            from_s, to_s = step * step_s, min(duration_s, (step + 1) * step_s)
            if warms_s <= from_s:
                warms_s = np.inf
                self._warmed_up()
            is_last = to_s >= duration_s
            self._route(arrivals.before(np.inf if is_last else to_s), from_s)
            for member in self._present():
                member.until(to_s)
            while self._agenda.next_s <= to_s:
                self._agenda.do_next()
            if self.broker is not None:
                if forgets_s <= to_s:
                    forgets_s += _FORGET_EVERY_S
                    self.broker.forget_silent(to_s)
                self.broker.speak(to_s)
                self.broker.note_agreement(to_s)
                self.broker.look_around(self._present())
        return self._end(name, duration_s)

    def _end(self, name: str, duration_s: float) -> Outcome:
        for member in self._present():
            member.end(duration_s, gone=False)
        spoken = Spoken()
        if self.broker is not None:
            self.broker.end()
            spoken = self._spoken(self.broker)
        return outcome(name, self.members, duration_s, self.setting.warm_up_s, self._moves, spoken)

    def _warmed_up(self) -> None:
        for member in self._present():
            member.warmed_up()
        if self.broker is not None:
            self._before = (self.broker.said, self.broker.delivered)
        self._moves = Moves()

    def _spoken(self, broker: Broker) -> Spoken:
        said, delivered = self._before
        return Spoken(broker.said - said, broker.delivered - delivered, tuple(broker.healed))

    # Requests.

    def _route(self, block: Arrivals, now_s: float) -> None:
        pods = self._routable(now_s)
        assert pods, "a scenario leaves one pod at least"
        self._note_moves(pods)
        if not len(block):
            return
        inside = [pod.inside(now_s) for pod in pods] if self._counts else [0] * len(pods)
        for member, part in self._router.route(block, self.setting.fleet.step_s, pods, inside):
            member.take(part)

    @property
    def _counts(self) -> bool:
        return self.routing is RoutingName.BY_MODEL and self.setting.fleet.balance > 0

    def _routable(self, now_s: float) -> list[Member]:
        """Pods that the gateway sends requests to; one that is dead gets none, known or not."""
        noticed_s = self.setting.fleet.noticed_s
        return [
            member
            for member in self._present()
            if member.ready_s <= now_s
            and (member.leaving_s is None or now_s < member.leaving_s + noticed_s)
        ]

    def _note_moves(self, pods: Sequence[Member]) -> None:
        places = Places.of(pod.place for pod in pods)
        before, self._routed = self._routed, places
        if before.keys and places != before:
            names = self.setting.workload.names
            changed = len({*before.keys} ^ {*places.keys})
            moved = sum(before.first(name) != places.first(name) for name in names)
            self._moves.add(changed, moved, max(len(before.keys), len(places.keys)), len(names))

    # Pods that come and go.

    def _present(self) -> list[Member]:
        return [member for member in self.members if member.is_here]

    def _made(self, began_s: float, ready_s: float) -> Member:
        member = Member(len(self.members), self._world, began_s, ready_s)
        if self.gossip:
            member.fleet = Fleet(member.place)
        self.members.append(member)
        return member

    def _begin(self, now_s: float) -> None:
        member = self._made(now_s, now_s + self.setting.fleet.ready_s)
        if self.broker is not None:
            self.broker.joins(member, now_s)

    def _change(self, change: Change, now_s: float) -> None:
        staying = [member for member in self._present() if not member.is_leaving]
        match change:
            case Kill(pods=pods):
                for member in self._some(staying, pods):
                    self._lose(member, now_s)
            case Drain(pods=pods, notice_s=notice_s):
                for member in self._some(staying, pods):
                    self._drain(member, notice_s, now_s)
            case Add(pods=pods):
                self._add(pods, now_s)
            case Rollout():
                self._roll(staying, change, now_s)

    def _some(self, members: Sequence[Member], pods: int) -> list[Member]:
        chosen = self._random.permutation(len(members))[: min(pods, len(members) - 1)]
        return [members[number] for number in sorted(chosen.tolist())]

    def _lose(self, member: Member, now_s: float) -> None:
        member.until(now_s)
        member.end(now_s, gone=True)
        if self.broker is not None:
            self.broker.loses(member, now_s)

    def _drain(self, member: Member, notice_s: float, now_s: float) -> None:
        member.leave(now_s)
        self._agenda.at(now_s + notice_s, partial(self._lose, member))

    def _add(self, pods: int, now_s: float) -> None:
        for _ in range(pods):
            self._agenda.at(now_s + self.setting.fleet.start_s, self._begin)

    def _roll(self, left: Sequence[Member], rollout: Rollout, now_s: float) -> None:
        """So many at a time: the new ones come first, and when they are ready the old ones go."""
        batch, rest = left[: rollout.at_once], left[rollout.at_once :]
        self._add(len(batch), now_s)
        ready_s = now_s + self.setting.fleet.start_s + self.setting.fleet.ready_s

        def old_go(at_s: float) -> None:
            for member in batch:
                if member.is_here and not member.is_leaving:
                    self._drain(member, rollout.notice_s, at_s)
            if rest:
                self._agenda.at(at_s, partial(self._roll, rest, rollout))

        self._agenda.at(ready_s, old_go)

    def _new(self, change: Change) -> int:
        """How many pods it may bring."""
        match change:
            case Add(pods=pods):
                return pods
            case Rollout():
                others = [each for each in self.setting.churn if isinstance(each, Add)]
                return self.setting.fleet.pods + sum(each.pods for each in others)
        return 0


class _Stream:
    """The traffic, step by step."""

    def __init__(self, workload: Workload) -> None:
        self._runs = workload.runs()
        self._left = next(self._runs, None)

    def before(self, to_s: float) -> Arrivals:
        parts = []
        while self._left is not None:
            upto = int(np.searchsorted(self._left.time_s, to_s, side="left"))
            parts.append(picked(self._left, slice(0, upto)))
            if upto < len(self._left):
                self._left = picked(self._left, slice(upto, None))
                break
            self._left = next(self._runs, None)
        return joined(parts)
