"""From a scenario's words to traffic and models."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import yaml
from pyarrow import parquet
from pydantic import ValidationError

from policies.history import History
from policies.journal import Recorder, Tick
from policies.snapshot import Model, Snapshot
from simulations.workloads.arrivals import Arrivals, WorkloadError, joined
from simulations.workloads.catalogue import GIB, Catalogue, drawn
from simulations.workloads.loading import load
from simulations.workloads.spec import SOURCES, WorkloadSpec

ROOT = Path(__file__).resolve().parents[3]

SPECS = {
    "azure": "azure: {invocations: day.csv, aggregate: true}",
    "servegen": "servegen: {folder: tenants, days: [0, 0], most: 50}",
    "table": "table: {path: table.csv, start: 0}",
    "journal": "journal: {path: journal.jsonl}",
    "recording": "recording: {path: recording.parquet}",
    "zipf": "zipf: {models: 5, rate: 2, duration: 10m, exponent: 0.9, seed: 3}",
    "diurnal": "diurnal: {models: 5, rate: 2, duration: 10m, period: 5m, swing: 0.5}",
    "timers": "timers: {models: 5, periods: [1m, 5m], duration: 10m, jitter: 0.05, calls: 2}",
    "bursts": "bursts: {models: 5, rate: 2, duration: 10m, awake: 30s, asleep: 1m}",
    "hot_set": "hot_set: {models: 5, rate: 2, duration: 10m, hot: 2, share: 0.8, shift: 2m}",
    "flash_crowd": "flash_crowd: {models: 5, rate: 2, duration: 10m, at: 2m, peak: 9, rise: 10s}",
    "mixed": "mixed: {parts: {day: {azure: {invocations: day.csv}}, "
    "crowd: {zipf: {models: 2, rate: 1, duration: 5m}}}}",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with one small file of each kind."""
    (tmp_path / "day.csv").write_text("HashFunction,1,2\nresize,3,1\nthumb,0,2\n")
    (tmp_path / "tenants").mkdir()
    windows = "0,0.5,1,Gamma,1,2\n600,0.1,2,Gamma,0.25,40\n"
    (tmp_path / "tenants" / "chunk-7-trace.csv").write_text(windows)
    (tmp_path / "table.csv").write_text("time,model,service_ms\n1,bert,5\n2,resnet,7\n")
    snapshot = Snapshot(1.77e9, models={"bert": Model("bert", arrivals=2.0, load_s=7.0)})
    line = Recorder(keyframe_every=9).line(Tick({}, snapshot, History(), (), (), History()))
    (tmp_path / "journal.jsonl").write_text(f"{line}\n")
    columns = {"time_s": [1.77e9], "model": ["bert"], "requests": [2.0], "step_s": [60.0]}
    parquet.write_table(pa.table(columns), tmp_path / "recording.parquet")
    return tmp_path


def spec(text: str) -> WorkloadSpec:
    return WorkloadSpec.model_validate(yaml.safe_load(text))


def run(text: str, base: Path) -> tuple[Arrivals, Catalogue]:
    workload, models = load(spec(text), base)
    assert tuple(models) == workload.names
    return joined(list(workload.runs())), models


def test_every_source_has_a_case_here() -> None:
    assert tuple(SPECS) == SOURCES


@pytest.mark.parametrize("source", SPECS)
def test_every_source_gives_traffic_and_a_profile_of_each_model(source: str, base: Path) -> None:
    arrivals, models = run(SPECS[source], base)
    assert len(arrivals)
    assert arrivals.model.max() < len(models)


@pytest.mark.parametrize("source", SPECS)
def test_a_spec_survives_json(source: str) -> None:
    said = spec(SPECS[source] + "\npart: [1m, 2m]\ntogether: 1s")
    assert WorkloadSpec.model_validate_json(said.model_dump_json(by_alias=True)) == said


def test_a_table_may_start_at_a_number_or_a_time_with_a_zone(base: Path) -> None:
    assert run("table: {path: table.csv, start: 0}", base)[0].time_s.tolist() == [1, 2]
    (base / "table.csv").write_text("time,model\n2026-01-31T08:00:00Z,bert\n")
    text = "table: {path: table.csv, start: 2026-01-31T07:59:00Z}"
    assert run(text, base)[0].time_s.tolist() == [60]


def test_part_and_together_apply_in_this_order(base: Path) -> None:
    text = "zipf: {models: 2, rate: 5, duration: 10m}\npart: [1m, 3m]\ntogether: 1m"
    workload, _ = load(spec(text), base)
    arrivals = joined(list(workload.runs()))
    assert workload.duration_s == 120
    assert len(arrivals) == 4
    whole, _ = load(spec("zipf: {models: 2, rate: 5, duration: 10m}"), base)
    assert arrivals.weight.sum() == sum(len(each) for each in whole.part(60, 180).runs())


def test_a_part_that_begins_after_the_end_is_refused(base: Path) -> None:
    text = "zipf: {models: 2, rate: 5, duration: 10m}\npart: [10m, 20m]"
    with pytest.raises(WorkloadError, match="part: begins after 600 s; allowed: before"):
        load(spec(text), base)


# --- the catalogue -------------------------------------------------------------------------------


def test_sizes_are_drawn_with_the_catalogues_seed(base: Path) -> None:
    models = run("table: {path: table.csv}\ncatalogue: {drawn: {seed: 4}}", base)[1]
    assert models == drawn(("bert", "resnet"), 4)


def test_later_patterns_win_and_an_exact_name_over_all(base: Path) -> None:
    text = """
    table: {path: table.csv}
    catalogue:
      models:
        bert: {load: 6s, instances: 2}
        "*": {size: 4GiB, service: 20ms, unload: 1s, peak: 1.2}
        "b*": {load: 9s, service: 30ms, max_batch: 8, batch_share: 0.1}
    """
    models = run(text, base)[1]
    bert, resnet = models["bert"], models["resnet"]
    assert (bert.size_bytes, bert.load_s, bert.service_s, bert.instances) == (4 * GIB, 6, 0.03, 2)
    assert (bert.unload_s, bert.peak, bert.max_batch, bert.batch_share) == (1, 1.2, 8, 0.1)
    # Without a load time of its own, it follows from the size.
    assert resnet.load_s == pytest.approx(1 + 4 * GIB / 2e9)


def test_a_source_that_knows_its_models_is_believed_but_for_what_is_said(base: Path) -> None:
    assert run("journal: {path: journal.jsonl}", base)[1]["bert"].load_s == 7
    text = "journal: {path: journal.jsonl}\ncatalogue: {models: {bert: {load: 2s}}}"
    assert run(text, base)[1]["bert"].load_s == 2


def test_a_key_that_no_model_matches_is_refused(base: Path) -> None:
    text = "table: {path: table.csv}\ncatalogue: {models: {brt: {load: 6s}}}"
    with pytest.raises(WorkloadError, match=r"catalogue\.models\.brt: no model matches.*bert, res"):
        load(spec(text), base)


def test_a_table_may_be_held_to_the_models_that_are_known(base: Path) -> None:
    text = "table: {path: table.csv, only_known: true}\ncatalogue: {models: {"
    assert len(run(f"{text}bert: {{}}, 'res*': {{}}}}}}", base)[0]) == 2
    with pytest.raises(WorkloadError, match="model is 'resnet'; allowed: a model") as raised:
        load(spec(f"{text}bert: {{}}}}}}"), base)
    assert raised.value.line == 3


# --- mixed ---------------------------------------------------------------------------------------


def test_mixed_parts_have_models_of_their_own(base: Path) -> None:
    text = "mixed: {parts: {x: {table: {path: table.csv}}, y: {table: {path: table.csv}}}}"
    arrivals, models = run(text, base)
    assert tuple(models) == ("x/bert", "x/resnet", "y/bert", "y/resnet")
    assert arrivals.model.tolist() == [0, 2, 1, 3]


def test_mixed_parts_may_share_their_models(base: Path) -> None:
    text = """
    mixed:
      shared: true
      parts:
        x: {table: {path: table.csv}, catalogue: {models: {bert: {load: 3s}}}}
        y: {table: {path: table.csv}, catalogue: {models: {bert: {load: 5s}, resnet: {load: 8s}}}}
    catalogue: {models: {resnet: {load: 4s}}}
    """
    arrivals, models = run(text, base)
    assert arrivals.model.tolist() == [0, 0, 1, 1]
    # What the first part says holds; what the whole says holds over all.
    assert (models["bert"].load_s, models["resnet"].load_s) == (3, 4)


def test_mixed_service_times_are_filled_in_from_the_catalogue(base: Path) -> None:
    text = """
    mixed:
      parts:
        told: {table: {path: table.csv}}
        drawn: {zipf: {models: 1, rate: 1, duration: 10s}}
    catalogue: {models: {"drawn/*": {service: 90ms}}}
    """
    arrivals, _ = run(text, base)
    assert arrivals.service_s is not None
    assert {0.005, 0.007, 0.09} == set(arrivals.service_s.tolist())


# --- what may not be said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "place", "words"),
    [
        ({}, (), "sources: none; allowed: exactly one of azure, servegen"),
        (
            {"journal": {"path": "x"}, "table": {"path": "y"}},
            (),
            "sources: table, journal; allowed: exactly one",
        ),
        ({"table": {"path": "x"}, "part": ["2h", "1h"]}, (), "part ends before it has begun"),
        ({"table": {"path": "x", "pth": "y"}}, ("table", "pth"), "Extra inputs"),
        ({"azure": {"invocations": []}}, ("azure", "invocations"), "at least 1 item"),
        ({"servegen": {"folder": "x", "days": [-1, 2]}}, ("servegen", "days", 0), "greater than"),
        ({"zipf": {"models": 0, "rate": 1, "duration": 9}}, ("zipf", "models"), "greater than"),
        ({"zipf": {"models": 1, "rate": 0, "duration": 9}}, ("zipf", "rate"), "greater than 0"),
        ({"zipf": {"models": 1, "rate": 1, "duration": "-9s"}}, ("zipf", "duration"), "number"),
        (
            {"hot_set": {"models": 2, "rate": 1, "duration": "9s", "hot": 3}},
            ("hot_set",),
            "hot is 3; allowed: from 1 to models, 2",
        ),
        (
            {"table": {"path": "x"}, "catalogue": {"models": {"a": {"size": 0}}}},
            ("catalogue", "models", "a", "size"),
            "out of range",
        ),
    ],
)
def test_what_may_not_be_said_is_named(
    said: dict[str, Any], place: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        WorkloadSpec.model_validate(said)
    (error,) = raised.value.errors()
    assert error["loc"] == place
    assert words in error["msg"]


_DIGEST = """
import hashlib, sys, yaml
from pathlib import Path
from simulations.workloads.loading import load
from simulations.workloads.spec import WorkloadSpec
told = hashlib.sha256()
for text in sys.argv[2:]:
    workload, models = load(WorkloadSpec.model_validate(yaml.safe_load(text)), Path(sys.argv[1]))
    told.update(repr((workload.names, models)).encode())
    for run in workload.runs():
        told.update(run.time_s.tobytes() + run.model.tobytes() + run.weight.tobytes())
print(told.hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_hash_seed(base: Path) -> None:
    told = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, "-c", _DIGEST, str(base), *SPECS.values()],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(ran.stdout)
    assert len(told) == 1
