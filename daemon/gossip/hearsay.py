"""What peers have learned of models, for one that has never loaded them.

Owns the latest few reports of each model. A peer that is gone has not unlearned anything, so
reports outlive it. Refuses to rank them against our own measurements: `daemon.footprints` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern

from daemon.gossip.messages import LearnedModel
from daemon.learned import Learned
from policies.snapshot import HOST

REPORTS = 3
"""Of so many pods the median counts, so that one that is wrong does not mislead."""
MOST_MODELS = 10_000

PEER_DEVICE = "peer"
"""Stands for the GPU of another pod; what was measured there counts on each of ours."""


@dataclass(slots=True)
class Hearsay:
    """Reports by model and pod, the latest last."""

    _reports: dict[str, dict[str, LearnedModel]] = field(default_factory=dict)

    def heard(self, pod: str, learned: Mapping[str, LearnedModel]) -> None:
        for model, report in learned.items():
            of_model = self._reports.get(model)
            if of_model is None:
                if len(self._reports) >= MOST_MODELS:
                    del self._reports[next(iter(self._reports))]
                of_model = self._reports[intern(model)] = {}
            before = of_model.pop(pod, None)
            # The same values again need no second copy.
            of_model[pod] = before if before == report else report
            if len(of_model) > REPORTS:
                del of_model[next(iter(of_model))]

    def of(self, model: str, file_bytes: int | None) -> Learned | None:
        """The median of what is known of ``model``, as learned once, long ago; None without any.

        file_bytes: what our files weigh; reports about other files do not count.
        """
        reports = [
            report
            for report in self._reports.get(model, {}).values()
            if None in (file_bytes, report.file_bytes) or report.file_bytes == file_bytes
        ]
        load_s = _median(each.load_s for each in reports)
        footprint = _footprint(reports)
        if load_s is None and footprint is None:
            return None
        return Learned(
            learned_at_s=0.0, footprints=(footprint,) if footprint else (), load_s=load_s
        )


def _footprint(reports: Sequence[LearnedModel]) -> dict[str, int] | None:
    """GPUs come first: a model that lives there grows the host's memory only by the way."""
    for device, is_host in ((PEER_DEVICE, False), (HOST, True)):
        amount = _median(each.footprint_bytes for each in reports if each.on_host is is_host)
        if amount is not None:
            return {device: round(amount)}
    return None


def _median(values: Iterable[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[(len(known) - 1) // 2] if known else None
