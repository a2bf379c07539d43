"""`remora record`: arguments as they are typed, a progress bar, and one line at the end.

Owns the words. What is done is record.py's.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from simulations.recording.errors import BadSpec, NotInstalled
from simulations.recording.spec import TRITON_QUERY, RecordSpec, duration_s

if TYPE_CHECKING:
    from simulations.recording.record import Progress as Reached
    from simulations.recording.record import Recorded


def command(
    url: str,
    target: Path,
    *,
    query: str = TRITON_QUERY,
    since: str = "-1d",
    until: str = "now",
    step: str = "60s",
    rate: bool = False,
    label: str = "model",
    token_file: Path | None = None,
    token: str | None = None,
    ca_file: Path | None = None,
    console: Console | None = None,
) -> None:
    """Records, shows how far it is, and says what the recording holds.

    rate: the query gives requests per second, and not counters. label: one or several, with
    commas between. Raises RecordError.
    """
    spec = RecordSpec(
        url=url,
        query=query,
        since=since,
        until=until,
        step_s=duration_s("step", step),
        kind="rate" if rate else "counter",
        labels=tuple(name.strip() for name in label.split(",")),
        token_file=token_file,
        token=token,
        ca_file=ca_file,
    )
    if target.suffix != ".parquet":
        raise BadSpec(f"target is {str(target)!r}; its name must end in .parquet")
    recording = _installed()
    out = console or Console()
    with _bar(out) as bar:
        task = bar.add_task("recording", total=None, samples=0)

        def show(at: "Reached") -> None:
            bar.update(task, completed=at.done_s, total=at.total_s, samples=at.samples)

        held = recording.record(spec, target, progress=show)
    out.print(_said(held, target), highlight=False, soft_wrap=True, markup=False)


def _installed() -> ModuleType:
    """What records; imported here, for its libraries are an extra."""
    try:
        from simulations.recording import record
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"recording needs {error.name}; install remora with the extra: remora[record]"
        ) from None
    return record


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[samples]:,} samples"),
        TimeRemainingColumn(),
        console=console,
        # A log has no use for a bar.
        disable=not console.is_terminal,
    )


def _said(held: "Recorded", target: Path) -> str:
    hours = (held.to_s - held.from_s) / 3600
    said = f"{target}: {held.requests:,.0f} requests of {held.models} models in {hours:,.2f} hours"
    return f"{said}, {held.gap_s:,.0f} s of them not measured" if held.gap_s else said
