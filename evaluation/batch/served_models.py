"""`evaluate --through-serve`: the batch asks the evaluators that `inverdict serve` runs on the same Ray cluster.

Nothing is started. The same prompts reach the same engines, so the scores are those of the batch path; an evaluator
that serves other weights than the configuration names is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster import models, served
from cluster.config import ModelSpec, RunConfig, ServedSpec, VllmSpec
from cluster.errors import UserError

APP = "inverdict"


def served_models(run: RunConfig, names: Iterable[str]) -> dict[str, ModelSpec]:
    """The named models as running evaluators. Needs `runtime.start`. Raises UserError where one does not run."""
    wanted = list(dict.fromkeys(names))
    running = served.deployments(APP)
    if running is None:
        raise UserError(
            "--through-serve: no panel runs on this Ray cluster: start `inverdict serve`, then give its ray.address"
        )
    for name in wanted:
        if f"evaluator-{name}" not in running:
            raise UserError(f"--through-serve: the running panel has no evaluator for the model {name}")
    about = served.about_panel(APP)
    for name in wanted:
        spec = run.models[name]
        if isinstance(spec, VllmSpec):
            own = models.resolve(spec.source, revision=spec.revision).fingerprint[:16]
            if about.versions["models"].get(name) != own:
                raise UserError(
                    f"--through-serve: the running evaluator {name} serves other weights than models.{name}"
                )
    return {name: ServedSpec(backend="served", deployment=f"evaluator-{name}", app=APP) for name in wanted}
