"""A recording of a real exporter that a real Prometheus scrapes, and that goes and comes back."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, Counter, start_http_server

from simulations.recording.record import record
from simulations.recording.spec import RecordSpec
from simulations.testbed.server import page
from simulations.testbed.tritonserver import free_ports
from tests.simulations.recording.prometheus import Prometheus, Tools


class Exporter:
    """Triton's counters, or so it seems; each start begins at zero."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def running(self) -> Iterator[Counter]:
        registry = CollectorRegistry()
        # The client's own names end in _total, and a gateway's would.
        counter = Counter("gateway_requests", "By model.", ["model"], registry=registry)
        server, thread = start_http_server(self._port, addr="127.0.0.1", registry=registry)
        try:
            yield counter
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def scraped(server: Prometheus, *, up: bool = True) -> None:
    """Waits until two further scrapes have found the exporter up, or away."""
    wanted, deadline_s = len(found(server, up)) + 2, time.monotonic() + 30
    while len(found(server, up)) < wanted:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def found(server: Prometheus, up: bool) -> list[float]:
    """When a scrape has found it up, or away."""
    answer = json.loads(page(server.address, "/api/v1/query?query=up[1h]") or b"{}")
    values = [value for each in answer["data"]["result"] for value in each["values"]]
    return [at_s for at_s, value in values if value == ("1" if up else "0")]


def test_a_restart_and_an_absence_lose_no_request_that_was_scraped(
    tools: Tools, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    exporter = Exporter(port)
    with Prometheus(tools, tmp_path, {"gateway": [f"127.0.0.1:{port}"]}) as server:
        server.wait_live()
        with exporter.running() as counter:
            counter.labels("alpha").inc(0)
            scraped(server)
            # No scrape comes near the end of a step, where some milliseconds would move it.
            begin_s = found(server, up=True)[0] - 1.5
            counter.labels("alpha").inc(40)
            # A model that was not there before has been asked for since.
            counter.labels("beta").inc(3)
            scraped(server)
        scraped(server, up=False)
        with exporter.running() as counter:
            counter.labels("alpha").inc(7)
            scraped(server)
            counter.labels("alpha").inc(5)
            scraped(server)
        target = tmp_path / "live.parquet"
        spec = RecordSpec(
            server.url,
            query="gateway_requests_total",
            since=str(begin_s),
            until=str(time.time()),
            step_s=1.0,
        )
        held = record(spec, target)
    rows = pq.read_table(target).to_pylist()
    counted = [
        (row["model"], row["requests"], row["step_s"] > 1) for row in rows if row["requests"]
    ]
    # The restarted counter's first seven came somewhere in the time that nobody saw.
    assert sorted(counted) == [
        ("alpha", 5, False),
        ("alpha", 7, True),
        ("alpha", 40, False),
        ("beta", 3, False),
    ]
    unknown = {row["model"] for row in rows if row["requests"] is None}
    assert unknown == {"alpha", "beta"}
    assert held.requests == 55
    assert held.gap_s >= 2
