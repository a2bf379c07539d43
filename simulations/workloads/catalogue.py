"""What each model is like: how large, how long to load, how long to answer.

Owns the shape of that knowledge, and a law to draw it from where a trace has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Profile:
    """One model.

    size_bytes: device memory while resident. peak: memory while loading, as a multiple of it.
    load_s, unload_s: seconds from the call until it serves, and until its memory is free.
    service_s: seconds one request takes alone; instances: how many run at once.
    max_batch: requests that one execution takes; batch_share: what each further one of them
        adds, as a share of service_s.
    """

    size_bytes: int
    load_s: float
    unload_s: float = 0.5
    service_s: float = 0.02
    peak: float = 1.0
    instances: int = 1
    max_batch: int = 1
    batch_share: float = 0.3


Catalogue = Mapping[str, Profile]

# Where a trace has no sizes. Storage of a node gives some two gigabytes a second.
_MEDIAN_BYTES = 2.5e9
_SIGMA = 1.2
_SMALLEST_BYTES, _LARGEST_BYTES = 0.1e9, 20e9
_START_S = 1.0
_BYTES_PER_S = 2e9


def load_s(size_bytes: float) -> float:
    """Seconds to load a model of this size, by the law."""
    return _START_S + size_bytes / _BYTES_PER_S


def drawn(names: Sequence[str], seed: int = 0) -> dict[str, Profile]:
    """A profile for each name: sizes log-normal (median 2.5 GB, sigma 1.2, from 0.1 to 20 GB),
    loads one second and then two gigabytes a second. A name's profile depends on its place and
    the seed only."""
    random = np.random.default_rng(seed)
    sizes = np.exp(np.log(_MEDIAN_BYTES) + _SIGMA * random.standard_normal(len(names)))
    sizes = np.clip(sizes, _SMALLEST_BYTES, _LARGEST_BYTES)
    return {
        name: Profile(int(size), load_s(float(size)))
        for name, size in zip(names, sizes, strict=True)
    }
