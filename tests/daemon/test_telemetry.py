"""What the page says before anything has happened."""

from prometheus_client.exposition import generate_latest

from daemon.frontdoor.gate import Gate
from daemon.telemetry import Latest, Telemetry
from daemon.versions import Outcome
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import ErrorClass, Snapshot


def test_what_alerts_watch_rise_is_there_before_it_does() -> None:
    policy, snapshot = Policy(), Snapshot(0.0)
    latest = Latest(policy, snapshot, plan(policy, snapshot, History()))
    page = generate_latest(Telemetry(latest, Gate(lambda: 0.0)).registry).decode().splitlines()
    for outcome in ("taken", "refused"):
        assert f'remora_policy_reloads_total{{outcome="{outcome}"}} 0.0' in page
    for each in ErrorClass:
        assert f'remora_load_failures_total{{error_class="{each.value}"}} 0.0' in page
    for update in Outcome:
        assert f'remora_updates_total{{outcome="{update.value}"}} 0.0' in page
    assert "remora_tick_errors_total 0.0" in page
