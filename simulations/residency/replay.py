"""Replays a workload against a residency policy: instant, no queues, a million arrivals a second.

Each arrival finds its model resident, or makes a cold start. The memory changes hands at once,
at the moment of the arrival, and the served model is always resident then; so what is compared
is who is kept, and nothing else. Waits are told as if the load took its time: the arrival that
makes the cold start waits its model's load_s, and those of the same model that come before it
has passed wait the rest. So it is for prewarms: who comes too soon after one waits the rest, and
the first such arrival counts as a cold start. An arrival that stands for several requests stands
for as many at the same moment. A model larger than the budget is never served, and its requests
have failed.

Owns that order of events and the counting. Refuses to know why a model stays or leaves, and
about queues, channels and time spent unloading, which the faithful simulation has.

All arrivals up to the next miss are handled as arrays; only the miss itself is Python. How far
one look reaches follows the length of the latest runs of hits.
"""

import numpy as np
from numpy.typing import NDArray

from simulations.outcome import Outcome
from simulations.residency.ledger import Ledger
from simulations.residency.memory import Memory, Sizes, Values
from simulations.residency.policy import NEVER_S, Policy
from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import Catalogue

# One look is at least so many arrivals, where numpy costs no more than a single one, and at most
# so many, which still fit the processor's cache.
_SHORTEST, _LONGEST = 32, 1 << 15


def replay(
    workload: Workload,
    catalogue: Catalogue,
    budget_bytes: int,
    policy: Policy,
    *,
    keep_stays: bool = False,
) -> Outcome:
    """What comes of ``policy`` on a device of ``budget_bytes``; the policy must be a fresh one."""
    sizes = Sizes.of(workload.names, catalogue)
    memory = Memory(sizes, budget_bytes)
    player = _Player(memory, policy, Ledger(workload.names, sizes, keep_stays))
    for run in workload.runs():
        player.play(run)
    player.wake_until(workload.duration_s)
    return player.ledger.outcome(policy.name, budget_bytes, workload.duration_s)


class _Player:
    """Brings arrivals and wakes to the policy in order of time, and carries out what it says."""

    def __init__(self, memory: Memory, policy: Policy, ledger: Ledger) -> None:
        self.memory, self.policy, self.ledger = memory, policy, ledger
        self.too_large = memory.sizes.size_bytes > memory.budget_bytes
        self.some_too_large = bool(self.too_large.any())
        self.look = _SHORTEST

    def play(self, run: Arrivals) -> None:
        self.ledger.asked(run.weight)
        run = self._served(run)
        at, end = 0, len(run)
        self.policy.begin(run.model, run.time_s)
        while at < end:
            until = self._before_wake(run.time_s, at)
            missed = self._first_miss(run.model, at, until)
            if at < missed:
                hits = slice(at, missed)
                models, time_s, weight = run.model[hits], run.time_s[hits], run.weight[hits]
                self.ledger.hits(models, time_s, weight)
                self.policy.hits(models, time_s, weight)
            if missed < until:
                self._miss(run.model.item(missed), run.time_s.item(missed), run.weight.item(missed))
                missed += 1
            elif until < end:
                self._wake()
            at = missed

    def _served(self, run: Arrivals) -> Arrivals:
        """The run without the arrivals of models larger than the budget, which have failed."""
        failed = self.too_large[run.model] if self.some_too_large else self.too_large[:0]
        if not failed.any():
            return run
        self.ledger.failed(float(run.weight[failed].sum()))
        return Arrivals(run.time_s[~failed], run.model[~failed], run.weight[~failed])

    def wake_until(self, time_s: float) -> None:
        while self.policy.wake_s < time_s:
            self._wake()

    def _before_wake(self, time_s: Values, at: int) -> int:
        """The end of what arrives before the policy's next wake."""
        wake_s = self.policy.wake_s
        if wake_s == NEVER_S:
            return len(time_s)
        return at + int(time_s[at:].searchsorted(wake_s))

    def _first_miss(self, model: NDArray[np.int32], at: int, until: int) -> int:
        """The first arrival from ``at`` on that finds its model absent; ``until`` without any."""
        resident, begun = self.memory.resident, at
        while at < until:
            found = resident[model[at : min(at + self.look, until)]]
            first = int(found.argmin())
            if not found[first]:
                at += first
                break
            at += len(found)
            self.look = min(2 * self.look, _LONGEST)
        # Half of what went before, and a little more than what was just seen.
        self.look = min(max((self.look + 3 * (at - begun)) // 2, _SHORTEST), _LONGEST)
        return at

    def _miss(self, model: int, time_s: float, weight: float) -> None:
        decision = self.policy.miss(model, time_s, weight, self.memory)
        for victim in decision.victims:
            self._leave(victim, time_s)
        if decision.refused:
            self.ledger.failed(weight)
            return
        self.memory.enter(model)
        self.ledger.cold_start(model, time_s, weight)
        self.ledger.memory(time_s, self.memory.used_bytes)

    def _wake(self) -> None:
        time_s = self.policy.wake_s
        wake = self.policy.wake(time_s, self.memory)
        assert self.policy.wake_s > time_s, "a policy that wakes without end"
        for model in wake.leave:
            self._leave(model, time_s)
        for model in wake.load:
            if not self.memory.resident[model] and self.memory.lacks_bytes(model) <= 0:
                self.memory.enter(model)
                self.ledger.prewarm(model, time_s)
        if wake.leave or wake.load:
            self.ledger.memory(time_s, self.memory.used_bytes)

    def _leave(self, model: int, time_s: float) -> None:
        self.memory.leave(model)
        self.ledger.leave(model, time_s)
