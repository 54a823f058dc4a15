"""What runs on this Ray cluster's Serve: the deployments of an application, and what its panel says of itself."""

from __future__ import annotations

from typing import Any

PATIENCE_S = 30


def deployments(app: str) -> frozenset[str] | None:
    """Names of the application's deployments; None where it does not run. Needs `runtime.start`."""
    import ray.serve

    found = ray.serve.status().applications.get(app)
    return None if found is None else frozenset(found.deployments)


def about_panel(app: str) -> Any:
    """What the running panel tells about itself: judges, tasks, models and versions."""
    import ray.serve

    about, _ = ray.serve.get_deployment_handle("panel", app).about.remote().result(timeout_s=PATIENCE_S)
    return about
