"""Compare the resources that a run requests with what the cluster can ever provide, and fail at once if infeasible.

Ray itself would wait forever. Node types are those of the running nodes, and of the autoscaler if the cluster reports
them. The arithmetic needs no Ray.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_specs import ModelSpec, ScriptedSpec, VllmSpec

# `ray up` copies the cluster's configuration here, on the head node, where the drivers of submitted jobs run.
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
UNLIMITED = -1
EPSILON = 1e-6


class Demand(NamedTuple):
    """`num` bundles of resources (Ray's names: CPU, GPU, memory in bytes, accelerator_type:A100) at the same time.

    `place`: the configuration key that requests them, such as `models.judge`, or the name of the work.
    """

    place: str
    bundle: Mapping[str, float]
    num: int = 1


class NodeType(NamedTuple):
    """A node type: its resources, and the maximum number of such nodes (-1: unlimited)."""

    name: str
    resources: Mapping[str, float]
    most: int


def model_demand(place: str, spec: ModelSpec, *, on_gpus: bool) -> Demand | None:
    """The resources of a model's first engine; None if it needs next to nothing.

    Args:
        place: see `Demand`.
        spec: the model.
        on_gpus: whether the cluster has GPUs, for a model without `num_gpus`.
    """
    if isinstance(spec, ScriptedSpec) and spec.num_gpus:
        return Demand(place, {"GPU": spec.num_gpus})
    if not isinstance(spec, VllmSpec):
        return None
    bundle: dict[str, float] = {"CPU": spec.num_cpus, **spec.resources}
    if spec.num_gpus or (spec.num_gpus is None and on_gpus):
        bundle["GPU"] = 1
    if spec.accelerator_type:
        bundle[f"accelerator_type:{spec.accelerator_type}"] = 0.001
    return Demand(place, bundle, spec.num_workers)


def unmet(demands: Iterable[Demand], types: Sequence[NodeType]) -> str | None:
    """A message about the first demand that these node types can never meet; None if all can be met.

    Each demand is compared with the empty cluster: demands that only have to wait for each other are accepted.
    """
    for demand in demands:
        room = [_bundles(demand.bundle, one) for one in types]
        if not any(demand.bundle.values()) or UNLIMITED in room or sum(room) >= demand.num:
            continue
        asked = _words(demand.bundle) + (f", {demand.num} times at once" if demand.num > 1 else "")
        known = "; ".join(_type_words(one) for one in types) or "none"
        return (
            f"{demand.place} requests {asked}, which this cluster can never provide (nodes: {known}). Lower the "
            "request, or add a node type."
        )
    return None


def _bundles(bundle: Mapping[str, float], one: NodeType) -> int:
    """How many such bundles fit on all nodes of a type."""
    asked = {name: value for name, value in bundle.items() if value > 0}
    each = min((int(one.resources.get(name, 0) / value + EPSILON) for name, value in asked.items()), default=0)
    return UNLIMITED if each and one.most == UNLIMITED else each * max(0, one.most)


def _type_words(one: NodeType) -> str:
    most = "any number" if one.most == UNLIMITED else str(one.most)
    return f"{most} x {one.name} ({_words(one.resources) or 'no resources'})"


def _words(resources: Mapping[str, float]) -> str:
    """Resources as text: CPU 4, GPU 1, A100, 16.0 GiB of memory; without Ray's internal node markers."""
    kinds = [name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:")]
    plain = [
        f"{value / 2**30:.1f} GiB of memory" if name == "memory" else f"{name} {value:g}"
        for name, value in sorted(resources.items())
        if not name.startswith(("accelerator_type:", "node:")) and name != "object_store_memory" and value
    ]
    return ", ".join([*plain, *kinds])


def check(run: RunConfig, names: Iterable[str]) -> None:
    """`check_specs` for the models of these names."""
    check_specs({f"models.{name}": run.models[name] for name in names})


def check_specs(specs: Mapping[str, ModelSpec]) -> None:
    """Compare the models' resources (by `place`) with the running cluster. Needs `runtime.start`.

    Raises UserError, with the request and the nodes, if it can never be met.
    """
    types = node_types()
    on_gpus = any(one.resources.get("GPU", 0) > 0 for one in types or ())
    made = [model_demand(place, spec, on_gpus=on_gpus) for place, spec in specs.items()]
    check_all([demand for demand in made if demand])


def check_all(demands: Sequence[Demand]) -> None:
    """The same for demands."""
    types = node_types()
    for demand in demands:
        if types is not None and (problem := unmet([demand], types)):
            key = demand.place if demand.place.startswith("models.") else ""
            raise UserError(problem, code="infeasible", key=key)


def node_types() -> list[NodeType] | None:
    """The node types of the autoscaler and the running nodes grouped by resources.

    An upper bound, as a running node of an autoscaled type counts twice. None if an autoscaler runs but does not report
    its types.
    """
    scalable = _reported() or _bootstrapped(BOOTSTRAP.expanduser())
    if not scalable and _is_autoscaled():
        return None
    return [*scalable, *_living()]


def _living() -> list[NodeType]:
    import ray

    alike: Counter[tuple[tuple[str, float], ...]] = Counter()
    for node in ray.nodes():
        if node["Alive"]:
            plain = {name: value for name, value in node["Resources"].items() if not name.startswith("node:")}
            plain.pop("object_store_memory", None)
            alike[tuple(sorted(plain.items()))] += 1
    return [NodeType("node", dict(resources), number) for resources, number in alike.items()]


def _reported() -> list[NodeType]:
    """The autoscaler's node groups, if the cluster's GCS has them."""
    import ray._private.state

    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    return [NodeType(one.name, dict(one.resources), int(one.max_count)) for one in groups]


def _is_autoscaled() -> bool:
    """Without an autoscaler, Ray gives each node a type of its own: `node_ID`."""
    import ray
    from ray._private.worker import global_worker
    from ray.autoscaler.v2.sdk import get_cluster_status

    told = global_worker.gcs_client.internal_kv_get(b"__autoscaling_status", None)
    report = (json.loads(told) if told else {}).get("autoscaler_report") or {}
    known = list((report.get("node_type_mapping") or {}).items())
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    known += [(node.node_id, node.ray_node_type_name) for node in [*status.active_nodes, *status.idle_nodes]]
    return any(name != f"node_{node}" for node, name in known)


def _bootstrapped(path: Path) -> list[NodeType]:
    """The node types of `ray up`, on the head node; none elsewhere."""
    try:
        config: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinds = config["available_node_types"].items()
        return [
            NodeType(
                name,
                {**kind.get("resources", {})},
                int(kind.get("max_workers", 0)) if name != config.get("head_node_type") else 0,
            )
            for name, kind in kinds
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return []
