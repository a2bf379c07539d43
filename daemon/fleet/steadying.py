"""Turns the pods' loads into those that are served, once per round, by the policy.

Owns what is remembered of each Deployment from one round to the next. How a sum is steadied is
`policies.fleet`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.fleet.samples import Key, Owner, Samples
from daemon.policyfile import PolicyFile
from policies.fleet import FleetHistory, steadied


@dataclass(slots=True)
class Steadying:
    samples: Samples
    policy_file: PolicyFile
    now_s: Callable[[], float]
    _histories: dict[Owner, FleetHistory] = field(default_factory=dict)

    def step(self) -> None:
        """A Deployment that has no pod any more is forgotten, and begins anew with its next one."""
        self.policy_file.reload()
        now_s, policy = self.now_s(), self.policy_file.policy
        served: dict[Key, float] = {}
        for pod in self.samples.all_pods():
            load = self._load(pod.key)
            if load is not None and pod.deployment is None:
                # Nothing scales it as a whole, so there is no sum to steady.
                served[pod.key] = load
        histories: dict[Owner, FleetHistory] = {}
        for owner, pods in self.samples.deployments().items():
            found = ((pod.name, self._load(pod.key)) for pod in pods)
            loads = {name: load for name, load in found if load is not None}
            before = self._histories.get(owner, FleetHistory())
            shares, histories[owner] = steadied(policy, loads, before, now_s)
            served.update({(owner[0], name): share for name, share in shares.items()})
        self._histories = histories
        self.samples.serve(served)

    def _load(self, key: Key) -> float | None:
        signals = self.samples.signals(key)
        return signals.load if signals else None
