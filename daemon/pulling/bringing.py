"""Makes one model's folder what its source offers: the page to read first.

A version's contents never change under its number: Triton may be reading them. So a version that is
there and whole is left as it is, down to its times, and a source that now says something else under
the same number is refused. Only what has our record is ever replaced or removed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from daemon.pulling.offers import (
    CONFIG,
    RECORD,
    SUMS,
    Offer,
    Refused,
    Release,
    RemoteFile,
    Source,
    Unreachable,
    check_sums,
    newest,
)
from daemon.pulling.placing import Place, Say, sha256_of
from daemon.pulling.records import (
    Beside,
    BesideFile,
    BroughtFile,
    BroughtVersion,
    brought_beside,
    brought_versions,
    numbered,
)
from policies.quantities import format_bytes


@dataclass(frozen=True, slots=True)
class Bringing:
    """One model on its way: from its source into its folder of the repository."""

    model: str
    source: Source
    keep: int
    place: Place
    say: Say

    @property
    def folder(self) -> Path:
        return self.place.root / self.model

    def bring(self) -> bool:
        """Whether anything was changed. Raises PullError; what was done until then is whole."""
        offer = self.source.offer()
        changed = self._bring_new(offer) if not self.folder.exists() else self._bring_more(offer)
        if not changed:
            held = ", ".join(map(str, sorted(brought_versions(self.folder))))
            self.say(f"{self.model}: unchanged, with version {held}")
        return changed

    def _bring_new(self, offer: Offer) -> bool:
        """The whole folder at once, so that nobody meets a model without its configuration."""
        model = self.place.scratch()
        for number, release in sorted(offer.versions.items()):
            self._fetch_version(release, model / str(number))
        fetched = {file.path: self._fetch_beside(file) for file in offer.beside}
        for path, kept in fetched.items():
            (model / path).parent.mkdir(parents=True, exist_ok=True)
            kept.rename(model / path)
        if fetched:
            sums = {file.path: _beside(file, model / file.path, ()) for file in offer.beside}
            (model / RECORD).write_text(Beside(files=sums).text(), "utf-8")
        self._check_settled(offer)
        self.place.put_folder(model, self.folder)
        for number in sorted(offer.versions):
            self._say_brought(number, offer.versions[number])
        return True

    def _bring_more(self, offer: Offer) -> bool:
        """Versions before the configuration that may name them, and it before what goes."""
        last, *older = sorted(offer.versions, reverse=True)
        changed = self._bring_version(last, offer)
        refused: list[Refused] = []
        for number in older:
            try:
                changed |= self._bring_version(number, offer)
            except Refused as error:
                # The newest, which is the one that matters, is not held up by it.
                refused.append(error)
        changed |= self._bring_beside(offer)
        changed |= self._remove_surplus(last)
        if refused:
            raise Refused("; ".join(map(str, refused)))
        return changed

    # --- versions --------------------------------------------------------------------------------

    def _bring_version(self, number: int, offer: Offer) -> bool:
        release = offer.versions[number]
        target = self.folder / str(number)
        ours = brought_versions(self.folder).get(number)
        if ours is None and target in numbered(self.folder):
            raise Refused(f"{target} is there already, and no pull has brought it")
        whole = ours is not None and ours.is_whole(target)
        if ours is not None and whole and ours.mark == release.mark:
            return False
        fetched = self.place.scratch() / str(number)
        record = self._fetch_version(release, fetched)
        if ours is not None and whole:
            if record.files == ours.files:
                return False
            raise Refused(
                f"{release.origin} is not what was brought as version {number} any more;"
                " publish what has changed under a new number"
            )
        self._check_settled(offer)
        if ours is not None:
            self.say(f"{self.model}: version {number} is damaged, and is brought again")
            self.place.remove(target)
        self.place.put_folder(fetched, target)
        self._say_brought(number, release)
        return True

    def _fetch_version(self, release: Release, folder: Path) -> BroughtVersion:
        """Writes it with its record to ``folder``, checked. Raises PullError."""
        files = {}
        for file in release.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(file, target)
            files[file.path] = BroughtFile(bytes=target.stat().st_size, sha256=sha256_of(target))
        if SUMS in files:
            text = (folder / SUMS).read_text("utf-8", errors="replace")
            check_sums(text, {path: file.sha256 for path, file in files.items()})
        record = BroughtVersion(origin=release.origin, mark=release.mark, files=files)
        (folder / RECORD).write_text(record.text(), "utf-8")
        return record

    def _fetch(self, file: RemoteFile, target: Path) -> None:
        self.source.fetch(file, target)
        if target.is_symlink() or not target.is_file():
            raise Refused(f"{file.origin} is a link or no file; allowed: files")
        found = target.stat().st_size
        if file.size_bytes is not None and found != file.size_bytes:
            raise Unreachable(f"{file.origin}: {found} bytes came, of {file.size_bytes}")

    def _check_settled(self, offer: Offer) -> None:
        """Who is still uploading has changed something since. Raises Unreachable."""
        if self.source.offer() != offer:
            raise Unreachable("its source changed while it was being brought")

    def _say_brought(self, number: int, release: Release) -> None:
        size = format_bytes(sum(file.size_bytes or 0 for file in release.files))
        self.say(f"{self.model}: version {number} brought, {size}, from {release.origin}")

    def _remove_surplus(self, last: int) -> bool:
        """What is newer than the last version that is wanted goes too: the source went back."""
        ours = set(brought_versions(self.folder))
        surplus = sorted(ours - set(newest((n for n in ours if n <= last), self.keep)))
        for number in surplus:
            self.place.remove(self.folder / str(number))
            why = "newer than its source wants" if number > last else f"the last {self.keep} stay"
            self.say(f"{self.model}: version {number} removed ({why})")
        return bool(surplus)

    # --- beside the versions ---------------------------------------------------------------------

    def _bring_beside(self, offer: Offer) -> bool:
        record = brought_beside(self.folder)
        # What a configuration names is there before it is.
        files = [file for file in reversed(offer.beside) if not self._has(record, file)]
        placed = [self._place_beside(file) for file in files]
        gone = [
            path
            for path, file in sorted(brought_beside(self.folder).files.items())
            if path not in {each.path for each in offer.beside}
        ]
        for path in gone:
            self._forget_beside(path)
        return any(placed) or bool(gone)

    def _has(self, record: Beside, file: RemoteFile) -> bool:
        target, ours = self.folder / file.path, record.files.get(file.path)
        if ours is None or ours.mark != file.mark or not target.is_file():
            return False
        return target.stat().st_size == ours.bytes

    def _place_beside(self, file: RemoteFile) -> bool:
        target, fetched = self.folder / file.path, self._fetch_beside(file)
        files = brought_beside(self.folder).files
        ours = files[file.path].sha256 if file.path in files else ()
        there = sha256_of(target) if target.exists() else None
        if there == sha256_of(fetched):
            return False
        if there is not None and there not in ours:
            raise Refused(
                f"{target} was written by somebody else; move it away, or keep it as config"
            )
        now = _beside(file, fetched, () if there is None else (there,))
        self._write_record({**files, file.path: now})
        self.place.put_file(fetched, target)
        self.say(f"{self.model}: {file.path} brought")
        return True

    def _fetch_beside(self, file: RemoteFile) -> Path:
        fetched = self.place.scratch() / "file"
        self._fetch(file, fetched)
        if file.path == CONFIG:
            _check_config(fetched, self.model)
        return fetched

    def _forget_beside(self, path: str) -> None:
        files = brought_beside(self.folder).files
        target = self.folder / path
        if target.is_file() and sha256_of(target) in files[path].sha256:
            self.place.remove(target)
            self.say(f"{self.model}: {path} removed, its source has it no more")
        self._write_record({name: file for name, file in files.items() if name != path})

    def _write_record(self, files: Mapping[str, BesideFile]) -> None:
        written = self.place.scratch() / RECORD
        written.write_text(Beside(files=files).text(), "utf-8")
        self.place.put_file(written, self.folder / RECORD)


def _beside(file: RemoteFile, path: Path, before: tuple[str, ...]) -> BesideFile:
    return BesideFile(mark=file.mark, bytes=path.stat().st_size, sha256=(sha256_of(path), *before))


def _check_config(file: Path, model: str) -> None:
    """Raises Refused for what Triton would not take for this model."""
    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(file.read_text("utf-8"), config, allow_unknown_field=True)
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise Refused(f"{CONFIG}: {error}") from None
    if config.name not in ("", model):
        raise Refused(f"{CONFIG}: its name is {config.name!r}; allowed: {model!r}, or none")


class WithConfig:
    """A `Source` with another configuration than its own."""

    def __init__(self, source: Source, config: Path) -> None:
        self._source = source
        self._config = config

    def offer(self) -> Offer:
        offer = self._source.offer()
        try:
            size_bytes, mark = self._config.stat().st_size, sha256_of(self._config)
        except OSError as error:
            raise Unreachable(f"{self._config}: {error.strerror}") from None
        ours = RemoteFile(CONFIG, str(self._config), size_bytes, mark)
        return Offer(offer.versions, (ours, *(f for f in offer.beside if f.path != CONFIG)))

    def fetch(self, file: RemoteFile, target: Path) -> None:
        if file.path == CONFIG and file.origin == str(self._config):
            shutil.copyfile(self._config, target)
        else:
            self._source.fetch(file, target)
