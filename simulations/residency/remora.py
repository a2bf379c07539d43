"""Our own ranking, as the production plan has it: who leaves, and who is brought for its turn.

Owns those decisions. Refuses to know what is known of a model, and how a forecast is made; that
is `simulations.residency.lives`.

The served model has to be resident here, so at a miss nothing is weighed but who leaves: the
lowest keep rate times load seconds per byte, with victim clean-up.

A model that comes at regular times is loaded for its turn before anybody asks, if that pays. An
absent model's past does not change, so when its turn will be near is known as soon as it leaves.
"""

import numpy as np

from policies.policy import Policy
from simulations.residency.lives import Lives
from simulations.residency.memory import Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import NEVER_S, Decision, Wake

# What a prewarm has to be worth is production's, as it is by default.
_PRODUCTION = Policy()
_HORIZON_S, _HYSTERESIS = _PRODUCTION.horizon_s, _PRODUCTION.residency.hysteresis


class Remora:
    """The forecast's keep rate, by load seconds per byte, and prewarms of regular models."""

    def __init__(self, sizes: Sizes, *, clean_up: bool = True, prewarm: bool = True) -> None:
        self.name = "remora" if prewarm else "remora-no-prewarm"
        self._cost_per_byte = sizes.cost_per_byte
        self._clean_up, self._prewarm = clean_up, prewarm
        self._load_s = sizes.load_s
        # When each absent model would have to load for its next turn.
        self._due_s = np.full(len(sizes), NEVER_S)
        self.wake_s = NEVER_S
        self._lives = Lives(len(sizes))

    def begin(self, models: Models, time_s: Values) -> None:
        self._lives.begin(models, time_s)

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        # Until the next miss nobody leaves, so that nothing becomes due by it.
        self._lives.several(models, time_s)

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._lives.one(model, time_s)
        victims = self._victims(model, time_s, memory)
        self._changes(model, victims, time_s)
        return Decision(victims)

    def _victims(self, model: int, time_s: float, memory: Memory) -> list[int]:
        lacks = memory.lacks_bytes(model)
        if lacks <= 0:
            return []
        residents = memory.resident.nonzero()[0]
        keep_rates = self._lives.keep_rates(residents, time_s)
        value = keep_rates * self._cost_per_byte[residents]
        return lowest(residents, value, memory, lacks, self._clean_up)

    def _changes(self, comes: int, victims: list[int], time_s: float) -> None:
        """``comes`` needs no prewarm any more; each of ``victims`` may, for its next turn.

        One that leaves when it would have to load for it, or later, was here in its turn, and is
        not brought again.
        """
        if not self._prewarm:
            return
        self._due_s[comes] = NEVER_S
        for victim in victims:
            turn_s = self._lives.turn_s(victim)
            due_s = NEVER_S if turn_s is None else turn_s - float(self._load_s[victim])
            self._due_s[victim] = due_s if due_s > time_s else NEVER_S
        self.wake_s = float(self._due_s[self._due_s.argmin()])

    def wake(self, time_s: float, memory: Memory) -> Wake:
        """Loads the model that is due, if it fits or is worth more than who has to leave for it."""
        model = int(self._due_s.argmin())
        # Of those that are due at one moment, the next one is weighed as soon as there is another.
        np.maximum(self._due_s, np.nextafter(time_s, NEVER_S), out=self._due_s)
        victims = self._victims(model, time_s, memory)
        if not self._pays(model, victims, time_s):
            self._changes(model, [], time_s)
            return Wake()
        self._changes(model, victims, time_s)
        return Wake(tuple(victims), (model,))

    def _pays(self, model: int, victims: list[int], time_s: float) -> bool:
        """Whether ``model`` is worth more than all ``victims``, as production weighs a swap."""
        if not victims:
            return True
        models = np.array([model, *victims])
        worth = self._load_s[models] * self._lives.chances(models, time_s, _HORIZON_S)
        return bool(worth[0] > float(worth[1:].sum()) * (1 + _HYSTERESIS))
