"""The manifests agree with the code. No API server reads them here yet."""

from pathlib import Path
from typing import Any

import yaml

from daemon.api import OPENAPI
from daemon.settings import Settings, table, variable

# Triton's --exit-timeout-secs, where nobody says another.
TRITON_EXITS_WITHIN_S = 30
COMPONENTS = Path(__file__).parent.parent / "deploy" / "components"


def sidecar(component: str = "sidecar") -> tuple[dict[str, Any], dict[str, Any]]:
    written = (COMPONENTS / component / "patch.yaml").read_text()
    pod = yaml.safe_load(written)["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    return pod, container


def test_every_variable_is_a_setting() -> None:
    _, container = sidecar()
    known = {name for _, name, _, _ in table(Settings)}
    assert {each["name"] for each in container["env"]} <= known


def test_port_and_state_are_where_the_sidecar_has_them() -> None:
    _, container = sidecar()
    settings = Settings()
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {
        "remora": settings.http_port,
        "door-http": settings.front_door_http_port,
        "door-grpc": settings.front_door_grpc_port,
    }
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    assert str(settings.state_directory) in mounted
    env = {each["name"]: each.get("value", "") for each in container["env"]}
    assert env[variable("model_repository")] in mounted
    assert str(Path(env[variable("policy")]).parent) in mounted


def test_every_volume_is_there_but_tritons_own() -> None:
    pod, container = sidecar()
    named = {each["name"] for each in container["volumeMounts"]}
    assert named - {each["name"] for each in pod["volumes"]} == {"models"}


def test_triton_is_not_told_to_end_before_its_pod_has_left() -> None:
    pod, container = sidecar()
    (triton,) = pod["containers"]
    command = triton["lifecycle"]["preStop"]["exec"]["command"]
    settings = Settings(
        leave_deadline=next(
            each["value"] for each in container["env"] if each["name"] == "REMORA_LEAVE_DEADLINE"
        )
    )
    assert command[-1] == f"http://127.0.0.1:{settings.http_port}/v1/leave"
    assert "post" in OPENAPI["paths"]["/v1/leave"]
    assert pod["terminationGracePeriodSeconds"] >= settings.leave_deadline_s + TRITON_EXITS_WITHIN_S
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["remora", "leave"]


def test_a_pod_that_gossips_says_what_the_gateway_knows_it_by() -> None:
    _, container = sidecar("gossip")
    said = {each["name"]: each.get("value", "") for each in container["env"]}
    known = {name for _, name, _, _ in table(Settings)}
    assert said.keys() - known == {"POD_IP"}
    # A variable is put in only where it stands before what uses it.
    assert list(said).index("POD_IP") < list(said).index("REMORA_GOSSIP_PLACE")
    place = said["REMORA_GOSSIP_PLACE"].replace("$(POD_IP)", "10.0.0.7")
    settings = Settings(gossip=said["REMORA_GOSSIP"], gossip_place=place)
    gateway = yaml.safe_load((COMPONENTS / "gateway" / "envoy.yaml").read_text())
    (pods,) = gateway["static_resources"]["clusters"]
    (endpoint,) = pods["load_assignment"]["endpoints"][0]["lb_endpoints"]
    port = endpoint["endpoint"]["address"]["socket_address"]["port_value"]
    assert settings.gossip_place == f"10.0.0.7:{port}"


def test_it_never_holds_triton_back() -> None:
    _, container = sidecar()
    assert container["restartPolicy"] == "Always"
    assert "readinessProbe" not in container
    assert "startupProbe" not in container
