"""Dashboards and alerts before a real Prometheus that scrapes, by our monitors, what runs."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.dashboards import DASHBOARDS
from tests.daemon.gossip import mosquitto
from tests.manifests.alone import told
from tests.manifests.overlays import kinds, objects
from tests.simulations.recording.prometheus import NoPrometheus, find

# Queries that have nothing to show here, and why.
NOTHING = {
    "remora-pods": {
        "… by the fullest GPU: {{pod}}": "there is no GPU",
        "Leaving with what no peer holds: {{pod}}": "the pod does not leave",
        "Residents, by who holds them too: {{elsewhere}}": "the pod has no peer",
    },
    "remora-fleet": {
        "Deletion costs: {{outcome}}": "one pod alone is not set against others",
        "Calls from KEDA: {{method}} {{code}}": "there is no KEDA",
        "Questions to Prometheus: {{outcome}}": "they are KEDA's",
        "Parts that began anew: {{part}}": "none failed",
    },
}
# What was brought about is seen at once, or when it has lasted.
FIRING = {"RemoraLoadsFail", "RemoraPolicyRefused"}
PENDING = {"RemoraColdStarts", "RemoraRequestsRefused", "RemoraCannotLoad"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    mosquitto.found()
    try:
        find()
    except NoPrometheus as error:
        pytest.skip(str(error))
    return told("tests.manifests.watched", folder=tmp_path_factory.mktemp("watched"))


def test_the_monitors_lead_to_all_that_is_to_be_scraped(seen: Any) -> None:
    assert seen["targets"] == [
        [["models/triton", "remora"], "up"],
        [["models/triton", "triton-metrics"], "up"],
        [["remora/remora-fleet", "http"], "up"],
    ]


def test_the_dashboards_offer_the_pods_to_choose_from(seen: Any) -> None:
    assert seen["chosen"] == {
        "remora-pods": {"namespace": ["models"], "pod": ["triton-a"]},
        "remora-fleet": {"namespace": ["models"], "pod": ["fleet-a"]},
    }


@pytest.mark.parametrize("uid", [each.uid for each in DASHBOARDS])
def test_every_query_of_the_dashboards_has_something_to_show(seen: Any, uid: str) -> None:
    shown = seen["shown"][uid]
    assert {query for query, points in shown.items() if not points} == NOTHING[uid].keys()


def test_every_rule_is_evaluated_without_an_error(seen: Any) -> None:
    (rules,) = kinds(objects("monitoring"), "PrometheusRule")
    wanted = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert {rule["name"]: rule["health"] for rule in seen["rules"]} == dict.fromkeys(wanted, "ok")


def test_what_goes_wrong_is_alerted_of(seen: Any) -> None:
    states = {rule["name"]: rule["state"] for rule in seen["rules"]}
    assert {name for name, state in states.items() if state == "firing"} == FIRING
    assert {name for name, state in states.items() if state == "pending"} >= PENDING
    labels = {
        rule["name"]: alert["labels"]
        for rule in seen["rules"]
        for alert in rule["alerts"]
        if rule["name"] in PENDING
    }
    assert {each["namespace"] for each in labels.values()} == {"models"}
