"""Reads the Kubernetes manifests, and the facts about them that several tests need."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
RAY = {"raycluster.yaml": "RayCluster", "rayjob.yaml": "RayJob", "rayservice.yaml": "RayService"}


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a file; `optional/` files by that path."""
    return [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one]


def everything() -> list[dict[str, Any]]:
    names = [path.name for path in sorted(FOLDER.glob("*.yaml"))]
    return [one for name in (*names, "optional/redis.yaml") for one in documents(name)]


def ray_object(name: str) -> dict[str, Any]:
    (found,) = documents(name)
    return found


def service_with_redis() -> dict[str, Any]:
    """rayservice.yaml with optional/redis_patch.yaml merged into it, as `kubectl patch --type merge` does."""

    def merged(base: Any, patch: Any) -> Any:
        if not isinstance(base, dict) or not isinstance(patch, dict):
            return patch
        return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}

    (patch,) = documents("optional/redis_patch.yaml")
    return dict(merged(ray_object("rayservice.yaml"), patch))


def cluster_spec(found: dict[str, Any]) -> dict[str, Any]:
    """The part of a RayCluster, a RayJob or a RayService that describes the cluster."""
    spec = found["spec"]
    where = {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec"), "RayService": spec.get("rayClusterConfig")}
    return dict(where[found["kind"]])


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pod template of a Ray object."""
    templates = [group["template"] for group in groups(cluster_spec(found))]
    submitter = found["spec"].get("submitterPodTemplate")
    return [*templates, *([submitter] if submitter else [])]
