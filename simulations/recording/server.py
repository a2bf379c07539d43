"""Asks a Prometheus server, and gives each way it may fail a name.

Owns the wire: credentials, patience, retries, what an answer means. Knows nothing of counts or
files.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase
from urllib3.util import Retry

from simulations.recording.errors import (
    BadQuery,
    BadSpec,
    RecordError,
    TooLarge,
    Unauthorised,
    Unreachable,
)
from simulations.recording.spec import RecordSpec

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# Prometheus' own words for "ask for less": a limit of points, of samples, of time.
_LESS = ("exceeded maximum resolution", "too many samples", "query timed out")
_BODY_SHOWN = 200

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Samples:
    """One series as Prometheus gives it."""

    labels: Labels
    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]


class _Failing(Unreachable):
    """What may pass if one waits."""


class Server:
    """A Prometheus server; each method raises RecordError."""

    def __init__(self, spec: RecordSpec, sleep: Callable[[float], None] = time.sleep) -> None:
        self._spec, self._sleep = spec, sleep
        session = self._session = requests.Session()
        session.hooks["response"].append(self._judge)
        if spec.token_file is not None or spec.token is not None:
            session.auth = _Bearer(spec)
        if spec.ca_file is not None:
            if not spec.ca_file.is_file():
                raise BadSpec(f"CA file {spec.ca_file} is not there")
            session.verify = str(spec.ca_file)
        # Retries are ours: whether one pays depends on what the body says.
        self._client = PrometheusConnect(
            spec.url.rstrip("/"), retry=Retry(0), session=session, timeout=spec.timeout_s
        )

    def close(self) -> None:
        self._session.close()

    def raw(self, selector: str, from_ms: int, to_ms: int) -> list[Samples]:
        """Every sample after ``from_ms`` and up to ``to_ms``, as it was scraped."""
        query = f"{selector}[{to_ms - from_ms}ms]"
        answer = self._ask(
            lambda: self._client.custom_query(query, params={"time": f"{to_ms / 1000:.3f}"})
        )
        found = (_samples(each) for each in answer)
        # Prometheus before 3 gives what lies exactly at the start too.
        return [late for each in found if len((late := _after(each, from_ms)).time_ms)]

    def stepped(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Samples]:
        """What ``query`` is at ``first_ms`` and each step later, up to ``last_ms``."""
        params = {"start": f"{first_ms / 1000:.3f}", "end": f"{last_ms / 1000:.3f}"}
        begin, end = _at(first_ms), _at(last_ms)
        answer = self._ask(
            lambda: self._client.custom_query_range(
                query, begin, end, f"{step_ms / 1000:.3f}", params=params
            )
        )
        return [_samples(each) for each in answer]

    def series(self, selector: str, from_ms: int, to_ms: int) -> list[Labels]:
        """The labels of every series that had a sample about this time."""
        begin, end = _at(from_ms), _at(to_ms)
        answer = self._ask(
            lambda: self._client.get_series(begin, end, params={"match[]": selector})
        )
        return [dict(each) for each in answer]

    def metrics(self) -> list[str]:
        """The name of every metric there is."""
        return [str(each) for each in self._ask(self._client.all_metrics)]

    def _ask(self, question: Callable[[], Any]) -> Sequence[Any]:
        pause_s = _FIRST_PAUSE_S
        for _ in range(self._spec.retries):
            try:
                return self._once(question)
            except _Failing:
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self._once(question)

    def _once(self, question: Callable[[], Any]) -> Sequence[Any]:
        source = self._spec.source
        try:
            answer = question()
        except RecordError:
            raise
        except requests.exceptions.SSLError as error:
            raise Unreachable(f"{source}: TLS failed: {_inmost(error)}") from None
        except requests.Timeout:
            raise _Failing(f"{source}: no answer within {self._spec.timeout_s:g} s") from None
        except (PrometheusApiClientException, requests.JSONDecodeError, KeyError, TypeError):
            raise Unreachable(f"{source}: what answers there is not a Prometheus") from None
        except requests.RequestException as error:
            raise _Failing(f"{source}: no answer: {_inmost(error)}") from None
        if not isinstance(answer, list):
            raise Unreachable(f"{source}: what answers there is not a Prometheus")
        return answer

    def _judge(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Called with every response, before the client looks at it."""
        status, source = response.status_code, self._spec.source
        if status < 400:
            return
        said = _said(response)
        if status in (401, 403):
            raise Unauthorised(f"{source}: {status} {response.reason}; give a valid bearer token")
        if any(words in said for words in _LESS):
            raise TooLarge(f"{source}: {said}")
        if status in (400, 422):
            raise BadQuery(f"{source}: {said}")
        if status in (408, 429) or status >= 500:
            raise _Failing(f"{source}: {status} {response.reason}: {said}")
        raise Unreachable(f"{source}: {status} {response.reason}; is this a Prometheus?")


class _Bearer(AuthBase):
    """Puts the token on each request; a file's is read each time, for tokens are rotated."""

    def __init__(self, spec: RecordSpec) -> None:
        self._spec = spec

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request

    def _token(self) -> str:
        if self._spec.token_file is None:
            return (self._spec.token or "").strip()
        return _token_in(self._spec.token_file)


def _token_in(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSpec(f"token file {path}: {error}") from None
    if not token:
        raise BadSpec(f"token file {path} is empty")
    return token


def _said(response: requests.Response) -> str:
    """Prometheus' own message; where it sent none, the start of what came instead."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:_BODY_SHOWN].strip()


def _inmost(error: BaseException) -> str:
    """What went wrong at the bottom. What requests says itself repeats the address it was
    given, which may hold credentials."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return str(error) or type(error).__name__


def _samples(series: Any) -> Samples:
    values = np.array([(float(at), float(value)) for at, value in series["values"]])
    labels = {str(name): str(value) for name, value in series["metric"].items()}
    return Samples(labels, np.rint(values[:, 0] * 1000).astype(np.int64), values[:, 1])


def _after(samples: Samples, from_ms: int) -> Samples:
    late = int(np.searchsorted(samples.time_ms, from_ms, side="right"))
    return Samples(samples.labels, samples.time_ms[late:], samples.value[late:])


def _at(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def quoted(text: str) -> str:
    """As a string in PromQL."""
    return json.dumps(text, ensure_ascii=False)
