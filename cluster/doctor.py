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
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cluster import feasibility as demands
from cluster import model_hub, model_store, runtime
from cluster.adapters import adapter_problem, misfit
from cluster.config import RunConfig
from cluster.embedded import damage, model_place
from cluster.embedded_models import EMBEDDED
from cluster.errors import UserError
from cluster.findings import (
    Finding,
    dtype_finding,
    memory_findings,
    model_words,
    render,
    security_findings,
    storage_words,
    version_finding,
)
from cluster.model_specs import HttpSpec, VllmSpec, engine_name
from cluster.node_checks import Look, Seen, look
from cluster.object_store import check_writable, is_address, opened
from cluster.object_store import shown as shown_address
from cluster.run_store import address_of
from cluster.terminal import shown

PATIENCE_S = 60.0


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
    address = address_of(run.run)
    nodes, silent, findings = examine(run, storage=str(run.run.absolute()) if args.config and not address else "")
    if address:
        findings.insert(1, store_finding(address))
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

    known, model_findings = model_places(run)
    references = {name: one.reference for name, one in known.items()}
    folders = {name: one.folder for name, one in known.items() if one.folder}
    adapters, adapter_findings = adapter_places(run, folders)
    endpoints = {
        name: (where.hostname or "", where.port or (443 if where.scheme == "https" else 80))
        for name, spec in run.models.items()
        if isinstance(spec, HttpSpec)
        for where in [urlsplit(spec.base_url)]
    }
    dashboard = _dashboard()
    ports = [port] if (port := urlsplit(f"//{dashboard}").port if dashboard else None) else []
    with _marked(storage) as (mark, storage_finding):
        nodes, silent = _ask(Look(storage if mark else "", mark, references, adapters, endpoints, ports), ray.nodes())
        shared = storage_finding or storage_words(storage, mark, nodes)
    types = demands.node_types()
    findings = [
        *(Finding("nodes", "bad", f"{name} does not respond: {why}") for name, why in silent.items()),
        version_finding(runtime_versions(), nodes),
        *([shared] if shared else []),
        *model_findings,
        *adapter_findings,
        *model_words(nodes, references),
        *memory_findings(run, folders, nodes),
        dtype_finding(nodes),
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


class Known(NamedTuple):
    """A model: its folder here, "" if there is none, and its reference for the nodes."""

    folder: str
    reference: str


def model_places(run: RunConfig) -> tuple[dict[str, Known], list[Finding]]:
    """The vLLM models by name, as the jobs would pass them to the nodes, and findings about missing ones."""
    known: dict[str, Known] = {}
    findings: list[Finding] = []
    for name, spec in run.models.items():
        if not isinstance(spec, VllmSpec) or spec.adapter:
            continue
        source, what = spec.source, f"model {name}"
        bare = source.removeprefix("embedded:")
        if bare != source and bare in EMBEDDED:
            if problem := damage(model_place(bare, None), EMBEDDED[bare]):
                words = f"{source} is not ready here ({problem}). Run `inverdict models fetch {source}`"
                findings.append(Finding(what, "bad", words))
            else:
                known[name] = Known(str(model_place(bare, None)), source)
        elif source.startswith((".", "/", "~")) or Path(source).is_dir():
            folder = Path(source).expanduser().absolute()
            if not folder.exists() and run.run.absolute() in folder.parents:
                findings.append(Finding(what, "note", f"{folder} will be written by an earlier job of this run"))
            else:
                known[name] = Known(str(folder), str(folder))
        elif is_address(source):
            try:
                fingerprint = model_store.listing(source).fingerprint
                known[name] = Known(str(model_store.found_folder(fingerprint) or ""), f"{source}#{fingerprint}")
            except UserError as error:
                findings.append(Finding(what, "bad", str(error)))
        elif snapshot := model_hub.found_snapshot(source, spec.revision, weights=False):
            known[name] = Known(str(snapshot), f"{source}@{snapshot.name}")
        else:
            words = (
                f"{source} is not in the local hub cache. Run `inverdict models fetch {source}` with access to the hub"
            )
            findings.append(Finding(what, "bad", words))
    return known, findings


def adapter_places(run: RunConfig, bases: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """Folders of the LoRA adapters by name, and findings about those that do not fit their base.

    Args:
        run: the configuration.
        bases: folders of the other models by name.
    """
    folders: dict[str, str] = {}
    findings: list[Finding] = []
    for name, spec in run.models.items():
        if not isinstance(spec, VllmSpec) or not spec.adapter:
            continue
        folder, what = Path(spec.adapter).expanduser().absolute(), f"model {name}"
        if not folder.exists() and run.run.absolute() in folder.parents:
            findings.append(Finding(what, "note", f"{folder} will be written by an earlier job of this run"))
            continue
        folders[name] = str(folder)
        base = Path(bases.get(spec.base or "", ""))
        is_known = spec.base in bases and base.is_dir() and not adapter_problem(folder)
        if is_known and (problem := misfit(folder, base)):
            findings.append(Finding(what, "bad", f"{folder} is not an adapter of {spec.base}: it {problem}"))
    return folders, findings


def store_finding(address: str) -> Finding:
    """Whether a run directory on an object store can be written from here, which is where the jobs write it."""
    try:
        check_writable(opened(address, "run"), address, "run")
    except UserError as error:
        return Finding("storage", "bad", str(error))
    words = f"{shown_address(address)} is an object store, writable from here; other nodes need no access to it"
    return Finding("storage", "ok", words)


def _demand_findings(run: RunConfig, types: Sequence[demands.NodeType] | None) -> list[Finding]:
    if types is None:
        return [Finding("resources", "note", "an autoscaler is running that does not report its node types")]
    on_gpus = any(one.resources.get("GPU", 0) > 0 for one in types)
    engines = {name: spec for name, spec in run.models.items() if engine_name(name, spec) == name}
    made = [demands.model_demand(f"models.{name}", spec, on_gpus=on_gpus) for name, spec in engines.items()]
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
