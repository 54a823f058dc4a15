"""The Kubernetes manifests, offline: plain objects and pod templates against Kubernetes' own schemas, and our rules.

The Ray objects' own fields are in test_kuberay.py.
"""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import RAY, ROOT, cluster_spec, documents, everything, groups, pods, ray_object

KUBERNETES = "1.33"


def test_the_files_hold_what_their_names_say() -> None:
    assert {name: ray_object(name)["kind"] for name in RAY} == RAY


def test_no_two_ray_objects_share_a_name() -> None:
    """KubeRay names the services after them, alike for all kinds: NAME-head-svc."""
    assert len({ray_object(name)["metadata"]["name"] for name in RAY}) == len(RAY)


@pytest.mark.parametrize(
    "one", [one for one in everything() if "." not in one["apiVersion"] or "k8s.io" in one["apiVersion"]], ids=str
)
def test_plain_objects_fit_kubernetes_schemas(one: dict[str, Any]) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(one, KUBERNETES, strict=True)
    assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "inverdict"


def test_pod_templates_fit_kubernetes_schemas(ray: dict[str, Any]) -> None:
    import kubernetes_validate

    for template in pods(ray):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_schemas_would_refuse_a_misspelt_field(ray: dict[str, Any]) -> None:
    import kubernetes_validate

    template = copy.deepcopy(pods(ray)[0])
    template["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, KUBERNETES, strict=True)


def test_token_mode_with_our_own_secret(ray: dict[str, Any]) -> None:
    spec = cluster_spec(ray)
    assert spec["authOptions"] == {"mode": "token", "secretName": "inverdict-ray-token"}
    # KubeRay demands the version beside it; it is that of the pins.
    pins = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    assert f"ray=={spec['rayVersion']}" in pins
    secret = next(one for one in documents("secrets.yaml") if one["metadata"]["name"] == "inverdict-ray-token")
    assert list(secret["stringData"]) == ["auth_token"]


def test_secrets_come_without_values() -> None:
    secrets = [*documents("secrets.yaml"), documents("optional/redis.yaml")[0]]
    assert {one["kind"] for one in secrets} == {"Secret"}
    assert all(not value for one in secrets for value in one["stringData"].values())
    assert all("data" not in one for one in secrets)


def test_every_secret_and_claim_that_is_used_is_here(ray: dict[str, Any]) -> None:
    here = {one["metadata"]["name"] for one in everything() if one["kind"] in ("Secret", "PersistentVolumeClaim")}
    for template in pods(ray):
        for volume in template["spec"].get("volumes", []):
            named = volume.get("secret", {}).get("secretName") or volume.get("persistentVolumeClaim", {}).get(
                "claimName"
            )
            assert named is None or named in here
        mounted = {one["name"] for box in template["spec"]["containers"] for one in box.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in template["spec"].get("volumes", [])}


def test_containers_are_confined(ray: dict[str, Any]) -> None:
    for template in pods(ray):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["securityContext"]["runAsUser"] == 1000
        for box in template["spec"]["containers"]:
            context = box["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            secret = [one for one in box.get("env", []) if "TOKEN" in one["name"] or "KEY" in one["name"]]
            assert not [one for one in secret if "value" in one]


def test_ray_s_container_is_the_first_and_takes_what_it_asks_for(ray: dict[str, Any]) -> None:
    for number, template in enumerate(pods(ray)):
        box = template["spec"]["containers"][0]
        assert box["name"] == ("ray-head" if number == 0 else box["name"])
        assert box["name"] in ("ray-head", "ray-worker", "ray-job-submitter")
        if box["name"] != "ray-job-submitter":
            # Ray counts the limits as what the node has: a pod must get them whole. GPUs can only be asked for so.
            assert box["resources"]["requests"] == box["resources"]["limits"]


def test_only_gpu_groups_run_the_gpu_image(ray: dict[str, Any]) -> None:
    for group in groups(cluster_spec(ray)):
        box = group["template"]["spec"]["containers"][0]
        flavour = "gpu" if "nvidia.com/gpu" in box["resources"]["limits"] else "cpu"
        assert box["image"].endswith(f":0.1.0-{flavour}")


def test_the_three_clusters_share_their_parts() -> None:
    def parts(name: str) -> dict[str, Any]:
        spec = copy.deepcopy(cluster_spec(ray_object(name)))
        for group in groups(spec):  # only the server has the API keys
            pod = group["template"]["spec"]
            pod["volumes"] = [one for one in pod["volumes"] if one["name"] != "keys"]
            box = pod["containers"][0]
            box["volumeMounts"] = [one for one in box["volumeMounts"] if one["name"] != "keys"]
        by_group = {group["groupName"]: group for group in spec.pop("workerGroupSpecs")}
        return {**spec, **by_group}

    whole = parts("raycluster.yaml")
    for name in ("rayjob.yaml", "rayservice.yaml"):
        assert parts(name).items() <= whole.items()


def shared_and_own(serve: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, str, str, list[str]]]:
    """A Serve configuration without what may differ, and that: proxies, host, configuration, overrides."""
    shared = copy.deepcopy(serve)
    args = shared["applications"][0].pop("args")
    own = (shared.pop("proxy_location"), shared["http_options"].pop("host"), args.pop("config"), args.pop("overrides"))
    assert not args
    return shared, own


def test_the_service_and_the_serve_files_say_the_same() -> None:
    from ray.serve.schema import ServeDeploySchema

    here, machines = (
        yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in ("serve.yaml", "serve_cluster.yaml")
    )
    pods = yaml.safe_load(ray_object("rayservice.yaml")["spec"]["serveConfigV2"])
    for one in (machines, pods):
        ServeDeploySchema(**one)
        assert shared_and_own(one)[0] == shared_and_own(here)[0]
    config = "/opt/inverdict/configs/serving.yaml"
    assert shared_and_own(here)[1] == ("HeadOnly", "127.0.0.1", "configs/demo.yaml", [])
    # The head's private address; the keys on the file system that all nodes see.
    keys = "serve.keys_file=/mnt/inverdict/keys/keys.json"
    assert shared_and_own(machines)[1] == ("HeadOnly", "0.0.0.0", config, [keys])
    # A pod listens on its own address; the keys are where the configuration says, a mounted secret.
    assert shared_and_own(pods)[1] == ("EveryNode", "0.0.0.0", config, [])


def load_serving() -> Any:
    from cluster.config import load
    from cluster.jobs import sections

    return load(ROOT / "configs" / "serving.yaml", [], sections())


def test_the_served_configuration_fits_its_manifest() -> None:
    run = load_serving()
    found = ray_object("rayservice.yaml")
    http = yaml.safe_load(found["spec"]["serveConfigV2"])["http_options"]
    serve = run.serve
    assert (serve.host, serve.port) == (http["host"], http["port"])
    # Our own deadline comes first, as with `inverdict serve`.
    assert http["request_timeout_s"] == serve.hard_timeout_s
    # An upgrade leaves the old cluster the time for its running requests.
    assert found["spec"]["rayClusterDeletionDelaySeconds"] > serve.hard_timeout_s
    # Panel and interface find two nodes of the group that offers their resource.
    assert serve.panel.num_replicas == 2
    (group,) = [
        one
        for one in cluster_spec(found)["workerGroupSpecs"]
        if serve.panel.resources.keys() <= json.loads(json.loads(one["rayStartParams"]["resources"])).keys()
    ]
    assert group["groupName"] == "cpu"
    assert group["maxReplicas"] >= 2
    for template in pods(found):
        mounts = {one["name"]: one["mountPath"] for one in template["spec"]["containers"][0]["volumeMounts"]}
        assert str(serve.keys_file) == f"{mounts['keys']}/keys.json"
        assert str(run.run).startswith(mounts["shared"])
        ports = {one["name"]: one["containerPort"] for one in template["spec"]["containers"][0]["ports"]}
        assert ports["serve"] == serve.port


def bytes_of(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * 2 ** {"Gi": 30, "Mi": 20}[unit]


@pytest.mark.parametrize("name", RAY)
def test_the_object_store_of_every_node_fits_into_its_shared_memory(name: str) -> None:
    """Ray's default: 30 % of the memory, at most 10 GB or 95 % of /dev/shm; larger than /dev/shm, it goes to disk."""
    for group in groups(cluster_spec(ray_object(name))):
        spec = group["template"]["spec"]
        (shm,) = [one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if one.get("emptyDir", {}).get("medium")]
        (ray,) = spec["containers"]
        memory = bytes_of(ray["resources"]["limits"]["memory"])
        store = min(0.3 * memory, max(10e9, 0.95 * bytes_of(shm)))
        assert store <= bytes_of(shm)


def test_the_job_s_command_is_one_of_ours() -> None:
    from cluster.__main__ import _parser
    from cluster.config import load
    from cluster.jobs import sections
    from judging.public_data.places import is_dataset

    given = shlex.split(ray_object("rayjob.yaml")["spec"]["entrypoint"])
    # The whole line is the command: of `cd x && python ...` Ray would run `cd x`, and report success.
    assert given[:3] == ["python", "-m", "cluster"]
    args = _parser(given[3:]).parse_args(given[3:])
    config = Path(args.config).relative_to("/opt/inverdict")  # the image's working directory
    run = load(ROOT / config, args.overrides, sections())
    assert run.run.is_absolute()
    assert all(map(is_dataset, run.data.records))  # type: ignore[attr-defined]


def test_the_job_s_command_survives_the_submitter_s_shell() -> None:
    """KubeRay pastes it unquoted into `bash -c`: what bash makes of it must be what we wrote (kuberay#3929, #3802)."""
    entrypoint = ray_object("rayjob.yaml")["spec"]["entrypoint"]
    assert not set(entrypoint) & set("&;|<>$`\\'(){}*?~#!\n")
    told = subprocess.run(
        ["bash", "-ce", f"printf '%s\\n' {entrypoint}"], capture_output=True, text=True, check=True
    ).stdout
    assert told.splitlines() == shlex.split(entrypoint)


def test_the_job_s_command_runs_by_bash_as_far_as_its_data(tmp_path: Path) -> None:
    """The image imitated: its folders are this checkout and an empty shared file system, its `python` is ours."""
    entrypoint = ray_object("rayjob.yaml")["spec"]["entrypoint"]
    line = entrypoint.replace("/opt/inverdict", str(ROOT)).replace("/mnt/inverdict", str(tmp_path / "mnt"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ce", f"{line} ; echo submitted"],
        cwd=tmp_path,  # Ray's copy of the working directory, not the project's
        env={"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr  # -e: the exit code is the job's
    assert "submitted" not in done.stdout
    assert "infinity_instruct.jsonl" in done.stderr


def test_the_hub_s_token_is_optional_and_the_same_everywhere(ray: dict[str, Any]) -> None:
    secret = {"name": "inverdict-hub-token", "key": "token", "optional": True}
    (fetch,) = documents("fetch.yaml")
    templates = [group["template"] for group in groups(cluster_spec(ray))]
    for template in (fetch["spec"]["template"], *templates):
        (token,) = [one for one in template["spec"]["containers"][0]["env"] if one["name"] == "HF_TOKEN"]
        assert token["valueFrom"] == {"secretKeyRef": secret}
    here = {one["metadata"]["name"]: one["stringData"] for one in documents("secrets.yaml")}
    assert secret["key"] in here[str(secret["name"])]


def test_a_worker_drains_before_it_is_stopped(ray: dict[str, Any]) -> None:
    from ray.core.generated import autoscaler_pb2
    from ray.scripts.scripts import cli

    known = {name for one in cli.commands["drain-node"].params for name in one.opts}
    for group in cluster_spec(ray)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        shell, option, script = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert (shell, option) == ("/bin/bash", "-c")
        subprocess.run([shell, "-n", option, script], check=True)
        first, wait = script.split("&&")
        words = shlex.split(first)
        assert words[:4] == ["timeout", "20", "ray", "drain-node"]
        given = dict(zip(words[4::2], words[5::2], strict=True))
        assert set(given) <= known
        assert given["--reason"] in dict(autoscaler_pb2.DrainNodeReason.items())
        # Together within the time that Kubernetes gives, and the server's requests within theirs.
        waits = int(wait.split()[1])
        assert waits == int(given["--deadline-remaining-seconds"])
        assert int(words[1]) + waits < spec["terminationGracePeriodSeconds"]
        assert load_serving().serve.hard_timeout_s <= waits


def test_the_probes_are_kuberay_s() -> None:
    """The operator adds its own to Ray's containers, in token mode too; they need wget in the image."""
    for name in RAY:
        for template in pods(ray_object(name)):
            for box in template["spec"]["containers"]:
                assert not [key for key in box if key.endswith("Probe")]
    for flavour in ("cpu", "gpu"):
        assert " wget " in (ROOT / "deploy" / f"Dockerfile.{flavour}").read_text()


def test_the_fetched_model_is_the_served_one_at_the_same_place() -> None:
    from cluster.model_specs import VllmSpec

    (job,) = documents("fetch.yaml")
    (box,) = job["spec"]["template"]["spec"]["containers"]
    (spec,) = load_serving().models.values()
    assert isinstance(spec, VllmSpec)
    assert box["command"] == ["inverdict", "models", "fetch", spec.source]
    nodes = pods(ray_object("rayservice.yaml"))[0]["spec"]["containers"][0]["env"]
    assert [one for one in box["env"] if one not in nodes] == []


def test_prometheus_reads_ports_that_the_chosen_pods_have(ray: dict[str, Any]) -> None:
    from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT
    from ray.dashboard.consts import DASHBOARD_METRIC_PORT

    monitors = documents("monitoring.yaml")
    assert {(one["apiVersion"], one["kind"]) for one in monitors} == {("monitoring.coreos.com/v1", "PodMonitor")}
    found: dict[str, set[int]] = {}
    for group in groups(cluster_spec(ray)):
        kind = "worker" if "groupName" in group else "head"
        # KubeRay adds the label that tells the head from the workers.
        labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": kind}
        ports = {one["name"]: one["containerPort"] for one in group["template"]["spec"]["containers"][0]["ports"]}
        for one in monitors:
            if one["spec"]["selector"]["matchLabels"].items() <= labels.items():
                ends = [end["port"] for end in one["spec"]["podMetricsEndpoints"]]
                found.setdefault(kind, set()).update(ports[end] for end in ends)  # a KeyError: a target always down
    assert found == {"head": {8080, AUTOSCALER_METRIC_PORT, DASHBOARD_METRIC_PORT}, "worker": {8080}}


def test_the_manifests_are_plain_data() -> None:
    for one in everything():
        assert json.loads(json.dumps(one)) == one
