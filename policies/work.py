"""What a model is asked to do, and what a request costs it: taken in tick by tick.

Owns the averages that `policies.pressure` is made of. Rates are linear averages over one window,
up as down, so that work that moves from one pod to another leaves one as fast as it shows in the
other, and the sum over all pods stays what it is.

What a request costs is learned from the largest batches of late, since a queue that grows makes
larger ones: by small batches alone, a model that batches well would seem full when it is not. What
runs right after a load, with all that was held for it, teaches nothing where anything is known.
"""

import math
from typing import NamedTuple

from policies.policy import Policy
from policies.snapshot import Model

# So many requests replace most of what was known of the cost of one.
_LEARNED_BY = 50.0
# Batches of at least this share of the largest are as good to learn from.
_AS_LARGE = 0.9
# How long large batches are remembered for.
_BATCHES_S = 3600.0
# The part of the window for which a model that has just come is cold.
_COLD = 1 / 3


class Work(NamedTuple):
    """rate: requests per second as they come, those through callers too. queued: seconds they
    spend in Triton's queue, per second. Both averaged over `scaling.window`, as of at_s.
    service_s: for how long one request keeps an instance busy, in batches of ``batch``; None
    before the first.
    """

    rate: float = 0.0
    queued: float = 0.0
    at_s: float = 0.0
    service_s: float | None = None
    batch: float = 1.0


NO_WORK = Work()


def with_work(
    policy: Policy, model: Model, past: Work, resident_s: float, now_s: float, since_s: float
) -> Work:
    """``past`` after what ``model`` did in the ``since_s`` seconds until ``now_s``."""
    rate, queued = rates(policy, past, now_s)
    # The mean of that time, weighed as in an average that ends now.
    share = -math.expm1(-since_s / policy.scaling.window_s) / since_s
    is_cold = resident_s < _COLD * policy.scaling.window_s
    more_queued = 0.0 if is_cold else share * _finite(model.queue_s)
    service_s, batch = past.service_s, past.batch
    if model.served > 0 and model.busy_s > 0 and not (is_cold and service_s is not None):
        service_s, batch = _learned(model, past, now_s)
    return Work(
        _rounded(rate + share * _finite(model.arrivals)),
        _rounded(queued + more_queued),
        now_s,
        service_s,
        batch,
    )


def rates(policy: Policy, past: Work, now_s: float) -> tuple[float, float]:
    """Requests per second, and seconds queued per second, as of ``now_s``."""
    fade = math.exp(-max(0.0, now_s - past.at_s) / policy.scaling.window_s)
    return past.rate * fade, past.queued * fade


def averaged(policy: Policy, past: float, now: float, since_s: float) -> float:
    """``past`` moved towards ``now``, a share that was true for the last ``since_s`` seconds."""
    if not (0 <= now <= 1 and since_s > 0):
        return past
    return _rounded(past - math.expm1(-since_s / policy.scaling.window_s) * (now - past))


def _learned(model: Model, past: Work, now_s: float) -> tuple[float | None, float]:
    sample_s = model.busy_s / model.served
    batch = max(1.0, model.served / model.executions) if model.executions > 0 else 1.0
    if not math.isfinite(sample_s + batch):
        return past.service_s, past.batch
    if past.service_s is None:
        return _rounded(sample_s), _rounded(batch)
    largest = 1 + (past.batch - 1) * math.exp(-max(0.0, now_s - past.at_s) / _BATCHES_S)
    if batch < _AS_LARGE * largest:
        return past.service_s, past.batch
    gain = -math.expm1(-model.served / _LEARNED_BY)
    if batch > largest / _AS_LARGE:
        # A kind of batch that was not known before is believed as much as the first ever.
        gain = max(gain, 0.5)
    service_s = past.service_s + gain * (sample_s - past.service_s)
    return _rounded(service_s), _rounded(max(batch, largest))


def _finite(number: float) -> float:
    return number if 0 < number < math.inf else 0.0


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
