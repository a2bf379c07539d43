"""Seeded requests over time, and a driver that sends them to Triton as users would.

Owns when each request is due and what became of it. Knows nothing of the sidecar: where a model is
absent it tells its caller, and asks again until the model is there or the patience is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

# What Triton says of a model that it does not serve now. The status does not tell: it is NOT_FOUND
# or UNAVAILABLE, and another one still on servers older than 2.42.
ABSENT = ("is not found", "has no available versions", "is not at ready state")

# Without it a channel waits up to two minutes before it tries a restarted server again.
CHANNEL_ARGS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]

# Told of a model that was absent, and how many requests were not reported before: one, then none.
ReportMiss = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True)
class Arrival:
    """A request that is due `at_s` after the start."""

    at_s: float
    model: str


@dataclass(frozen=True)
class Outcome:
    """How a request ended. Cold: its model was absent when it came.

    latency_s counts from when the request was due, so that a late driver hides nothing. error is
    None when it was served.
    """

    arrival: Arrival
    served: bool
    cold: bool
    latency_s: float
    error: str | None


@dataclass(frozen=True)
class Tally:
    """Counts of one model's requests; waiting ones found it absent and are asking again."""

    sent: int = 0
    served: int = 0
    failed: int = 0
    waiting: int = 0


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


def _hot_set(order: Sequence[str], count: int, shift: int) -> list[str]:
    """A window over `order`, hottest first: newcomers are the hottest and cool as they age."""
    start = shift * max(1, count // 3)
    return [order[(start + at) % len(order)] for at in reversed(range(count))]


def _draw(chance: random.Random, order: Sequence[str], hot: Sequence[str], hot_share: float) -> str:
    cold = [model for model in order if model not in hot]
    if cold and chance.random() >= hot_share:
        return chance.choice(cold)
    return chance.choices(hot, weights=[1 / rank for rank in range(1, len(hot) + 1)])[0]


def says_absent(error: str) -> bool:
    """Whether Triton's message means that the model is not served now, rather than broken."""
    return any(phrase in error for phrase in ABSENT)


class Driver:
    """Sends arrivals to Triton at their time, each on its own, and counts while it runs.

    A request whose model is absent reports the miss at once and then every `report_every_s`, and
    asks again every `poll_s`, until `deadline_s` after it was due. A report that fails with OSError
    is kept in `last_report_error` and made again; any other error of it ends the run.
    """

    def __init__(
        self,
        grpc_url: str,
        report_miss: ReportMiss,
        *,
        deadline_s: float = 30.0,
        poll_s: float = 0.075,
        report_every_s: float = 1.0,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.tallies: dict[str, Tally] = {}
        self.last_report_error: str | None = None
        self._grpc_url = grpc_url
        self._report_miss = report_miss
        self._deadline_s = deadline_s
        self._poll_s = poll_s
        self._report_every_s = report_every_s
        self._input = InferInput("X", [1, 1], "FP32")
        self._input.set_data_from_numpy(np.ones((1, 1), np.float32))

    @property
    def total(self) -> Tally:
        """The tallies of all models together."""
        every = self.tallies.values()
        return Tally(
            sent=sum(tally.sent for tally in every),
            served=sum(tally.served for tally in every),
            failed=sum(tally.failed for tally in every),
            waiting=sum(tally.waiting for tally in every),
        )

    async def run(self, arrivals: Iterable[Arrival]) -> list[Outcome]:
        """Sends `arrivals`, which must be ordered in time, and returns how each one ended.

        Cancelling it cancels every request under way; those then count as sent only.
        """
        now_s = asyncio.get_running_loop().time
        client = InferenceServerClient(self._grpc_url, channel_args=CHANNEL_ARGS)
        async with client, asyncio.TaskGroup() as requests:
            start_s = now_s()
            for arrival in arrivals:
                due_s = start_s + arrival.at_s
                await asyncio.sleep(max(0.0, due_s - now_s()))
                requests.create_task(self._serve(client, arrival, due_s))
        return self.outcomes

    async def _serve(self, client: InferenceServerClient, arrival: Arrival, due_s: float) -> None:
        self._count(arrival.model, sent=1)
        deadline_s = due_s + self._deadline_s
        error = await self._infer(client, arrival.model, deadline_s)
        cold = error is not None and says_absent(error)
        if cold:
            error = await self._wait(client, arrival.model, deadline_s)
        served = error is None
        self._count(arrival.model, served=int(served), failed=int(not served))
        latency_s = asyncio.get_running_loop().time() - due_s
        self.outcomes.append(Outcome(arrival, served, cold, latency_s, error))

    async def _wait(
        self, client: InferenceServerClient, model: str, deadline_s: float
    ) -> str | None:
        """Reports and asks until the model is served; the last error when it never was."""
        self._count(model, waiting=1)
        try:
            async with asyncio.TaskGroup() as both:
                reporting = both.create_task(self._report(model))
                error = await self._poll(client, model, deadline_s)
                reporting.cancel()
        finally:
            self._count(model, waiting=-1)
        return error

    async def _poll(
        self, client: InferenceServerClient, model: str, deadline_s: float
    ) -> str | None:
        now_s = asyncio.get_running_loop().time
        error: str | None = f"{model} was absent"
        while error is not None and now_s() < deadline_s:
            await asyncio.sleep(self._poll_s)
            error = await self._infer(client, model, deadline_s)
            if error is not None and not says_absent(error):
                return error
        return error

    async def _report(self, model: str) -> None:
        """Never returns: reporting must not delay the asking, which ends it."""
        new_requests = 1
        while True:
            try:
                await self._report_miss(model, new_requests)
                new_requests = 0
            except OSError as error:
                # Whoever should hear of the miss may be away for a while.
                self.last_report_error = str(error)
            await asyncio.sleep(self._report_every_s)

    async def _infer(
        self, client: InferenceServerClient, model: str, deadline_s: float
    ) -> str | None:
        """None when the model answered, or else what went wrong."""
        left_s = max(0.001, deadline_s - asyncio.get_running_loop().time())
        try:
            await client.infer(model, [self._input], client_timeout=left_s)
        except InferenceServerException as error:
            return str(error)
        return None

    def _count(
        self, model: str, *, sent: int = 0, served: int = 0, failed: int = 0, waiting: int = 0
    ) -> None:
        now = self.tallies.get(model, Tally())
        self.tallies[model] = replace(
            now,
            sent=now.sent + sent,
            served=now.served + served,
            failed=now.failed + failed,
            waiting=now.waiting + waiting,
        )
