"""What a run asks of a cluster, against what its machines can ever give: a demand that none can meet fails at once.

Ray itself would wait for it without end. The node types are those of the living machines, and of the autoscaler where
the cluster tells them. Knows no judgements; the arithmetic needs no Ray.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cluster.config import ModelSpec, RunConfig, ScriptedSpec, VllmSpec
from cluster.errors import UserError

# `ray up` leaves the cluster's configuration here, on the head, where the drivers of submitted jobs run.
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
UNLIMITED = -1
EPSILON = 1e-6


class Demand(NamedTuple):
    """`num` bundles of resources (Ray's names: CPU, GPU, memory in bytes, accelerator_type:A100) at one time.

    `place`: the key of the configuration that asks for it.
    """

    place: str
    bundle: Mapping[str, float]
    num: int = 1


class NodeType(NamedTuple):
    """A kind of machine: its resources, and how many of it there may ever be (-1: no bound)."""

    name: str
    resources: Mapping[str, float]
    most: int


def model_demand(place: str, spec: ModelSpec, *, on_gpus: bool) -> Demand | None:
    """What the first engine of a model asks for; None where it asks for next to nothing.

    `on_gpus`: whether the cluster has GPUs at all, for a model that leaves `num_gpus` open.
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
    """The first demand that these machines can never meet, in a sentence; None where all can be met.

    Each demand is held against the empty cluster: those that only have to wait for each other are not refused.
    """
    for demand in demands:
        room = [_bundles(demand.bundle, one) for one in types]
        if not any(demand.bundle.values()) or UNLIMITED in room or sum(room) >= demand.num:
            continue
        asked = _words(demand.bundle) + (f", {demand.num} times at once" if demand.num > 1 else "")
        known = "; ".join(_type_words(one) for one in types) or "none"
        return (
            f"{demand.place} asks for {asked}, which this cluster can never give; its machines: {known}: lower the "
            "demand, or add a node type"
        )
    return None


def _bundles(bundle: Mapping[str, float], one: NodeType) -> int:
    """How many such bundles all machines of a type hold."""
    asked = {name: value for name, value in bundle.items() if value > 0}
    each = min((int(one.resources.get(name, 0) / value + EPSILON) for name, value in asked.items()), default=0)
    return UNLIMITED if each and one.most == UNLIMITED else each * max(0, one.most)


def _type_words(one: NodeType) -> str:
    most = "any number" if one.most == UNLIMITED else str(one.most)
    return f"{most} x {one.name} ({_words(one.resources) or 'no resources'})"


def _words(resources: Mapping[str, float]) -> str:
    """Resources for people: CPU 4, GPU 1, A100, 16.0 GiB of memory; without Ray's own markers of a machine."""
    kinds = [name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:")]
    plain = [
        f"{value / 2**30:.1f} GiB of memory" if name == "memory" else f"{name} {value:g}"
        for name, value in sorted(resources.items())
        if not name.startswith(("accelerator_type:", "node:")) and name != "object_store_memory" and value
    ]
    return ", ".join([*plain, *kinds])


def check(run: RunConfig, names: Iterable[str]) -> None:
    """`check_specs` of the models of these names."""
    check_specs({f"models.{name}": run.models[name] for name in names})


def check_specs(specs: Mapping[str, ModelSpec]) -> None:
    """Hold what the models (by the key that names them) ask for against the running cluster. Needs `runtime.start`.

    Raises UserError with the demand and the machines where it can never be met.
    """
    types = node_types()
    on_gpus = any(one.resources.get("GPU", 0) > 0 for one in types or ())
    made = [model_demand(place, spec, on_gpus=on_gpus) for place, spec in specs.items()]
    check_all([demand for demand in made if demand])


def check_all(demands: Sequence[Demand]) -> None:
    """The same for demands that stand already."""
    types = node_types()
    if types is not None and (problem := unmet(demands, types)):
        raise UserError(problem)


def node_types() -> list[NodeType] | None:
    """The types that an autoscaler may still start, and the living machines by their resources: a bound from above, as
    a living machine of such a type counts twice. None where an autoscaler runs and does not tell its types."""
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
    return [NodeType("machine", dict(resources), number) for resources, number in alike.items()]


def _reported() -> list[NodeType]:
    """The autoscaler's node groups, where the cluster's control store has them."""
    import ray._private.state

    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    return [NodeType(one.name, dict(one.resources), int(one.max_count)) for one in groups]


def _is_autoscaled() -> bool:
    """Where no autoscaler runs, Ray calls each machine a type of its own: `node_ID`."""
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
    """The node types of `ray up`, on the cluster's head; none elsewhere."""
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
