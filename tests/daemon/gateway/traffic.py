"""Clients of the fleet: closed loops over many models, by both protocols, that keep count."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Self

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

BODY = json.dumps(
    {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
).encode()


@dataclass
class Traffic:
    """Starts with `with`, and ends with it. failures: what went wrong, with its model."""

    http: str
    grpc: str
    models: Sequence[str]
    clients: int = 4
    pause_s: float = 0.005
    sent: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str, str]] = field(default_factory=list)
    took_s: list[tuple[float, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number in range(self.clients):
            loop = self._by_http if number % 2 == 0 else self._by_grpc
            thread = threading.Thread(target=loop, args=(random.Random(number),), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _by_http(self, chance: random.Random) -> None:
        with closing(HTTPConnection(self.http, timeout=60)) as connection:
            while not self._over.is_set():
                model = chance.choice(self.models)
                began = time.monotonic()
                self._note(model, began, self._asked(connection, model))

    def _asked(self, connection: HTTPConnection, model: str) -> str:
        """What went wrong."""
        try:
            connection.request("POST", f"/v2/models/{model}/infer", BODY)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            return repr(error)
        return "" if answer.status == 200 else f"{answer.status} {text!r}"

    def _by_grpc(self, chance: random.Random) -> None:
        tensor = InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
        with InferenceServerClient(self.grpc) as client:
            while not self._over.is_set():
                model = chance.choice(self.models)
                began = time.monotonic()
                try:
                    client.infer(model, [tensor], client_timeout=60)
                except InferenceServerException as error:
                    self._note(model, began, f"grpc {error}")
                    continue
                self._note(model, began, "")

    def _note(self, model: str, began: float, failure: str) -> None:
        self.sent[model] += 1
        self.took_s.append((began, time.monotonic() - began))
        if failure:
            self.failures.append((began, model, failure))
        time.sleep(self.pause_s)
