"""The Ray objects among the Kubernetes manifests, offline.

Checked against the fields of KubeRay 1.6's reference (names, required ones, enumerations), and through the code with
which Ray's autoscaler reads a RayCluster. KubeRay's and prometheus-operator's CRDs themselves are in no package that CI
can install: their types and cross-field rules are not checked here.
"""

from typing import Any

import pytest

from tests.deploy.manifests import cluster_spec

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
