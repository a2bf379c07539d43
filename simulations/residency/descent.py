"""Finds a minimum over x ≥ 0 of a smooth function of many variables: projected L-BFGS.

Owns that search. Refuses to know what is minimised.

scipy has such a search, but hands vectors of this length to a BLAS with threads of its own. On two
cores that others used as well these waited for each other for more than 100 s over what one thread
does in 4 s, and the sixth digit of the result depended on their number. Here every sum is numpy's
own, so that the same input gives the same bytes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Pairs of steps and of changes of the gradient that stand for the second derivative.
_REMEMBERED = 10
_SUFFICIENT = 1e-4
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class _Pair:
    step: Floats
    change: Floats
    curvature: float


def minimum(
    function: Callable[[Floats], tuple[float, Floats]], start: Floats, steps: int
) -> Floats:
    """The best x ≥ 0 that ``steps`` steps from ``start`` come to.

    function: value and gradient at x, both finite for every x ≥ 0.
    """
    x = np.maximum(start, 0.0)
    value, gradient = function(x)
    pairs: deque[_Pair] = deque(maxlen=_REMEMBERED)
    for _ in range(steps):
        # What is 0 and would become negative stays where it is.
        free = (x > 0) | (gradient < 0)
        found = _line_search(function, x, value, gradient, _direction(gradient, free, pairs))
        if found is None and pairs:
            # What is remembered misleads here; the gradient alone does not.
            pairs.clear()
            found = _line_search(function, x, value, gradient, _direction(gradient, free, pairs))
        if found is None:
            break
        new_x, value, new_gradient = found
        step, change = new_x - x, new_gradient - gradient
        curvature = _dot(step, change)
        if curvature > 1e-12 * _dot(change, change):
            pairs.append(_Pair(step, change, curvature))
        x, gradient = new_x, new_gradient
    return x


def _direction(gradient: Floats, free: NDArray[np.bool_], pairs: deque[_Pair]) -> Floats:
    """Downhill, by the two loops of L-BFGS over what is free to move."""
    ahead = np.where(free, -gradient, 0.0)
    if not pairs:
        return ahead / max(1.0, float(np.sqrt(_dot(ahead, ahead))))
    direction, shares = ahead.copy(), []
    for pair in reversed(pairs):
        share = _dot(pair.step, direction) / pair.curvature
        shares.append(share)
        direction -= share * pair.change
    newest = pairs[-1]
    direction *= newest.curvature / _dot(newest.change, newest.change)
    for pair, share in zip(pairs, reversed(shares), strict=True):
        direction += (share - _dot(pair.change, direction) / pair.curvature) * pair.step
    direction[~free] = 0.0
    return direction if _dot(direction, ahead) > 0 else ahead


def _line_search(
    function: Callable[[Floats], tuple[float, Floats]],
    x: Floats,
    value: float,
    gradient: Floats,
    direction: Floats,
) -> tuple[Floats, float, Floats] | None:
    """The first of a step, its half and so on that goes down enough; None where none does."""
    for halving in range(_HALVINGS):
        new_x = np.maximum(x + direction * 0.5**halving, 0.0)
        expected = _dot(gradient, new_x - x)
        if expected >= 0:
            continue
        new_value, new_gradient = function(new_x)
        if new_value <= value + _SUFFICIENT * expected:
            return new_x, new_value, new_gradient
    return None


def _dot(one: Floats, other: Floats) -> float:
    return float(np.sum(one * other))
