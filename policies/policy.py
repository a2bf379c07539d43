"""What is wanted: the policy a team writes, as frozen values.

Owns every knob with its default, range and reason. Refuses to know how a file is read
(`policies.source`) and how the knobs are used (`policies.planner`). Durations are
seconds and memory is bytes inside; in YAML both carry their unit (``5m``, ``4GiB``).
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from policies.peers import DEPTH
from policies.quantities import (
    Bytes,
    MinuteOfDay,
    PositiveBytes,
    PositiveSeconds,
    Seconds,
    Share,
    duration,
)
from policies.snapshot import ErrorClass


def _yaml_key(field_name: str) -> str:
    """Units live in the values of a YAML file and in the names of the code."""
    return field_name.removesuffix("_s").removesuffix("_bytes").removesuffix("_")


class Section(BaseModel):
    """A mapping in YAML: units in its values, and an unknown key fails."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=_yaml_key,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Mode(StrEnum):
    ACT = "act"
    OBSERVE = "observe"


class RankingName(StrEnum):
    EXPECTED_COLD = "expected-cold"
    GREEDY_DUAL = "greedy-dual"
    LFU = "lfu"
    LRU = "lru"


class Day(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK = tuple(Day)
# A clock beyond the year 9000, or none at all, has no local time.
_CALENDAR_END_S = 221_845_392_000.0


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("no such time zone") from None
    return name


TimeZone = Annotated[
    str,
    AfterValidator(_known_timezone),
    Field(
        json_schema_extra={"x-allowed": "a name of the IANA time zone database, as Europe/Berlin"}
    ),
]


class Window(Section):
    """A weekly window, open from ``from`` to ``to`` on the days it starts on."""

    days: tuple[Day, ...] = _WEEK
    """Days on which the window opens."""
    from_: MinuteOfDay = 0
    """Opening time of day."""
    to: MinuteOfDay = 1440
    """Closing time of day; one before ``from`` closes on the next day."""
    timezone: TimeZone = "UTC"
    """Time zone in which days and times are meant."""

    def open_at(self, now_s: float) -> bool:
        if not 0 <= now_s < _CALENDAR_END_S:
            return False
        local = datetime.fromtimestamp(now_s, ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        today, yesterday = _WEEK[local.weekday()], _WEEK[local.weekday() - 1]
        if self.from_ < self.to:
            return today in self.days and self.from_ <= minute < self.to
        opened_today = today in self.days and minute >= self.from_
        return opened_today or (yesterday in self.days and minute < self.to)


class DevicePolicy(Section):
    """One device's own budget; what is left out is the policy's."""

    budget: Share | None = None
    """Memory our models may take on this device."""
    headroom_bytes: Bytes | None = None
    """Memory kept free below the budget."""


class Demand(Section):
    """How coming requests are guessed from past ones."""

    fast_s: PositiveSeconds = 60.0
    """Averaging time of the fast request rate; five times that, of the rate of visits."""
    slow_s: PositiveSeconds = 3600.0
    """Averaging time of the slow request rate; that, and 24 and 168 times as much, of visits."""
    want_s: Seconds = 30.0
    """For how long a request for an absent model keeps it wanted."""

    @property
    def visit_windows_s(self) -> tuple[float, float, float, float]:
        """Averaging times of the rate of visits: minutes, an hour, a day, a week."""
        return 5 * self.fast_s, self.slow_s, 24 * self.slow_s, 168 * self.slow_s


_LABEL = r"^[a-zA-Z_]\w{0,127}$"


def _with_window(query: str) -> str:
    if "{window}" not in query:
        raise ValueError("no {window} in it")
    return query


class Prometheus(Section):
    """What is asked of the Prometheus that `--prometheus` names: what the whole fleet is asked."""

    query: Annotated[
        str,
        Field(
            max_length=4096,
            json_schema_extra={"x-allowed": "PromQL up to 4096 characters, with {window} in it"},
        ),
        AfterValidator(_with_window),
    ] = "sum by (model) (rate(remora_model_arrivals_total[{window}]))"
    """Requests per second of each model; ``{window}`` stands for the span to average over."""
    label: Annotated[str, Field(pattern=_LABEL)] = "model"
    """Label of the answer that names the model."""
    window_s: Annotated[float, duration(1, 3600, "a duration from 1s to 1h, as 1m")] = 60.0
    """That span for the rates of now: at least two scrapes, better four."""
    history_s: Annotated[float, duration(0, 31 * 86400, "a duration from 0s to 31d, as 14d")] = (
        14 * 86400.0
    )
    """How far back a pod that has just started asks what was asked before; 0s learns nothing."""


class Residency(Section):
    """How long models stay, and what it takes to replace one."""

    minimum_s: Seconds = 30.0
    """A model just loaded is not evicted before this."""
    cooldown_s: Seconds = 10.0
    """A model just evicted is not loaded again before this, unless requests wait for it."""
    idle_unload_s: Seconds | None = None
    """Unload a model unused for this long; null never does: memory nobody needs costs nothing."""
    hysteresis: Annotated[float, Field(ge=0, le=100)] = 0.25
    """A swap must be worth more than what leaves by this fraction."""


class Churn(Section):
    """How many evictions a stretch of time may see."""

    evictions: Annotated[int, Field(ge=0, le=1_000_000)] = 240
    """Evictions allowed within the window."""
    window_s: PositiveSeconds = 600.0
    """Length of the window."""


class Backoff(Section):
    """Patience after failed loads: first, then times factor each time, up to max."""

    first_s: Seconds = 10.0
    """Wait after the first failure."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Growth of the wait with each further failure."""
    max_s: Seconds = 900.0
    """The longest wait."""

    def wait_s(self, failures: int) -> float:
        # The exponent is capped so that a model failing for years stays a finite float.
        return min(self.max_s, self.first_s * self.factor ** min(max(failures - 1, 0), 64))


_BACKOFFS: Mapping[ErrorClass, Backoff] = {
    ErrorClass.CONFIG: Backoff(first_s=30, max_s=1800),
    ErrorClass.INITIALISATION: Backoff(first_s=10, max_s=900),
    ErrorClass.MEMORY: Backoff(first_s=60, max_s=3600),
    ErrorClass.UNHEALTHY: Backoff(first_s=1, factor=4, max_s=300),
    ErrorClass.UNAVAILABLE: Backoff(first_s=1, max_s=10),
    ErrorClass.UNKNOWN: Backoff(first_s=10, max_s=900),
}


class Loads(Section):
    """How models are brought in."""

    concurrent: Annotated[int, Field(ge=1, le=64)] = 2
    """Loads that may run at once; Triton itself runs four."""
    timeout_s: PositiveSeconds = 600.0
    """How long a load call is waited for; it is not cancelled by that, only watched."""
    peak_factor: Annotated[float, Field(ge=1, le=10)] = 1.1
    """Memory a model takes while it loads, as a multiple of its footprint."""
    forgive_s: Seconds = 60.0
    """A model resident this long has its past failures forgotten."""
    backoff: Mapping[ErrorClass, Backoff] = _BACKOFFS
    """Patience by class of error; what is left out keeps its class's default."""

    @field_validator("backoff", mode="before")
    @classmethod
    def _over_defaults(cls, written: Any) -> Any:
        if not isinstance(written, Mapping):
            return written
        merged: dict[Any, Any] = {
            error_class.value: default.model_dump(by_alias=True)
            for error_class, default in _BACKOFFS.items()
        }
        for error_class, said in written.items():
            below = merged.get(error_class, {})
            merged[error_class] = {**below, **said} if isinstance(said, Mapping) else said
        return merged


class Versions(Section):
    """What becomes of models whose files change while they are resident."""

    roll_in: bool = True
    """Load changed files and new versions; false only tells of them."""
    settle_s: Seconds = 10.0
    """Files must have been left alone for this long: an upload is no moment's work."""


class Unloads(Section):
    """How models are let go."""

    drain_s: Seconds = 10.0
    """How long requests in flight may finish before the unload is sent."""
    stuck_s: PositiveSeconds = 10.0
    """A sick model still unloading after this is loaded over: Triton never ends such an unload."""


class FrontDoor(Section):
    """How requests are held for models that are not there."""

    wait_s: PositiveSeconds = 60.0
    """The longest a request is held; a client's own deadline may end it sooner."""
    patience_s: PositiveSeconds = 15.0
    """A request that has waited this long is no longer weighed: what is of age and not pinned goes
    for it, and it comes next unless loads queue."""
    waiters: Annotated[int, Field(ge=0, le=1_000_000)] = 2000
    """Requests held at once, for all models together."""
    waiters_per_model: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Requests held at once for one model."""
    held_bytes: Bytes = 32 * 2**20
    """Bodies of held requests, all together."""
    retry_wait_s: Seconds = 2.0
    """A request waits for the next try of a failed load when it is at most this far off."""
    lease_s: PositiveSeconds = 30.0
    """A stream keeps the models it has asked for resident for this long after its last message."""
    access_sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of requests written to the access journal; held, refused and failed ones all are."""


class Footprints(Section):
    """How sizes are guessed before they are measured."""

    file_factor: Annotated[float, Field(gt=0, le=100)] = 1.25
    """Device memory per byte of model files."""
    assume_bytes: PositiveBytes | None = None
    """Footprint of a model of which nothing is known; null holds it instead."""


class Routing(StrEnum):
    SPREAD = "spread"
    BY_MODEL = "by-model"


class Scaling(Section):
    """How many pods the work needs, as a HorizontalPodAutoscaler is told."""

    window_s: PositiveSeconds = 60.0
    """Averaging time of the work that is offered to a pod; the fewer the requests, the longer."""
    device_target: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    """Utilisation at which a GPU counts as full; null leaves it out, as where others share it."""
    routing: Routing = Routing.SPREAD
    """``by-model`` where a router sends each model to few pods: then memory counts too."""
    swap_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of its absence that loading may take, of a model that is swapped in its turn."""
    queue_slo_s: PositiveSeconds = 0.25
    """Mean time in Triton's queue above which the load is raised."""
    boost: Annotated[float, Field(ge=0, le=1)] = 0.5
    """By how much at most, as a share of the load: at twice that time."""
    down_s: Seconds = 60.0
    """Averaging time of the sum over all pods as it falls; it rises at once."""
    lead_s: Seconds = 60.0
    """How far ahead a lasting rise of that sum is carried on; 0s looks at no rise."""


class FleetWishes(Section):
    """What sidecars that hear of each other do for the fleet, where a router sends each model to
    few pods (``scaling.routing: by-model``)."""

    hand_over: bool = True
    """Load what only pods that leave hold, and what other pods hold and are asked for though its
    requests now come here; where there is room, or where that pays."""
    let_go_s: Seconds | None = 600.0
    """Unload a copy that nobody has asked for here for this long, while a pod that is tried before
    this one holds the model too; null keeps it until its memory is needed."""


class ModelPolicy(Section):
    """Wishes for one model, or for all whose name matches a pattern."""

    pin: bool | tuple[Window, ...] | None = None
    """Keep it resident: always (true), or in weekly windows."""
    weight: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """What a second of its cold start costs, against 1 for the others."""
    footprint: Bytes | Mapping[str, Bytes] | None = None
    """Its device memory, where you know it: an amount, or one for each device."""
    calls: tuple[str, ...] | None = None
    """Models it calls by itself (business logic scripting); they come and go with it."""
    minimum_s: Seconds | None = None
    """Its own minimum residency."""
    idle_unload_s: Seconds | None = None
    """Its own idle unload."""
    peak_factor: Annotated[float, Field(ge=1, le=10)] | None = None
    """Its own load peak."""
    copies: Annotated[int, Field(ge=1, le=DEPTH)] | None = None
    """Pods that keep it resident, the first of its order, where sidecars hear of each other."""

    def over(self, base: "ModelPolicy") -> "ModelPolicy":
        """This one where it speaks, ``base`` where it does not."""
        spoken = {name: getattr(self, name) for name in self.model_fields_set}
        return base.model_copy(update=spoken)

    def pinned_at(self, now_s: float) -> bool:
        if self.pin is None or isinstance(self.pin, bool):
            return bool(self.pin)
        return any(window.open_at(now_s) for window in self.pin)


_NO_WISHES = ModelPolicy()


class Policy(Section):
    """Everything a team wants of its models, with defaults for what it leaves unsaid."""

    preset: Literal["balanced", "latency-first", "frugal"] = "balanced"
    """The preset whose values hold where this file is silent."""
    mode: Mode = Mode.ACT
    """``observe`` decides and journals, and touches nothing."""
    tick_s: Annotated[float, duration(0.05, 3600, "a duration from 50ms to 1h, as 1s")] = 1.0
    """Time between two decisions."""
    budget: Share = 0.9
    """Memory our models may take on each device."""
    headroom_bytes: Bytes = 0
    """Memory kept free below the budget on each device."""
    devices: Mapping[str, DevicePolicy] = Field(default_factory=dict)
    """Budgets of single devices, by GPU uuid or ``host``."""
    restart_above: Share = 0.25
    """Memory used beyond what is accounted for, above which a restart of Triton is advised."""
    ranking: RankingName = RankingName.EXPECTED_COLD
    """What decides who leaves."""
    horizon_s: PositiveSeconds = 300.0
    """How far ahead the worth of keeping a model is counted."""
    prewarm: bool = True
    """Load a model that comes at regular times shortly before its next turn, if that pays."""
    demand: Demand = Demand()
    prometheus: Prometheus = Prometheus()
    residency: Residency = Residency()
    churn: Churn = Churn()
    loads: Loads = Loads()
    unloads: Unloads = Unloads()
    versions: Versions = Versions()
    front_door: FrontDoor = FrontDoor()
    footprints: Footprints = Footprints()
    scaling: Scaling = Scaling()
    fleet: FleetWishes = FleetWishes()
    models: Mapping[str, ModelPolicy] = Field(default_factory=dict)
    """Wishes by model name or pattern (``bert-*``): later patterns win, an exact name over all."""

    @model_validator(mode="after")
    def _calls_form_no_circle(self) -> "Policy":
        for name in self.models:
            if circle := _circle(name, self.models):
                raise PydanticCustomError(
                    "circle", "calls go in a circle", {"name": name, "way": " -> ".join(circle)}
                )
        return self

    @cached_property
    def _wishes(self) -> dict[str, ModelPolicy]:
        """What has been asked so far; no field, so that it makes no difference to equality."""
        return {}

    def wishes(self, model: str) -> ModelPolicy:
        """What is wanted of ``model``: patterns in order, then its exact name."""
        # A pure function of a frozen value, kept because every tick asks it for every model.
        found = self._wishes.get(model)
        if found is None:
            found = self._wishes[model] = self._resolve(model)
        return found

    def _resolve(self, model: str) -> ModelPolicy:
        wishes = _NO_WISHES
        for pattern, spoken in self.models.items():
            if pattern != model and fnmatchcase(model, pattern):
                wishes = spoken.over(wishes)
        exact = self.models.get(model)
        return wishes if exact is None else exact.over(wishes)

    def minimum_s(self, model: str) -> float:
        own = self.wishes(model).minimum_s
        return self.residency.minimum_s if own is None else own

    def idle_unload_s(self, model: str) -> float | None:
        wishes = self.wishes(model)
        if "idle_unload_s" in wishes.model_fields_set:
            return wishes.idle_unload_s
        return self.residency.idle_unload_s

    @property
    def lets_idle_go(self) -> bool:
        """Whether any model has an idle unload."""
        own = (wishes.idle_unload_s for wishes in self.models.values())
        return any(limit_s is not None for limit_s in (self.residency.idle_unload_s, *own))

    def peak_factor(self, model: str) -> float:
        return self.wishes(model).peak_factor or self.loads.peak_factor

    def copies(self, model: str) -> int:
        """How many pods are to keep it resident; 0 where nobody says so."""
        return self.wishes(model).copies or 0

    @property
    def wants_copies(self) -> bool:
        """Whether a number of copies is asked for of any model."""
        return any(wishes.copies for wishes in self.models.values())

    @property
    def routes_by_model(self) -> bool:
        return self.scaling.routing is Routing.BY_MODEL

    def weight(self, model: str) -> float:
        return self.wishes(model).weight or 1.0

    @property
    def has_calls(self) -> bool:
        """Whether any model is said to call others."""
        return any(wishes.calls for wishes in self.models.values())

    def calls(self, model: str) -> tuple[str, ...]:
        return self.wishes(model).calls or ()


def _circle(start: str, models: Mapping[str, ModelPolicy]) -> tuple[str, ...]:
    """The way from ``start`` back to itself along declared calls, or nothing."""
    ways: list[tuple[str, ...]] = [(start, callee) for callee in models[start].calls or ()]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == start:
            return way
        if way[-1] not in seen and way[-1] in models:
            seen.add(way[-1])
            ways.extend((*way, callee) for callee in models[way[-1]].calls or ())
    return ()
