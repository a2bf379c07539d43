"""Small Deployments: one model, a known rate, and pods that start without chance."""

from policies.policy import Policy
from simulations.pod.spec import PodSpec
from simulations.scaling.deployment import DeploymentSpec
from simulations.scaling.run import Limits, Setting
from simulations.scaling.traffic import Line, Traffic
from simulations.workloads.catalogue import GIB, Profile

MODEL = Profile(2 * GIB, load_s=5.0, service_s=0.1)


def traffic(*points: tuple[float, float], duration_s: float = 600.0, **others: object) -> Traffic:
    """Requests that take a tenth of a second each, at the rates of these points."""
    said = {"shares": {"a": 1.0}, "catalogue": {"a": MODEL}, "seed": 1, **others}
    return Traffic(Line(points), duration_s, **said)  # type: ignore[arg-type]


def setting(
    *points: tuple[float, float],
    duration_s: float = 600.0,
    replicas: int = 2,
    limits: Limits | None = None,
    scaling: object = None,
    **others: object,
) -> Setting:
    """Pods that run after 20 s and are Ready 15 s and a load later."""
    policy = Policy.model_validate({"models": {"a": {"pin": True}}, "scaling": scaling or {}})
    said = {"slo_s": 0.8, "seed": 1, **others}
    return Setting(
        traffic=traffic(*points, duration_s=duration_s),
        policy=policy,
        pod=PodSpec(16 * GIB),
        deployment=DeploymentSpec(replicas, jitter=0.0),
        limits=limits or Limits(),
        **said,  # type: ignore[arg-type]
    )
