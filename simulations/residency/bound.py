"""What no policy can beat: a lower bound on the seconds of loading, by linear programming.

Owns the bound and its proof. Knows nothing of policies.

Number the arrivals 0, 1, … in order; arrival j asks for model m_j and is served from memory. A
gap i is what lies between two consecutive arrivals of one model, of size s_i and load c_i: if the
model is held through the gap, its second arrival needs no load. With x_i the share that is held
(whole numbers for a real policy; a fraction only lowers the bound):

    every arrival j:  Σ s_i x_i over the gaps i open at j  ≤  B − s(m_j)

because the served model must be resident as well: the linear program of FOO (Berger, Beckmann,
Harchol-Balter: Practical Bounds on Optimal Caching with Variable Object Sizes, 2018), tightened.
Its dual has a price p_j ≥ 0 for a byte at each arrival:

    compulsory + Σ_i min(c_i, s_i · Σ_{j in gap i} p_j) − Σ_j p_j · (B − s(m_j))

By weak duality each p ≥ 0 gives a valid bound, so rounding and a search that stops early only
cost tightness. Arrivals of the same moment are in the order of the workload, which is the order
in which a replay serves them. Leaving arrivals out only leaves constraints and loads out, so the
bound of ``workload.together(step_s)`` holds for the whole workload too. It is a bound on *loads*:
who prewarms can see fewer cold seconds, and never load less.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simulations.residency.descent import minimum
from simulations.residency.memory import Sizes, Values
from simulations.workloads.arrivals import Workload, joined
from simulations.workloads.catalogue import Catalogue

# The minimum is smoothed by these shares of c_i in turn; each search starts where the last ended.
_TEMPERATURES = (0.3, 0.1, 0.03, 0.01, 0.003)
_STEPS = 300


@dataclass(frozen=True, slots=True)
class Bound:
    """load_s: no policy loads for fewer seconds. compulsory_s: of those, each model's first load.

    every_s: what it would be if nothing were ever kept. arrivals: that the program has.
    """

    load_s: float
    compulsory_s: float
    every_s: float
    arrivals: int


@dataclass(frozen=True, slots=True)
class _Program:
    """The linear program in units of the budget and of the mean load.

    first, last: (g,) the arrivals that open and close each gap. size, cost: (g,) of its model.
    room: (n,) B − s(m_j), which is 0 where a model fills the budget.
    """

    first: NDArray[np.intp]
    last: NDArray[np.intp]
    size: Values
    cost: Values
    room: Values

    def saved_by(self, price: Values) -> Values:
        """(g,) What each gap costs at these prices, as a share of the load it saves."""
        before = np.concatenate(([0.0], np.cumsum(price)))
        held = before[self.last] - before[self.first + 1]
        return np.asarray(self.size * held / self.cost)

    def value(self, price: Values) -> float:
        """The dual's value, exactly: a valid bound on the loads that are not compulsory."""
        paid = np.minimum(1.0, self.saved_by(price))
        return float(np.sum(self.cost * paid) - np.sum(price * self.room))

    def smoothed(self, price: Values, temperature: float) -> tuple[float, Values]:
        """The negative of the dual with a soft minimum, and its gradient."""
        share = self.saved_by(price)
        # min(1, r) as −T·log(exp(−1/T) + exp(−r/T)), in the form that cannot overflow.
        over = (share - 1.0) / temperature
        soft = np.minimum(1.0, share) - temperature * np.log1p(np.exp(-np.abs(over)))
        slope = 1.0 / (1.0 + np.exp(np.clip(over, -500.0, 500.0)))
        change = np.zeros(len(self.room) + 1)
        # Each arrival opens at most one gap and closes at most one.
        change[self.first + 1] += slope * self.size
        change[self.last] -= slope * self.size
        gradient = np.cumsum(change[:-1]) - self.room
        return -float(np.sum(self.cost * soft) - np.sum(price * self.room)), -gradient


def load_bound(
    workload: Workload, catalogue: Catalogue, budget_bytes: int, *, steps: int = _STEPS
) -> Bound:
    """The least seconds of loading that any policy needs on this workload, but for the failed.

    A model larger than the budget cannot be served, by anybody, and is left out. steps: of the
    search at each temperature; more make it tighter.
    """
    sizes = Sizes.of(workload.names, catalogue)
    model = joined(list(workload.runs())).model
    model = model[sizes.size_bytes[model] <= budget_bytes]
    asked = np.unique(model)
    compulsory_s = float(sizes.load_s[asked].sum())
    every_s = float(sizes.load_s[model].sum())
    first, last = _gaps(model)
    if not len(first):
        return Bound(compulsory_s, compulsory_s, every_s, len(model))
    unit_s = float(sizes.load_s[model[first]].mean())
    program = _Program(
        first,
        last,
        sizes.size_bytes[model[first]] / budget_bytes,
        np.maximum(sizes.load_s[model[first]], 1e-12) / unit_s,
        1.0 - sizes.size_bytes[model] / budget_bytes,
    )
    return Bound(compulsory_s + unit_s * _best(program, steps), compulsory_s, every_s, len(model))


def _gaps(model: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each gap that costs anything opens and closes.

    Two arrivals of one model with nobody else's between them have a gap that holds no arrival.
    """
    order = np.argsort(model, kind="stable")
    same = model[order[1:]] == model[order[:-1]]
    first, last = order[:-1][same], order[1:][same]
    costly = last > first + 1
    return first[costly], last[costly]


def _best(program: _Program, steps: int) -> float:
    """The best value found; never below 0, which no prices at all would give."""
    price = _constant(program)
    best = max(0.0, program.value(price))
    for temperature in _TEMPERATURES:
        price = minimum(partial(program.smoothed, temperature=temperature), price, steps)
        best = max(best, program.value(price))
    return best


def _constant(program: _Program) -> Values:
    """The best of one price for all arrivals, which is a start that already holds."""
    ones = np.ones(len(program.room))
    share = program.saved_by(ones)
    # Between two break points the value is linear in the price, so the best is at one of them.
    order = np.argsort(-share, kind="stable")
    paid = np.cumsum(program.cost[order])
    open_ = np.concatenate((np.cumsum((program.cost * share)[order][::-1])[::-1][1:], [0.0]))
    price = 1.0 / share[order]
    value = paid + price * (open_ - float(program.room.sum()))
    return ones * float(price[np.argmax(value)]) if value.max() > 0 else ones * 0.0
