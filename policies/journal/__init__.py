"""The journal's form: one JSON line per tick, from which that tick can be decided again.

Owns how a tick is written as text and read back. Refuses to know files, clocks and what
a plan means.

A line is a keyframe (it has ``v``, the format's version) or a change against the line
before it, and both have the same shape: a keyframe is a change against nothing.

- ``n`` counts the lines since the keyframe, so that a missing line is noticed.
- ``policy``, ``actions`` and ``holds`` stand there whole, and only when they changed.
- ``snapshot`` holds the changed keys, ``models`` and ``devices`` by name. These are JSON
  merge patches (RFC 7396): null takes a key or a record away.
- ``history`` is what differs from the history which the line before decided, so it is
  almost always absent; ``next`` is what this tick changed in it.
- ``flows`` and ``demand`` are the numbers that change whenever a model is used, as rows
  by model. The keyframe's ``columns`` name their places. ``flows`` are measured anew
  each tick, and a model without such a row had none; a row of ``demand`` stays in force.

A number is written as it is, never rounded: what is read back decides the same. Numbers
that are not finite are written as the strings "Infinity", "-Infinity" and "NaN".
Mappings may come back in another order, which no decision depends on.
"""

from policies.journal.form import JournalError, Tick
from policies.journal.reading import read
from policies.journal.writing import Recorder

__all__ = ["JournalError", "Recorder", "Tick", "read"]
