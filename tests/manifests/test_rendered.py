"""The manifests as kustomize makes them: each agrees with the others, and with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from daemon.fleet.settings import PREFIX, FleetSettings
from daemon.pulling.command import USELESS
from daemon.pulling.registered import SERVER
from daemon.pulling.wishes import read_wishes
from daemon.settings import Settings, table
from policies.policy import Mode, Policy, Routing
from policies.source import parse
from tests.controlplane.client import Object
from tests.manifests.overlays import (
    APPLIED,
    DEPLOY,
    TRITONS,
    container,
    containers,
    kinds,
    listens,
    objects,
    of,
    templates,
)
from tests.manifests.programs import rendered

SETTINGS = Settings()
VARIABLES = {
    SERVER,
    *(name for _, name, _, _ in (*table(Settings), *table(FleetSettings, PREFIX))),
}


@pytest.mark.parametrize("name", APPLIED)
def test_every_object_is_there_once(name: str) -> None:
    found = [
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects(name)
    ]
    assert found
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", APPLIED)
def test_all_that_a_pod_mounts_is_there(name: str) -> None:
    for namespace, template in templates(objects(name)):
        here = {
            (each["kind"], each["metadata"]["name"])
            for each in objects(name)
            if each["metadata"].get("namespace") == namespace
        }
        volumes = {each["name"]: each for each in template["spec"].get("volumes", ())}
        for each in containers(template):
            assert {mount["name"] for mount in each.get("volumeMounts", ())} <= volumes.keys()
        maps = {each["configMap"]["name"] for each in volumes.values() if "configMap" in each}
        assert {("ConfigMap", each) for each in maps} <= here


@pytest.mark.parametrize("name", APPLIED)
def test_every_selector_finds_pods_and_every_port_is_listened_to(name: str) -> None:
    found = objects(name)
    pods = list(templates(found))
    for service in kinds(found, "Service"):
        namespace, selector = service["metadata"]["namespace"], service["spec"]["selector"]
        (template,) = (
            template
            for where, template in pods
            if where == namespace and selector.items() <= template["metadata"]["labels"].items()
        )
        ports = listens(template)
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in (*ports, *ports.values())
    for policy in kinds(found, "NetworkPolicy"):
        labels = policy["spec"]["podSelector"]["matchLabels"]
        (template,) = (
            template
            for _, template in pods
            if labels.items() <= template["metadata"]["labels"].items()
        )
        open_ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert open_ports <= set(listens(template).values())
    for budget in kinds(found, "PodDisruptionBudget"):
        labels = budget["spec"]["selector"]["matchLabels"]
        assert any(labels.items() <= each["metadata"]["labels"].items() for _, each in pods)


@pytest.mark.parametrize("name", APPLIED)
def test_no_container_may_do_more_than_it_needs(name: str) -> None:
    for _, template in templates(objects(name)):
        for each in containers(template):
            # Somebody else's Triton is theirs.
            if name == "existing-triton" and each["name"] == "triton":
                continue
            security = each["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            pod = template["spec"].get("securityContext", {})
            assert security.get("runAsNonRoot", pod.get("runAsNonRoot")) is True
            # Triton writes where its backends please.
            assert security.get("readOnlyRootFilesystem") or each["name"] == "triton"
            assert "memory" in each["resources"]["limits"]


@pytest.mark.parametrize("name", APPLIED)
def test_every_variable_is_a_setting(name: str) -> None:
    for _, template in templates(objects(name)):
        for each in containers(template):
            assert {one["name"] for one in each.get("env", ())} <= VARIABLES


# --- Triton, Remora and Envoy in one pod ---


@pytest.mark.parametrize("name", TRITONS)
def test_remora_starts_first_and_ends_last_and_nothing_waits_for_it(name: str) -> None:
    template = of(objects(name), "Deployment", "triton")["spec"]["template"]
    assert [each["name"] for each in containers(template)] == ["remora", "envoy", "triton"]
    for each in template["spec"]["initContainers"]:
        assert each["restartPolicy"] == "Always"
        assert not {"readinessProbe", "startupProbe"} & each.keys()
    assert template["metadata"]["labels"]["remora.dev/sidecar"] == "true"


@pytest.mark.parametrize("name", TRITONS)
def test_triton_leaves_its_models_to_remora(name: str) -> None:
    template = of(objects(name), "Deployment", "triton")["spec"]["template"]
    arguments = container(template, "triton")["args"]
    assert {"--model-control-mode=explicit", "--strict-readiness=false"} <= set(arguments)
    (repository,) = (each for each in arguments if each.startswith("--model-repository="))
    environment = {each["name"]: each.get("value") for each in container(template, "remora")["env"]}
    assert f"--model-repository={environment['REMORA_MODEL_REPOSITORY']}" == repository


@pytest.mark.parametrize("name", [name for name in TRITONS if name != "existing-triton"])
def test_a_pod_has_the_time_that_its_end_may_take(name: str) -> None:
    template = of(objects(name), "Deployment", "triton")["spec"]["template"]
    (exit_s,) = (
        int(each.partition("=")[2])
        for each in container(template, "triton")["args"]
        if each.startswith("--exit-timeout-secs=")
    )
    (deadline,) = (
        each["value"]
        for each in container(template, "remora")["env"]
        if each["name"] == "REMORA_LEAVE_DEADLINE"
    )
    leaving_s = Settings(leave_deadline=deadline).leave_deadline_s
    assert template["spec"]["terminationGracePeriodSeconds"] > leaving_s + exit_s
    assert "preStop" in container(template, "triton")["lifecycle"]


@pytest.mark.parametrize("name", TRITONS)
def test_envoy_and_the_sidecar_meet_on_the_same_ports(name: str) -> None:
    template = of(objects(name), "Deployment", "triton")["spec"]["template"]
    assert listens(template).items() >= {
        ("remora", SETTINGS.http_port),
        ("door-http", SETTINGS.front_door_http_port),
        ("door-grpc", SETTINGS.front_door_grpc_port),
        ("http", 9480),
        ("grpc", 9481),
        ("fleet", 9482),
    }
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "envoy")
    config = of(objects(name), "ConfigMap", volume["configMap"]["name"])
    bootstrap = yaml.safe_load(config["data"]["envoy.yaml"])
    listeners = {
        each["address"]["socket_address"]["port_value"]
        for each in bootstrap["static_resources"]["listeners"]
        if "address" in each
    }
    assert listeners == {9480, 9481, 9482}
    admin = bootstrap["admin"]["address"]["socket_address"]
    environment = {each["name"]: each.get("value") for each in container(template, "remora")["env"]}
    assert environment["REMORA_ENVOY_ADMIN"] == f"{admin['address']}:{admin['port_value']}"


@pytest.mark.parametrize("name", [name for name in TRITONS if name != "existing-triton"])
def test_who_triton_and_the_sidecar_are_may_do_nothing(name: str) -> None:
    found = objects(name)
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {
        each["kind"] for each in found
    }
    account = of(found, "ServiceAccount", "triton")
    assert account["automountServiceAccountToken"] is False
    for _, template in templates(found):
        assert template["spec"]["serviceAccountName"] == "triton"
        assert template["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("name", "gpus"), [("single-gpu", 1), ("multi-gpu", 4), ("gateway", 1)])
def test_pods_with_gpus_go_where_gpus_are(name: str, gpus: int) -> None:
    spec = of(objects(name), "Deployment", "triton")["spec"]["template"]["spec"]
    (triton,) = spec["containers"]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [each["key"] for each in spec["tolerations"]] == ["nvidia.com/gpu"]


def test_a_pod_without_gpus_knows_how_much_memory_it_has() -> None:
    template = of(objects("cpu"), "Deployment", "triton")["spec"]["template"]
    assert "nodeSelector" not in template["spec"]
    (memory,) = (
        each["valueFrom"]["resourceFieldRef"]
        for each in container(template, "remora")["env"]
        if each["name"] == "REMORA_HOST_MEMORY"
    )
    assert memory == {"containerName": "triton", "resource": "limits.memory"}
    assert container(template, "triton")["resources"]["limits"]["memory"] == "8Gi"


# --- policies ---


def policy(name: str) -> Policy:
    return parse(of(objects(name), "ConfigMap", "remora-policy")["data"]["policy.yaml"], name)


@pytest.mark.parametrize("name", TRITONS)
def test_the_policy_is_one(name: str) -> None:
    found = policy(name)
    # Beside a Triton that serves already, nothing is touched before somebody says so.
    assert (found.mode is Mode.OBSERVE) == (name == "existing-triton")
    assert (found.scaling.routing is Routing.BY_MODEL) == (name == "gateway")


def test_the_folder_that_the_walkthrough_makes_is_applied_with_its_own_policy(
    tmp_path: Path,
) -> None:
    """With the gateway's component too, which has one itself."""
    page = (DEPLOY.parent / "docs" / "walkthrough.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    for block in blocks[:3]:
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(block)
    small, components, by_model = blocks[3:6]
    (tmp_path / "mine" / "policy.yaml").write_text(small + by_model)
    with (tmp_path / "mine" / "pods" / "kustomization.yaml").open("a") as more:
        more.write(components)
    found = rendered(tmp_path / "mine")
    assert {each["metadata"]["name"] for each in kinds(found, "Deployment")} == {
        "triton",
        "triton-gateway",
    }
    said = parse(of(found, "ConfigMap", "remora-policy")["data"]["policy.yaml"], "policy.yaml")
    assert said.scaling.routing is Routing.BY_MODEL
    assert said.models["image_classifier"].pin


# --- how many pods ---


@pytest.mark.parametrize("name", ["fleet", "prometheus-adapter"])
def test_the_autoscaler_is_for_the_deployment_of_the_other_overlays(name: str) -> None:
    hpa = of(objects(name), "HorizontalPodAutoscaler", "triton")
    deployment = of(objects("single-gpu"), "Deployment", "triton")
    assert hpa["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert hpa["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    # Otherwise each apply would set back what the autoscaler has done.
    assert "replicas" not in deployment["spec"]


def test_keda_scales_as_the_autoscaler_does() -> None:
    scaled = of(objects("keda"), "ScaledObject", "triton")["spec"]
    hpa = of(objects("fleet"), "HorizontalPodAutoscaler", "triton")["spec"]
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        hpa["minReplicas"],
        hpa["maxReplicas"],
    )
    (trigger,) = scaled["triggers"]
    (service,) = kinds(objects("keda"), "Service")
    (port,) = service["spec"]["ports"]
    where = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port['port']}"
    assert trigger["metadata"]["scalerAddress"] == where


def test_with_keda_no_group_of_metrics_is_taken_from_another() -> None:
    assert kinds(objects("keda"), "APIService") == []
    template = of(objects("keda"), "Deployment", "remora-fleet")["spec"]["template"]
    environment = {each["name"]: each.get("value") for each in container(template, "fleet")["env"]}
    assert environment["REMORA_FLEET_API_PORT"] == "0"
    assert environment["REMORA_FLEET_KEDA_PORT"] == str(listens(template)["keda"])


# --- the uploader ---


def upload(models: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    script = of(objects("upload"), "ConfigMap", _upload_map())["data"]["upload.sh"]
    command = ["sh", "-c", script, "upload.sh", str(models), str(repository)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _upload_map() -> str:
    (found,) = kinds(objects("upload"), "ConfigMap")
    return str(found["metadata"]["name"])


def test_models_are_uploaded_whole_and_others_are_left_alone(tmp_path: Path) -> None:
    models, repository = tmp_path / "models", tmp_path / "repository"
    for folder, name, text in (
        (models, "new", "new"),
        (models, "changed", "after"),
        (repository, "changed", "before"),
        (repository, "other", "other"),
    ):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(text)
    (repository / "changed" / "2").mkdir()
    ended = upload(models, repository)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = {path.parent.name: path.read_text() for path in repository.glob("*/config.pbtxt")}
    assert told == {"new": "new", "changed": "after", "other": "other"}
    assert not (repository / "changed" / "2").exists()
    assert sorted(path.name for path in repository.iterdir()) == ["changed", "new", "other"]


def test_an_image_without_models_is_no_upload(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    ended = upload(tmp_path / "models", tmp_path)
    assert ended.returncode == 1
    assert "no models in" in ended.stderr


# --- the puller ---


def test_the_puller_fills_what_triton_reads_from_a_registry_file_that_can_be_read() -> None:
    (_, template), *others = templates(objects("pull"))
    assert not others
    pull = container(template, "pull")
    (registry,) = (each for each in pull["args"] if each.startswith("/"))
    (found,) = kinds(objects("pull"), "ConfigMap")
    mounted = {each["mountPath"] for each in pull["volumeMounts"]}
    assert str(Path(registry).parent) in mounted
    assert Path(registry).name in found["data"]
    assert read_wishes(DEPLOY / "pull" / "registry.yaml")
    environment = {each["name"]: each["value"] for each in pull["env"]}
    assert environment["REMORA_MODEL_REPOSITORY"] in mounted
    claims = {
        each["persistentVolumeClaim"]["claimName"]
        for each in template["spec"]["volumes"]
        if "persistentVolumeClaim" in each
    }
    assert claims == {
        each["metadata"]["name"] for each in kinds(objects("cpu"), "PersistentVolumeClaim")
    }


def test_a_wrong_registry_file_is_not_tried_again() -> None:
    (job,) = kinds(objects("pull"), "CronJob")
    (rule,) = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [USELESS])


def test_a_pod_may_pull_for_itself_as_the_page_shows(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "registry.md").read_text()
    (patch,) = (
        block.removeprefix("yaml\n")
        for block in page.split("```")
        if block.startswith("yaml\n") and "initContainers" in block
    )
    (tmp_path / "patch.yaml").write_text(patch)
    overlay = {
        "resources": [os.path.relpath(DEPLOY / "overlays" / "cpu", tmp_path)],
        "patches": [{"path": "patch.yaml"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    template = of(rendered(tmp_path), "Deployment", "triton")["spec"]["template"]
    pull = container(template, "pull")
    assert "restartPolicy" not in pull
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    assert volumes["models"] == {"name": "models", "emptyDir": {}}
    assert {each["name"] for each in pull["volumeMounts"]} <= volumes.keys()
    job = container(next(templates(objects("pull")))[1], "pull")
    for same in ("args", "workingDir", "env", "envFrom", "resources"):
        assert pull[same] == job[same]
    assert pull["securityContext"] == {"runAsNonRoot": True} | job["securityContext"]


# --- what is generated ---


def test_the_image_gets_all_that_the_wheel_is_made_of() -> None:
    let_in = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    for template in ("envoy.yaml", "gateway.yaml"):
        assert f"!deploy/{template}" in let_in


# --- what others build on it ---

KUSTOMIZATION = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


def built_on(folder: Path, text: str) -> tuple[Object, ...]:
    """A kustomization beside a copy of this repository's manifests, in the folder `remora`."""
    shutil.copytree(DEPLOY, folder / "remora" / "deploy")
    (folder / "kustomization.yaml").write_text(text)
    return rendered(folder)


def test_the_example_of_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "kubernetes.md").read_text()
    (example,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", page, re.DOTALL)
    (tmp_path / "policy.yaml").write_text("preset: frugal\n")
    found = built_on(tmp_path, example)
    template = of(found, "Deployment", "triton")["spec"]["template"]
    assert container(template, "remora")["image"] == "your.registry/remora:0.1.0"
    assert container(template, "triton")["image"] == "your.registry/tritonserver:25.10-py3"
    assert of(found, "ConfigMap", "remora-policy")["data"] == {"policy.yaml": "preset: frugal\n"}
    claim = of(found, "PersistentVolumeClaim", "models")
    assert claim["spec"]["storageClassName"] == "your-shared-files"


def test_external_metrics_come_with_a_component(tmp_path: Path) -> None:
    lists = (
        "resources: [remora/deploy/overlays/fleet]\n"
        "components: [remora/deploy/components/external-metrics]\n"
    )
    found = built_on(tmp_path, KUSTOMIZATION + lists)
    names = {each["metadata"]["name"] for each in kinds(found, "APIService")}
    assert "v1beta1.external.metrics.k8s.io" in names
    template = of(found, "Deployment", "remora-fleet")["spec"]["template"]
    environment = {each["name"]: each.get("value") for each in container(template, "fleet")["env"]}
    assert environment["REMORA_FLEET_EXTERNAL_METRICS"] == "true"
    assert environment["REMORA_FLEET_LOG_FORMAT"] == "json"


def test_all_workloads_move_to_another_namespace_together(tmp_path: Path) -> None:
    lists = "namespace: elsewhere\nresources: [remora/deploy/overlays/gateway]\n"
    for each in built_on(tmp_path, KUSTOMIZATION + lists):
        where = each["metadata"].get("namespace", each["metadata"]["name"])
        assert where == "elsewhere"


def test_gossip_comes_with_a_component(tmp_path: Path) -> None:
    lists = (
        "resources: [remora/deploy/overlays/gateway]\n"
        "components: [remora/deploy/components/gossip]\n"
    )
    found = built_on(tmp_path, KUSTOMIZATION + lists)
    template = of(found, "Deployment", "triton")["spec"]["template"]
    told = [each["name"] for each in container(template, "remora")["env"]]
    assert {"REMORA_GOSSIP", "REMORA_POLICY", "REMORA_ENVOY_ADMIN"} <= set(told)
    assert set(told) - VARIABLES == {"POD_IP"}
    # Only what stands before it is filled in.
    assert told.index("POD_IP") < told.index("REMORA_GOSSIP_PLACE")
    assert [each["name"] for each in containers(template)] == ["remora", "envoy", "triton"]
