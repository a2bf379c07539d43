"""What a simulated pod is like: its device, its delays, and what goes wrong in it.

Owns those figures with their units and defaults. Refuses to know models (the catalogue) and
decisions (the policy).
"""

from dataclasses import dataclass, field

from policies.snapshot import ErrorClass

FOREVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class LoadFault:
    """Loads of ``model`` that begin in [from_s, to_s) fail, each with ``probability``.

    after: when the failure shows, as a share of the time the load would have taken.
    """

    model: str
    error_class: ErrorClass = ErrorClass.INITIALISATION
    from_s: float = 0.0
    to_s: float = FOREVER_S
    probability: float = 1.0
    after: float = 1.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Triton's process ends at ``at_s`` and answers again ``down_s`` seconds later."""

    at_s: float
    down_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Death:
    """The process of one model ends; Triton goes on calling the model READY."""

    at_s: float
    model: str


@dataclass(frozen=True, slots=True)
class FilesChange:
    """A new version of ``model`` comes beside the old one, from ``at_s`` on for ``over_s`` seconds.

    A load that begins meanwhile finds a part of it, and fails. broken: so do all later ones.
    """

    at_s: float
    model: str
    over_s: float = 0.0
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Triton serves and answers none of the sidecar's questions, in [from_s, to_s)."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class FailurePlan:
    """What goes wrong, and when; nothing by default. Times are the workload's."""

    loads: tuple[LoadFault, ...] = ()
    restarts: tuple[Restart, ...] = ()
    deaths: tuple[Death, ...] = ()
    silences: tuple[Silence, ...] = ()


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod. Delays are seconds, of a loopback installation unless said otherwise.

    device_bytes: memory of its one device; device_id: how policies name it.
    other_bytes: memory that others take of it, CUDA contexts among them.
    gauge_s: how old the gauge of used memory may be (Triton's metrics interval); None when
        nobody measures.
    channels: loads that Triton carries out at once; further ones queue inside it.
    load_interference: by what share of itself a load is slowed by each other one beside it: 0
        when they do not meet, 1 when they share one disk or link.
    load_jitter, unload_jitter: sigma of the log-normal factor of each load's, or unload's,
        time; 0 draws nothing.
    load_overhead_s, unload_overhead_s: what a call takes beyond the catalogue's time.
    leak: share of a model's memory that stays taken after its unload, until Triton restarts.
    through_envoy: hot requests pass the sidecar by, so that those inside are estimated and
        an unload is sent without a drain. Else all pass through it and are counted.
    look_s: from the beginning of a tick until its decision. shortest_rest_s: from a decision
        until the next tick, however much happens.
    ask_s: one question to Triton's index. unload_poll_s, drain_poll_s: how long the sidecar
        rests between looks whether an unload, or a drain, is over; to look at the former is to
        ask.
    release_s: from the end of a load until a request held for it is back in Triton.
    on_its_way_s: for how long a released request keeps its model from being unloaded.
    probe_s, probe_every_s: how long a probe of a dead model takes, and how often one is sent.
    request_s: what every request takes beside waiting and execution, through network and proxy.
    client_deadline_s: after this clients give up; None when they never do.
    resident: models that are there when the workload begins; they must fit the policy's budget.
    loads_known: load times were learned before, as by a sidecar that kept its state.
    epoch_s: the workload's second zero, in seconds since the Unix epoch, UTC.
    changes: new versions that come to the repository.
    """

    device_bytes: int
    device_id: str = "GPU-0"
    other_bytes: int = 0
    gauge_s: float | None = 1.0
    channels: int = 4
    load_interference: float = 0.0
    load_jitter: float = 0.0
    unload_jitter: float = 0.0
    load_overhead_s: float = 0.01
    unload_overhead_s: float = 0.0
    leak: float = 0.0
    through_envoy: bool = True
    look_s: float = 0.01
    shortest_rest_s: float = 0.05
    ask_s: float = 0.005
    unload_poll_s: float = 0.1
    drain_poll_s: float = 0.02
    release_s: float = 0.005
    on_its_way_s: float = 0.1
    probe_s: float = 1.0
    probe_every_s: float = 5.0
    request_s: float = 0.0
    client_deadline_s: float | None = None
    resident: tuple[str, ...] = ()
    loads_known: bool = True
    epoch_s: float = 1_764_028_800.0
    failures: FailurePlan = field(default_factory=FailurePlan)
    changes: tuple[FilesChange, ...] = ()

    def is_silent(self, at_s: float) -> bool:
        """Whether Triton answers none of the sidecar's questions then."""
        return any(each.from_s <= at_s < each.to_s for each in self.failures.silences)
