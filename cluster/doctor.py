"""`inverdict doctor [CONFIG]`: check whether this machine or a cluster can run a configuration.

Checks every node in a Ray task there; starts and downloads no model. Exit code 0: no problem found; 1: a problem that
prevents the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from cluster import feasibility as demands
from cluster import runtime
from cluster.config import HttpSpec, RunConfig, VllmSpec
from cluster.embedded import EMBEDDED, damage, model_place
from cluster.errors import UserError
from cluster.models import num_parameters
from cluster.node_checks import Look, Seen, look
from cluster.terminal import shown

PATIENCE_S = 60.0
GPU_SHARE = 0.9  # the fraction of a GPU's memory that vLLM uses
BYTES_ON_GPU, BYTES_ON_CPU = 2, 4  # per parameter: bfloat16, float32
LOOPBACK = ("127.", "::1", "::ffff:127.")


class Finding(NamedTuple):
    """The result of one check. `level`: ok; note: works, worth knowing; bad: prevents the run."""

    what: str
    level: Literal["ok", "note", "bad"]
    words: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict doctor`."""
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG.yaml", help="configuration file (default: check only the nodes)"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="a.b=v",
        help="override a configuration key; repeatable",
    )
    parser.add_argument(
        "--address", help="address of the cluster (default: the configuration's ray.address, or this machine)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Raises UserError if the configuration is invalid or no cluster is found."""
    run = _configured(args)
    runtime.start(run.ray)
    nodes, silent, findings = examine(run, storage=str(run.run.absolute()) if args.config else "")
    bad = any(one.level == "bad" for one in findings)
    if args.json:
        result = {
            "ok": not bad,
            "findings": [one._asdict() for one in findings],
            "nodes": [one._asdict() for one in nodes],
        }
        print(json.dumps(result, indent=1))
    else:
        print(shown(render(findings)))
    return int(bad or bool(silent))


def _configured(args: argparse.Namespace) -> RunConfig:
    from cluster.config import load
    from cluster.jobs import sections

    overrides = [*args.overrides, *([f"ray.address={args.address}"] if args.address else [])]
    if args.config:
        return load(args.config, overrides, sections())
    if args.overrides:
        raise UserError("--set requires a configuration file.", code="invalid_value")
    return RunConfig.model_validate({"run": ".", "ray": {"address": args.address}})


def examine(run: RunConfig, *, storage: str) -> tuple[list[Seen], dict[str, str], list[Finding]]:
    """Check the running cluster.

    Args:
        run: the configuration.
        storage: the folder that all nodes must share; "": none.

    Returns:
        The results of every node, the nodes that do not respond with the reason, and the findings.
    """
    import ray

    folders, model_findings = model_places(run)
    endpoints = {
        name: (where.hostname or "", where.port or (443 if where.scheme == "https" else 80))
        for name, spec in run.models.items()
        if isinstance(spec, HttpSpec)
        for where in [urlsplit(spec.base_url)]
    }
    dashboard = _dashboard()
    ports = [port] if (port := urlsplit(f"//{dashboard}").port if dashboard else None) else []
    with _marked(storage) as (mark, storage_finding):
        nodes, silent = _ask(Look(storage if mark else "", mark, folders, endpoints, ports), ray.nodes())
        shared = storage_finding or storage_words(storage, mark, nodes)
    types = demands.node_types()
    findings = [
        *(Finding("nodes", "bad", f"{name} does not respond: {why}") for name, why in silent.items()),
        version_finding(runtime_versions(), nodes),
        *([shared] if shared else []),
        *model_findings,
        *model_words(nodes),
        *memory_findings(run, folders, nodes),
        *_demand_findings(run, types),
        *security_findings(asks_for_token(dashboard), dashboard, [one.bound for one in nodes]),
    ]
    return nodes, silent, findings


def _ask(asked: Look, known: Iterable[Mapping[str, Any]]) -> tuple[list[Seen], dict[str, str]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    seen: list[Seen] = []
    silent: dict[str, str] = {}
    pending = {
        f"{node['NodeManagerAddress']}/{node['NodeID'][:6]}": task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(asked, f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}")
        for node in known
        if node["Alive"]
    }
    for name, reference in pending.items():
        try:
            seen.append(Seen(*ray.get(reference, timeout=PATIENCE_S)))
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            silent[name] = (lines or [type(error).__name__])[-1][:200]
    return seen, silent


def runtime_versions() -> dict[str, str]:
    """The versions of this process, for comparison with the nodes'."""
    import platform

    return {"python": platform.python_version(), **runtime.versions()}


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


@contextmanager
def _marked(storage: str) -> Iterator[tuple[str, Finding | None]]:
    """Write a file of the driver to the run directory: its name, or "" with the reason why it cannot be written.

    It is removed afterwards, with the nodes' files and the folders created for it.
    """
    if not storage:
        yield "", None
        return
    folder, mark = Path(storage), f".doctor-{uuid.uuid4().hex[:12]}"
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / mark).write_bytes(b"\0" * 4096)
    except OSError as error:
        yield (
            "",
            Finding("storage", "bad", f"{storage} cannot be written from here: {error.strerror}. Choose another `run`"),
        )
        return
    try:
        yield mark, None
    finally:
        for file in folder.glob(f"{mark}*"):
            file.unlink(missing_ok=True)
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()


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
    return Finding("storage", "ok", f"{storage} is shared and writable on every node")


def model_places(run: RunConfig) -> tuple[dict[str, str], list[Finding]]:
    """Folders of the vLLM models by name, as the jobs would pass them to the nodes, and findings about missing ones."""
    folders: dict[str, str] = {}
    findings: list[Finding] = []
    for name, spec in run.models.items():
        if not isinstance(spec, VllmSpec):
            continue
        source, what = spec.source, f"model {name}"
        bare = source.removeprefix("embedded:")
        if bare != source and bare in EMBEDDED:
            folders[name] = str(model_place(bare, None))
            if problem := damage(model_place(bare, None), EMBEDDED[bare]):
                del folders[name]
                findings.append(
                    Finding(
                        what, "bad", f"{source} is not ready here ({problem}). Run `inverdict models fetch {source}`"
                    )
                )
        elif source.startswith((".", "/", "~")) or Path(source).is_dir():
            folder = Path(source).expanduser().absolute()
            if not folder.exists() and run.run.absolute() in folder.parents:
                findings.append(Finding(what, "note", f"{folder} will be written by an earlier job of this run"))
            else:
                folders[name] = str(folder)
        elif snapshot := _snapshot(source, spec.revision):
            folders[name] = snapshot
        else:
            words = (
                f"{source} is not in the local hub cache. Run `inverdict models fetch {source}` with access to the hub"
            )
            findings.append(Finding(what, "bad", words))
    return folders, findings


def _snapshot(source: str, revision: str | None) -> str | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(source, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def model_words(nodes: Sequence[Seen]) -> list[Finding]:
    """For each model, whether every node has it."""
    names = dict.fromkeys(name for node in nodes for name in node.models)
    findings = []
    for name in names:
        bad = [f"{node.node} {problem}" for node in nodes if (problem := node.models.get(name))]
        words = "; ".join(bad) if bad else "found on every node"
        findings.append(Finding(f"model {name}", "bad" if bad else "ok", words))
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
            need, room, where = num * BYTES_ON_GPU / spec.num_workers, largest * GPU_SHARE, "on a GPU"
        else:
            need = num * BYTES_ON_CPU / spec.num_workers + spec.kv_cache_gib * 2**30
            room, where = max((node.memory_bytes for node in nodes), default=0), "on a node"
        words = f"each worker of an engine needs {_gib(need)} of {_gib(room)} {where}"
        findings.append(Finding(f"memory {name}", "ok" if need <= room else "bad", words))
    return findings


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def _demand_findings(run: RunConfig, types: Sequence[demands.NodeType] | None) -> list[Finding]:
    if types is None:
        return [Finding("resources", "note", "an autoscaler is running that does not report its node types")]
    on_gpus = any(one.resources.get("GPU", 0) > 0 for one in types)
    made = [demands.model_demand(f"models.{name}", spec, on_gpus=on_gpus) for name, spec in run.models.items()]
    wanted = [one for one in made if one]
    if not wanted:
        return []
    problem = demands.unmet(wanted, types)
    words = problem or f"each of {len(wanted)} models fits on the cluster's nodes"
    return [Finding("resources", "bad" if problem else "ok", words)]


def _dashboard() -> str:
    """host:port of the cluster's dashboard, "" if it has none."""
    import ray._private.worker

    node = ray._private.worker.global_worker.node
    return str(node.address_info.get("webui_url") or "") if node else ""


def asks_for_token(dashboard: str) -> bool | None:
    """Whether the dashboard, and so its job server, requires a token; None if it does not respond."""
    if not dashboard:
        return None
    try:
        urllib.request.urlopen(f"http://{dashboard}/api/version", timeout=PATIENCE_S / 6).close()
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return None
    return False


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
