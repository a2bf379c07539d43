"""What simulated sidecars know of each other, whatever breaks between them."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.policy import Policy
from simulations.fleet.broker import Cut, GossipSpec
from simulations.fleet.churn import Add, Change, Drain, Kill, Rollout
from simulations.fleet.outcome import figures
from simulations.fleet.routing import RoutingName
from simulations.fleet.run import FleetSpec, Run, Setting, simulate
from simulations.pod.spec import PodSpec
from simulations.workloads.arrivals import Workload
from simulations.workloads.catalogue import GIB, Profile
from simulations.workloads.generators import zipf

MODELS = 10
PROFILE = Profile(GIB, 1.0)


def setting(
    pods: int,
    duration_s: float,
    *,
    rate: float = 2.0,
    gossip: GossipSpec | None = None,
    churn: tuple[Change, ...] = (),
    seed: int = 0,
) -> Setting:
    traffic = zipf(models=MODELS, rate=rate, duration_s=duration_s, seed=seed)
    return Setting(
        traffic,
        dict.fromkeys(traffic.names, PROFILE),
        Policy(),
        PodSpec(8 * GIB),
        FleetSpec(pods, start_s=2.0),
        gossip or GossipSpec(),
        churn,
        seed=seed,
    )


def quiet_after(whole: Setting, until_s: float) -> Setting:
    """The same, with no request after that."""
    early = whole.workload.part(0.0, until_s)
    return replace(whole, workload=Workload(early.names, whole.workload.duration_s, early.runs))


def disagreements(run: Run) -> list[str]:
    """What any pod believes of another that is not so."""
    wrong = []
    held = {member.name: member.residents for member in run.members if member.is_here}
    for member in run.members:
        if not member.is_here:
            continue
        assert member.fleet is not None
        said = {name: set(peer.residents) for name, peer in member.fleet.peers.items()}
        others = {name: residents for name, residents in held.items() if name != member.name}
        if said != others:
            wrong.append(f"{member.name}: {said}, not {others}")
    return wrong


_CUTS = st.builds(
    lambda from_s, lasts_s, share, is_outage: Cut(from_s, from_s + lasts_s, share, is_outage),
    st.integers(1, 30),
    st.integers(1, 20),
    st.floats(0, 1),
    st.booleans(),
)
_CHANGES = st.one_of(
    st.builds(Kill, st.integers(1, 40).map(float)),
    st.builds(Drain, st.integers(1, 40).map(float), notice_s=st.just(3.0)),
    st.builds(Add, st.integers(1, 40).map(float)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(2, 5),
    st.lists(_CUTS, max_size=2),
    st.lists(_CHANGES, max_size=2),
    st.integers(0, 1000),
)
def test_once_all_is_whole_again_every_pod_knows_what_every_other_holds(
    pods: int, cuts: list[Cut], churn: list[Change], seed: int
) -> None:
    """In bounded time: who was cut off is back within ten seconds, says what stands at once, and
    what was said of those who died meanwhile stands for 190 s."""
    gossip = GossipSpec(reconnect_s=10.0, cuts=tuple(cuts))
    whole = setting(pods, 300.0, gossip=gossip, churn=tuple(churn), seed=seed)
    run = Run(quiet_after(whole, 45.0), RoutingName.BY_MODEL, gossip=True)
    run.outcome("remora")
    assert disagreements(run) == []


def test_a_pod_that_dies_is_forgotten_within_seconds() -> None:
    outcome = simulate(setting(5, 40.0, churn=(Kill(20.0),)), RoutingName.BY_MODEL, gossip=True)
    (healed,) = outcome.spoken.healed
    assert healed.agreed_s is not None
    assert 0 < healed.agreed_s - healed.from_s <= 2.0


def test_adding_one_pod_to_many_moves_about_its_part_of_the_models() -> None:
    whole = setting(20, 10.0, churn=(Add(1.0),))
    traffic = zipf(models=400, rate=0.1, duration_s=10.0)
    models = dict.fromkeys(traffic.names, PROFILE)
    many = replace(whole, workload=traffic, catalogue=models)
    run = Run(many, RoutingName.BY_MODEL, gossip=False)
    moved = figures(run.outcome("no-gossip"))["moved"]
    assert 400 / 21 / 2 <= moved <= 2 * 400 / 21


def test_a_rollout_replaces_every_pod_and_loses_no_request() -> None:
    whole = setting(3, 90.0, churn=(Rollout(5.0, notice_s=5.0),))
    run = Run(whole, RoutingName.BY_MODEL, gossip=True)
    outcome = run.outcome("remora")
    assert [member.number for member in run.members if member.is_here] == [3, 4, 5]
    assert figures(outcome)["failed"] == 0


def test_random_routing_has_every_pod_load_what_by_model_has_one() -> None:
    whole = setting(4, 120.0)
    by_model = figures(simulate(whole, RoutingName.BY_MODEL, gossip=True))
    random = figures(simulate(whole, RoutingName.RANDOM, gossip=False))
    assert random["loads"] > 2 * by_model["loads"]
    assert random["copies_mean"] > 2 * by_model["copies_mean"]
    assert random["said_per_s"] == 0 < by_model["said_per_s"]


def test_a_lost_delivery_is_made_good_by_the_next_heartbeat() -> None:
    gossip = GossipSpec(loss=0.5, heartbeat_s=5.0)
    run = Run(
        quiet_after(setting(3, 120.0, gossip=gossip), 20.0), RoutingName.BY_MODEL, gossip=True
    )
    run.outcome("remora")
    assert disagreements(run) == []
