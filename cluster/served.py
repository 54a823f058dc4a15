"""Query this cluster's Ray Serve: an application's deployments, and the description of its panel."""

from __future__ import annotations

from typing import Any

PATIENCE_S = 30


def deployments(app: str) -> frozenset[str] | None:
    """Names of the application's deployments; None if it is not running. Needs `runtime.start`."""
    import ray.serve

    found = ray.serve.status().applications.get(app)
    return None if found is None else frozenset(found.deployments)


def about_panel(app: str) -> Any:
    """The running panel's description: judges, tasks, models and versions."""
    import ray.serve

    about, _ = ray.serve.get_deployment_handle("panel", app).about.remote().result(timeout_s=PATIENCE_S)
    return about
