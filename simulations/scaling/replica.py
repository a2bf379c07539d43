"""One pod of a Deployment: when it starts, runs, is Ready, leaves and is gone, and what it served.

Owns that life, and what its Triton would have told a scraper. What happens inside is the simulated
pod's (`simulations.pod`), on a clock that begins when it runs. Refuses to know the other pods.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from policies.demand import absence_s
from policies.policy import Policy
from policies.pressure import Pressure, pressure
from policies.removal import Holding, Standing
from policies.snapshot import Model, ModelState
from simulations.pod.run import Pod
from simulations.pod.spec import PodSpec
from simulations.scaling.replicas import Phase, PodStatus
from simulations.scaling.traffic import Traffic
from simulations.workloads.arrivals import Arrivals, joined


@dataclass(slots=True)
class Counters:
    """What Triton's counters have grown to, over all models.

    busy_s: by model, summed over its instances.
    """

    served: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def take(self, models: Mapping[str, Model]) -> None:
        for name, model in models.items():
            if model.served:
                self.served += model.served
                self.queue_s += model.queue_s
                self.compute_s += model.compute_s
                self.busy_s[name] += model.busy_s


@dataclass(frozen=True, slots=True)
class Requests:
    """What became of requests, in order of arrival.

    came_s: on the fleet's clock. wait_s: beyond their own execution; infinite where nobody
    answered.
    """

    came_s: NDArray[np.float64]
    wait_s: NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Replica:
    """Times are the fleet's. ready_s: None before; gone_s: when it took nothing any more.

    cost: its pod-deletion-cost; None where nobody has written one.
    """

    name: str
    revision: int
    created_s: float
    traffic: Traffic
    policy: Policy
    spec: PodSpec
    seed: int
    running_s: float | None = None
    ready_s: float | None = None
    leaving_s: float | None = None
    gone_s: float | None = None
    cost: int | None = None
    counters: Counters = field(default_factory=Counters)
    _pod: Pod | None = None
    _taken: list[Arrivals] = field(default_factory=list)

    @property
    def is_leaving(self) -> bool:
        return self.leaving_s is not None

    @property
    def is_ready(self) -> bool:
        return self.ready_s is not None and not self.is_leaving

    @property
    def status(self) -> PodStatus:
        """As the HPA's controller sees it."""
        phase = Phase.PENDING if self.running_s is None else Phase.RUNNING
        return PodStatus(self.name, phase, self.ready_s is not None, self.is_leaving)

    # Its life.

    def run(self, now_s: float, resident: tuple[str, ...] = ()) -> None:
        """Its containers start, with these models in memory already."""
        self.running_s = now_s
        spec = replace(self.spec, epoch_s=self.spec.epoch_s + now_s, resident=resident)
        self._pod = Pod(
            self.traffic.without_arrivals(),
            self.traffic.catalogue,
            self.policy,
            spec,
            self.seed,
            on_look=self.counters.take,
        )

    def until(self, now_s: float) -> None:
        if self._pod is not None and self.running_s is not None:
            self._pod.until(now_s - self.running_s)

    def take(self, block: Arrivals) -> None:
        """Requests that the router sends here, on the fleet's clock."""
        self._taken.append(block)
        self._inside.arrive(replace(block, time_s=block.time_s - self._began_s))

    def finish(self, now_s: float) -> Requests:
        """It is gone, and whatever is still inside gets no answer."""
        self.gone_s = now_s
        if self._pod is None or not self._taken:
            self._pod = None
            return Requests(np.empty(0), np.empty(0))
        outcome = self._pod.finish(now_s - self._began_s)
        self._pod = None
        taken = joined(self._taken)
        wait_s = np.full(len(taken), np.inf)
        wait_s[outcome.served] = outcome.wait_s
        assert taken.service_s is not None, "all traffic here has service times"
        wait_s[taken.time_s + wait_s + taken.service_s > now_s] = np.inf
        self._taken = []
        return Requests(taken.time_s, wait_s)

    # What others may know of it.

    def serves(self, models: tuple[str, ...]) -> bool:
        """Whether it would answer for each of ``models`` without loading it first."""
        return self._pod is not None and all(self._pod.serves(name) for name in models)

    def present(self, now_s: float) -> int:
        """Requests that are here."""
        pod = self._inside
        return sum(pod.present(name, now_s - self._began_s) for name in self.traffic.names)

    def is_empty(self, now_s: float) -> bool:
        return self._pod is None or self._pod.is_empty(now_s - self._began_s)

    def pressure(self) -> Pressure:
        """What its sidecar tells, as of its latest tick."""
        return pressure(self.policy, self._inside.seen(), self._inside.history)

    def standing(self) -> Standing:
        """What the fleet service knows of it when it reckons what its loss would cost."""
        seen, told = self._inside.seen(), self.pressure()
        holdings = {
            name: Holding(
                resident=model.state is ModelState.READY,
                load=told.by_model.get(name, 0.0),
                absence_s=absence_s(model, seen.unload_s),
            )
            for name, model in seen.models.items()
            if model.state is ModelState.READY or name in told.by_model
        }
        return Standing(told.load, holdings)

    @property
    def _inside(self) -> Pod:
        assert self._pod is not None, f"{self.name} does not run"
        return self._pod

    @property
    def _began_s(self) -> float:
        assert self.running_s is not None, f"{self.name} does not run"
        return self.running_s
