"""What a byte is worth to each model: who leaves first, and whether a swap pays.

Owns the rankings by name. Each says what keeping a model is worth, and in which order
models leave. Refuses to know about devices, pins and limits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from policies.demand import rates
from policies.forecast import VISIT_S
from policies.history import History, ModelHistory
from policies.outlook import Outlook
from policies.policy import Policy, RankingName
from policies.snapshot import Model

# More waiting requests than this say nothing more, and could leave the range of floats.
_CROWD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """One model (with the members only it needs) as a ranking sees it.

    size_bytes: what its absence would free, over all devices.
    absence_s: seconds from the first request until it could serve, were it absent: another
        has to leave, and it has to load.
    outlook: what its past says of its next request.
    coming: requests per second that other pods have had for it and that come here from now on, or
        that are said to come to a model of which little is known here.
    """

    model: Model
    past: ModelHistory
    size_bytes: int
    absence_s: float
    outlook: Outlook
    coming: float = 0.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """A way to value models.

    worth: value of having it resident, in a unit of the ranking's own: what a swap gains or
        loses by it.
    kept: what keeping it earns; models leave by that.
    per_byte: models come and leave by what they are worth per byte, and the worths of several
        victims add up; otherwise by worth itself, and only the best of them counts.
    waits_s: seconds of further waiting until its worth has grown by so much; None where
        waiting adds nothing.
    """

    worth: Callable[[Policy, Standing, History, float], float]
    kept: Callable[[Policy, Standing, History, float], float]
    per_byte: bool
    waits_s: Callable[[Policy, Standing, float, float], float | None]

    def density(self, worth: float, size_bytes: int) -> float:
        return worth / max(1, size_bytes) if self.per_byte else worth

    def price(self, victims: Sequence[float]) -> float:
        """What several victims cost together; worth more than that, a swap pays."""
        return sum(victims) if self.per_byte else max(victims, default=0.0)


def expected_cold(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """Weighted cold seconds that its absence would cost over the policy's horizon.

    The chance of a request within the horizon, times the seconds of an absence, times those
    who would see it: the first request waits all of it, the ones that come meanwhile half of
    it on average. Requests that wait already are certain, and count for what they have waited
    too, so that nobody is passed over for ever. Requests that came and do not wait are no
    more certain than those of a resident, or two models with the same rate would take turns.

    Requests that wait for a model that drains are the first of those whom its absence was
    expected to hold up. They count as far as they are a surge (see `_surge`), and not for what
    they have waited, or each drain of a busy model would look like a mistake as soon as it
    began, and be called off, and another's begin, and what waits for its memory would never
    come in.
    """
    model, absence_s = standing.model, standing.absence_s
    rate = _rate(policy, standing, now_s)
    chance = 1.0 if model.waiting > 0 else _chance(policy, standing, rate)
    oldest_s = max(0.0, model.oldest_wait_s)
    seconds = chance * absence_s * (1 + rate * absence_s / 2)
    if model.draining:
        seconds += _surge(policy, model, rate) * absence_s
    else:
        seconds += _crowd(model) * (absence_s + oldest_s)
    return policy.weight(model.name) * seconds


def _rate(policy: Policy, standing: Standing, now_s: float) -> float:
    """Requests per second: those of late here, or those that come from elsewhere."""
    return max(*rates(policy, standing.past, now_s), standing.coming)


def _chance(policy: Policy, standing: Standing, rate: float) -> float:
    """Of a request within the horizon: by the spells it has had, as far as they are known, and
    else by how many requests its rate would bring. Its spells here say nothing of requests that
    others have had."""
    outlook, horizon_s = standing.outlook, policy.horizon_s
    here = outlook.known * outlook.chance - (1 - outlook.known) * math.expm1(-rate * horizon_s)
    return max(here, -math.expm1(-standing.coming * horizon_s))


def kept_warm(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """Weighted cold seconds that keeping it saves over the policy's horizon, at its keep rate,
    to all who would wait.

    Not the chance of a request, which tells models apart that are asked for now and then, and
    not those that are asked for all the time: the one that saves most for its bytes and
    seconds stays longest.
    """
    model, rate = standing.model, _rate(policy, standing, now_s)
    crowd_s = standing.absence_s * (1 + rate * standing.absence_s / 2)
    # Requests that come at random begin so many visits.
    coming = standing.coming / (1 + standing.coming * VISIT_S)
    seconds = crowd_s * max(standing.outlook.keep_rate, coming) * policy.horizon_s
    if model.draining:
        seconds += _surge(policy, model, rate) * standing.absence_s
    return policy.weight(model.name) * seconds


def pressing(policy: Policy, model: Model, absence_s: float) -> float:
    """Requests that wait for an absent model, by weight, for each second until it could serve.

    Loads that queue save most waiting in the order of that (Smith's rule). How long the requests
    have waited already is no part of it: no order of loads changes what is past.
    """
    return policy.weight(model.name) * _crowd(model) / absence_s


def _crowd(model: Model) -> int:
    return min(max(0, model.waiting), _CROWD)


def _surge(policy: Policy, model: Model, rate: float) -> float:
    """Those who wait beyond the one who came first and all that chance explains after it."""
    foretold = rate * (max(0.0, model.oldest_wait_s) + policy.tick_s)
    surge = _crowd(model) - 1 - foretold - 2 * math.sqrt(foretold)
    return max(0.0, surge)


def waiting_for(policy: Policy, standing: Standing, more: float, now_s: float) -> float | None:
    """Seconds until `expected_cold` has grown by ``more``, if requests go on coming as of late.

    Those who wait gain a second each second, and those who come meanwhile (at the rate r)
    wait too, so ``more`` = weight × (r t² + (waiting + r (absence + oldest wait)) t). Leaving
    out those to come would refuse each of them alone, and they would never be enough.
    """
    model = standing.model
    if model.waiting <= 0:
        return None
    rate = _rate(policy, standing, now_s)
    seconds = max(0.0, more) / policy.weight(model.name)
    pace = _crowd(model) + rate * (standing.absence_s + max(0.0, model.oldest_wait_s))
    waits_s = 2 * seconds / (pace + math.sqrt(pace * pace + 4 * rate * seconds))
    return waits_s if math.isfinite(waits_s) else None


def never(policy: Policy, standing: Standing, more: float, now_s: float) -> None:
    """For rankings in which waiting counts for nothing."""


def greedy_dual(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """Greedy-dual by frequency, cost and size: the credit left since its latest use."""
    return max(0.0, standing.past.credit - history.inflation)


def least_frequent(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """How often it was used, ever (LFU)."""
    return policy.weight(standing.model.name) * standing.past.uses


def least_recent(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """How recently it was used (LRU): 1 for now, falling with age."""
    last_s = standing.past.last_use_s
    return 0.0 if last_s is None else 1 / (1 + max(0.0, now_s - last_s))


RANKINGS: Mapping[RankingName, Ranking] = {
    RankingName.EXPECTED_COLD: Ranking(
        expected_cold, kept_warm, per_byte=True, waits_s=waiting_for
    ),
    RankingName.GREEDY_DUAL: Ranking(greedy_dual, greedy_dual, per_byte=False, waits_s=never),
    RankingName.LFU: Ranking(least_frequent, least_frequent, per_byte=False, waits_s=never),
    RankingName.LRU: Ranking(least_recent, least_recent, per_byte=False, waits_s=never),
}
