"""`evaluate --through-serve`: batch requests go to the evaluators of `inverdict serve` on the same Ray cluster.

No engine is started. The prompts and engines are the same, so the scores equal those of the batch path; an evaluator
with other weights than the configuration's is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster import models, served
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_specs import ModelSpec, ServedSpec, VllmSpec

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
    for name in wanted:
        if f"evaluator-{name}" not in running:
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
            own = models.resolve(spec.source, revision=spec.revision).fingerprint[:16]
            if about.versions["models"].get(name) != own:
                raise UserError(
                    f"--through-serve: the running evaluator {name} serves other weights than models.{name}. Restart "
                    "`inverdict serve` with this configuration.",
                    code="other_configuration",
                    key=f"models.{name}",
                )
    return {name: ServedSpec(backend="served", deployment=f"evaluator-{name}", app=APP) for name in wanted}
