"""Which pod a model's requests are sent to: the order in which the gateway's Envoy tries pods.

Owns that order, and who would be first without the first, so that sidecars act where the gateway
will look: Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
Balancer", NSDI 2016, section 3.4), with Envoy's hash, seeds and table size. Without a gateway it is
as good an order as any: even, the same in every pod, and one that changes little when a pod comes
or goes.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh64_intdigest

SLOTS = 65537
"""Entries of the table, as deploy/gateway.yaml has them."""
_TRIES = 64
"""How often the gateway looks for a pod that it has not tried yet, the first time included."""


@dataclass(frozen=True)
class Places:
    """keys: what the gateway knows each pod by, its address and port; sorted, each once."""

    keys: tuple[str, ...]

    @classmethod
    def of(cls, keys: Iterable[str]) -> "Places":
        return cls(tuple(sorted(set(keys))))

    def first(self, model: str) -> str | None:
        """The pod that gets the requests of ``model``; None where there is no pod."""
        return next(self._tried(model), None)

    def order(self, model: str, number: int) -> tuple[str, ...]:
        """The ``number`` pods that are tried first for ``model``, or all that there are."""
        wanted = min(number, len(self.keys))
        found: dict[str, None] = {}
        for key in self._tried(model):
            found[key] = None
            if len(found) == wanted:
                return tuple(found)
        # Beyond its tries the gateway gives up, and any order will do.
        return (*found, *(key for key in self.keys if key not in found))[:wanted]

    def heirs(self, model: str, number: int) -> tuple[str, ...]:
        """The pod that gets the requests of ``model``, then the one that would get them if that
        were gone, and so on: ``number`` pods, or all that there are.

        Beyond the first that is foretold and not certain. A slot goes to the pod that comes to it
        first, each going its own way through the table; that way is known, and only how many
        slots of it others have taken before is not. Who is tried next, while the first is still in
        the table, is another question: see `order`.
        """
        first = self.first(model)
        if first is None:
            return ()
        starts, strides = self._ways
        turns = (_hash(model) % SLOTS - starts) * strides % SLOTS
        nearest = (self.keys[at] for at in turns.argsort(kind="stable")[:number].tolist())
        return (first, *(key for key in nearest if key != first))[:number]

    def _tried(self, model: str) -> Iterator[str]:
        if len(self.keys) < 2:
            yield from self.keys
            return
        table, hashed = self._table, _hash(model)
        yield self.keys[table[hashed % SLOTS]]
        for attempt in range(1, _TRIES):
            yield self.keys[table[(hashed ^ (2**64 - attempt)) % SLOTS]]

    @cached_property
    def _ways(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each pod begins, and by what a distance in slots becomes one in its own steps."""
        starts = [_hash(key) % SLOTS for key in self.keys]
        strides = [pow(_skip(key), -1, SLOTS) for key in self.keys]
        return np.array(starts, np.int64), np.array(strides, np.int64)

    @cached_property
    def _table(self) -> Sequence[int]:
        return _table(self.keys)


# What has lately been asked for stays known: all who see the same pods ask for the same table.
@lru_cache(maxsize=8)
def _table(keys: tuple[str, ...]) -> Sequence[int]:
    """The pod of each slot, as an index; some 60 ms of work, whatever the number of pods."""
    at = [_hash(key) % SLOTS for key in keys]
    skips = [_skip(key) for key in keys]
    free = bytearray(b"\1") * SLOTS
    table = array("H", bytes(2 * SLOTS))
    left = SLOTS
    while True:
        for pod, skip in enumerate(skips):
            slot = at[pod]
            while not free[slot]:
                slot = (slot + skip) % SLOTS
            free[slot] = 0
            table[slot] = pod
            at[pod] = (slot + skip) % SLOTS
            left -= 1
            if not left:
                return table


def _hash(name: str, seed: int = 0) -> int:
    return xxh64_intdigest(name.encode("utf-8", "surrogateescape"), seed)


def _skip(key: str) -> int:
    return _hash(key, 1) % (SLOTS - 1) + 1
