"""What a scenario says of its traffic and its models, as frozen values.

Owns the keys of a scenario's ``workload`` with their units, defaults and ranges. Opens no file and
draws nothing (`simulations.workloads.loading`). Durations are seconds and memory is bytes inside;
in YAML both carry their unit (``5m``, ``4GiB``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from policies.policy import Section
from policies.quantities import PositiveBytes, PositiveSeconds, Seconds
from simulations.workloads.drawn_spec import (
    BurstsSpec,
    DiurnalSpec,
    FlashCrowdSpec,
    HotSetSpec,
    Seed,
    TimersSpec,
    ZipfSpec,
)


def _without_nul(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("holds a NUL byte")
    return path


File = Annotated[
    Path,
    AfterValidator(_without_nul),
    Field(json_schema_extra={"x-allowed": "a path without NUL bytes"}),
]
"""YAML can write what no path can hold, and to open it is no OSError."""


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


Paths = Annotated[tuple[File, ...], BeforeValidator(_one_or_more), Field(min_length=1)]


class AzureSpec(Section):
    """Files in the public format of Azure Functions 2019."""

    invocations: Paths
    """One file, or one for each day in order."""
    durations: File | None = None
    """Service times of the same functions."""
    memory: File | None = None
    """Sizes of the same functions."""
    aggregate: bool = False
    """One arrival for each minute of a function, weighing as much as all of its calls."""


class ServeGenSpec(Section):
    """ServeGen's windows."""

    folder: File
    """Where chunk-*-trace.csv lie, or folders of them."""
    days: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    """The first and the last day, both included, counted from 0; null takes all."""
    most: Annotated[int, Field(ge=1)] | None = None
    """Arrivals in one window of one tenant; where it has more requests, each stands for several."""
    seed: Seed = 0
    """Of the arrivals within each window."""


class TableSpec(Section):
    """A table of arrivals: ``time,model[,service_ms][,weight]``."""

    path: File
    """CSV, packed with gzip or not, or Parquet."""
    start: AwareDatetime | Annotated[float, Field(ge=0)] | None = None
    """When the clock starts, as the table counts; null: with the first arrival."""
    only_known: bool = False
    """Refuse a model that no key of the catalogue's ``models`` matches."""


class JournalSpec(Section):
    """The sidecar's own journal."""

    path: File
    """One of its files, or their folder."""


class RecordingSpec(Section):
    """What `remora record` wrote."""

    path: File
    """A Parquet file."""
    aggregate: bool = False
    """One arrival for each step of a model, weighing as much as all of its requests."""


class ModelSpec(Section):
    """What is known of a model, or of all whose name matches a pattern."""

    size_bytes: PositiveBytes | None = None
    """Device memory while resident; without a load time, that follows from it."""
    load_s: Seconds | None = None
    """From the call until it serves."""
    unload_s: Seconds | None = None
    """From the call until its memory is free."""
    service_s: Seconds | None = None
    """One request alone."""
    peak: Annotated[float, Field(ge=1, le=10)] | None = None
    """Memory while it loads, as a multiple of its size."""
    instances: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Executions that run at once."""
    max_batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests that one execution takes."""
    batch_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """What each further request of a batch adds, as a share of the service time."""


class DrawnSpec(Section):
    """Sizes of which nothing is known."""

    seed: Seed = 0
    """Of the law that they are drawn from."""


class CatalogueSpec(Section):
    """What the models are like."""

    drawn: DrawnSpec = DrawnSpec()
    models: Mapping[str, ModelSpec] = Field(default_factory=dict)
    """By name or pattern (``bert-*``): later patterns win, an exact name over all."""


class MixedSpec(Section):
    """Several workloads at once, each from its own start on."""

    parts: Annotated[Mapping[str, "WorkloadSpec"], Field(min_length=1)]
    """By a name, which stands before the names of the part's models."""
    shared: bool = False
    """Leave the models' names as they are: the same name is the same model in all parts."""


class WorkloadSpec(Section):
    """Traffic from one source, and its models."""

    azure: AzureSpec | None = None
    servegen: ServeGenSpec | None = None
    table: TableSpec | None = None
    journal: JournalSpec | None = None
    recording: RecordingSpec | None = None
    zipf: ZipfSpec | None = None
    diurnal: DiurnalSpec | None = None
    timers: TimersSpec | None = None
    bursts: BurstsSpec | None = None
    hot_set: HotSetSpec | None = None
    flash_crowd: FlashCrowdSpec | None = None
    mixed: MixedSpec | None = None
    part: tuple[Seconds, Seconds] | None = None
    """Only what arrives from the first time on and before the second; the clock starts there."""
    together_s: PositiveSeconds | None = None
    """One arrival of a model in each such step, weighing as much as all of them."""
    catalogue: CatalogueSpec = CatalogueSpec()

    @model_validator(mode="after")
    def _one_source(self) -> "WorkloadSpec":
        said = [name for name in SOURCES if getattr(self, name) is not None]
        if len(said) != 1:
            found = ", ".join(said) or "none"
            raise ValueError(f"sources: {found}; allowed: exactly one of {', '.join(SOURCES)}")
        if self.part is not None and self.part[0] >= self.part[1]:
            raise ValueError("part ends before it has begun; allowed: an end after the start")
        return self

    @property
    def source(self) -> Section:
        """The one that is given."""
        found: Section = next(
            given for name in SOURCES if (given := getattr(self, name)) is not None
        )
        return found


SOURCES = tuple(
    name for name in WorkloadSpec.model_fields if name not in ("part", "together_s", "catalogue")
)
