"""The queue of one model and the instances that work it off, first come first served.

Owns when each request starts and ends. Everything is worked out from the order of arrivals
and nothing from when somebody looks, so looking more often changes no figure.
"""

from collections import deque
from heapq import heapreplace
from typing import NamedTuple, Protocol

from simulations.workloads.catalogue import Profile


class Request(NamedTuple):
    """One arrival on its way.

    number: its place in the workload. at_s: when it came; service_s: how long it executes alone.
    weight: how many requests it stands for; it executes once and counts so often.
    cold: it did not find its model ready.
    """

    number: int
    at_s: float
    service_s: float
    weight: float
    cold: bool = False


class Execution(NamedTuple):
    """One request that has its time: queue_s in Triton's queue, then compute_s until end_s.

    share: its part of an execution, which is 1 unless it is batched.
    """

    end_s: float
    request: Request
    queue_s: float
    compute_s: float
    share: float


class Servers(Protocol):
    """entered: requests that have come since somebody set it to 0, by weight."""

    entered: float

    def enter(self, now_s: float, request: Request) -> None:
        """``request`` comes to the queue at ``now_s``, which never falls."""

    def ended(self, now_s: float) -> list[Execution]:
        """Those that have ended by ``now_s`` and were not told before, in order of arrival."""

    def inside(self) -> int:
        """Requests in the queue or executing when `ended` was last asked, or come since."""

    def waiting(self) -> int:
        """Those of them that do not execute yet, right after `ended`."""

    def present(self, now_s: float) -> int:
        """Requests in the queue or executing at ``now_s``, whoever looked last."""

    def is_empty(self, now_s: float) -> bool:
        """Whether all that came have ended by ``now_s``."""

    def empties_s(self) -> float:
        """When the last of them will have ended, if no more come; 0 when none is there."""

    def fail(self, now_s: float) -> list[Request]:
        """Ends them all unanswered, and returns them."""


def servers(profile: Profile) -> Servers:
    """Empty, idle servers for one model."""
    if profile.max_batch > 1:
        return _Batching(profile.instances, profile.max_batch, profile.batch_share)
    return _Single() if profile.instances <= 1 else _Several(profile.instances)


class _Kept:
    """What plain servers share: every request has its times as soon as it comes."""

    __slots__ = ("_under_way", "entered")

    def __init__(self) -> None:
        self.entered = 0.0
        self._under_way: deque[Execution] = deque()

    def inside(self) -> int:
        return len(self._under_way)

    def present(self, now_s: float) -> int:
        return sum(each.end_s > now_s for each in self._under_way)

    def is_empty(self, now_s: float) -> bool:
        return self.empties_s() <= now_s

    def empties_s(self) -> float:
        return max((each.end_s for each in self._under_way), default=0.0)

    def fail(self, now_s: float) -> list[Request]:
        failed = [each.request for each in self._under_way if each.end_s > now_s]
        self._under_way = deque(each for each in self._under_way if each.end_s <= now_s)
        return failed


class _Single(_Kept):
    """One instance, one request at a time: Lindley's recursion."""

    __slots__ = ("_free_s",)

    def __init__(self) -> None:
        super().__init__()
        self._free_s = 0.0

    def enter(self, now_s: float, request: Request) -> None:
        start_s = now_s if now_s >= self._free_s else self._free_s
        self._free_s = end_s = start_s + request.service_s
        self.entered += request.weight
        self._under_way.append(
            Execution(end_s, request, start_s - now_s, request.service_s, request.weight)
        )

    def ended(self, now_s: float) -> list[Execution]:
        under_way = self._under_way
        found = []
        while under_way and under_way[0].end_s <= now_s:
            found.append(under_way.popleft())
        return found

    def waiting(self) -> int:
        # The instance never rests while somebody is there.
        return max(0, len(self._under_way) - 1)

    def empties_s(self) -> float:
        return self._under_way[-1].end_s if self._under_way else 0.0

    def fail(self, now_s: float) -> list[Request]:
        self._free_s = 0.0
        return super().fail(now_s)


class _Several(_Kept):
    """Several instances, one request each at a time."""

    __slots__ = ("_free_s",)

    def __init__(self, instances: int) -> None:
        super().__init__()
        self._free_s = [0.0] * instances

    def enter(self, now_s: float, request: Request) -> None:
        self.entered += request.weight
        start_s = max(now_s, self._free_s[0])
        end_s = start_s + request.service_s
        heapreplace(self._free_s, end_s)
        self._under_way.append(
            Execution(end_s, request, start_s - now_s, request.service_s, request.weight)
        )

    def ended(self, now_s: float) -> list[Execution]:
        found = [each for each in self._under_way if each.end_s <= now_s]
        if found:
            self._under_way = deque(each for each in self._under_way if each.end_s > now_s)
        return found

    def waiting(self) -> int:
        return max(0, len(self._under_way) - len(self._free_s))

    def fail(self, now_s: float) -> list[Request]:
        self._free_s = [0.0] * len(self._free_s)
        return super().fail(now_s)


class _Batching:
    """Dynamic batching without a delay: whoever waits when an instance is free goes together."""

    __slots__ = ("_free_s", "_largest", "_queue", "_share", "_started", "entered")

    def __init__(self, instances: int, largest: int, share: float) -> None:
        self.entered = 0.0
        self._free_s = [0.0] * max(1, instances)
        self._largest, self._share = largest, share
        self._queue: deque[tuple[float, Request]] = deque()
        self._started: list[Execution] = []

    def enter(self, now_s: float, request: Request) -> None:
        self.entered += request.weight
        self._start_until(now_s)
        self._queue.append((now_s, request))
        self._start_until(now_s)

    def ended(self, now_s: float) -> list[Execution]:
        self._start_until(now_s)
        found = [each for each in self._started if each.end_s <= now_s]
        if found:
            self._started = [each for each in self._started if each.end_s > now_s]
        return found

    def inside(self) -> int:
        return len(self._queue) + len(self._started)

    def waiting(self) -> int:
        return len(self._queue)

    def present(self, now_s: float) -> int:
        self._start_until(now_s)
        return len(self._queue) + sum(each.end_s > now_s for each in self._started)

    def is_empty(self, now_s: float) -> bool:
        self._start_until(now_s)
        return not self._queue and all(each.end_s <= now_s for each in self._started)

    def empties_s(self) -> float:
        self._start_until(float("inf"))
        return max((each.end_s for each in self._started), default=0.0)

    def fail(self, now_s: float) -> list[Request]:
        self._start_until(now_s)
        failed = [each.request for each in self._started if each.end_s > now_s]
        failed += [request for _, request in self._queue]
        self._started = [each for each in self._started if each.end_s <= now_s]
        self._queue.clear()
        self._free_s = [0.0] * len(self._free_s)
        return failed

    def _start_until(self, now_s: float) -> None:
        while self._queue:
            start_s = max(self._free_s[0], self._queue[0][0])
            if start_s > now_s:
                return
            self._start(start_s)

    def _start(self, start_s: float) -> None:
        batch = [self._queue.popleft()]
        while self._queue and len(batch) < self._largest and self._queue[0][0] <= start_s:
            batch.append(self._queue.popleft())
        longest_s = max(request.service_s for _, request in batch)
        compute_s = longest_s * (1 + (len(batch) - 1) * self._share)
        heapreplace(self._free_s, start_s + compute_s)
        for came_s, request in batch:
            share = request.weight / len(batch)
            execution = Execution(start_s + compute_s, request, start_s - came_s, compute_s, share)
            self._started.append(execution)
