"""Which models a pod's labels name as resident, and how such a label is written.

A Service finds pods by their labels, so one can be made for each model that leads to those pods
alone that hold it. Every change of a label is a write to the API server, and each pod's labels go
to all who watch pods: so they are few, they come only for what has stood for a while, and where
there are more residents than labels, one that is asked for a little more displaces nobody.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

PREFIX = "resident.remora.dev/"
"""Every label that begins so is ours, and no other is."""

VALUE = "true"

_LONGEST = 63
_LEGAL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ILLEGAL_CHARACTER = re.compile(r"[^A-Za-z0-9._-]")
_DIGITS = 8
# A label that is there stays against a model that is asked for up to so many times as much.
_STAYS = 2.0


@lru_cache(maxsize=4096)
def label_of(model: str) -> str:
    """The label's key: the model's name where that is legal.

    Of any other name, what is illegal becomes a dash, what is too long is cut, and the first
    digits of the name's SHA-256 tell apart what has become the same.
    """
    if _LEGAL.fullmatch(model):
        return PREFIX + model
    digits = hashlib.sha256(model.encode()).hexdigest()[:_DIGITS]
    room = _LONGEST - _DIGITS - 1
    readable = _ILLEGAL_CHARACTER.sub("-", model)[:room].strip("._-")
    return f"{PREFIX}{readable}-{digits}" if readable else PREFIX + digits


def labels(
    loads: Mapping[str, float], young: Collection[str], before: Collection[str], most: int
) -> frozenset[str]:
    """The keys that the pod should have, `most` of them at most: first who is most asked for.

    loads: of its residents, in pods.
    young: those that have not stood for long enough to get a label.
    before: the keys that it has.
    """
    keys = {name: key for name in loads if (key := label_of(name)) in before or name not in young}
    if len(keys) <= most:
        return frozenset(keys.values())

    def turn(name: str) -> tuple[float, bool, str]:
        stays = keys[name] in before
        return -loads[name] * (_STAYS if stays else 1.0), not stays, name

    return frozenset(keys[name] for name in sorted(keys, key=turn)[:most])
