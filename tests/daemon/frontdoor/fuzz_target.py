"""What the fuzzed input is thrown at: a running pod, spoken to in raw bytes."""

import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from daemon.frontdoor.naming import SERVICE, STREAM
from tests.daemon.pod import Pod

ANSWER_S = 5.0


@dataclass
class Target:
    """A pod in which `a` is loaded, and what its sidecar took before it was fuzzed."""

    pod: Pod
    rss_bytes: int = 0

    def __post_init__(self) -> None:
        # Any, for its published types want serialisers, without which bytes go as they are.
        self.channel: Any = grpc.insecure_channel(
            self.pod.door_grpc, options=[("grpc.max_send_message_length", -1)]
        )

    @property
    def http(self) -> tuple[str, int]:
        return _address(self.pod.door_http)

    @property
    def grpc(self) -> tuple[str, int]:
        return _address(self.pod.door_grpc)

    def rss(self) -> int:
        assert self.pod.sidecar is not None
        pages = Path(f"/proc/{self.pod.sidecar.pid}/statm").read_text().split()
        return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")

    def serves(self) -> None:
        """One ordinary request by each protocol."""
        body = b'{"inputs":[{"name":"X","shape":[1,1],"datatype":"FP32","data":[3.0]}]}'
        head = b"POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        answer = exchange(self.http, head % len(body) + body)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [6.0]
        answer = self.channel.unary_unary(SERVICE + "ModelInfer")(message("a"), timeout=ANSWER_S)
        assert service_pb2.ModelInferResponse.FromString(answer).model_name == "a"
        [answer] = self.channel.stream_stream(STREAM)(iter([message("a")]), timeout=ANSWER_S)
        told = service_pb2.ModelStreamInferResponse.FromString(answer)
        assert (told.error_message, told.infer_response.model_name) == ("", "a")


def _address(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def exchange(place: tuple[str, int], *pieces: bytes, cut: bool = False) -> bytes:
    """What comes back; empty where the connection was closed without a word.

    cut: we say no more, as one does who has gone. Else the request is whole, and its sender waits.
    Raises TimeoutError when neither comes.
    """
    heard = b""
    line = socket.create_connection(place, ANSWER_S)
    # It may be closed while we are still talking.
    with line, contextlib.suppress(ConnectionError):
        for piece in pieces:
            line.sendall(piece)
        if cut:
            _half_close(line)
        while piece := line.recv(65536):
            heard += piece
            if not cut and _is_whole(heard, is_head=pieces[0].startswith(b"HEAD ")):
                break
    return heard


def _half_close(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_WR)


def _is_whole(heard: bytes, *, is_head: bool) -> bool:
    head, blank, body = heard.partition(b"\r\n\r\n")
    length = 0
    for row in head.lower().split(b"\r\n"):
        if row.startswith(b"content-length:"):
            length = int(row.partition(b":")[2])
    return bool(blank) and (is_head or len(body) >= length)


def status(heard: bytes) -> int:
    return int(heard.split(b" ", 2)[1]) if heard else 0


def message(name: str, **more: Any) -> bytes:
    request = service_pb2.ModelInferRequest(
        model_name=name, raw_input_contents=[struct.pack("<f", 3.0)], **more
    )
    request.inputs.add(name="X", datatype="FP32", shape=[1, 1])
    return bytes(request.SerializeToString())
