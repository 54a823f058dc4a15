"""The Kubernetes manifests, offline.

Plain Kubernetes objects, and every pod template of a Ray object, against Kubernetes' own schemas. Ray objects against
the list of fields of KubeRay 1.6's reference (names, what is required, enumerations), and through the reader with which
Ray's autoscaler understands a RayCluster. KubeRay's and prometheus-operator's CRDs themselves are in no package that CI
reaches: their types and cross-field rules are not checked here.
"""

import copy
import json
import shlex
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import RAY, ROOT, cluster_spec, documents, everything, groups, pods, ray_object

KUBERNETES = "1.33"
# KubeRay 1.6, ray.io/v1: the fields of each part; those with a star must be there.
FIELDS = {
    "RayClusterSpec": "upgradeStrategy authOptions suspend managedBy autoscalerOptions headServiceAnnotations "
    "enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec* rayVersion workerGroupSpecs",
    "AuthOptions": "enableK8sTokenAuth secretName mode",
    "AutoscalerOptions": "resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env "
    "envFrom volumeMounts",
    "HeadGroupSpec": "template* headService enableIngress resources labels rayStartParams serviceType",
    "WorkerGroupSpec": "suspend groupName* replicas minReplicas* maxReplicas* idleTimeoutSeconds resources labels "
    "rayStartParams template* scaleStrategy numOfHosts",
    "RayJobSpec": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata clusterSelector "
    "submitterConfig managedBy deletionStrategy entrypoint runtimeEnvYAML jobId submissionMode entrypointResources "
    "entrypointNumCpus entrypointNumGpus ttlSecondsAfterFinished preRunningDeadlineSeconds shutdownAfterJobFinishes "
    "suspend",
    "RayServiceSpec": "rayClusterDeletionDelaySeconds serveService upgradeStrategy managedBy serveConfigV2 "
    "rayClusterConfig excludeHeadPodFromServeSvc",
    "RayServiceUpgradeStrategy": "type clusterUpgradeOptions",
}
ENUMERATIONS = {
    ("AuthOptions", "mode"): {"disabled", "token"},
    ("AutoscalerOptions", "version"): {"v1", "v2"},
    ("AutoscalerOptions", "upscalingMode"): {"Default", "Aggressive", "Conservative"},
    ("RayJobSpec", "submissionMode"): {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
    ("RayServiceUpgradeStrategy", "type"): {"NewClusterWithIncrementalUpgrade", "NewCluster", "None"},
}


def problems(part: str, found: dict[str, Any]) -> list[str]:
    """What does not fit the list of fields."""
    listed = FIELDS[part].split()
    known, required = {name.rstrip("*") for name in listed}, {name[:-1] for name in listed if name.endswith("*")}
    wrong = [f"{part}.{name} is unknown" for name in found.keys() - known]
    wrong += [f"{part}.{name} is missing" for name in required - found.keys()]
    for (where, name), values in ENUMERATIONS.items():
        if where == part and name in found and found[name] not in values:
            wrong.append(f"{part}.{name}: {found[name]}")
    for name in ("rayStartParams", "labels", "resources"):
        # `autoscalerOptions.resources` is a container's; a group's is a map of strings, as the other two.
        if part != "AutoscalerOptions" and any(type(value) is not str for value in found.get(name, {}).values()):
            wrong.append(f"{part}.{name} holds what is no string")
    return wrong


def ray_problems(found: dict[str, Any]) -> list[str]:
    spec = cluster_spec(found)
    wrong = [] if found["apiVersion"] == "ray.io/v1" else [f"apiVersion {found['apiVersion']}"]
    if found["kind"] != "RayCluster":
        wrong += problems(f"{found['kind']}Spec", found["spec"])
    wrong += problems("RayClusterSpec", spec)
    wrong += problems("AuthOptions", spec.get("authOptions", {}))
    wrong += problems("AutoscalerOptions", spec.get("autoscalerOptions", {}))
    wrong += problems("HeadGroupSpec", spec["headGroupSpec"])
    for group in spec.get("workerGroupSpecs", []):
        wrong += problems("WorkerGroupSpec", group)
    if found["kind"] == "RayService":
        wrong += problems("RayServiceUpgradeStrategy", found["spec"].get("upgradeStrategy", {}))
    return wrong


@pytest.fixture(params=RAY)
def ray(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ray_object(request.param)


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


def test_ray_objects_have_only_fields_that_kuberay_knows(ray: dict[str, Any]) -> None:
    assert ray_problems(ray) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("rayVersions",), "2", "RayClusterSpec.rayVersions is unknown"),
        (("authOptions", "mode"), "tokens", "AuthOptions.mode: tokens"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0, "HeadGroupSpec.rayStartParams holds what is no string"),
    ],
)
def test_a_wrong_field_is_found(ray: dict[str, Any], path: tuple[str, ...], value: Any, problem: str) -> None:
    place = cluster_spec(ray) if ray["kind"] != "RayCluster" else ray["spec"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    if len(path) == 1 and ray["kind"] != "RayCluster":
        key = "rayClusterSpec" if ray["kind"] == "RayJob" else "rayClusterConfig"
        ray["spec"][key] = place
    assert ray_problems(ray) == [problem]


def test_ray_s_autoscaler_reads_what_we_mean(ray: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    found = _derive_autoscaling_config_from_ray_cr({"metadata": ray["metadata"], "spec": cluster_spec(ray)})
    types = found["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert "GPU" not in types["headgroup"]["resources"] or types["headgroup"]["resources"]["GPU"] == 0
    # By hand from the manifests: 10 minutes.
    assert found["idle_timeout_minutes"] == 10
    wanted = {
        "gpu-batch": {"CPU": 88, "GPU": 8, "accelerator_type:A100": 1, "batch": 1},
        "gpu-serving": {"CPU": 14, "GPU": 1, "accelerator_type:L4": 1, "serving": 1},
        "cpu": {"CPU": 8},
    }
    workers = {name: one for name, one in types.items() if name != "headgroup"}
    assert len(workers) >= 2
    for name, one in workers.items():
        resources = {what: amount for what, amount in one["resources"].items() if what != "memory"}
        assert resources == wanted[name]
        assert (one["min_workers"], one["max_workers"]) == (0, 8)
        assert one["labels"]["inverdict/pool"] == name.removeprefix("gpu-")


def test_the_autoscaler_is_the_second_and_on(ray: dict[str, Any]) -> None:
    spec = cluster_spec(ray)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"


def test_token_mode_with_our_own_secret(ray: dict[str, Any]) -> None:
    spec = cluster_spec(ray)
    assert spec["authOptions"] == {"mode": "token", "secretName": "inverdict-ray-token"}
    # KubeRay demands the version beside it; it is that of the pins.
    pins = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    assert f"ray=={spec['rayVersion']}" in pins
    secret = next(one for one in documents("secrets.yaml") if one["metadata"]["name"] == "inverdict-ray-token")
    assert list(secret["stringData"]) == ["auth_token"]


def test_secrets_come_without_values() -> None:
    secrets = documents("secrets.yaml")
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
            assert not [one for one in box.get("env", []) if "TOKEN" in one["name"] or "KEY" in one["name"]]


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


def test_the_served_configuration_fits_its_manifest() -> None:
    from cluster.config import load
    from cluster.jobs import sections

    run = load(ROOT / "configs" / "serving.yaml", [], sections())
    found = ray_object("rayservice.yaml")
    http = yaml.safe_load(found["spec"]["serveConfigV2"])["http_options"]
    serve = run.serve  # type: ignore[attr-defined]
    assert (serve.host, serve.port) == (http["host"], http["port"])
    # Our own deadline comes first, as with `inverdict serve`.
    assert http["request_timeout_s"] == serve.timeout_s + 30
    for template in pods(found):
        mounts = {one["name"]: one["mountPath"] for one in template["spec"]["containers"][0]["volumeMounts"]}
        assert str(serve.keys_file) == f"{mounts['keys']}/keys.json"
        assert str(run.run).startswith(mounts["shared"])
        ports = {one["name"]: one["containerPort"] for one in template["spec"]["containers"][0]["ports"]}
        assert ports["serve"] == serve.port


def test_the_job_s_command_is_one_of_ours() -> None:
    from cluster.__main__ import _parser
    from cluster.config import load
    from cluster.jobs import sections

    given = shlex.split(ray_object("rayjob.yaml")["spec"]["entrypoint"])
    start = given.index("cluster") + 1
    args = _parser(given[start:]).parse_args(given[start:])
    run = load(ROOT / args.config, args.overrides, sections())
    assert run.run.is_absolute()
    assert all(place.startswith("/mnt/inverdict/") for place in run.data.records)  # type: ignore[attr-defined]


def test_nothing_reaches_a_pod_but_what_is_named() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents("network.yaml")}
    closed = policies["inverdict-closed"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_ports: dict[int, set[str]] = {}
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            assert rule["from"], f"{name} lets everybody in"
            for port in rule.get("ports", []):
                open_ports.setdefault(port["port"], set()).add(name)
    # The job server, which runs what it is sent: for the operator alone. Ray's own ports: for nobody from outside.
    assert open_ports == {
        8265: {"inverdict-operator"},
        8080: {"inverdict-metrics"},
        8000: {"inverdict-operator", "inverdict-metrics", "inverdict-clients"},
    }


def test_the_policies_choose_the_pods_by_labels_that_they_carry(ray: dict[str, Any]) -> None:
    head, *others = (template["metadata"]["labels"] for template in pods(ray))
    assert {one["app.kubernetes.io/part-of"] for one in (head, *others)} == {"inverdict"}
    # Only the head leaves the namespace.
    assert head["inverdict/reaches-out"] == "true"
    assert not [one for one in others if "inverdict/reaches-out" in one]


def test_only_the_named_pods_leave_the_namespace() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents("network.yaml")}
    leaving = [name for name, spec in policies.items() for rule in spec.get("egress", []) if "to" not in rule]
    assert leaving == ["inverdict-reaches-out"]
    assert policies["inverdict-reaches-out"]["podSelector"] == {"matchLabels": {"inverdict/reaches-out": "true"}}


def test_the_fetched_model_is_the_served_one_at_the_same_place() -> None:
    from cluster.config import VllmSpec, load
    from cluster.jobs import sections

    (job,) = documents("fetch.yaml")
    (box,) = job["spec"]["template"]["spec"]["containers"]
    (spec,) = load(ROOT / "configs" / "serving.yaml", [], sections()).models.values()
    assert isinstance(spec, VllmSpec)
    assert box["command"] == ["inverdict", "models", "fetch", spec.source]
    nodes = pods(ray_object("rayservice.yaml"))[0]["spec"]["containers"][0]["env"]
    assert [one for one in box["env"] if one not in nodes] == []


def test_prometheus_reads_ports_that_the_pods_name() -> None:
    monitors = documents("monitoring.yaml")
    assert {(one["apiVersion"], one["kind"]) for one in monitors} == {("monitoring.coreos.com/v1", "PodMonitor")}
    (head, *_) = pods(ray_object("rayservice.yaml"))
    named = {one["name"] for one in head["spec"]["containers"][0]["ports"]}
    for one in monitors:
        for end in one["spec"]["podMetricsEndpoints"]:
            assert end["port"] in named
    secrets = {one["metadata"]["name"]: one["stringData"] for one in documents("secrets.yaml")}
    keyed = monitors[1]["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert keyed["key"] in secrets[keyed["name"]]


def test_the_manifests_are_plain_data() -> None:
    for one in everything():
        assert json.loads(json.dumps(one)) == one
