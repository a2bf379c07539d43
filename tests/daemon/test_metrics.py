"""Reading Triton's page, and the arithmetic of its counters."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from daemon.metrics import (
    Activity,
    CounterDeltas,
    DeviceGauges,
    Exposition,
    ScrapeError,
    Scraper,
    labels,
    parse,
)
from daemon.triton import Triton
from policies.snapshot import HOST
from simulations.testbed.tritonserver import TritonServer, free_ports

RECORDED = Path(__file__).parents[1] / "golden" / "triton-metrics.txt"
SUCCESS = "nv_inference_request_success"
FAILURE = "nv_inference_request_failure"
PENDING = "nv_inference_pending_request_count"
COUNTERS = (
    SUCCESS,
    FAILURE,
    "nv_inference_exec_count",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_infer_duration_us",
)


def series(name: str, value: object, **values: str) -> str:
    """One line, as a Prometheus client library writes it."""
    escaped = (
        (key, text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\""))
        for key, text in values.items()
    )
    inside = ",".join(f'{key}="{text}"' for key, text in escaped)
    return f"{name}{{{inside}}} {value}"


def page(*lines: str) -> Exposition:
    return parse("".join(f"{line}\n" for line in lines))


def activity(*pages: Exposition) -> Mapping[str, Activity]:
    """What happened between the last two of ``pages``."""
    deltas = CounterDeltas()
    return [deltas.update(each) for each in pages][-1]


# --- reading -------------------------------------------------------------------------------

values = st.one_of(
    st.integers(0, 2**53),
    st.floats(0, 1e18, allow_nan=False),
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tricky = st.lists(
    st.sampled_from(["\\", '"', "\n", ",", "{", "}", "=", " ", "#", "\u2028", "\x85", "\r", "é"]),
    max_size=8,
).map("".join)
lines = st.tuples(st.sampled_from(COUNTERS), st.one_of(names, tricky), names, values)


@given(st.lists(lines, max_size=8, unique_by=lambda line: line[:3]))
@example([(SUCCESS, "line\u2028separator\x85\x0c", "1", 3)])
@example([(SUCCESS, 'a"} 5 {b="\\', "1", 7)])
def test_any_page_reads_as_the_client_library_reads_it(
    written: list[tuple[str, str, str, float]],
) -> None:
    text = "".join(
        series(name, value, model=model, version=version) + "\n"
        for name, model, version, value in written
    )
    theirs = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    ours = {
        (family, frozenset(labels(inside).items())): value
        for (family, inside), value in parse(text).counters.items()
    }
    assert ours == theirs


def test_a_recorded_page_is_read() -> None:
    """One ensemble and its member, after three requests to the member; no GPU."""
    read = parse(RECORDED.read_text())
    counted = {
        (family, found["model"], found.get("reason")): value
        for (family, inside), value in read.counters.items()
        for found in [labels(inside)]
        if value
    }
    assert counted == {
        (SUCCESS, "alpha", None): 3,
        ("nv_inference_exec_count", "alpha", None): 3,
        ("nv_inference_queue_duration_us", "alpha", None): 225,
        ("nv_inference_compute_input_duration_us", "alpha", None): 187,
        ("nv_inference_compute_infer_duration_us", "alpha", None): 21024,
        ("nv_inference_compute_output_duration_us", "alpha", None): 3742,
    }
    assert read.pending == {"chain": 0, "alpha": 0}
    assert read.devices == {HOST: DeviceGauges(25276510208, 851959808, 0.8947368421052632)}


@pytest.mark.parametrize(
    "line",
    [
        series(SUCCESS, "", model="a"),
        f'{SUCCESS}{{model="a" 3',
        f"{SUCCESS}",
        f'# {SUCCESS}{{model="a"}} 3',
        series("nv_inference_request_successes", 3, model="a"),
        "",
        "\x00\xff",
    ],
)
def test_a_line_out_of_shape_is_passed_over(line: str) -> None:
    good = series(SUCCESS, 5, model="b")
    assert page(good, line, good) == page(good)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many"])
def test_a_value_that_no_counter_has_is_left_out_until_there_is_a_good_one(value: str) -> None:
    before, odd, after = (page(series(SUCCESS, count, model="a")) for count in (100, value, 103))
    assert activity(before, odd) == {}
    assert activity(before, odd, after) == {"a": Activity(successes=3)}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many"])
def test_a_value_that_no_gauge_has_is_unknown(value: str) -> None:
    assert page(series(PENDING, value, model="a")).pending == {}
    assert page(series("nv_gpu_memory_used_bytes", value, gpu_uuid="GPU-a")).devices == {}


def test_a_timestamp_is_no_part_of_the_value() -> None:
    assert page(series(SUCCESS, "5 1732500000000", model="a")) == page(
        series(SUCCESS, 5, model="a")
    )


def test_a_page_without_a_last_newline_is_whole() -> None:
    assert parse(series(SUCCESS, 5, model="a")).counters == {(SUCCESS, 'model="a"'): 5}


def test_pending_requests_sum_over_versions() -> None:
    read = page(
        series(PENDING, 2, model="a", version="1"),
        series(PENDING, 3, model="a", version="2"),
        series(PENDING, 0, model="b", version="1"),
    )
    assert read.pending == {"a": 5, "b": 0}


# --- devices -------------------------------------------------------------------------------


def test_gauges_are_told_by_gpu() -> None:
    read = page(
        series("nv_gpu_memory_total_bytes", 80e9, gpu_uuid="GPU-b"),
        series("nv_gpu_memory_used_bytes", 20e9, gpu_uuid="GPU-b"),
        series("nv_gpu_utilization", 0.5, gpu_uuid="GPU-b"),
        series("nv_gpu_memory_total_bytes", 40e9, gpu_uuid="GPU-a"),
        "nv_cpu_memory_total_bytes 8e9",
    )
    assert read.devices == {
        "GPU-b": DeviceGauges(80_000_000_000, 20_000_000_000, 0.5),
        "GPU-a": DeviceGauges(40_000_000_000, None, None),
        HOST: DeviceGauges(8_000_000_000, None, None),
    }


def test_zeros_all_over_are_failed_readings() -> None:
    read = page(
        series("nv_gpu_memory_total_bytes", 0, gpu_uuid="GPU-a"),
        series("nv_gpu_memory_used_bytes", 0, gpu_uuid="GPU-a"),
        series("nv_gpu_utilization", 0, gpu_uuid="GPU-a"),
    )
    assert read.devices == {"GPU-a": DeviceGauges(None, None, None)}


def test_an_idle_gpu_is_idle() -> None:
    read = page(
        series("nv_gpu_memory_used_bytes", 5e9, gpu_uuid="GPU-a"),
        series("nv_gpu_utilization", 0, gpu_uuid="GPU-a"),
    )
    assert read.devices == {"GPU-a": DeviceGauges(None, 5_000_000_000, 0.0)}


def test_a_gpu_without_a_uuid_is_no_device() -> None:
    assert page("nv_gpu_memory_total_bytes 8e9").devices == {}


# --- what happened -------------------------------------------------------------------------


def test_the_first_look_tells_nothing_of_what_happened() -> None:
    first = page(series(SUCCESS, 1000, model="a", version="1"), series(PENDING, 4, model="a"))
    assert activity(first) == {"a": Activity(pending=4)}


def test_a_counter_tells_what_it_grew_by() -> None:
    before, after = (
        page(
            series(SUCCESS, successes, model="a"),
            series("nv_inference_exec_count", executions, model="a"),
            series("nv_inference_queue_duration_us", queue_us, model="a"),
            series("nv_inference_compute_input_duration_us", 1000 * successes, model="a"),
            series("nv_inference_compute_infer_duration_us", 20_000 * successes, model="a"),
            series("nv_inference_compute_output_duration_us", 4000 * successes, model="a"),
        )
        for successes, executions, queue_us in ((100, 50, 1_000_000), (110, 55, 1_500_000))
    )
    found = activity(before, after)["a"]
    assert replace(found, compute_s=0.0) == Activity(successes=10, executions=5, queue_s=0.5)
    assert found.compute_s == pytest.approx(0.25)


def test_an_idle_model_without_a_queue_is_not_told_of() -> None:
    still = page(series(SUCCESS, 100, model="a"))
    assert activity(still, still) == {}


def test_a_counter_that_fell_was_reset_and_counts_from_zero() -> None:
    before, after = page(series(SUCCESS, 100, model="a")), page(series(SUCCESS, 3, model="a"))
    assert activity(before, after) == {"a": Activity(successes=3)}


def test_a_series_that_appears_counts_from_zero() -> None:
    before, after = page(series(SUCCESS, 1, model="b")), page(series(SUCCESS, 7, model="a"))
    assert activity(before, after) == {"a": Activity(successes=7)}


def test_a_series_that_vanished_is_forgotten() -> None:
    loaded, unloaded = page(series(SUCCESS, 100, model="a")), page()
    assert activity(loaded, unloaded) == {}
    again = page(series(SUCCESS, 100, model="a"))
    assert activity(loaded, unloaded, again) == {"a": Activity(successes=100)}


def test_versions_and_gpus_of_a_model_are_summed() -> None:
    before, after = (
        page(
            *(
                series(SUCCESS, count + at, model="a", version=version, gpu_uuid=gpu)
                for at, (version, gpu) in enumerate(
                    (("1", "GPU-a"), ("1", "GPU-b"), ("2", "GPU-a"), ("2", "GPU-b"))
                )
            ),
            series(SUCCESS, count, model="other", version="1"),
        )
        for count in (10, 15)
    )
    assert activity(before, after) == {
        "a": Activity(successes=20),
        "other": Activity(successes=5),
    }


def test_one_version_reset_does_not_hide_what_another_did() -> None:
    before = page(
        series(SUCCESS, 90, model="a", version="1"), series(SUCCESS, 5, model="a", version="2")
    )
    after = page(
        series(SUCCESS, 2, model="a", version="1"), series(SUCCESS, 9, model="a", version="2")
    )
    assert activity(before, after) == {"a": Activity(successes=6)}


@pytest.mark.parametrize(
    ("reason", "suspicious"),
    [({"reason": "BACKEND"}, 4), ({"reason": "OTHER"}, 4), ({}, 4)]
    + [({"reason": harmless}, 0) for harmless in ("CANCELED", "REJECTED")],
)
def test_only_failures_of_the_model_itself_make_it_suspicious(
    reason: dict[str, str], suspicious: float
) -> None:
    before, after = (page(series(FAILURE, count, model="a", **reason)) for count in (1, 5))
    assert activity(before, after) == {"a": Activity(failures=4, backend_failures=suspicious)}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_no_request_is_lost_or_counted_twice_between_loads(counts: list[int]) -> None:
    """Each count is what one life of the model served; a scrape sees each in two halves."""
    deltas, told = CounterDeltas(), 0.0
    deltas.update(page())
    for served in counts:
        for so_far in (served // 2, served):
            found = deltas.update(page(series(SUCCESS, so_far, model="a", version="1")))
            told += found.get("a", Activity()).successes
        deltas.update(page())
    assert told == sum(counts)


def told_by_looking_back(shown: Sequence[float | None]) -> float:
    """What the last page of one series tells, by the rules, from all pages; None is absent."""
    *past, now = shown
    if now is None or math.isnan(now):
        return 0
    for before in reversed(past):
        if before is None:
            return now
        if not math.isnan(before):
            return now - before if now >= before else now
    # Whatever it shows may be years old.
    return 0


shown = st.one_of(st.none(), st.just(math.nan), st.integers(0, 20).map(float))


@given(st.lists(st.tuples(shown, shown, shown), min_size=1, max_size=12))
@example([(5.0, math.nan, None), (math.nan, 7.0, 3.0), (6.0, 9.0, math.nan), (1.0, None, 4.0)])
def test_deltas_are_those_of_looking_back_at_every_page(
    pages: list[tuple[float | None, ...]],
) -> None:
    deltas = CounterDeltas()
    for at, row in enumerate(pages):
        found = deltas.update(
            page(
                *(
                    series(SUCCESS, value, model="a", version=str(version))
                    for version, value in enumerate(row)
                    if value is not None
                )
            )
        )
        columns = zip(*pages[: at + 1], strict=True)
        told = sum(told_by_looking_back(column) for column in columns)
        assert found.get("a", Activity()).successes == told


# --- a real Triton's page ------------------------------------------------------------------


async def looked(
    scraper: Scraper, deltas: CounterDeltas, enough: Callable[[Activity | None], bool]
) -> Activity | None:
    """What `plain` did, summed over looks until that is ``enough``.

    Triton answers a request before it counts it, and drops a series after its model has gone.
    """
    total = Activity()
    async with asyncio.timeout(5):
        while True:
            found = deltas.update(await scraper.scrape()).get("plain")
            if found is not None:
                total = Activity(
                    total.successes + found.successes,
                    total.failures + found.failures,
                    total.backend_failures + found.backend_failures,
                    total.executions + found.executions,
                    total.queue_s + found.queue_s,
                    total.compute_s + found.compute_s,
                    found.pending,
                )
            if enough(found and total):
                return found and total
            await asyncio.sleep(0.02)


async def test_requests_to_a_real_triton_are_counted(
    server: TritonServer, metrics_url: str, triton: Triton
) -> None:
    await triton.load("plain", 10)
    scraper, deltas = Scraper(metrics_url, 2), CounterDeltas()
    first = await scraper.scrape()
    deltas.update(first)
    async with InferenceServerClient(server.grpc_url) as client:
        for _ in range(5):
            tensor = InferInput("X", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
            await client.infer("plain", [tensor])
    found = await looked(scraper, deltas, lambda did: did is not None and did.executions >= 5)
    await scraper.close()

    assert found is not None
    assert (found.successes, found.executions, found.failures) == (5, 5, 0)
    assert found.compute_s >= 5 * 0.001
    assert found.pending == 0
    # Where Triton sees a GPU it has that device's gauges beside the host's.
    assert first.devices[HOST].total_bytes


async def test_a_model_loaded_again_counts_from_zero(metrics_url: str, triton: Triton) -> None:
    scraper, deltas = Scraper(metrics_url, 2), CounterDeltas()
    deltas.update(await scraper.scrape())
    told = []
    for _ in range(2):
        await triton.load("plain", 10)
        await triton.probe("plain", 5)
        did = await looked(scraper, deltas, lambda did: did is not None and did.successes > 0)
        told.append(did and did.successes)
        await triton.unload("plain", 5)
        await looked(scraper, deltas, lambda did: did is None)
    await scraper.close()
    assert told == [1, 1]


# --- scraping ------------------------------------------------------------------------------


@asynccontextmanager
async def answering(status: int, body: bytes, after_s: float = 0.0) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(after_s)
        return web.Response(status=status, body=body)

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "after_s", "told"),
    [
        (503, b"", 0.0, "HTTP 503"),
        (200, b"", 0.6, "TimeoutError"),
    ],
)
async def test_a_page_that_cannot_be_had_says_where_and_why(
    status: int, body: bytes, after_s: float, told: str
) -> None:
    async with answering(status, body, after_s) as url:
        scraper = Scraper(url, 0.3)
        with pytest.raises(ScrapeError, match=f"{url}: .*{told}"):
            await scraper.scrape()
        await scraper.close()


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{free_ports(1)[0]}/metrics", "nonsense"])
async def test_a_page_that_is_not_there_is_an_error_of_its_own(url: str) -> None:
    scraper = Scraper(url, 1)
    with pytest.raises(ScrapeError, match=url):
        await scraper.scrape()
    await scraper.close()


async def test_a_name_in_any_script_or_in_none_hides_no_other() -> None:
    lines = [series(SUCCESS, 2, model="模型").encode(), SUCCESS.encode() + b'{model="\xff"} 3\n']
    async with answering(200, b"\n".join(lines)) as url:
        scraper = Scraper(url, 1)
        counters = (await scraper.scrape()).counters
        await scraper.close()
    assert counters[SUCCESS, 'model="模型"'] == 2
    assert len(counters) == 2
