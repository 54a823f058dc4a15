"""The panel on Ray Serve: the only file with deployments. `inverdict serve CONFIG`, or `serve run serve.app:build`.

Three kinds of deployment: an evaluator for each model (vLLM by Ray Serve's LLM server, one for a base and its LoRA
adapters), the panel, and the ingress that speaks HTTP; where that has several replicas, a fourth keeps their answers by
Idempotency-Key. The configuration is sent to each replica as plain values and built again there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.serve
from pydantic import BaseModel

from cluster import feasibility as demands
from cluster import models, runtime
from cluster.adapters import Adapter, adapter_of
from cluster.config import RunConfig, load
from cluster.config import build as build_config
from cluster.engine import HandleEngine
from cluster.model_layers import CutSpec
from cluster.model_specs import FeaturesSpec, HttpSpec, ModelSpec, ScriptedSpec, VllmSpec, engine_name
from cluster.precision import all_settled
from cluster.vllm_arguments import vllm_arguments
from judging.records import Record
from serve.api.api_keys import Keys
from serve.api.conversion import Offer
from serve.api.idempotency import AnswerStore
from serve.api.routes import make_app
from serve.api.service import About
from serve.engines.engine_server import EngineServer
from serve.panel.build import Online, build_panel, describe, online, versions
from serve.panel.config import Config, Replicas
from serve.panel.panel import Ask, Judged
from serve.remote import PING_S, RemoteService

# CPUs of an actor that waits more than it computes.
SMALL = 0.1


class ServeArgs(BaseModel):
    """The arguments of `serve run serve.app:build` and of a Serve configuration file."""

    config: str
    overrides: list[str] = []


def build(args: ServeArgs) -> Any:
    """The application of a configuration file. Raises InputError or UserError where it cannot be served."""
    from cluster.jobs import sections

    return build_app(load(Path(args.config), args.overrides, sections()))


def build_app(run: RunConfig) -> Any:
    found = online(run)
    if found.serve.keys_file:
        Keys(found.serve.keys_file)  # a missing or damaged file fails here, not in a replica
    runtime.start(run.ray)
    demands.check(found.run, found.models)
    panels = found.serve.panel
    demands.check_all([demands.Demand("serve.panel", {"CPU": SMALL, **panels.resources}, panels.num_replicas)])
    found = dataclasses.replace(found, run=all_settled(found.run, found.models))
    engines = {name: _evaluator(name, specs, found) for name, specs in found.engines.items()}
    evaluators = {name: engines[engine_name(name, spec)] for name, spec in found.models.items()}
    made = {"raw": run.model_dump(mode="json"), "cwd": str(Path.cwd())}
    ongoing = 4 * found.serve.max_in_flight
    small = {**_panel_options(found.serve), "max_ongoing_requests": ongoing}
    panel = ray.serve.deployment(name="panel", **small)(PanelServer).bind(evaluators=evaluators, **made)
    ingress = ray.serve.deployment(name="ingress", max_queued_requests=ongoing, **small)(ray.serve.ingress()(Ingress))
    answers = None
    if panels.num_replicas > 1:
        alone = {**small, "num_replicas": 1, "max_ongoing_requests": ongoing * panels.num_replicas}
        answers = ray.serve.deployment(name="answers", **alone)(AnswerStore).bind(found.serve.hard_timeout_s)
    return ingress.bind(panel=panel, evaluators=evaluators, answers=answers, **made)


def _panel_options(config: Config) -> dict[str, Any]:
    """Number and place of the replicas of the panel, and of the HTTP interface."""
    per_node = config.panel.max_replicas_per_node
    return {
        "num_replicas": config.panel.num_replicas,
        "ray_actor_options": {"num_cpus": SMALL, "resources": config.panel.resources},
        "graceful_shutdown_timeout_s": config.hard_timeout_s,
        **({"max_replicas_per_node": per_node} if per_node else {}),
    }


def _evaluator(name: str, specs: Mapping[str, ModelSpec], found: Online) -> Any:
    """A deployment with its own replicas, and its limits of ongoing and queued requests.

    `specs`: the models that it answers for; several if they are LoRA adapters of one base, or the base.
    """
    spec = next(iter(specs.values()))
    scale = found.serve.replicas.get(name, Replicas())
    options = evaluator_options(scale, found.serve.hard_timeout_s)
    if scale.max > 1 and isinstance(spec, VllmSpec | ScriptedSpec):
        from serve.routing import router_config

        options["request_router_config"] = router_config(scale.target)
    if isinstance(spec, HttpSpec | ScriptedSpec | FeaturesSpec):
        gpus = spec.num_gpus if isinstance(spec, ScriptedSpec) else 0
        options |= {"name": f"evaluator-{name}", "ray_actor_options": {"num_cpus": SMALL, "num_gpus": gpus}}
        return ray.serve.deployment(**options)(EngineServer).bind(spec)
    assert isinstance(spec, VllmSpec)
    adapted = {name: one for name, one in specs.items() if isinstance(one, VllmSpec) and one.adapter}
    return _vllm_evaluator(name, spec, {name: adapter_of(one) for name, one in adapted.items()}, found, options)


def evaluator_options(scale: Replicas, drain_s: float) -> dict[str, Any]:
    """Serve's options for the limits, the number of replicas, and their end.

    Args:
        scale: the model's `serve.replicas`.
        drain_s: seconds that a removed replica has for its running requests; new ones go to the others.
    """
    options: dict[str, Any] = {
        "max_ongoing_requests": scale.max_ongoing,
        "max_queued_requests": scale.max_queued,
        "graceful_shutdown_timeout_s": drain_s,
    }
    if scale.max == scale.min:
        return {**options, "num_replicas": scale.min}
    scaling = {
        "min_replicas": scale.min,
        "max_replicas": scale.max,
        "target_ongoing_requests": scale.target,
        "upscale_delay_s": scale.more_after_s,
        "downscale_delay_s": scale.fewer_after_s,
    }
    return {**options, "autoscaling_config": scaling}


def _vllm_evaluator(
    name: str, spec: VllmSpec, adapters: Mapping[str, Adapter], found: Online, options: dict[str, Any]
) -> Any:
    model = models.resolve(spec.source, revision=spec.revision, weights=runtime.is_one_machine())
    known = {
        "spec": spec,
        "reference": model.reference,
        "adapters": dict(adapters),
    }
    arguments = vllm_arguments(spec, sampled=True, is_served=True, adapters=adapters.values())
    if isinstance(spec, CutSpec):
        arguments["engine_kwargs"] |= {"runner": "pooling", "convert": "embed"}
    if "GPU" not in arguments["placement_group_config"]["bundle_per_worker"]:
        _share_cpus(arguments, found)
    options["ray_actor_options"] = {"num_cpus": SMALL}
    with runtime.quiet_logging():  # Ray logs the whole plan
        return _llm_deployment(name, str(model.path), known, options, arguments)


def _llm_deployment(
    name: str, folder: str, known: dict[str, Any], options: dict[str, Any], arguments: dict[str, Any]
) -> Any:
    """`known`: the arguments of `VllmServer`."""
    from ray.serve.llm import LLMConfig, build_llm_deployment

    from serve.engines.vllm_server import VllmServer

    config = LLMConfig(
        model_loading_config={"model_id": name, "model_source": folder},
        accelerator_type=known["spec"].accelerator_type,
        deployment_config=options,
        log_engine_metrics=known["spec"].engine_metrics,
        **arguments,
    )
    return build_llm_deployment(config, name_prefix="evaluator-", bind_kwargs=known, deployment_cls=VllmServer)


def _share_cpus(arguments: dict[str, Any], found: Online) -> None:
    """Without GPUs all engines share the machine's cores: each gets its part."""
    engines = sum(
        found.serve.replicas.get(name, Replicas()).max
        for name, specs in found.engines.items()
        if isinstance(next(iter(specs.values())), VllmSpec)
    )
    cores = runtime.num_cpus()
    bundle = arguments["placement_group_config"]["bundle_per_worker"]
    bundle["CPU"] = min(bundle["CPU"], round((cores - 1) / engines, 2))
    arguments["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // engines))


def _rebuilt(raw: dict[str, Any], cwd: str) -> RunConfig:
    """The configuration in a replica, where paths are relative to the command's working directory."""
    from cluster.jobs import sections

    if Path(cwd).is_dir():
        os.chdir(cwd)
    return build_config(raw, sections(), origin="the configuration")


class PanelServer:
    """The panel with its retriever. `evaluators`: handles by model."""

    def __init__(self, evaluators: dict[str, Any], raw: dict[str, Any], cwd: str) -> None:
        self._evaluators = evaluators
        engines = {name: HandleEngine(handle, name) for name, handle in evaluators.items()}
        run = _rebuilt(raw, cwd)
        with models.looked_up_once(run.run):  # the run's commits, also of the retrievers' encoder
            self._online = online(run)
            self._panel = build_panel(self._online, engines)
            self._versions = versions(self._online)

    async def about(self) -> tuple[About, Offer]:
        found = self._online
        offer = Offer(
            {name: frozenset(judge.templates) for name, judge in found.judges.items()},
            found.evaluate.vote,
            found.serve,
            found.run.seed,
            has_integrator=found.evaluate.integrator is not None,
            fixed=frozenset(name for name, judge in found.judges.items() if judge.is_fixed),
            certified=found.certified,
        )
        about = About(
            judges=describe(found),
            tasks=found.tasks(),
            models=[name for name, spec in found.models.items() if not isinstance(spec, CutSpec | FeaturesSpec)],
            versions=self._versions._asdict(),
            min_votes=found.evaluate.vote.min_votes,
        )
        return about, offer

    async def judge(self, ask: Ask) -> list[Judged]:
        return await self._panel.judge(ask)

    async def retrieve(self, judge: str, record: Record, aspect: str) -> list[dict[str, Any]]:
        """As `Service.retrieve`."""
        asked = self._panel.judges[judge]
        if asked.chooser is None:
            return []
        (chosen,) = await asyncio.to_thread(asked.chooser.choose, [record], aspect)
        pool = self._online.pool
        return [
            {"id": id, "source": pool[id].source, "candidate": pool[id].candidate, "score": pool[id].scores[aspect]}
            for id in chosen.ids
        ]

    async def judges_alive(self) -> list[str]:
        alive = set(await _alive(self._evaluators))
        return [name for name, judge in self._online.evaluate.judges.items() if judge.model in alive]


async def _alive(evaluators: dict[str, Any]) -> list[str]:
    async def one(name: str) -> str | None:
        try:
            async with asyncio.timeout(PING_S):
                return name if await evaluators[name].ping.remote() else None
        except Exception:  # dead, full, or not started yet: not responding
            return None

    found = await asyncio.gather(*(one(name) for name in evaluators))
    return [name for name in found if name is not None]


class Ingress:
    """Speaks HTTP, and forwards everything else to the panel and the evaluators."""

    async def __init__(  # type: ignore[misc]
        self, panel: Any, evaluators: dict[str, Any], raw: dict[str, Any], cwd: str, answers: Any = None
    ) -> None:
        if Path(cwd).is_dir():
            os.chdir(cwd)
        about, offer = await panel.about.remote()
        self._service = RemoteService(panel, evaluators, about, offer, answers)
        config: Config = offer.config
        self._keys = Keys(config.keys_file) if config.keys_file else None
        report = Path(raw["run"]) / "report" / "report.html"
        self._report = report if report.exists() else None

    async def __serve_build_asgi_app__(self) -> Any:
        return make_app(self._service, self._keys, self._report)


def main(run: RunConfig) -> int:
    """`inverdict serve`: start everything, print the address, run until it is stopped."""
    from serve.launch import serve_until_stopped

    return serve_until_stopped(run, build_app)
