"""Who may change state: loopback, or whoever has the token."""

from types import SimpleNamespace

import pytest
from aiohttp.test_utils import make_mocked_request

from daemon.api import Guard, _Api, _is_loopback, _report

JSON = {"Content-Type": "application/json"}


def refusal(remote: str, token: str = "", **headers: str) -> int | None:
    api = _Api(SimpleNamespace(), Guard(token))  # type: ignore[arg-type]
    request = make_mocked_request("POST", "/v1/demand", headers=JSON | headers).clone(remote=remote)
    refused = api._refusal(request)
    return refused.status if refused else None


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_may_change_state_while_no_token_is_set(remote: str) -> None:
    assert refusal(remote) is None


@pytest.mark.parametrize("remote", ["10.0.0.7", "192.168.1.1", "fe80::1", "::ffff:10.0.0.1"])
def test_others_may_not(remote: str) -> None:
    assert refusal(remote) == 403


def test_with_a_token_only_the_token_counts() -> None:
    assert refusal("10.0.0.7", "secret", Authorization="Bearer secret") is None
    assert refusal("127.0.0.1", "secret") == 401
    assert refusal("127.0.0.1", "secret", Authorization="Bearer wrong") == 401
    assert refusal("10.0.0.7", "geheim", Authorization="Bearer gehéim") == 401


def test_a_form_of_a_browser_is_not_taken() -> None:
    text = {"Content-Type": "text/plain"}
    assert refusal("127.0.0.1", **text) == 415


@pytest.mark.parametrize("remote", [None, "", "localhost", "not an address"])
def test_what_is_no_address_is_not_loopback(remote: str | None) -> None:
    assert not _is_loopback(remote)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a", "'a': a report is an object"),
        ({}, "model: None; allowed: a model's name"),
        ({"model": ""}, "model: ''; allowed: a model's name"),
        ({"model": "a", "count": -1}, "count: -1; allowed: a number from 0 to 1e"),
        ({"model": "a", "count": True}, "count: True; allowed: a number"),
        ({"model": "a", "waiting": "3"}, "waiting: '3'; allowed: a number"),
        ({"model": "a", "oldest_wait_s": float("nan")}, "oldest_wait_s: nan; allowed: a number"),
        ({"model": "a", "colour": 1}, "colour: unknown key; allowed: model, count, waiting"),
    ],
)
def test_a_wrong_report_is_told_what_is_wrong(row: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?")):
        _report(row)
