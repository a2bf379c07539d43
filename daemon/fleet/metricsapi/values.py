"""The values that answer a question: of single pods, of a Deployment, of a namespace.

Owns the rule that what is unknown is left out: so the HPA counts such a pod as missing, and
keeps what it has while nothing at all is known. Knows nothing of HTTP and of callers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from daemon.fleet.metricsapi.lists import Described, ExternalValue, Value
from daemon.fleet.metricsapi.metrics import MODEL, Metric, is_value
from daemon.fleet.metricsapi.selectors import EVERYTHING, Selector
from daemon.fleet.samples import Pod, Samples

DEPLOYMENT = "deployment"


class Values:
    """Values come one by one, so that those of a thousand pods are never all there at once."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def of_pods(
        self, namespace: str, labels: Selector, metric: Metric, selector: Selector
    ) -> Iterator[Value]:
        """One value for each pod that has these labels and is known."""
        pods = (pod for pod in self._samples.pods(namespace) if labels.matches(pod.labels))
        return self._described(pods, metric, selector)

    def of_pod(self, namespace: str, name: str, metric: Metric, selector: Selector) -> Value | None:
        pods = (pod for pod in self._samples.pods(namespace) if pod.name == name)
        return next(self._described(pods, metric, selector), None)

    def of_deployment(
        self, namespace: str, name: str, metric: Metric, selector: Selector
    ) -> Value | None:
        """That of its known pods together."""
        pods = self._samples.deployments().get((namespace, name), ())
        what = Described("Deployment", name, namespace, "apps/v1")
        return self._together(pods, what, metric, selector)

    def of_namespace(self, namespace: str, metric: Metric, selector: Selector) -> Value | None:
        """That of its known pods together."""
        what = Described("Namespace", namespace)
        return self._together(self._samples.pods(namespace), what, metric, selector)

    def external(self, namespace: str, metric: Metric, labels: Selector) -> list[ExternalValue]:
        """One value for each Deployment, and of the models' metric for each model in it."""
        by_deployment = attrgetter("deployment")
        owned = (pod for pod in self._samples.pods(namespace) if pod.deployment)
        return [
            value
            for deployment, pods in groupby(sorted(owned, key=by_deployment), by_deployment)
            for value in self._external(deployment, list(pods), metric)
            if labels.matches(value.labels)
        ]

    def _external(
        self, deployment: str, pods: Sequence[Pod], metric: Metric
    ) -> Iterator[ExternalValue]:
        known = list(self._known(pods, metric, EVERYTHING))
        if not known:
            return
        owner = {DEPLOYMENT: deployment}
        value, at_s = _summed(metric, known)
        if MODEL not in metric.labels:
            yield ExternalValue(owner, value, at_s)
            return
        for model, load in sorted(self._by_model(pod for pod, *_ in known).items()):
            yield ExternalValue(owner | {MODEL: model}, load, at_s)

    def _by_model(self, pods: Iterable[Pod]) -> Mapping[str, float]:
        loads: dict[str, float] = {}
        for pod in pods:
            signals = self._samples.signals(pod.key)
            for name, model in signals.models.items() if signals else ():
                loads[name] = loads.get(name, 0.0) + model.load
        return loads

    def _described(
        self, pods: Iterable[Pod], metric: Metric, selector: Selector
    ) -> Iterator[Value]:
        for pod, value, at_s in self._known(pods, metric, selector):
            yield Value(Described("Pod", pod.name, pod.namespace), value, at_s)

    def _together(
        self, pods: Iterable[Pod], what: Described, metric: Metric, selector: Selector
    ) -> Value | None:
        known = list(self._known(pods, metric, selector))
        return Value(what, *_summed(metric, known)) if known else None

    def _known(
        self, pods: Iterable[Pod], metric: Metric, selector: Selector
    ) -> Iterator[tuple[Pod, float, float]]:
        """Pod, value, and when it was measured."""
        read, samples = metric.reading(selector), self._samples
        for pod in pods:
            value, at_s = read(samples, pod.key), samples.sampled_at_s(pod.key)
            if is_value(value) and at_s is not None:
                yield pod, value, at_s


def _summed(metric: Metric, known: Sequence[tuple[Pod, float, float]]) -> tuple[float, float]:
    """Several values are as old as the oldest of them."""
    return metric.together(value for _, value, _ in known), min(at_s for _, _, at_s in known)
