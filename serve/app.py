"""The panel on Ray Serve: the only file with deployments. `inverdict serve CONFIG`, or `serve run serve.app:build`.

Three kinds of deployment: an evaluator for each model (vLLM by Ray Serve's LLM server), the panel, and the ingress that
speaks HTTP. The configuration is sent to each replica as plain values and built again there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ray
import ray.serve
from pydantic import BaseModel

from cluster import feasibility as demands
from cluster import models, runtime
from cluster.config import RunConfig, load
from cluster.config import build as build_config
from cluster.engine import HandleEngine
from cluster.exchange import Reply, Request
from cluster.generate import vllm_arguments
from cluster.model_layers import CutSpec
from cluster.model_specs import FeaturesSpec, HttpSpec, ModelSpec, ScriptedSpec, VllmSpec
from cluster.precision import all_settled
from judging.records import Record
from serve.api.api_keys import Keys
from serve.api.conversion import Offer
from serve.api.errors import Unavailable
from serve.api.routes import make_app
from serve.api.service import About
from serve.engines.engine_server import EngineServer
from serve.panel.build import Online, build_panel, describe, online, versions
from serve.panel.config import Config, Replicas
from serve.panel.panel import Ask, Judged

PING_S, KEPT_S = 3.0, 1.0
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
    found = dataclasses.replace(found, run=all_settled(found.run, found.models))
    evaluators = {name: _evaluator(name, spec, found) for name, spec in found.models.items()}
    made = {"raw": run.model_dump(mode="json"), "cwd": str(Path.cwd())}
    ongoing = 4 * found.serve.max_in_flight
    small = {"ray_actor_options": {"num_cpus": SMALL}, "max_ongoing_requests": ongoing}
    panel = ray.serve.deployment(name="panel", **small)(PanelServer).bind(evaluators=evaluators, **made)
    ingress = ray.serve.deployment(name="ingress", max_queued_requests=ongoing, **small)(ray.serve.ingress()(Ingress))
    return ingress.bind(panel=panel, evaluators=evaluators, **made)


def _evaluator(name: str, spec: ModelSpec, found: Online) -> Any:
    """One model as a deployment with its own replicas, and its limits of ongoing and queued requests."""
    scale = found.serve.replicas.get(name, Replicas())
    options: dict[str, Any] = {"max_ongoing_requests": scale.max_ongoing, "max_queued_requests": scale.max_queued}
    if scale.max > scale.min:
        target = max(1, scale.max_ongoing // 2)
        options["autoscaling_config"] = {
            "min_replicas": scale.min,
            "max_replicas": scale.max,
            "target_ongoing_requests": target,
            "upscale_delay_s": scale.more_after_s,
            "downscale_delay_s": scale.fewer_after_s,
        }
    else:
        options["num_replicas"] = scale.min
    if isinstance(spec, HttpSpec | ScriptedSpec | FeaturesSpec):
        gpus = spec.num_gpus if isinstance(spec, ScriptedSpec) else 0
        options |= {"name": f"evaluator-{name}", "ray_actor_options": {"num_cpus": SMALL, "num_gpus": gpus}}
        return ray.serve.deployment(**options)(EngineServer).bind(spec)
    assert isinstance(spec, VllmSpec)
    return _vllm_evaluator(name, spec, found, options)


def _vllm_evaluator(name: str, spec: VllmSpec, found: Online, options: dict[str, Any]) -> Any:
    model = models.resolve(spec.source, revision=spec.revision, weights=runtime.is_one_machine())
    arguments = vllm_arguments(spec, sampled=True, is_served=True)
    if isinstance(spec, CutSpec):
        arguments["engine_kwargs"] |= {"runner": "pooling", "convert": "embed"}
    if "GPU" not in arguments["placement_group_config"]["bundle_per_worker"]:
        _share_cpus(arguments, found)
    options["ray_actor_options"] = {"num_cpus": SMALL}
    with runtime.quiet_logging():  # Ray logs the whole plan
        return _llm_deployment(name, spec, model, options, arguments)


def _llm_deployment(
    name: str, spec: VllmSpec, model: models.ModelFolder, options: dict[str, Any], arguments: dict[str, Any]
) -> Any:
    from ray.serve.llm import LLMConfig, build_llm_deployment

    from serve.engines.vllm_server import VllmServer

    config = LLMConfig(
        model_loading_config={"model_id": name, "model_source": str(model.path)},
        accelerator_type=spec.accelerator_type,
        deployment_config=options,
        log_engine_metrics=False,
        **arguments,
    )
    return build_llm_deployment(
        config,
        name_prefix="evaluator-",
        bind_kwargs={"spec": spec, "reference": model.reference},
        deployment_cls=VllmServer,
    )


def _share_cpus(arguments: dict[str, Any], found: Online) -> None:
    """Without GPUs all engines share the machine's cores: each gets its part."""
    engines = sum(
        found.serve.replicas.get(name, Replicas()).max
        for name, spec in found.models.items()
        if isinstance(spec, VllmSpec)
    )
    cores = runtime.num_cpus()
    bundle = arguments["placement_group_config"]["bundle_per_worker"]
    bundle["CPU"] = min(bundle["CPU"], round((cores - 1) / engines, 2))
    arguments["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // engines))


def _rebuilt(raw: dict[str, Any], cwd: str) -> Online:
    """The configuration in a replica, where paths are relative to the command's working directory."""
    from cluster.jobs import sections

    if Path(cwd).is_dir():
        os.chdir(cwd)
    return online(build_config(raw, sections(), origin="the configuration"))


class PanelServer:
    """The panel with its retriever. `evaluators`: handles by model."""

    def __init__(self, evaluators: dict[str, Any], raw: dict[str, Any], cwd: str) -> None:
        self._online = _rebuilt(raw, cwd)
        self._evaluators = evaluators
        self._panel = build_panel(self._online, {name: HandleEngine(handle) for name, handle in evaluators.items()})

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
            versions=versions(found)._asdict(),
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

    async def __init__(self, panel: Any, evaluators: dict[str, Any], raw: dict[str, Any], cwd: str) -> None:  # type: ignore[misc]
        if Path(cwd).is_dir():
            os.chdir(cwd)
        about, offer = await panel.about.remote()
        self._service = RemoteService(panel, evaluators, about, offer)
        config: Config = offer.config
        self._keys = Keys(config.keys_file) if config.keys_file else None
        report = Path(raw["run"]) / "report" / "report.html"
        self._report = report if report.exists() else None

    async def __serve_build_asgi_app__(self) -> Any:
        return make_app(self._service, self._keys, self._report)


class RemoteService:
    """The panel and the evaluators behind their handles. A failed call is retried once, then Unavailable."""

    def __init__(self, panel: Any, evaluators: dict[str, Any], about: About, offer: Offer) -> None:
        self._panel = panel
        self._engines = {name: HandleEngine(handle) for name, handle in evaluators.items()}
        self._evaluators = evaluators
        self.about = about
        self.offer = offer
        self._known_alive: tuple[float, list[str]] = (-KEPT_S, [])

    async def judge(self, ask: Ask) -> list[Judged]:
        found: list[Judged] = await self._asked("judge", ask)
        return found

    async def retrieve(self, judge: str, record: Record, aspect: str) -> list[dict[str, Any]]:
        """As `Service.retrieve`."""
        found: list[dict[str, Any]] = await self._asked("retrieve", judge, record, aspect)
        return found

    async def answer(self, model: str, request: Request) -> Reply:
        return await self._engines[model].generate(request)

    async def chat(self, model: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        stream = self._evaluators[model].options(stream=True).chat_body.remote(body)
        try:
            async for part in stream:
                yield part
        except asyncio.CancelledError:
            stream.cancel()
            raise

    async def judges_alive(self) -> list[str]:
        at, alive = self._known_alive
        if time.monotonic() - at < KEPT_S:
            return alive
        try:
            async with asyncio.timeout(PING_S + 1):
                alive = await self._panel.judges_alive.remote()
        except Exception:  # the panel itself is not responding
            alive = []
        self._known_alive = (time.monotonic(), alive)
        return alive

    async def _asked(self, method: str, *arguments: Any) -> Any:
        for attempt in (1, 2):
            response = getattr(self._panel, method).remote(*arguments)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except Exception as error:  # Ray's errors for a dead or full replica have no common base class
                if attempt == 2:
                    raise Unavailable(type(error).__name__) from error
        raise AssertionError


def main(run: RunConfig) -> int:
    """`inverdict serve`: start everything, print the address, run until it is stopped."""
    from serve.launch import serve_until_stopped

    return serve_until_stopped(run, build_app)
