"""Seeded requests over time, and a driver that sends them as users would.

Owns when each request is due and what became of it. Knows nothing of the sidecar, nor of which
model is loaded: each request is sent once, and either it is answered or it has failed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from simulations.testbed.protocols import Asker, Protocol, Question, Unanswered
from simulations.testbed.repository import ModelSpec

# How often each protocol is drawn where a model answers by it.
PLAIN_MIX: Mapping[Protocol, int] = {"http": 7, "grpc": 7, "stream": 4, "generate": 2}
DECOUPLED_MIX: Mapping[Protocol, int] = {"stream": 2, "generate_stream": 1}
# Every request carries another X, so that an answer to somebody else's does not pass for its own.
DIFFERENT_VALUES = 997


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is due `at_s` after the start; for the newest version where none is named."""

    at_s: float
    model: str
    protocol: Protocol = "grpc"
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    error: None when it was answered, and rightly.
    cold: whether a proxy had to try more than once; None where nobody says.
    began_s, ended_s: when it was sent and when it was over, from the start of the run.
    """

    arrival: Arrival
    error: str | None
    cold: bool | None
    began_s: float
    ended_s: float

    @property
    def served(self) -> bool:
        return self.error is None

    @property
    def latency_s(self) -> float:
        """From when it was due, so that a late driver hides nothing."""
        return self.ended_s - self.arrival.at_s


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one model's requests; what is neither served nor failed is still under way."""

    sent: int = 0
    served: int = 0
    failed: int = 0


def shifting_hot_set(
    models: Sequence[str],
    *,
    duration_s: float,
    rate_per_s: float,
    hot_count: int,
    shift_every_s: float,
    hot_share: float = 0.9,
    seed: int,
) -> Iterator[Arrival]:
    """Poisson arrivals, most of them to a few hot models that change over time.

    `hot_share` of the requests go to the hot set, by Zipf's law; the others evenly to the rest. At
    each shift a third of the hot set, and at least one, gives way to models that were not hot.
    """
    if not 0 < hot_count <= len(models):
        raise ValueError(f"hot_count is {hot_count}; 1 to {len(models)} models can be hot")
    chance = random.Random(seed)
    order = chance.sample(list(models), len(models))
    at_s = chance.expovariate(rate_per_s)
    while at_s < duration_s:
        hot = _hot_set(order, hot_count, shift=int(at_s // shift_every_s))
        yield Arrival(at_s, _draw(chance, order, hot, hot_share))
        at_s += chance.expovariate(rate_per_s)


def mixed(
    arrivals: Iterable[Arrival],
    specs: Iterable[ModelSpec],
    *,
    pinned_share: float = 0.25,
    seed: int,
) -> Iterator[Arrival]:
    """The same arrivals, each by a protocol that suits its model, and some for a given version.

    `pinned_share` of them name a version, which may be the only one.
    """
    chance = random.Random(seed)
    by_name = {spec.name: spec for spec in specs}
    for arrival in arrivals:
        spec = by_name[arrival.model]
        mix = DECOUPLED_MIX if spec.decoupled else PLAIN_MIX
        [protocol] = chance.choices(list(mix), weights=list(mix.values()))
        version = chance.choice(spec.versions) if chance.random() < pinned_share else None
        yield replace(arrival, protocol=protocol, version=version)


def _hot_set(order: Sequence[str], count: int, shift: int) -> list[str]:
    """A window over `order`, hottest first: newcomers are the hottest and cool as they age."""
    start = shift * max(1, count // 3)
    return [order[(start + at) % len(order)] for at in reversed(range(count))]


def _draw(chance: random.Random, order: Sequence[str], hot: Sequence[str], hot_share: float) -> str:
    cold = [model for model in order if model not in hot]
    if cold and chance.random() >= hot_share:
        return chance.choice(cold)
    return chance.choices(hot, weights=[1 / rank for rank in range(1, len(hot) + 1)])[0]


class Driver:
    """Sends arrivals at their time, each on its own and once, and counts while it runs.

    A request that is not answered within `deadline_s` after it was due has failed, and so has one
    with an answer that is not what its model computes.
    """

    def __init__(
        self,
        specs: Iterable[ModelSpec],
        *,
        http_url: str,
        grpc_url: str,
        deadline_s: float = 60.0,
    ) -> None:
        """specs: at least of the models that will be asked. http_url, grpc_url: host:port each."""
        self.outcomes: list[Outcome] = []
        self.tallies: dict[str, Tally] = {}
        self._specs = {spec.name: spec for spec in specs}
        self._http_url = http_url
        self._grpc_url = grpc_url
        self._deadline_s = deadline_s
        self._start_s: float | None = None

    @property
    def total(self) -> Tally:
        """The tallies of all models together."""
        every = self.tallies.values()
        return Tally(
            sent=sum(tally.sent for tally in every),
            served=sum(tally.served for tally in every),
            failed=sum(tally.failed for tally in every),
        )

    def now_s(self) -> float:
        """The time of `Outcome`: seconds since `run` began; 0 before."""
        now_s = asyncio.get_running_loop().time()
        return 0.0 if self._start_s is None else now_s - self._start_s

    async def run(self, arrivals: Iterable[Arrival]) -> list[Outcome]:
        """Sends `arrivals`, which must be ordered in time, and returns how each one ended.

        Cancelling it cancels every request under way; those then count as sent only.
        """
        asker = Asker(http_url=self._http_url, grpc_url=self._grpc_url)
        async with asker, asyncio.TaskGroup() as requests:
            self._start_s = asyncio.get_running_loop().time()
            for number, arrival in enumerate(arrivals):
                await asyncio.sleep(max(0.0, arrival.at_s - self.now_s()))
                value = 1.0 + number % DIFFERENT_VALUES
                requests.create_task(self._serve(asker, arrival, value))
        return self.outcomes

    async def _serve(self, asker: Asker, arrival: Arrival, value: float) -> None:
        self._count(arrival.model, sent=1)
        began_s = self.now_s()
        error, attempts = await self._ask(asker, arrival, value)
        self._count(arrival.model, served=int(error is None), failed=int(error is not None))
        cold = None if attempts is None else attempts > 1
        self.outcomes.append(Outcome(arrival, error, cold, began_s, self.now_s()))

    async def _ask(
        self, asker: Asker, arrival: Arrival, value: float
    ) -> tuple[str | None, int | None]:
        """What went wrong, if anything did, and how often a proxy tried."""
        question = Question(arrival.model, value, arrival.protocol, arrival.version)
        left_s = max(0.001, arrival.at_s + self._deadline_s - self.now_s())
        try:
            answer = await asker.ask(question, left_s)
        except Unanswered as unanswered:
            return str(unanswered), unanswered.attempts
        right = self._specs[arrival.model].answers(value, arrival.version)
        if answer.values != right:
            return f"answered {answer.values} where {right} was due", answer.attempts
        return None, answer.attempts

    def _count(self, model: str, *, sent: int = 0, served: int = 0, failed: int = 0) -> None:
        now = self.tallies.get(model, Tally())
        self.tallies[model] = Tally(now.sent + sent, now.served + served, now.failed + failed)
