"""Who may: what a user asks of us, put to the API server as a SubjectAccessReview.

Owns the answers of the last seconds. Whatever the API server does not allow is refused, and
while it does not answer nobody passes but `system:masters`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.metricsapi.authentication import AUTHENTICATED, MASTERS, User
from daemon.fleet.metricsapi.status import Refusal, forbidden, unavailable

# As long as the API server's own delegates remember an answer.
KEPT_S = 10.0
# An HPA asks every fifteen seconds: more users than this are not HPAs.
KEPT_ANSWERS = 1024
# An HPA gives up after half a minute, and has other metrics to ask for.
_TIMEOUT_S = 5.0
_RETRY_S = 5

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is asked for, in the words of RBAC."""

    verb: str
    group: str
    version: str
    resource: str
    namespace: str
    subresource: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    allowed: bool
    reason: str
    until_s: float


class Authorization:
    def __init__(self, cluster: Cluster, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._monotonic_s = monotonic_s
        self._answers: OrderedDict[tuple[User, Attributes], _Answer] = OrderedDict()

    async def check(self, user: User, wanted: Attributes) -> None:
        """Returns if the user may. Raises Refusal."""
        if MASTERS in user.groups:
            return
        answer = self._known(user, wanted) or await self._ask(user, wanted)
        if not answer.allowed:
            raise _refused(user, wanted, answer.reason)

    def _known(self, user: User, wanted: Attributes) -> _Answer | None:
        answer = self._answers.get((user, wanted))
        return answer if answer and self._monotonic_s() < answer.until_s else None

    async def _ask(self, user: User, wanted: Attributes) -> _Answer:
        asked_s = self._monotonic_s()
        try:
            review = await self._cluster.call(
                "POST", _REVIEWS, body=_review(user, wanted), timeout_s=_TIMEOUT_S
            )
        except ClusterError as error:
            raise unavailable(f"cannot ask who may: {error}", _RETRY_S) from None
        status = review.get("status") or {}
        # A review may deny outright what another authorizer would have allowed.
        allowed = status.get("allowed") is True and status.get("denied") is not True
        answer = _Answer(allowed, str(status.get("reason") or ""), asked_s + KEPT_S)
        self._keep(user, wanted, answer)
        return answer

    def _keep(self, user: User, wanted: Attributes, answer: _Answer) -> None:
        self._answers[user, wanted] = answer
        self._answers.move_to_end((user, wanted))
        if len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)


def check_discovery(user: User) -> None:
    """What is served here is told to everybody whom the cluster knows. Raises Refusal."""
    if AUTHENTICATED not in user.groups and MASTERS not in user.groups:
        raise forbidden(f"User {user.name!r} cannot look here: not authenticated")


def _review(user: User, wanted: Attributes) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "user": user.name,
        "groups": list(user.groups),
        "resourceAttributes": {key: text for key, text in asdict(wanted).items() if text},
    }
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    }


def _refused(user: User, wanted: Attributes, reason: str) -> Refusal:
    resource = "/".join(part for part in (wanted.resource, wanted.subresource) if part)
    message = (
        f"{wanted.resource}.{wanted.group} {wanted.name!r} is forbidden: "
        f"User {user.name!r} cannot {wanted.verb} resource {resource!r} "
        f"in API group {wanted.group!r} in the namespace {wanted.namespace!r}"
    )
    return forbidden(
        f"{message}: {reason}" if reason else message,
        name=wanted.name,
        group=wanted.group,
        kind=wanted.resource,
    )
