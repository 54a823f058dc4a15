"""The nodes' results -> the findings of `inverdict doctor`: ok, worth knowing, or preventing the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cluster.config import RunConfig
from cluster.model_files import num_parameters
from cluster.model_specs import VllmSpec
from cluster.node_checks import Seen

GPU_SHARE = 0.9  # the fraction of a GPU's memory that vLLM uses
LOOPBACK = ("127.", "::1", "::ffff:127.")


class Finding(NamedTuple):
    """The result of one check. `level`: ok; note: works, worth knowing; bad: prevents the run."""

    what: str
    level: Literal["ok", "note", "bad"]
    words: str


def version_finding(driver: Mapping[str, str], nodes: Sequence[Seen]) -> Finding:
    """All nodes must have the driver's versions: objects are pickled between them, and scores depend on them."""
    other = [
        f"{node.node} has {name} {node.versions.get(name, 'none')}"
        for node in nodes
        for name, wanted in driver.items()
        if node.versions.get(name, "none") != wanted
    ]
    here = ", ".join(f"{name} {version}" for name, version in driver.items())
    if other:
        return Finding("versions", "bad", f"{'; '.join(other)}; here: {here}. Install the same versions on all nodes")
    return Finding("versions", "ok", f"{len(nodes)} node{'s' * (len(nodes) != 1)}: {here}")


def storage_words(storage: str, mark: str, nodes: Sequence[Seen]) -> Finding | None:
    """Whether all nodes share the run directory; None without one.

    Args:
        storage: the run directory; "": none.
        mark: the name of the driver's file in it.
        nodes: the nodes' results.
    """
    if not storage:
        return None
    bad = [f"{node.node} {node.storage}" for node in nodes if node.storage]
    bad += [
        f"a file written by {node.node} is not visible here: the folder is not shared"
        for node in nodes
        if not node.storage and not (Path(storage) / f"{mark}.{node.node}").exists()
    ]
    if bad:
        return Finding(
            "storage", "bad", f"{storage}: {'; '.join(bad)}. Put `run` on a file system that all nodes mount"
        )
    if len(nodes) == 1:
        return Finding("storage", "ok", f"{storage} is writable on this node, the only one")
    return Finding("storage", "ok", f"{storage} is a folder that all nodes share, writable on every node")


def model_words(nodes: Sequence[Seen], references: Mapping[str, str]) -> list[Finding]:
    """For each model, whether every node has it or gets it.

    Args:
        nodes: the nodes' results.
        references: of the models, by name; an endpoint has none.
    """
    names = dict.fromkeys(name for node in nodes for name in node.models)
    findings = []
    for name in names:
        bad = [f"{node.node} {problem}" for node in nodes if (problem := node.models.get(name))]
        absent = [node.node for node in nodes if name in node.fetches]
        is_shared = Path(references.get(name, "")).is_absolute()
        kind = "in a folder that all nodes share: " if is_shared else "each node has its own: "
        words = f"fetched when it is first needed on {', '.join(absent)}" if absent else "found on every node"
        words = f"{kind if len(nodes) > 1 and name in references else ''}{words}"
        findings.append(Finding(f"model {name}", "bad" if bad else "ok", "; ".join(bad) or words))
    return findings


def memory_findings(run: RunConfig, folders: Mapping[str, str], nodes: Sequence[Seen]) -> list[Finding]:
    """Compare the weights with the memory of the largest GPU, or of the largest node for an engine on CPU.

    Args:
        run: the configuration.
        folders: model folders by name.
        nodes: the nodes' results.
    """
    findings = []
    for name, folder in folders.items():
        spec = run.models[name]
        num = num_parameters(Path(folder)) if Path(folder).is_dir() else 0
        if not num or not isinstance(spec, VllmSpec):
            continue
        largest = max((size for node in nodes for _, size in node.gpus), default=0)
        if spec.num_gpus != 0 and largest:
            need = num * (4 if spec.dtype == "float32" else 2) / spec.num_workers
            room, where = largest * GPU_SHARE, "on a GPU"
        else:
            dtypes = {node.dtype for node in nodes} if spec.dtype == "auto" else {spec.dtype}
            need = num * (4 if "float32" in dtypes else 2) / spec.num_workers + spec.kv_cache_gib * 2**30
            room, where = max((node.memory_bytes for node in nodes), default=0), "on a node"
        words = f"each worker of an engine needs {_gib(need)} of {_gib(room)} {where}"
        findings.append(Finding(f"memory {name}", "ok" if need <= room else "bad", words))
    return findings


def dtype_finding(nodes: Sequence[Seen]) -> Finding:
    """What `dtype: auto` is on the nodes' processors; the driver's decides for a run."""
    found = {node.node: node.dtype for node in nodes if not node.gpus}
    if len(set(found.values())) > 1:
        words = ", ".join(f"{dtype} on {name}" for name, dtype in found.items())
        return Finding("dtype", "note", f"auto differs on CPUs: {words}. Set `dtype` of the models")
    words = f"auto is {next(iter(found.values()))} on CPUs" if found else "auto is the model's own on GPUs"
    return Finding("dtype", "ok", words)


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def security_findings(
    is_guarded: bool | None, dashboard: str, bound: Sequence[Mapping[int, Sequence[str]]]
) -> list[Finding]:
    """Check token mode and the addresses of the dashboard, whose job server executes submitted code.

    Args:
        is_guarded: see `asks_for_token`.
        dashboard: host:port; "": none.
        bound: of each node: port -> addresses that listen on it.
    """
    if not dashboard:
        return [Finding("dashboard", "ok", "not running: no jobs can be submitted")]
    if is_guarded is None:
        return [Finding("token", "note", f"the dashboard at {dashboard} does not respond: token mode is unknown")]
    addresses = sorted({address for one in bound for found in one.values() for address in found})
    is_open = any(not address.startswith(LOOPBACK) for address in addresses)
    where = f"the dashboard listens on {', '.join(addresses) or dashboard}"
    token = (
        "token mode is on"
        if is_guarded
        else "token mode is off. Set RAY_AUTH_MODE=token on the head node before starting Ray"
    )
    return [
        Finding("token", "ok" if is_guarded else "bad" if is_open else "note", token),
        Finding(
            "dashboard",
            "ok" if not is_open else "note" if is_guarded else "bad",
            where + (". Bind it to 127.0.0.1 and use an SSH tunnel" if is_open else ""),
        ),
    ]


def render(findings: Sequence[Finding]) -> str:
    """The findings for the terminal, one per line."""
    width = max(len(one.what) for one in findings)
    lines = [f"{one.level:<5} {one.what:<{width}}  {one.words}" for one in findings]
    num_bad = sum(one.level == "bad" for one in findings)
    return "\n".join(
        [*lines, f"{num_bad} of {len(findings)} findings prevent the run" if num_bad else "no problems found"]
    )
