"""The sidecar's ear at Prometheus: a thread that asks, and what it has heard last.

Owns the thread, its pace, and for how long an answer stands. The loop reads what lies ready and
never waits: a server that hangs, drips or is away costs forecasts, and is said once.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.foresight import answers
from daemon.foresight.past import Past, asked
from daemon.foresight.server import TIMEOUT_S, AskError, Server
from policies.history import History, ModelHistory
from policies.policy import Policy
from policies.seeding import remembered, seeded

log = logging.getLogger("remora.prometheus")

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Between two questions for rates; a quarter of their window within these bounds."""
STANDS_WINDOWS = 2.0
"""For so many windows an answer stands."""
_HANGS_S = 3 * TIMEOUT_S
_UNSEEN_S = 0.2
_GOODBYE_S = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer: requests per second by model, and when it came, by the monotonic clock."""

    at_s: float
    rates: Mapping[str, float]


@dataclass(slots=True)
class Foresight:
    """policy, models: those in force, and the names of all models; read by the thread.

    began_s: when this pod began; what came before is asked for, what comes later is seen here.
    problem: why nothing is heard, in words. counted: questions by outcome.
    """

    server: Server
    policy: Callable[[], Policy]
    models: Callable[[], Collection[str]]
    wake: Callable[[], None]
    began_s: float
    counted: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    _heard: Heard | None = None
    _trouble: str | None = "not asked yet"
    _asking_since_s: float | None = None
    _past: Past | None = None
    _before: Mapping[str, ModelHistory] | None = None
    _learned: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    # What the loop reads.

    @property
    def problem(self) -> str | None:
        since_s = self._asking_since_s
        if since_s is not None and time.monotonic() - since_s > _HANGS_S:
            return "the server hangs"
        return self._trouble

    def age_s(self) -> float | None:
        """How old the latest answer is; None before the first."""
        heard = self._heard
        return None if heard is None else time.monotonic() - heard.at_s

    def rates(self) -> Mapping[str, float]:
        """Requests per second by model, as long as the answer stands; none after that."""
        heard, age_s = self._heard, self.age_s()
        stands_s = STANDS_WINDOWS * max(self.policy().prometheus.window_s, SHORTEST_S)
        return {} if heard is None or age_s is None or age_s > stands_s else heard.rates

    def joined(self, policy: Policy, history: History) -> History:
        """``history`` with the past, once, when it has come."""
        before, self._before = self._before, None
        return history if before is None else seeded(policy, history, before)

    def told(self) -> dict[str, Any]:
        """For who looks at the sidecar's state."""
        age_s, past = self.age_s(), self._past
        return {
            "answered_ago_s": None if age_s is None else round(age_s, 1),
            "rates": len(self.rates()),
            "learned_models": self._learned,
            "past_is_cut": past.is_cut if past else False,
            "questions": dict(self.counted),
            "dropped": dict(self.dropped),
        }

    # Its life.

    def open(self) -> None:
        # It must not keep the process alive while a server hangs.
        self._thread = threading.Thread(target=self._run, name="prometheus", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Blocks for a moment at most."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GOODBYE_S)

    # What the thread does.

    def _run(self) -> None:
        rest_s = 0.0
        while not self._stop.wait(rest_s):
            if not self.models():
                rest_s = _UNSEEN_S
                continue
            due_s = time.monotonic() + self._pace_s()
            self._once()
            rest_s = max(0.0, due_s - time.monotonic())
        self.server.close()

    def _pace_s(self) -> float:
        return min(max(self.policy().prometheus.window_s / 4, SHORTEST_S), LONGEST_S)

    def _once(self) -> None:
        self._asking_since_s = time.monotonic()
        try:
            self._ask_now()
            self._ask_past(self._asking_since_s + self._pace_s())
        except AskError as error:
            self.counted["failed"] += 1
            self._failed(str(error))
        except Exception as error:
            # Nothing that a server sends may end the thread, for then nobody would ask again.
            log.debug("an answer could not be used", exc_info=True)
            self.counted["failed"] += 1
            self._failed(f"an answer could not be used: {error!r}"[:200])
        else:
            self._well()
        finally:
            self._asking_since_s = None

    def _ask_now(self) -> None:
        spec, models = self.policy().prometheus, self.models()
        answer = self.server.now(asked(spec, spec.window_s))
        rates = answers.rates(answer, spec.label, models, self.dropped)
        self.counted["answered"] += 1
        is_news = self._heard is None
        self._heard = Heard(time.monotonic(), rates)
        if is_news:
            self.wake()

    def _ask_past(self, until_s: float) -> None:
        """As much of the past as there is time for until the rates are due again."""
        policy = self.policy()
        if self._past is None:
            # What came last would call for its models wherever it is learned; the rates do so
            # where they should.
            self._past = Past.before(policy.prometheus, self.began_s - policy.demand.want_s)
        past = self._past
        if self._learned is not None:
            return
        while not past.is_done and time.monotonic() < until_s and not self._stop.is_set():
            self._asking_since_s = time.monotonic()
            past.fetch(self.server, self.models(), self.dropped)
            self.counted["answered"] += 1
        if past.is_done:
            self._learn(policy, past)

    def _learn(self, policy: Policy, past: Past) -> None:
        self._before = remembered(policy, past.counts())
        self._learned = len(self._before)
        past.pieces.clear()
        cut = "; there is more, and it is too much" if past.is_cut else ""
        log.info("the past of %d models was learned%s", self._learned, cut)
        self.wake()

    def _failed(self, text: str) -> None:
        if self._trouble is None or self._trouble == "not asked yet":
            log.warning("%s; going on without", text)
        self._trouble = text

    def _well(self) -> None:
        if self.counted["failed"] and self._trouble:
            log.info("back")
        self._trouble = None
