"""Arrivals that come in pieces, brought into order of time without holding all of them.

Owns that order, and that equal times keep the order they came in. Knows no source.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.arrivals import Arrivals, joined


def taken(run: Arrivals, which: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Arrivals:
    """Those arrivals of the run, in the order of ``which``."""
    return Arrivals(
        run.time_s[which],
        run.model[which],
        run.weight[which],
        None if run.service_s is None else run.service_s[which],
    )


def sorted_run(run: Arrivals) -> Arrivals:
    return taken(run, np.argsort(run.time_s, kind="stable"))


def in_order(pieces: Iterable[tuple[float, Arrivals]]) -> Iterator[Arrivals]:
    """Runs in order of time, from pieces that are in none.

    Each piece comes with a time before which no later piece has an arrival: what is earlier can
    go out, and the rest waits.
    """
    left: list[Arrivals] = []
    for bound_s, piece in pieces:
        ready = sorted_run(joined([*left, piece]))
        first = int(np.searchsorted(ready.time_s, bound_s, side="left"))
        if first:
            yield taken(ready, slice(0, first))
        left = [taken(ready, slice(first, None))] if first < len(ready) else []
    if left:
        yield left[0]


def merged(sources: Sequence[Iterable[Arrivals]]) -> Iterator[Arrivals]:
    """The arrivals of several sources, each in order of time, as one such source."""
    iterators = [iter(source) for source in sources]
    heads = [_next(iterator) for iterator in iterators]
    while present := [place for place, head in enumerate(heads) if head is not None]:
        # Nothing unseen is earlier than the end of the run that ends first.
        bound_s = min(_end_s(heads[place]) for place in present)
        due: list[Arrivals] = []
        for place in present:
            head = heads[place]
            assert head is not None
            first = int(np.searchsorted(head.time_s, bound_s, side="right"))
            due.append(taken(head, slice(0, first)))
            rest = taken(head, slice(first, None))
            heads[place] = rest if len(rest) else _next(iterators[place])
        yield sorted_run(joined([run for run in due if len(run)]))


def _next(runs: Iterator[Arrivals]) -> Arrivals | None:
    """The next run that is not empty."""
    return next((run for run in runs if len(run)), None)


def _end_s(run: Arrivals | None) -> float:
    assert run is not None
    return float(run.time_s[-1])
