"""The layout of topics below one root.

Owns which topic is whose. Refuses to know what is said there. The same layout stands in
deploy/gossip.asyncapi.yaml for those who write other clients.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

POD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""What a pod may be called: Kubernetes' names, and host names with capitals."""
ROOT = re.compile(r"[^+#$/\s\x00]+(/[^+#$/\s\x00]+)*")


@dataclass(frozen=True, slots=True)
class Topics:
    """root: the first levels of all topics, without a slash at either end."""

    root: str

    def pod(self, pod: str) -> str:
        """Where ``pod`` tells of itself, retained."""
        return f"{self.root}/pods/{pod}"

    def demand(self, model: str) -> str:
        """Where an operator says that ``model`` will be asked for; never retained."""
        return f"{self.root}/demand/{quote(model, safe='')}"

    def drain(self, pod: str) -> str:
        """Where an operator asks ``pod`` to leave, retained; an empty message calls it off."""
        return f"{self.root}/drain/{pod}"

    @property
    def all_pods(self) -> str:
        return f"{self.root}/pods/+"

    @property
    def all_demand(self) -> str:
        return f"{self.root}/demand/+"

    def pod_of(self, topic: str) -> str | None:
        """The pod that tells of itself in ``topic``; None where that is no such topic."""
        pod = self._below("pods", topic)
        return pod if pod is not None and POD.fullmatch(pod) else None

    def model_of(self, topic: str) -> str | None:
        """The model that a hint in ``topic`` is about."""
        model = self._below("demand", topic)
        return unquote(model) if model else None

    def _below(self, kind: str, topic: str) -> str | None:
        prefix = f"{self.root}/{kind}/"
        rest = topic.removeprefix(prefix)
        return rest if rest != topic and "/" not in rest else None
