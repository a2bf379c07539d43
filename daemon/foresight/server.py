"""Asks a Prometheus server, within bounds of time and size, and names each way it may fail.

Owns the wire: credentials, TLS, patience, how much of an answer is read. Refuses to know what a
query means, and to try again: whoever asks does so in time. Every call blocks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

TIMEOUT_S = 5.0
"""How long a whole answer may take; a byte may not take longer."""
LARGEST_BYTES = 4 * 2**20
"""Of one answer. To read it holds the interpreter: 4 MiB are some hundredths of a second."""
_READ_BYTES = 1 << 16
_SHOWN = 200
# Prometheus' own words for "ask for less".
_LESS = ("exceeded maximum resolution", "too many samples", "query timed out")


class AskError(RuntimeError):
    """No answer that can be used, and why; holds no credentials."""


class TooLarge(AskError):
    """The answer is, or would be, larger than anybody wants it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and what it is shown.

    credentials: a file of one line, USER:PASSWORD or a bearer token. ca: authorities to trust
    instead of the system's. All files are read again with each question.
    """

    url: str
    credentials: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Server:
    """A Prometheus server; each method raises AskError."""

    def __init__(self, address: Address) -> None:
        self._address = address
        session = self._session = requests.Session()
        # What the environment says of proxies and passwords is not meant for us.
        session.trust_env = False
        session.hooks["response"].append(_read_bounded)
        if address.credentials is not None:
            session.auth = _Credentials(address.credentials)
        if address.ca is not None:
            session.verify = str(address.ca)
        if address.certificate is not None and address.key is not None:
            session.cert = str(address.certificate), str(address.key)
        self._client = PrometheusConnect(
            address.url.rstrip("/"),
            # What is not packed cannot turn out larger than it came.
            headers={"Accept-Encoding": "identity"},
            retry=Retry(0, read=False),
            session=session,
            timeout=TIMEOUT_S,
        )

    def close(self) -> None:
        self._session.close()

    def now(self, query: str) -> Sequence[Any]:
        """The series of ``query`` as they are now."""
        return self._ask(lambda: self._client.custom_query(query))

    def stepped(self, query: str, first_s: int, last_s: int, step_s: int) -> Sequence[Any]:
        """The series of ``query`` at ``first_s`` and each step later, up to ``last_s``."""
        first, last = (datetime.fromtimestamp(at_s, UTC) for at_s in (first_s, last_s))
        return self._ask(lambda: self._client.custom_query_range(query, first, last, str(step_s)))

    def _ask(self, question: Callable[[], Any]) -> Sequence[Any]:
        try:
            answer = question()
        except AskError:
            raise
        except requests.exceptions.SSLError as error:
            raise AskError(f"TLS failed: {_inmost(error)}") from None
        except requests.Timeout:
            raise AskError(f"no answer within {TIMEOUT_S:g} s") from None
        except (PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
            if isinstance(error, requests.RequestException) and not _is_nonsense(error):
                raise AskError(f"no answer: {_inmost(error)}") from None
            raise AskError("what answers there is not a Prometheus") from None
        except (requests.RequestException, HTTPError, OSError) as error:
            raise AskError(f"no answer: {_inmost(error)}") from None
        except RecursionError:
            raise AskError("what answers there is not a Prometheus") from None
        if not isinstance(answer, list):
            raise AskError("the query gives no series")
        return answer


class _Credentials(AuthBase):
    """Shows what stands in a file, read each time: passwords and tokens are changed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            line = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AskError(f"credentials: {error}") from None
        if not line or "\n" in line:
            raise AskError(f"credentials: {self._path} is not one line")
        user, colon, password = line.partition(":")
        if colon:
            return HTTPBasicAuth(user.encode(), password.encode())(request)
        request.headers["Authorization"] = f"Bearer {line}"
        return request


def _read_bounded(response: requests.Response, *_: Any, **__: Any) -> None:
    """Called with every response, before its body is read: reads it, up to our bounds.

    The session's own timeout is for each byte, so that a slow answer could take for ever.
    """
    until_s = time.monotonic() + TIMEOUT_S
    body = bytearray()
    while piece := response.raw.read1(_READ_BYTES):
        body += piece
        if len(body) > LARGEST_BYTES:
            response.close()
            raise TooLarge(f"more than {LARGEST_BYTES // 2**20} MiB")
        if time.monotonic() > until_s:
            response.close()
            raise AskError(f"no whole answer within {TIMEOUT_S:g} s")
    # There is no other way to hand over a body that has been read.
    response._content = bytes(body)
    response._content_consumed = True
    _judge(response)


def _judge(response: requests.Response) -> None:
    status = response.status_code
    if status < 300:
        return
    said = _said(response)
    if any(words in said for words in _LESS):
        raise TooLarge(said)
    raise AskError(": ".join(filter(None, [f"{status} {response.reason}", said])))


def _said(response: requests.Response) -> str:
    """Prometheus' own message; where it sent none, the start of what came instead."""
    try:
        said = str(response.json()["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        said = response.content[: 4 * _SHOWN].decode("utf-8", "replace")
    return " ".join(said.split())[:_SHOWN]


def _is_nonsense(error: Exception) -> bool:
    return isinstance(error, requests.JSONDecodeError)


def _inmost(error: BaseException) -> str:
    """What went wrong at the bottom; what is above repeats the address."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (str(error) or type(error).__name__)[:_SHOWN]
