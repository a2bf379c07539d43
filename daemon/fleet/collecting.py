"""Asks every sidecar for its signals, round after round.

Owns when each is asked and how many at once. Those that did not answer the last time are asked
on the side, in slots of their own and never waited for: a slow one delays nobody.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from operator import itemgetter

from daemon.fleet.samples import Key, Pod, Samples
from daemon.fleet.sidecars import Outcome, Sidecars, Unanswered
from daemon.fleet.telemetry import Telemetry

log = logging.getLogger("remora.fleet")

# Questions are spread over this part of a round: a thousand at once would keep the HPA waiting.
_SPREAD = 0.5
_SLICE_S = 0.01
_TOLD_EVERY_S = 60.0


class Collecting:
    """Puts answers into `samples`; `after_round` is called when a round has ended."""

    def __init__(
        self,
        samples: Samples,
        sidecars: Sidecars,
        telemetry: Telemetry,
        after_round: Callable[[], None],
        interval_s: float,
        concurrency: int,
        seed: int | None = None,
    ) -> None:
        self._samples = samples
        self._sidecars = sidecars
        self._telemetry = telemetry
        self._after_round = after_round
        self._interval_s = interval_s
        self._slots = asyncio.Semaphore(concurrency)
        self._side_slots = asyncio.Semaphore(max(1, concurrency // 4))
        self._random = random.Random(seed)
        self._asking: dict[Key, asyncio.Task[None]] = {}
        self._silent: dict[Key, Unanswered] = {}
        self._told_s = -math.inf
        self.rounds = 0
        self.round_ended_s = time.monotonic()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        try:
            while True:
                started_s = time.monotonic()
                await self.round()
                # Two replicas that ask at the same moments would make a sidecar's worst moments.
                wanted_s = self._interval_s * self._random.uniform(0.95, 1.05)
                await asyncio.sleep(max(0.0, wanted_s - (time.monotonic() - started_s)))
        finally:
            await self._stop()

    async def round(self) -> None:
        """Asks everybody once. It ends within the interval, whoever is still being asked."""
        started_s = time.monotonic()
        self._sidecars.credentials.reload()
        self._forget()
        pods = [p for p in self._samples.all_pods() if p.ip and p.key not in self._asking]
        # In another order each time, so that nobody is always the last.
        self._random.shuffle(pods)
        await self._start(pods)
        answering = [task for key, task in self._asking.items() if key not in self._silent]
        if answering:
            left_s = self._interval_s - (time.monotonic() - started_s)
            await asyncio.wait(answering, timeout=max(0.0, left_s))
        self._after_round()
        self.rounds += 1
        self._tell()
        self.round_ended_s = time.monotonic()
        self._telemetry.round_seconds.observe(self.round_ended_s - started_s)

    async def _start(self, pods: Sequence[Pod]) -> None:
        # The first round is not spread: until it is done we know nothing.
        slices = math.ceil(self._interval_s * _SPREAD / _SLICE_S) if self.rounds else 1
        size = math.ceil(len(pods) / slices)
        for begin in range(0, len(pods), max(1, size)):
            for pod in pods[begin : begin + size]:
                self._asking[pod.key] = asyncio.create_task(self._ask(pod))
            await asyncio.sleep(_SLICE_S if self.rounds else 0)

    async def _ask(self, pod: Pod) -> None:
        slots = self._side_slots if pod.key in self._silent else self._slots
        try:
            async with slots:
                signals = await self._sidecars.ask(pod)
        except Unanswered as error:
            self._silent[pod.key] = error
            outcome = error.outcome
        else:
            self._silent.pop(pod.key, None)
            self._samples.put_signals(pod, signals)
            outcome = Outcome.KNOWN if signals.reachable else Outcome.TRITON_UNREACHABLE
        finally:
            self._asking.pop(pod.key, None)
        self._telemetry.answers.labels(outcome.value).inc()

    def _tell(self) -> None:
        """One line a minute while some are silent: a thousand pods would write a thousand."""
        now_s = time.monotonic()
        if self._silent and now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            silent, pods = len(self._silent), len(self._samples.all_pods())
            (namespace, name), error = min(self._silent.items(), key=itemgetter(0))
            words = "%d of %d sidecars gave no answer that can be used; %s/%s: %s"
            log.warning(words, silent, pods, namespace, name, error)

    def _forget(self) -> None:
        """Drops what is remembered of pods that are gone."""
        here = {pod.key for pod in self._samples.all_pods()}
        for key in self._silent.keys() - here:
            del self._silent[key]

    async def _stop(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
