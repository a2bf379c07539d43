"""The gossip of several pods over a real Mosquitto that dies, comes back, and lies."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest

from daemon.gossip import client, part
from daemon.gossip.client import Broker, Connection, retry_s
from daemon.gossip.figures import DESCRIPTIONS, WHYS, Figures
from daemon.gossip.messages import PodState, encoded
from daemon.gossip.part import Gossip
from daemon.learned import LearnedStore
from policies.peers import Copies
from policies.places import Places
from policies.snapshot import HOST
from tests.daemon.gossip.mosquitto import Mosquitto
from tests.daemon.gossip.podlike import MIB, QUICK, gossip_of, telemetry_of, tick

Join = Callable[..., Awaitable[Gossip]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto.start(tmp_path) as running:
        yield running


@pytest.fixture
async def join(broker: Mosquitto) -> AsyncIterator[Join]:
    joined: list[Gossip] = []

    async def join(pod: str, residents: str = "", store: LearnedStore | None = None) -> Gossip:
        gossip = gossip_of(broker.url, pod, telemetry_of(residents), store, QUICK)
        await gossip.open()
        joined.append(gossip)
        return gossip

    yield join
    for gossip in joined:
        await gossip.close()


async def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s, f"not so within {within_s:g} s"
        await asyncio.sleep(0.02)


def holds(gossip: Gossip, **residents: str) -> bool:
    """Whether it knows exactly these peers with these residents."""
    known = {name: "".join(sorted(peer.residents)) for name, peer in gossip.peers().items()}
    return known == residents


def die(gossip: Gossip) -> None:
    """As a SIGKILL would: the socket closes, and nothing was said."""
    connected = gossip._connection._client
    assert connected is not None
    socket = connected._client.socket()
    assert socket is not None
    for task in gossip._tasks:
        task.cancel()
    asyncio.get_running_loop().remove_reader(socket.fileno())
    socket.close()


async def test_pods_come_to_know_each_other_and_what_changes(join: Join) -> None:
    one, two = await join("one", "a"), await join("two", "bc")
    await eventually(lambda: holds(one, two="bc") and holds(two, one="a"))
    tick(one, "ac")
    await eventually(lambda: holds(two, one="ac"))
    assert one.problem is None


async def test_who_leaves_well_is_gone_at_once_and_leaves_nothing_behind(
    join: Join, broker: Mosquitto
) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    await two.close()
    await eventually(lambda: holds(one))
    await one.close()
    assert await asyncio.to_thread(broker.standing, "remora/#") == []


async def test_the_last_will_tells_of_a_sudden_death(join: Join) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    die(two)
    await eventually(lambda: holds(one), QUICK.expiry_s * 0.75)


async def test_a_broker_that_is_killed_and_comes_back_finds_the_same_fleet(
    join: Join, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "remora.gossip")
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b") and holds(two, one="a"))
    broker.kill()
    await eventually(lambda: not one.is_connected and not two.is_connected)
    tick(one, "ac")
    await asyncio.sleep(1.5)
    assert one.problem
    await asyncio.to_thread(broker.restart)
    await eventually(lambda: holds(one, two="b") and holds(two, one="ac"))
    assert one.problem is None
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "going on alone" in text]) == 2, "each pod says it once"
    assert said.count("gossip: back") == 2


async def test_what_a_dead_broker_never_answered_does_not_trouble_the_next_one(
    join: Join, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "remora.gossip")
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b") and holds(two, one="a"))
    os.kill(broker.pid, signal.SIGSTOP)
    tick(one, "ac")
    # It speaks by now, and waits for an answer.
    await asyncio.sleep(1.5)
    broker.kill()
    await eventually(lambda: not one.is_connected and not two.is_connected)
    await asyncio.to_thread(broker.restart)
    await eventually(lambda: holds(one, two="b") and holds(two, one="ac"), 8.0)
    await asyncio.sleep(client.ANSWER_TIMEOUT_S - 2)
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "going on alone" in text]) == 2, "each pod says it once"


async def test_a_broker_that_hangs_is_told_and_left_and_found_again(
    join: Join, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 0.5)
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b") and holds(two, one="a"))
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        tick(one, "ac")
        await eventually(lambda: not one.is_connected)
        assert one.problem
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    await eventually(lambda: holds(one, two="b") and holds(two, one="ac"), 20)


async def test_a_broker_that_lets_a_pod_write_only_of_itself_lets_it_gossip(
    tmp_path: Path, passwords: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "ECHO_S", 0.5)
    text = (Path(__file__).parents[3] / "docs" / "gossip.md").read_text("utf-8")
    access = tmp_path / "access"
    access.write_text("pattern" + text.split("```\npattern")[1].split("```")[0])
    lines = (
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {access}",
    )
    given = tmp_path / "given"
    given.write_text("pod:s3cret:1\n")
    with Mosquitto.start(tmp_path, *lines) as broker:
        found = Broker(broker.url, given)
        good = gossip_of(found, "pod", telemetry_of("a"), pace=QUICK)
        liar = gossip_of(found, "other", telemetry_of("b"), pace=QUICK)
        for each in (good, liar):
            await each.open()
        await eventually(lambda: good.is_connected and liar.is_connected)
        await eventually(lambda: holds(liar, pod="a"))
        await asyncio.sleep(QUICK.heartbeat_s)
        assert good.peers() == {}, "nobody may speak for a pod that he is not"
        await eventually(lambda: "may this user" in str(liar.problem))
        assert good.problem is None
        for each in (good, liar):
            await each.close()


async def test_without_a_broker_the_sidecar_starts_all_the_same_and_peers_expire(
    join: Join, broker: Mosquitto
) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    broker.kill()
    await eventually(lambda: holds(one), QUICK.expiry_s + 2)
    alone = await join("alone", "c")
    assert alone.peers() == {}
    assert alone.problem
    assert two.problem


async def test_a_newcomer_knows_what_its_peers_have_learned_when_it_has_joined(
    join: Join,
) -> None:
    store = LearnedStore(None)
    store.learn_footprint("a", {HOST: 300 * MIB}, 1.0, None)
    store.learn_load_time("a", 4.5, 1.0)
    old = await join("old", "a", store)
    await eventually(lambda: old.counted["messages_out"] > 0)
    learned = (await join("new")).learned("a", None)
    assert learned is not None
    assert learned.footprint_bytes == {HOST: 300 * MIB}
    assert learned.load_s == 4.5


async def test_hostile_messages_are_counted_and_change_nothing(
    join: Join, broker: Mosquitto
) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    hostile = {
        "malformed": "junk",
        "version": '{"version":9}',
        "too_large": '{"version":1,"run":"' + "x" * 65000 + '","sequence":1}' + " " * 1000,
        "duplicate": encoded(PodState(run=two.run, sequence=1)).decode(),
    }
    hostile["old"] = encoded(PodState(run=two.run, sequence=0)).decode()
    for payload in hostile.values():
        await asyncio.to_thread(broker.say, "remora/pods/two", payload)
    await asyncio.to_thread(broker.say, "remora/demand/nowhere", "{}")
    await asyncio.to_thread(broker.say, "remora/pods/-bad-", "{}")
    await eventually(lambda: one.dropped["topic"] == 1)
    assert {"malformed", "version", "too_large", "old", "unknown_model"} <= one.dropped.keys()
    assert set(one.dropped) <= set(WHYS)
    assert holds(one, two="b")
    assert one.is_connected


async def test_a_packet_beyond_all_bounds_never_comes(join: Join, broker: Mosquitto) -> None:
    one = await join("one", "a")
    before = one.counted["bytes_in"]
    await asyncio.to_thread(broker.say, "remora/pods/two", "x" * 100_000)
    await asyncio.to_thread(broker.say, "remora/pods/two", "small")
    await eventually(lambda: one.dropped["malformed"] == 1)
    assert one.counted["bytes_in"] - before < 10_000
    assert one.is_connected


async def test_a_hint_is_taken_by_one_pod_of_the_fleet_only(join: Join, broker: Mosquitto) -> None:
    fleet = [await join(name) for name in ("one", "two", "three")]
    await eventually(lambda: all(len(each.peers()) == 2 for each in fleet))
    await asyncio.to_thread(broker.say, "remora/demand/b", '{"count": 7}')
    await asyncio.to_thread(broker.say, "remora/demand/c", '{"pods": 3}')
    await eventually(lambda: all(each.demand._counts.get("c") == 1 for each in fleet))
    assert sorted(each.demand._counts.get("b", 0) for each in fleet) == [0, 0, 7]


async def test_a_hint_that_was_left_lying_is_not_taken_by_a_newcomer(
    join: Join, broker: Mosquitto
) -> None:
    await asyncio.to_thread(broker.say, "remora/demand/a", "{}", "-r")
    newcomer = await join("new")
    await asyncio.to_thread(broker.say, "remora/demand/b", "{}")
    await eventually(lambda: bool(newcomer.demand._counts))
    assert newcomer.demand._counts == {"b": 1}


async def test_an_operator_drains_a_pod_and_calls_it_off(join: Join, broker: Mosquitto) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    await asyncio.to_thread(broker.say, "remora/drain/two", "{}", "-r")
    await eventually(lambda: one.peers()["two"].leaving)
    assert two.asked_to_leave
    assert not one.is_leaving
    await asyncio.to_thread(broker.say, "remora/drain/two", "", "-r")
    await eventually(lambda: not one.peers()["two"].leaving)


async def test_a_pod_that_restarts_while_drained_never_says_that_it_stays(
    join: Join, broker: Mosquitto
) -> None:
    one = await join("one", "a")
    await asyncio.to_thread(broker.say, "remora/drain/two", "{}", "-r")
    await join("two", "b")
    await eventually(lambda: "two" in one.peers())
    assert one.peers()["two"].leaving


async def test_two_pods_of_one_name_are_told(join: Join) -> None:
    one = await join("same", "a")
    await eventually(lambda: one.counted["messages_out"] > 0)
    two = await join("same", "b")
    told = "another pod calls itself same too"
    await eventually(lambda: told in (one.problem, two.problem), 20)
    assert one.peers() == two.peers() == {}


async def test_what_somebody_erased_is_said_again(join: Join, broker: Mosquitto) -> None:
    one, two = await join("one", "a"), await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    await asyncio.to_thread(broker.say, "remora/pods/two", "", "-r")
    await eventually(lambda: bool(two.counted["messages_in"]) and holds(one, two="b"))
    assert two.is_connected


async def test_the_figures_are_told_by_their_described_names(join: Join) -> None:
    one = await join("one", "a")
    await join("two", "b")
    await eventually(lambda: holds(one, two="b"))
    one.telemetry.registry.register(Figures(one))
    page = generate_latest(one.telemetry.registry).decode()
    for name, kind, *_ in DESCRIPTIONS:
        assert f"# TYPE {name} {kind}\n" in page
    assert "\nremora_gossip_connected 1.0\n" in page
    assert "\nremora_gossip_peers 1.0\n" in page
    assert '\nremora_gossip_dropped_total{why="malformed"} 0.0\n' in page
    assert "\nremora_gossip_residents{" not in page, "no tick has seen the peer yet"
    await eventually(lambda: one.copies("a")["a"] is not None)
    snapshot = one.telemetry.latest.snapshot
    models = {n: replace(m, copies=one.copies(n)[n]) for n, m in snapshot.models.items()}
    one.telemetry.took(replace(one.telemetry.latest, snapshot=replace(snapshot, models=models)))
    page = generate_latest(one.telemetry.registry).decode()
    assert '\nremora_gossip_residents{elsewhere="none"} 1.0\n' in page
    assert '\nremora_gossip_residents{elsewhere="more"} 0.0\n' in page


async def test_the_state_page_tells_of_peers(join: Join) -> None:
    one = await join("one", "a")
    await join("two", "bc")
    await eventually(lambda: holds(one, two="bc"))
    told = one.told()
    assert told["connected"]
    assert told["peers"]["two"]["residents"] == ["b", "c"]
    assert told["peers"]["two"]["heard_ago_s"] >= 0


async def test_where_models_stand_in_the_fleet_is_known_soon_after_it_has_changed(
    join: Join, broker: Mosquitto
) -> None:
    one = await join("one", "a")
    assert one.copies("ab") == {"a": None, "b": None}, "it is alone"
    two = await join("two", "ab")
    order = Places.of(["one", "two"]).heirs("a", 2)

    def found(model: str) -> Copies | None:
        return one.copies(model)[model]

    await eventually(lambda: found("a") is not None)
    at_two = order[0] == "two"
    assert found("a") == Copies(1, 0, order.index("one"), ahead=int(at_two))
    assert found("c") == Copies(0, 0, Places.of(["one", "two"]).heirs("c", 2).index("one"))
    two.leave()
    await eventually(lambda: found("a") == Copies(0, 1, 0))
    await eventually(lambda: two.copies("a")["a"] == Copies(1, 0, None, ahead=1))
    await two.close()
    await eventually(lambda: found("a") is None)


def test_attempts_come_ever_later_and_apart() -> None:
    assert [retry_s(n, 1.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert retry_s(10**6, 0.0) == 15.0
    assert retry_s(3, 0.2) < retry_s(3, 0.8)


# --- who is let in ----------------------------------------------------------------------------


async def connects(broker: Broker) -> Gossip:
    gossip = gossip_of(broker, "one", telemetry_of("a"), pace=QUICK)
    await gossip.open()
    return gossip


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """The broker's: one user, pod, whose password is s3cret:1."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not on PATH")
    path = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", path, "pod", "s3cret:1"], check=True)
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """For both sides, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and it is not here")
    certificate, key = tmp_path / "both.pem", tmp_path / "both.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


async def test_credentials_are_shown_and_read_again_when_they_change(
    tmp_path: Path, passwords: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LONGEST_RETRY_S", 0.2)
    monkeypatch.setattr(part, "JOIN_S", 0.5)
    given = tmp_path / "given"
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with Mosquitto.start(tmp_path, *lines) as broker:
        gossip = await connects(Broker(broker.url, given))
        assert f"{given}: No such file or directory" in str(gossip.problem)
        given.write_text("no colon\n")
        await eventually(lambda: "USER:PASSWORD" in str(gossip.problem))
        given.write_text("pod:wrong\n")
        await eventually(lambda: "Not authorized" in str(gossip.problem))
        given.write_text("pod:s3cret:1\n")
        await eventually(lambda: gossip.is_connected, 20)
        await gossip.close()


# The library leaves a socket whose handshake failed to the collector.
@pytest.mark.filterwarnings(
    "ignore:.*<ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <ssl.SSLSocket:ResourceWarning",
)
async def test_tls_is_mutual_and_an_unknown_broker_is_not_trusted(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    shown, key = certificate
    lines = (
        "allow_anonymous true",
        f"cafile {shown}",
        f"certfile {shown}",
        f"keyfile {key}",
        "require_certificate true",
    )
    with Mosquitto.start(tmp_path, *lines) as broker:
        url = broker.url.replace("mqtt://", "mqtts://")
        good = await connects(Broker(url, None, shown, shown, key))
        await eventually(lambda: good.is_connected)
        await good.close()
        stranger = await connects(Broker(url))
        assert "CERTIFICATE_VERIFY_FAILED" in str(stranger.problem)
        await stranger.close()
        nameless = await connects(Broker(url, None, shown))
        assert not nameless.is_connected
        assert nameless.problem
        await nameless.close()
    gc.collect()


async def test_a_broker_that_never_answers_keeps_nobody_waiting(tmp_path: Path) -> None:
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gossip = gossip_of(f"mqtt://127.0.0.1:{port}", "one", telemetry_of("a"), pace=QUICK)
    async with asyncio.timeout(8):
        await gossip.open()
        assert not gossip.is_connected
        assert gossip.problem
        await gossip.close()
    server.close()
    for writer in held:
        writer.close()
    await server.wait_closed()
    gc.collect()


def test_a_connection_has_a_problem_until_it_is_made() -> None:
    assert Connection.__dataclass_fields__["problem"].default == "not connected yet"
