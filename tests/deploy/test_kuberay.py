"""The Ray objects among the Kubernetes manifests, offline.

Checked against the fields of KubeRay 1.6's reference (names, required ones, enumerations, types of those that we use),
and through the code with which Ray's autoscaler reads a RayCluster. KubeRay's and prometheus-operator's CRDs themselves
are in no package that CI can install: other types and cross-field rules are not checked here.
"""

from typing import Any

import pytest

from tests.deploy.manifests import RAY, cluster_spec, ray_object, service_with_redis

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
    "GcsFaultToleranceOptions": "redisUsername redisPassword externalStorageNamespace redisAddress*",
    "RedisCredential": "valueFrom value",
}
# The types of the fields that our files use, alike in every part.
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("enableInTreeAutoscaling", "shutdownAfterJobFinishes", "excludeHeadPodFromServeSvc"), bool),
    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "backoffLimit"), int),
    **dict.fromkeys(("ttlSecondsAfterFinished", "rayClusterDeletionDelaySeconds"), int),
    **dict.fromkeys(("rayVersion", "groupName", "serviceType", "entrypoint", "submissionMode", "serveConfigV2"), str),
    **dict.fromkeys(("mode", "secretName", "version", "upscalingMode", "type", "redisAddress"), str),
    **dict.fromkeys(("template", "submitterPodTemplate", "headGroupSpec", "rayClusterSpec", "rayClusterConfig"), dict),
    **dict.fromkeys(("authOptions", "autoscalerOptions", "upgradeStrategy", "gcsFaultToleranceOptions"), dict),
    **dict.fromkeys(("rayStartParams", "labels", "resources", "securityContext", "redisPassword", "valueFrom"), dict),
    "workerGroupSpecs": list,
    "entrypointNumCpus": (int, float),
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
    for name in known & found.keys():
        value, kind = found[name], TYPES[name]  # a KeyError: a field that our files did not use so far
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wrong.append(f"{part}.{name} is no {kind}")
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
    if redis := spec.get("gcsFaultToleranceOptions"):
        wrong += problems("GcsFaultToleranceOptions", redis)
        wrong += problems("RedisCredential", redis.get("redisPassword", {}))
    if found["kind"] == "RayService":
        wrong += problems("RayServiceUpgradeStrategy", found["spec"].get("upgradeStrategy", {}))
    return wrong


def test_ray_objects_have_only_fields_that_kuberay_knows(ray: dict[str, Any]) -> None:
    assert ray_problems(ray) == []


def test_the_service_with_redis_fits_too() -> None:
    """KubeRay refuses a second place for what `gcsFaultToleranceOptions` says."""
    found = service_with_redis()
    assert ray_problems(found) == []
    spec = cluster_spec(found)
    redis = spec["gcsFaultToleranceOptions"]
    # The cluster's id by default; one name would be shared by the two clusters of an upgrade.
    assert "externalStorageNamespace" not in redis
    head = spec["headGroupSpec"]
    assert "redis-password" not in head["rayStartParams"]
    assert not [one for one in head["template"]["spec"]["containers"][0]["env"] if "REDIS" in one["name"]]
    # A job's driver is on the head: it would not survive.
    assert not [name for name in RAY if "gcsFaultToleranceOptions" in cluster_spec(ray_object(name))]


def test_a_job_s_cluster_is_removed_where_it_has_a_time_to_live() -> None:
    spec = ray_object("rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True  # KubeRay refuses ttlSecondsAfterFinished without it
    assert spec["ttlSecondsAfterFinished"] > 0


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("rayVersions",), "2", "RayClusterSpec.rayVersions is unknown"),
        (("authOptions", "mode"), "tokens", "AuthOptions.mode: tokens"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0, "HeadGroupSpec.rayStartParams holds what is no string"),
        (("enableInTreeAutoscaling",), "true", "RayClusterSpec.enableInTreeAutoscaling is no <class 'bool'>"),
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
        "cpu": {"CPU": 8, "panel": 1},
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
