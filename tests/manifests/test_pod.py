"""The pod of the manifests at work: Triton, Remora and Envoy, as the manifest has them started."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.alone import told


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told("tests.manifests.pod", "cpu", folder=tmp_path_factory.mktemp("pod"))


def test_a_request_for_an_absent_model_waits_for_it_and_the_next_does_not(seen: Any) -> None:
    assert seen["cold"] == [200, "3"]
    assert seen["hot"] == [200, "1"]


def test_both_pages_that_prometheus_reads_are_there(seen: Any) -> None:
    assert all(lines > 20 for lines in seen["pages"].values())


def test_the_pod_ends_by_itself_well_before_its_time_is_over(seen: Any) -> None:
    """Triton waits for its connections, idle ones too, and gives up when its own time is over."""
    stopped = seen["stopped"]
    took_s, grace_s = stopped.pop("seconds"), stopped.pop("grace")
    assert stopped == dict.fromkeys(("triton hook", "remora hook", "triton", "envoy", "remora"), 0)
    assert took_s < grace_s
