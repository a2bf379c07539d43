"""Which pods an operator's hint is for: the same ones whichever pod works it out.

Owns the rule alone: highest-random-weight hashing of pod and model, among pods that stay.
"""

from collections.abc import Iterable
from hashlib import blake2b


def chosen(model: str, pods: Iterable[str], number: int) -> list[str]:
    """The ``number`` pods that come first for ``model``; one that joins moves few models."""
    return sorted(pods, key=lambda pod: (_weight(pod, model), pod), reverse=True)[:number]


def _weight(pod: str, model: str) -> bytes:
    # A name holds no NUL, so no two pairs run together.
    return blake2b(f"{pod}\0{model}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
