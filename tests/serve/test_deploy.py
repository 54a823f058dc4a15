"""What `serve deploy` and `serve run` read: the file fits Serve's schema, and the builder its arguments."""

from pathlib import Path

import pytest
import yaml

from tests.refusals import refused
from tests.serve.online import SCRIPTED
from tests.serve.serving import ROOT, configuration


def test_the_deploy_file_fits_serve_s_schema_and_our_builder() -> None:
    from ray.serve.schema import ServeDeploySchema

    raw = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text())
    found = ServeDeploySchema(**raw)
    (application,) = found.applications
    assert application.import_path == "serve.app:build"
    assert (ROOT / application.args["config"]).exists()
    assert found.http_options.host == "127.0.0.1"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_builder_makes_an_application_of_a_configuration_file(tmp_path: Path) -> None:
    from serve.app import ServeArgs, build

    path = configuration(tmp_path, models={"a": SCRIPTED}, evaluate={"judges": {"first": {"model": "a"}}})
    app = build(ServeArgs(config=str(path), overrides=["serve.max_in_flight=7"]))
    assert app._bound_deployment.name == "ingress"
    assert app._bound_deployment._deployment_config.max_ongoing_requests == 28
    with refused("infeasible", "", naming="serve.panel requests CPU 0.1, nowhere 1"):
        build(ServeArgs(config=str(path), overrides=["serve.panel.resources={nowhere: 1}"]))
