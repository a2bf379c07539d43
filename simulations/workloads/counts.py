"""From how often a model was called in a stretch of time to when.

Owns that law: the calls are evenly spaced, with a phase of the model's own, so that what a timer
calls stays periodic. Knows no file.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.arrivals import Arrivals


def phase(name: str) -> float:
    """Where in its share of the time a model calls: from 0 to below 1, always the same."""
    return zlib.crc32(name.encode()) / 2**32


def spread(
    start_s: float | NDArray[np.float64],
    length_s: float | NDArray[np.float64],
    model: NDArray[np.int32],
    calls: NDArray[np.float64] | NDArray[np.int64],
    phases: NDArray[np.float64],
    *,
    aggregate: bool,
) -> Arrivals:
    """The arrivals of ``calls`` (above 0) of each model within ``length_s`` from ``start_s`` on,
    in no order.

    phases: of every model. aggregate: one arrival when the first of the calls comes, weighing as
        much as all of them; else one for each, and a last one that weighs what is less than one.
    """
    ahead = phases[model]
    if aggregate:
        share = ahead / np.maximum(calls, 1.0)
        return Arrivals(start_s + share * length_s, model, calls.astype(np.float64))
    arrivals = np.ceil(calls).astype(np.int64)
    row = np.repeat(np.arange(len(model)), arrivals)
    nth = np.arange(len(row)) - (np.cumsum(arrivals) - arrivals)[row]
    share = (nth + ahead[row]) / arrivals[row]
    weight = np.minimum(calls[row] - nth, 1.0)
    start, length = np.broadcast_to(start_s, len(model)), np.broadcast_to(length_s, len(model))
    return Arrivals(start[row] + share * length[row], model[row], weight)
