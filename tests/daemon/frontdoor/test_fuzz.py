"""Whatever anybody sends to the front door: it is answered or cut off within seconds, nothing
breaks, and nothing is loaded that was not asked for by its proper name."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from daemon.frontdoor.naming import DENIED, GATED, SERVICE, STREAM
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from tests.daemon.frontdoor.fuzz_target import ANSWER_S, Target, exchange, message, status
from tests.daemon.pod import QUICK, Pod, eventually, pod

MIB = 2**20
# Where the server's own code breaks, aiohttp says so; Triton's 500 are Triton's.
OUR_FAULT = b"Server got itself in trouble"
MOST_GROWTH_BYTES = 40 * MIB
# `cold` is in the repository, and nobody here writes its name as Triton would take it.
SPECS = [
    *(ModelSpec(name, 25, load_s=0.2, compute_ms=1, hint=True) for name in ("a", "cold")),
    ModelSpec("sums", 25, load_s=0.2, compute_ms=1, hint=True, sequence=True),
]
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        # A hang takes seconds, and so would each attempt to make it shorter.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module")
def target(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    with pod(
        installation, tmp_path_factory.mktemp("fuzz"), SPECS, QUICK.format(budget=200)
    ) as started:
        found = Target(started)
        for _ in range(20):
            found.serves()
        found.rss_bytes = found.rss()
        yield found
        found.channel.close()


# --- HTTP

SEGMENTS = st.sampled_from(
    [
        *b"v2 models repository index a cold%20 Cold cold%00 %63old c%6fld .. . %2e%2e %2f".split(),
        *b"%00 %ff infer generate generate_stream config versions 1 -1 load unload".split(),
        *b"%6coad stats ready ' \" < { \\ ; , @ : # ? & = + ~".split(),
        *(b"", "名".encode(), b"\xff\xfe", b"\x01", b"n" * 300),
    ]
)
PATHS = st.lists(SEGMENTS, max_size=8).map(lambda parts: b"/" + b"/".join(parts))
LOADS = [
    b"/v2/repository/models/cold/load" + rest
    for rest in (b"", b"#", b"#x", b"?#x", b"?x", b";x", b"/", b"%23", b"%20", b"\\", b"/.", b"//")
] + [
    b"/v2/repository/models/cold/%6coad",
    b"/v2/repository/models/cold/./load",
    b"/v2/repository/models/a/../cold/load",
    b"/v2/./repository/models/cold/load",
    b"/v2/x/../repository/models/cold/load",
    b"/v2/repository/x/models/cold/load",
    b"/v2/repository//models/cold/load",
    b"//v2/repository/models/cold/load",
    b"///v2/repository/models/cold/load",
    b"\\v2\\repository\\models\\cold\\load",
    b"/V2/repository/models/cold/load",
    b"http://x/v2/repository/models/cold/load",
    b"//x/v2/repository/models/cold/load",
    b"/v2%2frepository%2fmodels%2fcold%2fload",
]
OTHER_TARGETS = [
    b"",
    b"*",
    b"x",
    b"http://x/v2/models/a",
    b"https://x:99999/",
    b"x:443",
    b"/%",
    b"/%zz",
    b"/v2/models/cold/../a/infer",
    b"/../../etc/passwd",
    b"/v2/models/" + b"n" * 10_000,
    b"/v2/models/" + b"n" * 100_000 + b"/infer",
    b"/" * 5000,
    b"/v2/models/a/infer?" + b"q" * 7000,
]
METHODS = st.sampled_from(
    [
        *b"GET POST HEAD OPTIONS PUT PATCH TRACE CONNECT get M-SEARCH".split(),
        *(b"G\x00T", b"", b"X" * 500),
    ]
)
NUMBERS = [
    b"0",
    b"1",
    b"2",
    b"4",
    b"-1",
    b"9" * 9,
    b"9" * 400,
    b"nan",
    b"1e308",
    b"x",
    b"",
    b"\xff",
]
HEADERS = st.sampled_from(
    [
        name + b": " + value
        for name in (
            b"x-envoy-attempt-count",
            b"x-remora-began",
            b"x-envoy-expected-rq-timeout-ms",
            b"Inference-Header-Content-Length",
        )
        for value in NUMBERS
    ]
    + [
        b"Accept-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"Content-Encoding: nonsense",
        b"Connection: close, x-remora-began, Host",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x",
        b"Expect: 100-continue",
        b"Expect: something-else",
        b"Host: y",
        b"Cookie: a=b; c=\xff",
        b"Trailer: x",
        b"X: " + b"v" * 8000,
    ]
)
BODIES = [b"", b"{}", b"[" * 20_000, b"null", b'{"inputs":[]}', b"\x00" * 64, b"\xff\xfe"]
FRAMINGS = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: -5",
        b"Content-Length: 0x5",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: " + b"9" * 30,
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 5\r\nExpect: 100-continue",
        b"Content-Length: 2000000",
    ]
)
CUT_BODIES = st.sampled_from(
    [
        *(b"", b"abc", b"5\r\nab", b"5\r\nabcde\r\n", b"zz\r\n", b"-1\r\n", b"f" * 20 + b"\r\n"),
        *(b"0\r\n", b"0\r\nX: y\r\n", b"5;" + b"e" * 9000 + b"\r\nabcde", b"5\nabcde\n0\n\n"),
    ]
)


@examples(500)
@given(METHODS, PATHS | st.sampled_from(LOADS + OTHER_TARGETS), st.lists(HEADERS, max_size=4))
def test_any_target_and_headers_are_answered(
    target: Target, method: bytes, path: bytes, headers: list[bytes]
) -> None:
    rows = [method + b" " + path + b" HTTP/1.1", b"Host: x", *headers, b"Content-Length: 0"]
    heard = exchange(target.http, b"\r\n".join(rows) + b"\r\n\r\n")
    assert OUR_FAULT not in heard


@pytest.mark.parametrize("path", LOADS)
@pytest.mark.parametrize("method", [b"POST", b"GET"])
def test_no_spelling_of_a_load_reaches_triton(target: Target, method: bytes, path: bytes) -> None:
    heard = exchange(target.http, method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(heard) >= 400 or not heard, heard


@examples(80)
@given(st.sampled_from([b"a/infer", b"a/config", b"nobody/infer", b"a/generate"]), st.data())
def test_any_body_is_answered(target: Target, path: bytes, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(BODIES) | st.binary(max_size=100))
    head = data.draw(st.sampled_from([b"0", b"1", b"%d" % len(body), b"999999", b"-3", b"x"]))
    heard = exchange(
        target.http,
        b"POST /v2/models/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % (path, len(body)),
        b"Inference-Header-Content-Length: " + head + b"\r\n\r\n" + body,
    )
    assert heard
    assert OUR_FAULT not in heard


@pytest.mark.parametrize("length", [b"9" * 5000, b"0", b"-1", b"3"])
@pytest.mark.parametrize(
    "parameters",
    [
        b"[]",
        b"null",
        b'{"sequence_id": [1]}',
        b'{"sequence_id": 1e400}',
        b'{"sequence_id": ' + b"9" * 5000 + b"}",
        b'{"sequence_id": "' + b"s" * 50_000 + b'", "sequence_end": {}}',
    ],
)
def test_sequences_of_any_name_are_answered(
    target: Target, length: bytes, parameters: bytes
) -> None:
    body = b'{"inputs": [], "parameters": ' + parameters + b"}"
    head = b"POST /v2/models/sums/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    head += b"Inference-Header-Content-Length: " + length + b"\r\n\r\n"
    heard = exchange(target.http, head + body)
    assert status(heard) >= 400
    assert OUR_FAULT not in heard


@examples(120)
@given(st.sampled_from([b"/v2/models/a/infer", b"/v2/health/live", b"/v2"]), FRAMINGS, CUT_BODIES)
def test_any_framing_that_is_wrong_or_cut_off_ends_its_connection(
    target: Target, path: bytes, framing: bytes, body: bytes
) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"
    assert OUR_FAULT not in exchange(target.http, head, body, cut=True)


@examples(60)
@given(st.binary(max_size=300))
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9)
@example(b"\r\n" * 100)
@example(b"GET / HTTP/9.9\r\n\r\n")
@example(b"GET /\r\n\r\n")
def test_bytes_that_are_no_http_end_their_connection(target: Target, garbage: bytes) -> None:
    assert OUR_FAULT not in exchange(target.http, garbage, cut=True)


@pytest.mark.parametrize(
    "rows",
    [
        [b"X-%d: y" % number for number in range(5000)],
        [b"X: y"] * 20_000,
        [b"X: " + b"v" * 65_536],
        [b"N" * 65_536 + b": v"],
        [b"Cookie: " + b"c" * 9_000_000],
        [b"x-envoy-attempt-count: 2"] * 50,
    ],
    ids=["many", "very-many", "long-value", "long-name", "nine-megabytes", "repeated"],
)
def test_flood_of_headers_is_refused_or_borne(target: Target, rows: Sequence[bytes]) -> None:
    head = [b"GET /v2/models/a HTTP/1.1", b"Host: x", *rows]
    heard = exchange(target.http, b"\r\n".join(head) + b"\r\n\r\n")
    assert status(heard) in (0, 200, 400, 431, 503)


def test_requests_in_one_breath_are_answered_in_order(target: Target) -> None:
    asked = [
        LIVE,
        b"GET /v2/models/nobody HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v2/repository/models/cold/load HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ]
    heard = b""
    with socket.create_connection(target.http, ANSWER_S) as line:
        line.sendall(b"".join(asked))
        while piece := line.recv(65536):
            heard += piece
    statuses = [int(row.split(b" ", 1)[0]) for row in heard.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 500, 403, 405, 200]


def test_clients_that_go_away_halfway_leave_nothing_behind(target: Target) -> None:
    head = b"POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    for size in range(0, len(head) + 100, 7):
        with socket.create_connection(target.http, ANSWER_S) as line:
            line.sendall((head + b"x" * 500)[:size])
    eventually(lambda: _inside(target.pod) == 0, 5)


def _inside(running: Pod) -> float:
    rows = [
        row
        for row in (running.get("/metrics") or "").splitlines()
        if row.startswith(("remora_model_in_flight_requests", "remora_door_waiting_requests"))
    ]
    assert rows
    return sum(float(row.rpartition(" ")[2]) for row in rows)


# --- gRPC

QUIET = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelStatistics", "Nothing")
UNARY = st.sampled_from([*sorted(GATED | DENIED), *(SERVICE + name for name in QUIET), "/x/y", "/"])
NAMES = st.sampled_from(
    [
        *(
            "",
            "cold\x00",
            "cold/",
            "/cold",
            " cold",
            "Cold",
            "../cold",
            "co\u200bld",
            "名",
            "%63old",
        ),
        *("n" * 10_000, "n" * 100_000, "cold" * 25_000),
    ]
)
WHOLE = message("nobody", model_version="1", id="7")
BYTES = (
    st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end])
    | st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)).map(
        lambda change: WHOLE[: change[0]] + bytes([change[1]]) + WHOLE[change[0] + 1 :]
    )
    | st.binary(max_size=100)
    | NAMES.map(message)
    | st.sampled_from(
        [
            b"\x0a\x05cold\xff",
            b"\x0a\x03\xed\xa0\x80",
            b"\x0a\xff\xff\xff\xff\x0fcold",
            b"\x08\x01",
            b"\x0b" * 5000,
            b"\x0a\x04cold\x0a\x06nobody",
            b"\x12" + b"\xff" * 9 + b"\x01",
            message("nobody", model_version="v" * 100_000),
            message("a", model_version="v" * 100_000),
            message("a", id="i" * 100_000),
            message("a", model_version="\x00"),
        ]
    )
)
METADATA = st.sampled_from(
    [
        *(
            ((name, value),)
            for name in ("x-envoy-attempt-count", "x-remora-began")
            for value in ("0", "4", "-1", "9" * 400, "nan", "inf", "1", "x", "")
        ),
        (("x-envoy-attempt-count", "2"), ("x-envoy-attempt-count", "y")),
        (("triton_grpc_error", "true"),),
        (("triton_grpc_error", "x"), ("x-bin", b"\x00\xff")),
        tuple((f"x-{number}", "y") for number in range(40)),
        (("x", "v" * 3000),),
        (("x", "v" * 60_000),),
        tuple((f"x-{number}", "y" * 50) for number in range(3000)),
        (),
        (),
    ]
)
_HUNG = grpc.StatusCode.DEADLINE_EXCEEDED
_BROKEN = (_HUNG, grpc.StatusCode.UNKNOWN)


@examples(250)
@given(UNARY, BYTES, METADATA)
def test_any_message_by_any_method_is_answered(
    target: Target, method: str, sent: bytes, metadata: Any
) -> None:
    call = target.channel.unary_unary(method).future(sent, timeout=ANSWER_S, metadata=metadata)
    assert call.code() not in _BROKEN, call.details()


@examples(100)
@given(st.lists(BYTES | st.just(message("a")), max_size=5), METADATA, st.booleans())
def test_any_stream_comes_to_an_end(
    target: Target, sent: list[bytes], metadata: Any, leaves: bool
) -> None:
    call = target.channel.stream_stream(STREAM)(iter(sent), timeout=ANSWER_S, metadata=metadata)
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            if leaves:
                call.cancel()
                break
    assert call.code() not in _BROKEN, call.details()


@pytest.mark.parametrize("name", ["n" * 100_000, "cold\x00", "名"])
def test_name_that_nobody_has_is_not_found_however_it_is_written(target: Target, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        target.channel.unary_unary(SERVICE + "ModelInfer")(message(name), timeout=ANSWER_S)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    [answer] = target.channel.stream_stream(STREAM)(iter([message(name)]), timeout=ANSWER_S)
    told = service_pb2.ModelStreamInferResponse.FromString(answer).error_message
    assert told.startswith("Request for unknown model")


def test_calls_that_are_cancelled_at_any_moment_leave_nothing_inside(target: Target) -> None:
    for number in range(60):
        call = target.channel.unary_unary(SERVICE + "ModelInfer").future(message("a"))
        stream = target.channel.stream_stream(STREAM)(iter([message("a")] * 3))
        with contextlib.suppress(grpc.FutureTimeoutError):
            call.result(timeout=number / 20_000)
        call.cancel()
        stream.cancel()
    eventually(lambda: _inside(target.pod) == 0, 5)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@examples(60)
@given(st.sampled_from([b"", PREFACE, PREFACE + SETTINGS]), st.binary(max_size=200))
@example(PREFACE + SETTINGS, b"\xff\xff\xff\x01\x05\x00\x00\x00\x01")
@example(PREFACE + SETTINGS, b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"p" * 8)
@example(b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
def test_any_frames_end_their_connection(target: Target, begun: bytes, garbage: bytes) -> None:
    exchange(target.grpc, begun + garbage, cut=True)


def test_plain_http_on_the_grpc_port_is_cut_off(target: Target) -> None:
    exchange(target.grpc, LIVE, cut=True)
    exchange(
        target.grpc, b"POST /v2/models/a/infer HTTP/1.1\r\nContent-Length: 9\r\n\r\n", cut=True
    )


# --- and afterwards


def test_afterwards_all_is_as_before(target: Target) -> None:
    running = target.pod
    assert running.sidecar is not None
    assert running.sidecar.poll() is None
    assert running.get("/healthz") == "ok\n"
    assert 'remora_door_requests_total{model="a"' in running.get("/metrics")
    target.serves()
    assert running.ready() == {"a", "sums"}
    assert running.triton_log.count('"loading: ') == 2
    for words in ("Traceback", "tick failed", "nhandled", "never retrieved", " ERROR "):
        assert words not in running.log
    assert target.rss() - target.rss_bytes < MOST_GROWTH_BYTES
