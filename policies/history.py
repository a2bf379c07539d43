"""What is remembered between ticks. History goes in and comes out; nothing hides elsewhere.

A record changes only when something happened to its model: rates are kept as a value
and the moment it was true, and decay when they are read. So a quiet model costs the
journal nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.forecast import NO_SPELLS, Spells
from policies.snapshot import ErrorClass
from policies.work import NO_WORK, Work


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """What is remembered of one model; all times are seconds since the epoch, UTC.

    fast_rate, slow_rate: requests per second at ``rate_at_s``, averaged exponentially
        over the policy's fast and slow demand windows.
    uses: requests ever seen. last_use_s: the latest of them.
    visited_at_s: when its latest visit began. visit_rates: visits per second then, averaged
        exponentially over the policy's `visit_windows_s`. spells: its idle spells.
    work: what it is asked to do, and what that costs.
    credit: greedy-dual priority, set at the latest use.
    resident_since_s: when it was first seen READY; None while it is not.
    left_at_s: when it was last seen to leave.
    unwanted_at_s: when the plan last let it go (the start of its cooldown).
    left_for: the model it makes, or made, room for, until that one has come in.
    restore: it was resident and vanished by no decision of ours, or heals.
    swapped: it left to be loaded anew from changed files, and comes back before all others.
    failures: failed loads in a row. retry_at_s: no load before that.
    """

    fast_rate: float = 0.0
    slow_rate: float = 0.0
    rate_at_s: float | None = None
    uses: float = 0.0
    last_use_s: float | None = None
    visited_at_s: float | None = None
    visit_rates: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    spells: Spells = NO_SPELLS
    work: Work = NO_WORK
    credit: float = 0.0
    resident_since_s: float | None = None
    left_at_s: float | None = None
    unwanted_at_s: float | None = None
    restore: bool = False
    swapped: bool = False
    failures: int = 0
    failed_at_s: float | None = None
    error_class: ErrorClass | None = None
    retry_at_s: float | None = None
    revision: str | None = None
    left_for: str | None = None

    def used(
        self,
        at_s: float,
        *,
        fast_rate: float,
        slow_rate: float,
        uses: float,
        credit: float,
        work: Work,
    ) -> "ModelHistory":
        """The record after a use. Told field by field: `replace` takes twice as long, and in a
        busy tick this is what most records change by."""
        return ModelHistory(
            fast_rate=fast_rate,
            slow_rate=slow_rate,
            rate_at_s=at_s,
            uses=uses,
            last_use_s=at_s,
            visited_at_s=self.visited_at_s,
            visit_rates=self.visit_rates,
            spells=self.spells,
            work=work,
            credit=credit,
            resident_since_s=self.resident_since_s,
            left_at_s=self.left_at_s,
            unwanted_at_s=self.unwanted_at_s,
            restore=self.restore,
            swapped=self.swapped,
            failures=self.failures,
            failed_at_s=self.failed_at_s,
            error_class=self.error_class,
            retry_at_s=self.retry_at_s,
            revision=self.revision,
            left_for=self.left_for,
        )


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of all models.

    at_s, began_s: the stamps of the last snapshot taken in, and of the first; None before that.
    metered_at_s: the last that knew what models were asked.
    utilisation: of each device that tells, averaged over `scaling.window`.
    inflation: greedy-dual's clock, the credit of the latest victim.
    evictions_s: when evictions were decided, inside the churn window only.
    leaving: models whose unload is already decided and not yet visible.
    pool: the chance that an idle spell ends at each age, over all models, as of pooled_at_s.
    """

    at_s: float | None = None
    models: Mapping[str, ModelHistory] = field(default_factory=dict)
    inflation: float = 0.0
    evictions_s: tuple[float, ...] = ()
    leaving: frozenset[str] = frozenset()
    pool: tuple[float, ...] = ()
    pooled_at_s: float | None = None
    began_s: float | None = None
    metered_at_s: float | None = None
    utilisation: Mapping[str, float] = field(default_factory=dict)


NOTHING = ModelHistory()
