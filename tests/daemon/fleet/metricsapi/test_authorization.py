"""Who may: the API server's word, remembered for seconds, and nobody's word while it is away."""

import pytest

from daemon.fleet.metricsapi import authorization
from daemon.fleet.metricsapi.authentication import User
from daemon.fleet.metricsapi.authorization import Attributes, Authorization, check_discovery
from daemon.fleet.metricsapi.status import Refusal
from tests.daemon.fleet.metricsapi.serving_apiserver import running

HPA = User(
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "7",
    ("system:serviceaccounts", "system:authenticated"),
    (("scopes", ("view",)),),
)
NOBODY = User("nobody", groups=("system:authenticated",))
PODS = Attributes(
    verb="get",
    group="custom.metrics.k8s.io",
    version="v1beta2",
    resource="pods",
    subresource="remora_load",
    name="*",
    namespace="models",
)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_review_says_who_and_what() -> None:
    async with running() as (server, cluster):
        server.allowed.add((HPA.name, "pods/remora_load"))
        await Authorization(cluster).check(HPA, PODS)
        assert server.reviews == [
            {
                "user": HPA.name,
                "uid": "7",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": {"scopes": ["view"]},
                "resourceAttributes": {
                    "verb": "get",
                    "group": "custom.metrics.k8s.io",
                    "version": "v1beta2",
                    "resource": "pods",
                    "subresource": "remora_load",
                    "name": "*",
                    "namespace": "models",
                },
            }
        ]


async def test_whoever_may_not_is_told_what_they_may_not() -> None:
    async with running() as (_, cluster):
        with pytest.raises(Refusal) as raised:
            await Authorization(cluster).check(NOBODY, PODS)
    assert raised.value.code == 403
    assert raised.value.reason == "Forbidden"
    assert raised.value.message == (
        "pods.custom.metrics.k8s.io '*' is forbidden: User 'nobody' cannot get resource "
        "'pods/remora_load' in API group 'custom.metrics.k8s.io' in the namespace 'models'"
    )


async def test_an_outright_denial_outdoes_what_is_allowed() -> None:
    async with running() as (server, cluster):
        server.allowed.add((HPA.name, "pods/remora_load"))
        server.denied.add((HPA.name, "pods/remora_load"))
        with pytest.raises(Refusal, match="in the namespace 'models': denied outright"):
            await Authorization(cluster).check(HPA, PODS)


async def test_an_answer_holds_for_ten_seconds() -> None:
    clock = Clock()
    async with running() as (server, cluster):
        server.allowed.add((HPA.name, "pods/remora_load"))
        checking = Authorization(cluster, clock)
        await checking.check(HPA, PODS)
        server.allowed.clear()

        clock.now_s = 9.9
        await checking.check(HPA, PODS)
        assert len(server.reviews) == 1

        clock.now_s = 10.0
        with pytest.raises(Refusal, match="forbidden"):
            await checking.check(HPA, PODS)
        assert len(server.reviews) == 2

        server.allowed.add((HPA.name, "pods/remora_load"))
        clock.now_s = 19.9
        with pytest.raises(Refusal, match="forbidden"):
            await checking.check(HPA, PODS)
        clock.now_s = 20.0
        await checking.check(HPA, PODS)
        assert len(server.reviews) == 3


async def test_an_answer_is_for_one_user_and_one_thing() -> None:
    async with running() as (server, cluster):
        server.allowed.add((HPA.name, "pods/remora_load"))
        checking = Authorization(cluster)
        await checking.check(HPA, PODS)
        fewer = User(HPA.name, HPA.uid, HPA.groups[:1], HPA.extra)
        await checking.check(fewer, PODS)
        assert len(server.reviews) == 2
        with pytest.raises(Refusal, match="forbidden"):
            await checking.check(NOBODY, PODS)


async def test_masters_pass_without_a_question() -> None:
    async with running() as (server, cluster):
        server.is_down = True
        await Authorization(cluster).check(User("admin", groups=("system:masters",)), PODS)
        assert server.reviews == []


async def test_while_the_api_server_is_down_nobody_passes() -> None:
    clock = Clock()
    async with running() as (server, cluster):
        server.allowed.add((HPA.name, "pods/remora_load"))
        checking = Authorization(cluster, clock)
        await checking.check(HPA, PODS)
        server.is_down = True
        clock.now_s = 5.0
        await checking.check(HPA, PODS)
        clock.now_s = 10.0
        with pytest.raises(Refusal) as raised:
            await checking.check(HPA, PODS)
        assert (raised.value.code, raised.value.reason) == (503, "ServiceUnavailable")
        assert raised.value.headers == {"Retry-After": "5"}

        # A failure is not an answer: it is asked again at once.
        server.is_down = False
        await checking.check(HPA, PODS)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "KEPT_ANSWERS", 2)
    async with running() as (server, cluster):
        checking = Authorization(cluster)
        users = [User(name) for name in ("a", "b", "c")]
        server.allowed.update((user.name, "pods/remora_load") for user in users)
        for user in users:
            await checking.check(user, PODS)
        await checking.check(users[2], PODS)
        await checking.check(users[1], PODS)
        assert len(server.reviews) == 3
        await checking.check(users[0], PODS)
        assert len(server.reviews) == 4


@pytest.mark.parametrize("group", ["system:authenticated", "system:masters"])
def test_discovery_is_for_everybody_who_is_known(group: str) -> None:
    check_discovery(User("ann", groups=(group,)))


def test_discovery_is_not_for_anonymous_callers() -> None:
    with pytest.raises(Refusal) as raised:
        check_discovery(User("system:anonymous", groups=("system:unauthenticated",)))
    assert raised.value.code == 403
