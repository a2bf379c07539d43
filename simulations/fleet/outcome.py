"""What came of a fleet's run: what users waited for, what it cost, and what was said.

Owns the figures by which contestants are compared, and how each is defined. What happened before
the warm-up was over counts in none of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulations.fleet.broker import Healed
from simulations.fleet.member import Member


@dataclass(slots=True)
class Moves:
    """Models whose pod has changed because pods came or went.

    pods: that came or went. models: that moved by it. fair: how many would have moved if each pod
    took its part and nothing else moved.
    """

    pods: int = 0
    models: int = 0
    fair: float = 0.0

    def add(self, pods: int, models: int, of: int, known: int) -> None:
        """of: pods that there were, at most; known: models that there are."""
        self.pods += pods
        self.models += models
        self.fair += known * pods / of


@dataclass(frozen=True, slots=True)
class Spoken:
    """said: messages to the broker; delivered: from it, to all pods together."""

    said: int = 0
    delivered: int = 0
    healed: tuple[Healed, ...] = ()


@dataclass(frozen=True, slots=True)
class Copies:
    """Of each model over time. mean: while there was one at all. evicted, lost: how often the last
    one went, by decision or with its pod."""

    mean: float = 0.0
    most: int = 0
    evicted: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One contestant on one scenario; definitions as `simulations.outcome` has them.

    duration_s: without the warm-up. pods: on average. wait_s: of every request, from the one that
    waited least; infinite where nobody answered. load_starts_s: of all loads, in order.
    """

    name: str
    duration_s: float
    pods: float
    cold_requests: float
    cold_starts: int
    cold_s: float
    wait_s: NDArray[np.float64] = field(repr=False)
    load_starts_s: NDArray[np.float64] = field(repr=False)
    load_s: float
    copies: Copies
    moves: Moves
    spoken: Spoken

    def wait_quantile_s(self, share: float) -> float:
        """The wait that ``share`` of the requests did not exceed; 0 without requests."""
        if not len(self.wait_s):
            return 0.0
        return float(self.wait_s[max(0, math.ceil(share * len(self.wait_s)) - 1)])

    @property
    def most_loads_per_s(self) -> int:
        """The most loads that began within any second, over all pods."""
        starts_s = self.load_starts_s
        if not len(starts_s):
            return 0
        until = np.searchsorted(starts_s, starts_s + 1.0, side="left")
        return int((until - np.arange(len(starts_s))).max())

    @property
    def agreed_s(self) -> float:
        """After a partition, an outage or a loss of a pod: the longest until all knew; infinite
        where they never did, 0 where nothing happened."""
        return max(
            (
                math.inf if each.agreed_s is None else each.agreed_s - each.from_s
                for each in self.spoken.healed
            ),
            default=0.0,
        )


def _per_s(outcome: Outcome, count: float) -> float:
    return count / outcome.duration_s if outcome.duration_s > 0 else 0.0


FIGURES: Mapping[str, Callable[[Outcome], float]] = {
    "requests": lambda outcome: float(len(outcome.wait_s)),
    "failed": lambda outcome: float(np.isinf(outcome.wait_s).sum()),
    "cold_requests": lambda outcome: outcome.cold_requests,
    "cold_starts": lambda outcome: float(outcome.cold_starts),
    "cold_s": lambda outcome: outcome.cold_s,
    "p50_s": lambda outcome: outcome.wait_quantile_s(0.5),
    "p99_s": lambda outcome: outcome.wait_quantile_s(0.99),
    "loads": lambda outcome: float(len(outcome.load_starts_s)),
    "load_s": lambda outcome: outcome.load_s,
    "most_loads_per_s": lambda outcome: float(outcome.most_loads_per_s),
    "copies_mean": lambda outcome: outcome.copies.mean,
    "copies_most": lambda outcome: float(outcome.copies.most),
    "last_copies_evicted": lambda outcome: float(outcome.copies.evicted),
    "last_copies_lost": lambda outcome: float(outcome.copies.lost),
    "pods": lambda outcome: outcome.pods,
    "moved": lambda outcome: float(outcome.moves.models),
    "moved_to_fair": lambda outcome: (
        outcome.moves.models / outcome.moves.fair if outcome.moves.fair else 0.0
    ),
    "said_per_s": lambda outcome: _per_s(outcome, outcome.spoken.said),
    "delivered_per_s": lambda outcome: _per_s(outcome, outcome.spoken.delivered),
    "heard_per_s": lambda outcome: _per_s(outcome, outcome.spoken.delivered) / outcome.pods,
    "agreed_s": lambda outcome: outcome.agreed_s,
}


def figures(outcome: Outcome) -> dict[str, float]:
    return {name: read(outcome) for name, read in FIGURES.items()}


def outcome(
    name: str,
    members: Sequence[Member],
    to_s: float,
    from_s: float,
    moves: Moves,
    spoken: Spoken,
) -> Outcome:
    """What came of ``members``, which have all ended, from ``from_s`` until ``to_s``."""
    waits = [
        requests.wait_s[requests.came_s >= from_s]
        for member in members
        if (requests := member.requests) is not None
    ]
    stays = [stay for member in members for stay in member.stays if stay.from_s >= from_s]
    lives_s = sum(_end_s(member, to_s) - max(from_s, member.began_s) for member in members)
    duration_s = to_s - from_s
    return Outcome(
        name=name,
        duration_s=duration_s,
        pods=lives_s / duration_s,
        cold_requests=sum(member.cold.requests for member in members),
        cold_starts=sum(member.cold.starts for member in members),
        cold_s=math.fsum(member.cold.visible_s for member in members),
        wait_s=np.sort(np.concatenate(waits)),
        load_starts_s=np.sort(np.array([stay.from_s for stay in stays])),
        load_s=math.fsum(stay.ready_s - stay.from_s for stay in stays),
        copies=_copies(members, to_s, from_s),
        moves=moves,
        spoken=spoken,
    )


def _end_s(member: Member, to_s: float) -> float:
    return to_s if member.gone_s is None else member.gone_s


def _copies(members: Sequence[Member], to_s: float, from_s: float) -> Copies:
    changes: dict[str, list[tuple[float, int, bool]]] = {}
    for member in members:
        for stay in member.stays:
            if stay.ready_s < stay.to_s:
                of_model = changes.setdefault(stay.model, [])
                of_model.append((stay.ready_s, 1, False))
                of_model.append((stay.to_s, -1, stay.to_s == member.gone_s))
    copies_s, present_s, most, evicted, lost = 0.0, 0.0, 0, 0, 0
    for of_model in changes.values():
        for began_s, ended_s, count, with_pod in _spells(of_model):
            if ended_s <= from_s:
                continue
            copies_s += count * (ended_s - max(began_s, from_s))
            present_s += ended_s - max(began_s, from_s)
            most = max(most, count)
            evicted += with_pod is False and ended_s < to_s
            lost += with_pod is True and ended_s < to_s
    return Copies(copies_s / present_s if present_s else 0.0, most, evicted, lost)


def _spells(
    changes: Sequence[tuple[float, int, bool]],
) -> Iterator[tuple[float, float, int, bool | None]]:
    """When there were copies of a model: from, until, how many, and where none was left after it
    whether the last went with its pod; None where some was."""
    count, since_s = 0, 0.0
    # At one moment, who comes is there before who goes.
    for at_s, more, with_pod in sorted(changes, key=lambda each: (each[0], -each[1], each[2])):
        if count:
            is_last = count + more == 0
            yield since_s, at_s, count, with_pod if is_last else None
        count, since_s = count + more, at_s
