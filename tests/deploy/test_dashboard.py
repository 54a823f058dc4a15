"""The Grafana dashboard: every metric that it asks for is one that we or the installed Ray export, labels included."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ray.util.metrics import Counter, Histogram, Metric

from serve.api.metrics import Telemetry

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "deploy" / "grafana" / "inverdict.json").read_text())
# Ray's, as Prometheus sees them (`ray_` before the name) -> the file of the installed Ray that makes them.
RAY_METRICS = {
    "ray_serve_deployment_queued_queries": "serve/_private/router.py",
    "ray_serve_deployment_replica_healthy": "serve/_private/deployment_state.py",
    "ray_serve_replica_processing_queries": "serve/_private/replica.py",
    "ray_cluster_active_nodes": "dashboard/modules/reporter/reporter_agent.py",
    "ray_node_gpus_utilization": "dashboard/modules/reporter/reporter_agent.py",
    "ray_node_gram_used": "dashboard/modules/reporter/reporter_agent.py",
    "ray_node_disk_free": "dashboard/modules/reporter/reporter_agent.py",
}
# vLLM's, exported through Ray -> its name in vLLM.
VLLM_METRICS = {
    "ray_vllm_kv_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "ray_vllm_prefix_cache_hits_total": "vllm:prefix_cache_hits",
    "ray_vllm_prefix_cache_queries_total": "vllm:prefix_cache_queries",
    "ray_vllm_num_requests_waiting": "vllm:num_requests_waiting",
}


def queries() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]


def names(query: str) -> set[str]:
    return set(re.findall(r"\bray_[a-z_]+\b", query))


def ours() -> dict[str, set[str]]:
    """Exported name -> its labels, from what a server counts."""
    found: dict[str, set[str]] = {}
    for metric in (one for one in vars(Telemetry()).values() if isinstance(one, Metric)):
        for ending in ("_bucket", "_count", "_sum") if isinstance(metric, Histogram) else ("",):
            labels = set(metric.info["tag_keys"]) | ({"le"} if ending == "_bucket" else set())
            found[f"ray_{metric.info['name']}{ending}"] = labels
    return found


def test_counters_are_named_as_they_are_exported() -> None:
    made = [one for one in vars(Telemetry()).values() if isinstance(one, Counter)]
    assert len(made) > 3
    assert all(one.info["name"].endswith("_total") for one in made)


def test_there_is_something_to_see() -> None:
    assert len(queries()) > 15
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize("query", queries())
def test_every_metric_exists(query: str) -> None:
    assert names(query)
    assert names(query) <= ours().keys() | RAY_METRICS.keys() | VLLM_METRICS.keys()


@pytest.mark.parametrize("query", [query for query in queries() if "inverdict_" in query])
def test_every_label_is_one_of_the_metric(query: str) -> None:
    grouped = {label.strip() for inside in re.findall(r"by \(([^)]*)\)", query) for label in inside.split(",")}
    known = set().union(*(ours()[name] for name in names(query)))
    assert grouped <= known


def test_every_metric_of_ours_is_shown() -> None:
    shown = set().union(*(names(query) for query in queries()))
    for name in ours():
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        assert {name, f"{family}_bucket"} & shown


@pytest.mark.parametrize(("metric", "path"), RAY_METRICS.items())
def test_ray_exports_what_is_listed(metric: str, path: str) -> None:
    import ray

    source = (Path(ray.__file__).parent / path).read_text()
    assert f'"{metric.removeprefix("ray_")}"' in source


@pytest.mark.parametrize(("metric", "name"), VLLM_METRICS.items())
def test_vllm_exports_what_is_listed(metric: str, name: str) -> None:
    """By the installed vLLM's source, and by the name under which Ray's own dashboard reads it."""
    import ray

    spec = importlib.util.find_spec("vllm")
    assert spec and spec.origin
    assert f'"{name}"' in (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    panels = Path(ray.__file__).parent / "dashboard/modules/metrics/dashboards/serve_llm_dashboard_panels.py"
    assert metric in panels.read_text()


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], int] = {}
    for panel in BOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"]
