"""Several workloads as one.

Owns whose models share a name, and what becomes of service times that only some tell.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import Profile
from simulations.workloads.ordering import merged


def mixed(
    parts: Sequence[tuple[str, Workload]], profiles: Mapping[str, Profile] | None = None
) -> Workload:
    """All arrivals of the parts, each from its own start on, in order of time.

    parts: what stands before the names of the part's models, and the part. Parts in which models
        end up with the same name share that model.
    profiles: of every model; where some part tells service times, those that do not tell them
        get them from here. None: service times are kept only where all parts tell them.
    """
    names: dict[str, int] = {}
    for prefix, part in parts:
        for name in part.names:
            names.setdefault(prefix + name, len(names))
    known = None
    if profiles is not None:
        known = np.array([profiles[name].service_s for name in names])

    def renamed(prefix: str, part: Workload) -> Iterator[Arrivals]:
        where = np.array([names[prefix + name] for name in part.names], np.int32)
        for run in part.runs():
            model, service_s = where[run.model], run.service_s
            if service_s is None and known is not None:
                service_s = known[model]
            yield Arrivals(run.time_s, model, run.weight, service_s)

    def runs() -> Iterator[Arrivals]:
        return merged([renamed(prefix, part) for prefix, part in parts])

    duration_s = max((part.duration_s for _, part in parts), default=0.0)
    return Workload(tuple(names), duration_s, runs)
