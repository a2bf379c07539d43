"""The simulated autoscaler decides as the real one does, step by step.

RECORD=1 writes the recordings of tests/golden/hpa anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.controlplane import golden
from tests.controlplane.binaries import Binaries
from tests.controlplane.client import Client
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.metricserver import Answer, registration, serving
from tests.controlplane.playing import TARGET, Player
from tests.controlplane.sequences import DOWNSCALE_STABILIZATION_S, SCRIPTS, Script

AT_ONCE = 12
"""So many autoscalers side by side leave two cores the time to show each step in time."""
TRIES = 4
PLAYED_WITHIN_S = 90.0
SYNC_S = 1.25


class Stage:
    """Plays scripts against one control plane, some at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._players: dict[str, Player] = {}

    def ask(self, namespace: str, metric: str) -> Answer:
        player = self._players.get(namespace)
        return player.ask(metric) if player else None

    def play(self, script: Script) -> Player:
        """Once more when the machine was too busy to keep to the script."""
        for attempt in range(TRIES):
            player = Player(self._client, script, f"{script.name}-{attempt}")
            self._players[player.namespace] = player
            player.prepare()
            player.begin()
            assert player.finished.wait(PLAYED_WITHIN_S), f"{script.name}: {player.record}"
            player.end()
            if not player.is_void:
                return player
        raise AssertionError(f"{script.name}: too busy a machine to show it as written")


@pytest.fixture(scope="module")
def played(
    binaries: Binaries, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Player]]]:
    """Every script, playing."""
    plane = ControlPlane(
        tmp_path_factory.mktemp("conformance"), binaries, SYNC_S, DOWNSCALE_STABILIZATION_S
    )
    with plane:
        stage = Stage(plane.admin)
        pair = plane.authority.issue("metrics", hosts=["fake-metrics.kube-system.svc"])
        with serving(stage.ask, address, pair) as port, ThreadPoolExecutor(AT_ONCE) as pool:
            plane.admin.apply(TARGET)
            authority = plane.authority.certificate
            plane.admin.apply_all(registration(authority, address, port))
            yield {script.name: pool.submit(stage.play, script) for script in SCRIPTS}
            pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", [script.name for script in SCRIPTS])
def test_every_decision_is_the_real_controllers(
    played: dict[str, Future[Player]], name: str
) -> None:
    player = played[name].result()
    real = [row["decided"] for row in player.record]
    ours = golden.decided(player.hpa, player.record, DOWNSCALE_STABILIZATION_S)
    assert ours == real, "\n".join(json.dumps(row) for row in player.record)
    _keep(golden.FOLDER / f"{name}.json", player)


def _keep(path: Path, player: Player) -> None:
    """Shown the same at the same times, the real controller decides the same as when recorded."""
    text = golden.written(player.hpa, player.record, DOWNSCALE_STABILIZATION_S)
    if os.environ.get("RECORD"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kept, now = (json.loads(each)["steps"] for each in (path.read_text(), text))
    if [_shown(row) for row in kept] == [_shown(row) for row in now]:
        assert [row["decided"] for row in kept] == [row["decided"] for row in now]


def _shown(row: golden.Json) -> golden.Json:
    return {key: value for key, value in row.items() if key != "decided"}
