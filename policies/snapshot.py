"""What is known now: one frozen picture of Triton, its models and its devices.

Owns the vocabulary of facts. Refuses to know where they came from (the daemon's
observer or a simulated pod) and what is wanted (`policies.policy`). A measurement
that could not be taken is ``None``; it is never a silent zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.peers import Copies

HOST = "host"
"""Id of the device that is the host's memory, where no GPU is there."""


class ModelState(StrEnum):
    """Where a model stands in Triton, our own running tasks included."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


class FootprintSource(StrEnum):
    """How a footprint is known, best source first."""

    DECLARED = "declared"
    REPORTED = "reported"
    MEASURED = "measured"
    PEER = "peer"
    HINTED = "hinted"
    FILE_SIZE = "file_size"
    ASSUMED = "assumed"


class ErrorClass(StrEnum):
    """Kinds of trouble that deserve different patience before the next load."""

    CONFIG = "config"
    INITIALISATION = "initialisation"
    MEMORY = "memory"
    UNHEALTHY = "unhealthy"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Footprint:
    """Device memory one model needs while resident.

    by_device: bytes per device id.
    """

    by_device: Mapping[str, int]
    source: FootprintSource

    @property
    def total_bytes(self) -> int:
        return sum(self.by_device.values())


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The latest failed load (or death) of a model; ``at_s`` tells one from the next."""

    at_s: float
    error_class: ErrorClass
    message: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A memory a model can live in: a GPU, or the host where there is none.

    total_bytes, used_bytes: whole device, by every process; None when unmeasured.
    utilisation: 0 to 1, None when unmeasured.
    """

    id: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the repository, as of this snapshot.

    footprint: None when nothing is known of its size.
    load_s: expected seconds of one load (learned, else a prior); None when unknown.
    arrivals: requests that came since the last snapshot, misses included, whoever counted them.
    waiting, oldest_wait_s: requests held for it to load, and the longest such wait.
    in_flight: requests inside Triton; None when nothing tells.
    in_flight_counted: the front door counted them one by one; else they are estimated
        from how long Triton says that requests took.
    leases: streams and sequences open on it, and released requests still on their way to
        it; it does not leave while there are any.
    draining: READY, and its unload is decided and not sent: new requests are held at the
        door, and a plan without that unload calls it off.
    pending: requests in Triton's queue; None while the model has no such gauge.
    served: requests that Triton has finished since the last snapshot.
    queue_s, compute_s, executions: what they cost; seconds summed over requests.
    busy_s: for how long executions kept instances busy, summed over instances.
    instances: how many executions of it can run at once; None when unknown.
    steps: models an ensemble is made of; Triton loads them with it.
    stale: its files changed after its load began, so that any load call which
        touches it makes a second copy beside the first.
    overdue: it has been loading for longer than the policy's timeout, and still is.
    sick: Triton says READY, yet it cannot serve; only unload + load heals.
    forgotten: Triton has no memory of it although it was loaded: Triton restarted.
    updating: READY, and a new copy of it loads beside the one that serves. former: READY, and
        the copy that served before is still on its way out.
    outdated_since_s: since when its files, unchanged from then on, are others than those it was
        loaded from; None when they are the same, and while nobody can say.
    unusable: why files that have changed cannot be loaded, where that shows without a try.
    fallback: versions that it served before it was swapped for changed files, and that are
        still there as they were then.
    stateful: its requests belong to sequences, and a new copy knows nothing of open ones.
    revision: changes whenever files do that Triton would serve it from; None when they cannot
        be seen.
    copies: where it stands in the fleet; None where no fleet is known of.
    expected_rate: requests per second that all pods together get of late, as somebody outside
        counts them; None when nobody does. Those that reach this pod are among them.
    """

    name: str
    state: ModelState = ModelState.UNLOADED
    footprint: Footprint | None = None
    load_s: float | None = None
    arrivals: float = 0.0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    in_flight: float | None = None
    in_flight_counted: bool = False
    leases: int = 0
    draining: bool = False
    pending: int | None = None
    served: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    executions: float = 0.0
    busy_s: float = 0.0
    instances: int | None = None
    steps: tuple[str, ...] = ()
    stale: bool = False
    overdue: bool = False
    sick: bool = False
    forgotten: bool = False
    in_repository: bool = True
    updating: bool = False
    former: bool = False
    outdated_since_s: float | None = None
    unusable: str | None = None
    fallback: tuple[int, ...] = ()
    stateful: bool = False
    revision: str | None = None
    failure: LoadFailure | None = None
    copies: Copies | None = None
    expected_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one decision may look at.

    now_s: seconds since the Unix epoch, UTC; the only clock a plan has.
    reachable: Triton answered this time. When it did not, models and devices are
        the last known ones and nothing is decided.
    metered: what models were asked and what it cost is known this time.
    leaving: this pod is on its way out, and its requests go to others.
    unload_s: seconds from the call of an unload until memory is free, on average of
        late; None before the first.
    """

    now_s: float
    reachable: bool = True
    devices: Mapping[str, Device] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    unload_s: float | None = None
    metered: bool = True
    leaving: bool = False
