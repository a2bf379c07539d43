"""From what a scenario says to traffic and its models.

Owns which loader or generator reads which key, and what a catalogue's own words change. Knows no
file format.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from policies.policy import Section
from simulations.workloads import azure, journalled, known, recorded, servegen, table
from simulations.workloads.arrivals import Workload, WorkloadError
from simulations.workloads.catalogue import Catalogue, Profile, drawn
from simulations.workloads.drawn_spec import DrawnTraffic
from simulations.workloads.mixing import mixed
from simulations.workloads.spec import (
    AzureSpec,
    CatalogueSpec,
    JournalSpec,
    MixedSpec,
    ModelSpec,
    RecordingSpec,
    ServeGenSpec,
    TableSpec,
    WorkloadSpec,
)


def load(spec: WorkloadSpec, base: Path = Path()) -> tuple[Workload, Catalogue]:
    """The traffic that ``spec`` describes, and a profile of each of its models.

    base: the folder that paths in it are relative to.

    Raises WorkloadError: a file that cannot be used, or a model that the traffic does not know.
    """
    workload, models = _loaded(spec.source, spec.catalogue, base)
    if spec.part is not None:
        workload = _part(workload, *spec.part)
    if spec.together_s is not None:
        workload = workload.together(spec.together_s)
    return workload, models


def _part(workload: Workload, from_s: float, to_s: float) -> Workload:
    if from_s >= workload.duration_s:
        problem = f"begins after {from_s:g} s; allowed: before the traffic's end, after"
        raise WorkloadError("part", None, f"{problem} {workload.duration_s:g} s")
    return workload.part(from_s, to_s)


def _loaded(source: Section, said: CatalogueSpec, base: Path) -> tuple[Workload, Catalogue]:
    if isinstance(source, MixedSpec):
        return _mixed(source, said, base)
    traffic, models = _of_one(source, said, base)
    return traffic, described(models or drawn(traffic.names, said.drawn.seed), said)


def _of_one(source: Section, said: CatalogueSpec, base: Path) -> tuple[Workload, Catalogue | None]:
    """The traffic, and its models where the source knows something of them."""
    match source:
        case AzureSpec():
            return azure.load(
                [base / path for path in source.invocations],
                None if source.durations is None else base / source.durations,
                None if source.memory is None else base / source.memory,
                aggregate=source.aggregate,
                seed=said.drawn.seed,
            )
        case JournalSpec():
            return journalled.load(base / source.path, seed=said.drawn.seed)
        case ServeGenSpec():
            folder, seed = base / source.folder, source.seed
            return servegen.load(folder, source.days, most=source.most, seed=seed), None
        case TableSpec():
            allowed = _known(said) if source.only_known else None
            return table.load(base / source.path, start=source.start, allowed=allowed), None
        case RecordingSpec():
            return recorded.load(base / source.path, aggregate=source.aggregate), None
        case DrawnTraffic():
            return source.workload(), None
    raise AssertionError(f"a source that nobody loads: {type(source).__name__}")


def _mixed(source: MixedSpec, said: CatalogueSpec, base: Path) -> tuple[Workload, Catalogue]:
    parts: list[tuple[str, Workload]] = []
    models: dict[str, Profile] = {}
    for name, spec in source.parts.items():
        prefix = "" if source.shared else f"{name}/"
        workload, own = load(spec, base)
        parts.append((prefix, workload))
        # What the first part says of a shared model holds.
        for model, profile in own.items():
            models.setdefault(prefix + model, profile)
    profiles = described(models, said)
    tell = any(_tells_service(spec) for spec in source.parts.values())
    return mixed(parts, profiles if tell else None), profiles


def _tells_service(spec: WorkloadSpec) -> bool:
    """Whether its arrivals may come with service times of their own."""
    if spec.mixed is not None:
        return any(_tells_service(part) for part in spec.mixed.parts.values())
    return spec.table is not None


# --- what a catalogue says of its own ------------------------------------------------------------


def described(models: Catalogue, said: CatalogueSpec) -> Catalogue:
    """The models as they are said to be: patterns in order, then exact names.

    Raises WorkloadError: a key that no model matches.
    """
    for key in said.models:
        if not any(_matches(name, key) for name in models):
            some = ", ".join(list(models)[:5])
            problem = f"no model matches; allowed: the workload's models, as {some}, or patterns"
            raise WorkloadError(f"catalogue.models.{key}", None, problem)
    return {name: _profile(name, profile, said.models) for name, profile in models.items()}


def _profile(name: str, profile: Profile, models: Mapping[str, ModelSpec]) -> Profile:
    said = [spec for key, spec in models.items() if key != name and fnmatchcase(name, key)]
    if name in models:
        said.append(models[name])
    for spec in said:
        words = spec.model_dump(exclude_none=True)
        if spec.size_bytes is not None and spec.load_s is None:
            words["load_s"] = known.load_s(spec.size_bytes)
        profile = replace(profile, **words)
    return profile


def _known(said: CatalogueSpec) -> Callable[[str], bool]:
    return lambda name: any(_matches(name, key) for key in said.models)


def _matches(name: str, key: str) -> bool:
    return name == key or fnmatchcase(name, key)
