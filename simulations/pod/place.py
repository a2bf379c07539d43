"""One model in a simulated pod: what Triton, the door and the sidecar each know of it.

Owns the record. Who changes what: `triton` the truth, `hand` what our own hand does, `door`
who waits, `look` what was told to the plan.
"""

from dataclasses import dataclass, field

from policies.peers import Copies
from policies.policy import Policy
from policies.snapshot import Footprint, FootprintSource, LoadFailure, Model, ModelState
from simulations.pod.servers import Request, Servers, servers
from simulations.pod.spec import PodSpec
from simulations.workloads.catalogue import Profile


@dataclass(slots=True, eq=False)
class Place:
    """One model.

    state: as Triton's index says. known: Triton remembers having been asked for it.
    dead: its process has ended, and its requests fail. version: counts its loads, so that what
        was meant for one copy does not reach the next.
    ours: what our own hand does with it, if anything; ours_until_s: when it last stopped doing
        what ours_before says.
    draining: its unload is decided and not sent.
    reserve_bytes, peak_bytes: what it reserves while resident, and while it loads, by the
        policy; reserved_bytes: what it does now.
    open: requests reach it without waiting: READY, and our hand does not hold them back.
    waiters: held requests by number, the oldest first.
    missed: requests that came since the last look and found it absent.
    released: held requests that have been let in since the last look, by weight.
    failed: requests that its dead process has failed since the last look, by weight.
    load_s: how long a load takes, as learned; None before the first.
    missed_before: somebody has asked for it since it last served. wanted_since_s: since when
        somebody has waited for it, without a pause.
    at_rest: what a look shows of it while nothing happens; None until one has seen it so.
    unused: it was loaded before anybody asked, and nobody has asked since.
    was_ready: a look saw it READY, and none has seen it leave by itself since.
    copies: where it stands in the fleet; None where nobody tells.
    revision: counts changes of its files, the latest of them at changed_s; loaded_revision: what it
        was last loaded from. unusable: a load of them fails.
    copying: it serves while a new copy of it loads. former: it has left for changed files, and can
        be loaded as it was before.
    """

    name: str
    profile: Profile
    footprint: Footprint
    servers: Servers
    reserve_bytes: int
    peak_bytes: int
    load_s: float | None
    state: ModelState = ModelState.UNLOADED
    known: bool = False
    dead: bool = False
    version: int = 0
    ours: ModelState | None = None
    ours_before: ModelState | None = None
    ours_until_s: float = float("-inf")
    draining: bool = False
    shut: bool = False
    open: bool = False
    overdue: bool = False
    sick: bool = False
    waiters: dict[int, Request] = field(default_factory=dict)
    reserved_bytes: int = 0
    missed: float = 0.0
    released: float = 0.0
    failed: float = 0.0
    leased_until_s: float = float("-inf")
    probed_at_s: float = float("-inf")
    failure: LoadFailure | None = None
    was_ready: bool = False
    missed_before: bool = False
    unused: bool = False
    at_rest: Model | None = None
    wanted_since_s: float | None = None
    copies: Copies | None = None
    revision: int = 0
    loaded_revision: int = 0
    changed_s: float = 0.0
    unusable: bool = False
    copying: bool = False
    former: bool = False

    @property
    def outdated(self) -> bool:
        """It serves, and from other files than lie there."""
        is_same = self.loaded_revision == self.revision
        return self.state is ModelState.READY and not self.copying and not is_same

    def settle_open(self) -> bool:
        """Brings ``open`` up to date, and returns it."""
        self.open = self.state is ModelState.READY and not self.shut
        return self.open


def placed(name: str, profile: Profile, policy: Policy, pod: PodSpec) -> Place:
    """``name`` as it is before anything has happened. What the policy declares of its size is
    believed, as it is live; else its size has been measured."""
    declared = policy.wishes(name).footprint
    source = FootprintSource.MEASURED if declared is None else FootprintSource.DECLARED
    if declared is None:
        by_device = {pod.device_id: profile.size_bytes}
    else:
        by_device = {pod.device_id: declared} if isinstance(declared, int) else {**declared}
    reserve_bytes = by_device.get(pod.device_id, 0)
    return Place(
        name=name,
        profile=profile,
        footprint=Footprint(by_device, source),
        servers=servers(profile),
        reserve_bytes=reserve_bytes,
        peak_bytes=round(reserve_bytes * policy.peak_factor(name)),
        load_s=profile.load_s + pod.load_overhead_s if pod.loads_known else None,
    )
