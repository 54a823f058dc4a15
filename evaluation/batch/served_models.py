"""`evaluate --through-serve`: batch requests go to the evaluators of `inverdict serve` on the same Ray cluster.

No engine is started. The prompts and engines are the same, so the scores equal those of the batch path; an evaluator
with other weights than the configuration's is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster import served
from cluster.adapters import weights_of
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_specs import ModelSpec, ServedSpec, VllmSpec, engine_name

APP = "inverdict"


def served_models(run: RunConfig, names: Iterable[str]) -> dict[str, ModelSpec]:
    """The named models as running evaluators, after `runtime.start`. Raises UserError where one is not running."""
    wanted = list(dict.fromkeys(names))
    running = served.deployments(APP)
    if running is None:
        raise UserError(
            "--through-serve: no panel is running on this Ray cluster. Start `inverdict serve` and use its "
            "ray.address.",
            code="no_panel",
        )
    found = {name: _served(name, run.models[name]) for name in wanted}
    for name, one in found.items():
        if one.deployment not in running:
            raise UserError(
                f"--through-serve: the running panel has no evaluator for models.{name}. Restart `inverdict serve` "
                "with this configuration.",
                code="unknown_model",
                key=f"models.{name}",
            )
    about = served.about_panel(APP)
    for name in wanted:
        spec = run.models[name]
        if isinstance(spec, VllmSpec):
            own = weights_of(spec)[:16]
            if about.versions["models"].get(name) != own:
                raise UserError(
                    f"--through-serve: the running evaluator {name} serves other weights than models.{name}. Restart "
                    "`inverdict serve` with this configuration.",
                    code="other_configuration",
                    key=f"models.{name}",
                )
    return {**found}


def _served(name: str, spec: ModelSpec) -> ServedSpec:
    """The evaluator of a model; of a LoRA adapter that of its base."""
    engine = engine_name(name, spec)
    deployment = f"evaluator-{engine}"
    return ServedSpec(backend="served", deployment=deployment, app=APP, adapter=name if engine != name else None)
