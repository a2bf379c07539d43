"""The figures of a report, as SVG: the same bytes for the same comparison.

Owns what is drawn and how. Refuses to know what is said about it, and opens no window and no
file. Needs matplotlib (the extra ``simulate``).
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from simulations.comparison.results import Budget, Comparison, Entry
from simulations.outcome import Outcome

Floats = NDArray[np.float64]

# Colours that people who see fewer of them can tell apart (Okabe and Ito), dark enough for lines.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#332288")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)))
_BOUND = "#111111"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": "#777777",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}
_WIDTH_IN = 10.0
# More points than a screen has columns say nothing more.
_POINTS = 1000
_MODELS_SHOWN = 24
_CHURN_BINS = 24


def cold_over_budget(comparison: Comparison) -> str:
    """Visible cold and total load seconds of each policy over the budget, and the bound."""

    def draw(figure: Figure) -> None:
        visible, total = figure.subplots(1, 2, sharey=True)
        _curves(visible, comparison, lambda outcome: outcome.visible_cold_s)
        _curves(total, comparison, lambda outcome: outcome.load_s)
        visible.set_title("visible cold seconds")
        total.set_title("seconds of all loads")
        visible.set_ylabel("seconds")
        _legend_below(figure, visible)

    return _svg("cold", draw, 4.4)


def residency(comparison: Comparison, budget: Budget, policies: Sequence[str]) -> str:
    """Who was resident when, one panel for each of ``policies``; loads in a darker shade."""
    entries = [entry for entry in comparison.on(budget) if entry.policy in policies]
    models = _busiest(entries)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(entries), sharey=True, squeeze=False)[0]
        for panel, entry in zip(panels, entries, strict=True):
            _bars(panel, entry.outcome, models, _colours(comparison)[entry.policy])
            panel.set_title(entry.policy)
        panels[0].set_yticks(range(len(models)), [_short(model) for model in models])
        panels[0].invert_yaxis()

    return _svg("residency", draw, 1.2 + 0.2 * max(4, len(models)))


def waits(comparison: Comparison) -> str:
    """The share of requests that waited longer than so many seconds, one panel per budget."""

    def draw(figure: Figure) -> None:
        panels = _by_budget(figure, comparison, alike=True)
        for panel, budget in zip(panels, comparison.budgets, strict=True):
            for entry in comparison.on(budget):
                wait_s, share = _longer(entry.outcome)
                if len(wait_s):
                    style = _styles(comparison)[entry.policy]
                    panel.step(wait_s, share, where="post", label=entry.policy, **style)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlabel("wait, seconds")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
            panel.yaxis.set_minor_formatter(NullFormatter())
        panels[0].set_ylabel("requests that waited longer")
        _legend_below(figure, panels[0])

    return _svg("waits", draw, 4.2)


def churn(comparison: Comparison) -> str:
    """Evictions per hour over time, one panel per budget."""

    def draw(figure: Figure) -> None:
        panels = _by_budget(figure, comparison, alike=True)
        for panel, budget in zip(panels, comparison.budgets, strict=True):
            for entry in comparison.on(budget):
                edges_s, per_hour = _churn(entry.outcome)
                style = _styles(comparison)[entry.policy]
                panel.stairs(per_hour, edges_s, baseline=None, label=entry.policy, **style)
            _time_axis(panel, _duration_s(comparison))
        panels[0].set_ylim(bottom=0)
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panels[0].set_ylabel("models that left, per hour")
        _legend_below(figure, panels[0])

    return _svg("churn", draw, 3.8)


def memory(comparison: Comparison, policies: Sequence[str]) -> str:
    """Reserved memory of ``policies`` over time, one panel per budget, the budget as a line."""

    def draw(figure: Figure) -> None:
        panels = _by_budget(figure, comparison)
        for panel, budget in zip(panels, comparison.budgets, strict=True):
            for entry in (each for each in comparison.on(budget) if each.policy in policies):
                time_s, gib = _reserved_gib(entry.outcome)
                style = _styles(comparison)[entry.policy] | {"linewidth": 1.0}
                panel.step(time_s, gib, where="post", label=entry.policy, **style)
            panel.axhline(budget.budget_bytes / 2**30, color=_BOUND, linestyle="--", label="budget")
            _time_axis(panel, _duration_s(comparison))
            panel.set_ylim(0, 1.12 * budget.budget_bytes / 2**30)
        panels[0].set_ylabel("reserved, GiB")
        _legend_below(figure, panels[0])

    return _svg("memory", draw, 3.8)


# --- what is drawn -------------------------------------------------------------------------------


def _by_budget(figure: Figure, comparison: Comparison, *, alike: bool = False) -> list[Axes]:
    """One panel per budget, side by side. alike: with one scale for all."""
    panels = figure.subplots(1, len(comparison.budgets), sharey=alike, squeeze=False)[0]
    for panel, budget in zip(panels, comparison.budgets, strict=True):
        panel.set_title(f"budget {budget.share:.0%}")
    return list(panels)


def _curves(axes: Axes, comparison: Comparison, read: Callable[[Outcome], float]) -> None:
    for policy in comparison.policies:
        entries = list(comparison.of(policy))
        shares = [entry.budget.share for entry in entries]
        seconds = [read(entry.outcome) for entry in entries]
        style = _styles(comparison)[policy]
        axes.plot(shares, seconds, marker="o", markersize=4, label=policy, **style)
    bounds = [(b.share, b.bound_s) for b in comparison.budgets if b.bound_s is not None]
    if bounds:
        style = {"color": _BOUND, "linestyle": "--", "marker": "D", "markersize": 4}
        axes.plot(*zip(*bounds, strict=True), label="lower bound on loads", **style)
    axes.set_xticks([budget.share for budget in comparison.budgets])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("budget, as a share of the size of all models")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _bars(axes: Axes, outcome: Outcome, models: Sequence[str], colour: str) -> None:
    unit_s, _ = _time_unit(outcome.duration_s)
    for place, model in enumerate(models):
        stays = [stay for stay in outcome.stays if stay.model == model]
        here = [(s.ready_s / unit_s, (s.to_s - s.ready_s) / unit_s) for s in stays]
        loading = [(s.from_s / unit_s, (s.ready_s - s.from_s) / unit_s) for s in stays]
        axes.broken_barh(here, (place - 0.36, 0.72), facecolor=colour, alpha=0.45)
        axes.broken_barh(loading, (place - 0.36, 0.72), facecolor="#222222")
    _time_axis(axes, outcome.duration_s)
    axes.grid(axis="y", visible=False)


def _busiest(entries: Sequence[Entry]) -> list[str]:
    """The models that came and went the most, over all entries; the busiest first."""
    stays: dict[str, int] = {}
    for entry in entries:
        for stay in entry.outcome.stays:
            stays[stay.model] = stays.get(stay.model, 0) + 1
    return sorted(stays, key=lambda model: (-stays[model], model))[:_MODELS_SHOWN]


def _longer(outcome: Outcome) -> tuple[Floats, Floats]:
    """Waits above a millisecond, ascending, and the share of requests that waited longer."""
    order = np.argsort(outcome.wait_s, kind="stable")
    wait_s, weight = outcome.wait_s[order], outcome.wait_weight[order]
    longer = 1 - np.cumsum(weight) / max(float(weight.sum()), 1e-300)
    last = np.flatnonzero(np.diff(wait_s, append=np.inf) > 0)
    last = last[(wait_s[last] >= 1e-3) & (longer[last] > 1e-12)]
    # Even steps on both axes keep the shape of the tail.
    kept = np.unique(np.linspace(0, max(len(last) - 1, 0), _POINTS).astype(int))
    last = last[kept] if len(last) else last
    return wait_s[last], longer[last]


def _churn(outcome: Outcome) -> tuple[Floats, Floats]:
    edges_s = np.linspace(0.0, max(outcome.duration_s, 1e-9), _CHURN_BINS + 1)
    left_s = [stay.to_s for stay in outcome.stays if stay.to_s < outcome.duration_s]
    count, _ = np.histogram(left_s, edges_s)
    unit_s, _ = _time_unit(outcome.duration_s)
    return edges_s / unit_s, count / (edges_s[1] / 3600)


def _reserved_gib(outcome: Outcome) -> tuple[Floats, Floats]:
    unit_s, _ = _time_unit(outcome.duration_s)
    time_s, gib = thinned(outcome.memory_s / unit_s, outcome.memory_bytes / 2**30)
    return np.append(time_s, outcome.duration_s / unit_s), np.append(gib, gib[-1:])


def thinned(time_s: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At most as many points as can be told apart, each the highest of its stretch: a peak is
    what must not be lost."""
    if len(time_s) <= _POINTS:
        return time_s, values
    first = np.unique(np.linspace(0, len(time_s), _POINTS, endpoint=False).astype(int))
    return time_s[first], np.maximum.reduceat(values, first)


# --- how it is drawn -----------------------------------------------------------------------------


def _svg(name: str, draw: Callable[[Figure], None], height_in: float) -> str:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", metadata=nothing)
    # Inside a page the element alone is wanted, as wide as the page has room.
    svg = text.getvalue()
    size = re.compile(r' (?:width|height)="[^"]*pt"')
    return size.sub("", svg[svg.index("<svg") :], count=2)


def _styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    looks = _looks()
    return {
        policy: {"color": colour, "linestyle": dash}
        for policy, (colour, dash) in zip(comparison.policies, looks, strict=False)
    }


def _colours(comparison: Comparison) -> dict[str, str]:
    return {policy: style["color"] for policy, style in _styles(comparison).items()}


def _looks() -> Iterator[tuple[str, Any]]:
    for dash in cycle(_DASHES):
        for colour in _COLOURS:
            yield colour, dash


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, max(1, len(labels))))


def _time_axis(axes: Axes, duration_s: float) -> None:
    unit_s, unit = _time_unit(duration_s)
    axes.set_xlim(0, duration_s / unit_s)
    axes.set_xlabel(f"time, {unit}")


def _time_unit(duration_s: float) -> tuple[float, str]:
    if duration_s > 4 * 86400:
        return 86400.0, "days"
    return (3600.0, "hours") if duration_s > 2 * 3600 else (60.0, "minutes")


def _duration_s(comparison: Comparison) -> float:
    return max(entry.outcome.duration_s for entry in comparison.entries)


def _short(model: str) -> str:
    return model if len(model) <= 22 else f"{model[:21]}…"
