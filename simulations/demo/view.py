"""What the demo shows while it runs: a memory bar with the models in it, the queue, the
loads under way and the latest reasons. Knows the sidecar's state page, and nothing else."""

import io
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simulations.testbed.traffic import Tally

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")
_SIGNS = {"ready": "●", "loading": "▲", "unloading": "▼", "unloaded": "·"}
BAR_WIDTH = 78
RECENT = 6
PICTURE_WIDTH = 100


class Screen:
    """The live view, or a line every few seconds where there is no terminal."""

    def __init__(self, *, plain: bool, keep: Path | None = None) -> None:
        """keep: where the fullest view is written as an SVG picture, if anywhere."""
        self._live = None if plain else Live(console=Console(), auto_refresh=False)
        self._told_at_s = 0.0
        self._keep = keep
        self._fullest: tuple[int, Group] | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        if self._keep and self._fullest:
            self._keep.write_text(_svg(self._fullest[1]), "utf-8")

    def show(self, state: Mapping[str, Any], tallies: Mapping[str, Tally], total: Tally) -> None:
        view = picture(state, tallies, total)
        fullness = len(_held(state)) + len(state["holds"])
        if self._fullest is None or fullness >= self._fullest[0]:
            self._fullest = (fullness, view)
        if self._live:
            self._live.update(view, refresh=True)
        elif time.monotonic() - self._told_at_s > 5:
            self._told_at_s = time.monotonic()
            print(line(state, total), flush=True)


def _svg(view: Group) -> str:
    console = Console(record=True, width=PICTURE_WIDTH, file=io.StringIO())
    console.print(view)
    # A picture should show the same wherever it is looked at, and fetch no font from anywhere.
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="remora demo"), flags=re.S)


def line(state: Mapping[str, Any], total: Tally) -> str:
    """The state in one line."""
    device = next(iter(state["devices"].values()))
    ready = [name for name, model in state["models"].items() if model["state"] == "ready"]
    return (
        f"reserved {_mib(device['reserved'])} of {_mib(device['budget'])} MiB; "
        f"sent {total.sent}, served {total.served}, waiting {_waiting(state)}, "
        f"failed {total.failed}; resident: {', '.join(ready)}"
    )


def picture(state: Mapping[str, Any], tallies: Mapping[str, Tally], total: Tally) -> Group:
    """The whole view of one moment."""
    return Group(
        *(_memory(name, device, state) for name, device in state["devices"].items()),
        _models(state, tallies),
        _traffic(total, _waiting(state)),
        _reasons(state),
    )


def _memory(name: str, device: Mapping[str, Any], state: Mapping[str, Any]) -> Panel:
    budget = device["budget"] or 1
    bar = Text()
    for model, facts in _held(state):
        width = max(1, round(BAR_WIDTH * (facts["footprint_bytes"] or 0) / budget))
        label = model[:width].center(width)
        bar.append(label, style=_style(model, facts["state"], state))
    free = max(0, BAR_WIDTH - len(bar.plain))
    bar.append("░" * free, style="dim")
    title = f"{name}: {_mib(device['reserved'])} of {_mib(budget)} MiB reserved"
    return Panel(bar, title=title, title_align="left", expand=False)


def _held(state: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    order = {"ready": 0, "unloading": 1, "loading": 2}
    held = [(n, m) for n, m in state["models"].items() if m["state"] in order]
    return sorted(held, key=lambda item: (order[item[1]["state"]], item[0]))


def _style(model: str, model_state: str, state: Mapping[str, Any]) -> str:
    colour = _COLOURS[sorted(state["models"]).index(model) % len(_COLOURS)]
    look = {"ready": "black on {}", "loading": "{} reverse dim", "unloading": "strike {}"}
    return look[model_state].format(colour)


def _models(state: Mapping[str, Any], tallies: Mapping[str, Tally]) -> Table:
    table = Table(box=None, pad_edge=False, expand=False)
    for heading in ("", "model", "MiB", "known by", "load s", "served", "waiting", "held because"):
        table.add_column(heading, justify="right" if heading in ("MiB", "load s") else "left")
    holds = {hold["subject"]: hold["reason"] for hold in state["holds"]}
    for name, model in state["models"].items():
        tally = tallies.get(name, Tally())
        table.add_row(
            _SIGNS[model["state"]],
            Text(name, style="bold" if model["state"] == "ready" else "dim"),
            _mib(model["footprint_bytes"]),
            (model["footprint_source"] or "").replace("_", " "),
            f"{model['load_s']:.1f}" if model["load_s"] else "",
            str(tally.served),
            str(model["waiting"] or ""),
            holds.get(name, "").replace("_", " "),
        )
    return table


def _traffic(total: Tally, waiting: int) -> Text:
    return Text(
        f"\nsent {total.sent}   served {total.served}   waiting {waiting}   failed {total.failed}\n"
    )


def _waiting(state: Mapping[str, Any]) -> int:
    return sum(model["waiting"] for model in state["models"].values())


def _reasons(state: Mapping[str, Any]) -> Text:
    recent = state["recent"][-RECENT:]
    ages_s = [max(0.0, state["now_s"] - at_s) for at_s, _ in recent]
    told = zip(ages_s, (what for _, what in recent), strict=True)
    lines = [f"{age_s:5.1f} s ago  {what}" for age_s, what in reversed(list(told))]
    return Text("\n".join(lines), style="dim")


def _mib(amount_bytes: int | None) -> str:
    return "?" if amount_bytes is None else f"{amount_bytes / 2**20:.0f}"
