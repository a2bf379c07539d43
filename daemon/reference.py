"""Writes the documentation's reference tables from the code: ``python -m daemon.reference``."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from daemon.fleet import telemetry as fleet_telemetry
from daemon.fleet.settings import PREFIX as FLEET_PREFIX
from daemon.fleet.settings import FleetSettings
from daemon.foresight import figures as foresight
from daemon.gossip import figures
from daemon.pulling.wishes import Wish
from daemon.settings import Settings, table
from daemon.telemetry import DESCRIPTIONS
from policies.actions import Reason
from policies.policy import Policy
from policies.problems import describe
from policies.source import schema

FILE = Path(__file__).parent.parent / "docs" / "reference.md"


def text() -> str:
    """The page as it should stand in the file."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Written by `make docs` from the code; edit the code.",
            "",
            "## Settings: where things are",
            "",
            "Flags of `remora run`, or variables of its environment.",
            "",
            *_table(("flag", "variable", "default", "meaning"), table(Settings)),
            "",
            "Flags of `remora fleet`, or variables of its environment.",
            "",
            *_table(("flag", "variable", "default", "meaning"), table(FleetSettings, FLEET_PREFIX)),
            "",
            "## Policy: what is wanted",
            "",
            "Keys of the policy file; a bare number is seconds or bytes. `models.*` stands for",
            "any model name or pattern, and `devices.*` for a GPU's uuid or `host`.",
            "`remora check FILE` prints the effective policy.",
            "",
            *_table(("key", "default", "allowed", "meaning"), policy_rows()),
            "",
            "## Registry file: what to pull",
            "",
            "Keys of each entry of `registry`, for `remora pull` ([registry.md](registry.md)).",
            "",
            *_table(("key", "default", "allowed", "meaning"), registry_rows()),
            "",
            "## Metrics: what is told",
            "",
            *_table(("name", "kind", "labels", "meaning"), DESCRIPTIONS),
            "",
            "With `--gossip` there are these too:",
            "",
            *_table(("name", "kind", "labels", "meaning"), figures.DESCRIPTIONS),
            "",
            "With `--prometheus` there are these too:",
            "",
            *_table(("name", "kind", "labels", "meaning"), foresight.DESCRIPTIONS),
            "",
            "The fleet service has its own:",
            "",
            *_table(("name", "kind", "labels", "meaning"), fleet_telemetry.DESCRIPTIONS),
            "",
            "## Reasons: why something was done, or was not",
            "",
            "The same words stand in logs, metrics, the journal and `remora explain`.",
            "",
            "Where it says so, requests are refused at once, since waiting does not help.",
            "",
            *_table(
                ("reason", "meaning", "requests"),
                ((r.value, r.meaning, "refused" if r.turns_away else "") for r in Reason),
            ),
            "",
        ]
    )


def policy_rows() -> Iterator[tuple[str, str, str, str]]:
    """Key, default, what is allowed and meaning of every knob."""
    defaults = Policy().model_dump(mode="json", by_alias=True)
    yield from _rows(schema(), schema(), "", defaults)


def registry_rows() -> Iterator[tuple[str, str, str, str]]:
    """Key, default, what is allowed and meaning of a registry file's entries."""
    entry = Wish.model_json_schema(by_alias=True)
    defaults = {key: inner.get("default") for key, inner in entry["properties"].items()}
    yield from _rows(entry, entry, "", defaults)


def _rows(
    node: Mapping[str, Any], root: Mapping[str, Any], prefix: str, defaults: Any
) -> Iterator[tuple[str, str, str, str]]:
    for key, inner in node["properties"].items():
        default = defaults.get(key) if isinstance(defaults, Mapping) else None
        yield from _row(inner, root, f"{prefix}{key}", default)


def _row(
    inner: Mapping[str, Any], root: Mapping[str, Any], key: str, default: Any
) -> Iterator[tuple[str, str, str, str]]:
    section, named = _section(inner, root), _section(inner.get("additionalProperties"), root)
    if section:
        yield from _rows(section, root, f"{key}.", default)
    elif named:
        for name, inside in (default or {"*": {}}).items():
            yield from _rows(named, root, f"{key}.{name}.", inside)
    else:
        shown = "" if default in (None, {}, []) else f"`{str(default).lower()}`"
        yield f"`{key}`", shown, describe(inner, root), inner.get("description", "")


def _section(node: Any, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not isinstance(node, Mapping) or "$ref" not in node:
        return None
    found: Mapping[str, Any] = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return found if "properties" in found else None


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), "utf-8")
