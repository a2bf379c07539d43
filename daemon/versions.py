"""Which files each model was loaded from, since when they are others, and what it can go back to.

Owns the comparison of what is in memory with what lies on the disk. Triton tells of neither, so
it is written down when a load begins, and kept with what was learned: a sidecar that starts
beside a Triton that is there already knows what was loaded. What nobody has seen loaded is taken
for what lies on the disk at the first look. Refuses to decide when anything is loaded anew.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from daemon.learned import Copy, Former, LearnedStore, Refused
from daemon.repository import OnDisk
from daemon.triton import restricted
from policies.snapshot import ErrorClass, LoadFailure

# Longer than any sensible `versions.settle`.
_UNSETTLED_S = 60.0


class Outcome(StrEnum):
    """What became of changed files of a resident model."""

    BESIDE = "beside"
    SWAPPED = "swapped"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


@dataclass(slots=True)
class Versions:
    """All models. Times are seconds since the epoch, UTC."""

    store: LearnedStore
    _on_disk: Mapping[str, OnDisk] = field(default_factory=dict)
    _parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)
    _begun: dict[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    # What is told.

    def looked(self, on_disk: Mapping[str, OnDisk], now_s: float) -> None:
        """The repository was surveyed."""
        self._on_disk = on_disk
        self._parts = {name: found.parts for name, found in on_disk.items()}
        for name in self._since.keys() - on_disk.keys():
            del self._since[name]
        for name, found in on_disk.items():
            if self._since.get(name, ("", 0.0))[0] != found.revision:
                self._since[name] = (found.revision, now_s)

    def saw(self, ready: Iterable[str], unloaded: Iterable[str]) -> None:
        """What Triton says of models that our own hand leaves alone."""
        for name in ready:
            copy = self.store.copy(name)
            if copy.parts is None and name in self._parts:
                self.store.take_copy(name, replace(copy, parts=self._parts[name]))
        for name in unloaded:
            copy = self.store.copy(name)
            if copy.parts is not None:
                self.store.take_copy(name, replace(copy, parts=None))

    def began(self, name: str, touches: Collection[str]) -> None:
        """A load of ``name`` begins, which reads the files of all that it ``touches``."""
        self._begun[name] = {n: self._parts[n] for n in touches if n in self._parts}

    def loaded(self, name: str, versions: Collection[int] = ()) -> None:
        """That load has ended well. versions: those that it went back to, if it did."""
        begun = self._begun.pop(name, {})
        if versions:
            copy = self.store.copy(name)
            former = copy.former
            numbers = {"", *map(str, versions)}
            parts = former.parts if former else {}
            kept = {part: digest for part, digest in parts.items() if part in numbers}
            self.store.take_copy(name, replace(copy, parts=kept))
            return
        for each, parts in begun.items():
            self.store.take_copy(each, Copy(parts=parts))

    def failed(self, name: str, failure: LoadFailure, *, beside: bool, went_back: bool) -> None:
        """That load has failed."""
        self._begun.pop(name, None)
        copy = self.store.copy(name)
        if went_back:
            # What served before does not any more, and trying it again and again helps nobody.
            copy = replace(copy, former=None)
        elif (beside or copy.former) and failure.error_class is not ErrorClass.UNAVAILABLE:
            revision = self._on_disk[name].revision if name in self._on_disk else ""
            refused = Refused(revision, failure.at_s, failure.error_class, failure.message)
            copy = replace(copy, refused=refused)
        self.store.take_copy(name, copy)

    def swaps(self, name: str, versions: tuple[str, ...], config: str) -> None:
        """``name`` is about to leave for changed files. Blocks on the disk."""
        copy = self.store.copy(name)
        former = Former(copy.parts or {}, versions, config)
        self.store.take_copy(name, replace(copy, former=former))
        self.store.save()

    # What is asked.

    def outdated_since_s(self, name: str) -> float | None:
        """Since when its files are others than those it was loaded from, and unchanged.

        What is gone from the disk is no change: memory has it still, and a load brings no other.
        """
        found, loaded = self._parts.get(name), self.store.copy(name).parts
        if found is None or loaded is None or found == loaded:
            return None
        is_same = all(loaded.get(part) == digest for part, digest in found.items())
        return None if is_same else self._since[name][1]

    def is_unsettled(self, now_s: float) -> bool:
        """Whether some model's files have changed of late, and may go on changing."""
        return any(
            now_s - since_s < _UNSETTLED_S and self.outdated_since_s(name) is not None
            for name, (_, since_s) in self._since.items()
        )

    def unusable(self, name: str) -> str | None:
        found = self._on_disk.get(name)
        return found.broken if found else None

    def is_swapped(self, name: str) -> bool:
        """Whether it has left for changed files, and has not been loaded from them since."""
        return self.store.copy(name).former is not None

    def fallback(self, name: str) -> tuple[int, ...]:
        """Versions that it served before it left for changed files, and that are as they were."""
        found, former = self._on_disk.get(name), self.store.copy(name).former
        if found is None or former is None:
            return ()
        kept = [v for v in former.versions if v in former.parts]
        return tuple(sorted(int(v) for v in kept if found.versions.get(v) == former.parts[v]))

    def restricted(self, name: str, versions: Iterable[int]) -> str | None:
        """The configuration it had then, with ``versions`` alone; None when it is not known."""
        former = self.store.copy(name).former
        return restricted(former.config, versions) if former else None

    def failure(self, name: str) -> LoadFailure | None:
        """How its files as they are have failed, where that was before this process began."""
        found, refused = self._on_disk.get(name), self.store.copy(name).refused
        if found is None or refused is None or found.revision != refused.revision:
            return None
        return LoadFailure(refused.at_s, refused.error_class, refused.message)
