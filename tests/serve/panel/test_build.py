"""A configuration that cannot be served is refused before a model is started."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import served
from cluster.errors import UserError
from cluster.model_specs import ServedSpec
from evaluation.batch.served_models import served_models
from judging.errors import InputError
from serve.panel.build import versions
from tests.adapting import adapter_at
from tests.refusals import refused
from tests.retrieval.making import jsonl, pool_of
from tests.serve.online import SCRIPTED, configured
from tests.train.tiny import tiny_model


def test_without_judges_nothing_is_served(tmp_path: Path) -> None:
    with refused("missing_section", "evaluate"):
        configured(tmp_path, evaluate=None)


def test_a_model_that_is_served_elsewhere_is_not_served_again(tmp_path: Path) -> None:
    models = {"a": {"backend": "served", "deployment": "evaluator-a"}}
    with refused("unsupported", "models.a"):
        configured(tmp_path, models=models, evaluate={"judges": {"x": {"model": "a"}}})


def test_models_are_those_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?=.*evaluate\.judges\.x\.model)(?=.*a, b)"):
        configured(tmp_path, evaluate={"judges": {"x": {"model": "none"}}})
    with pytest.raises(UserError, match=r"(?=.*serve\.replicas)(?=.*none)(?=.*a, b)"):
        configured(tmp_path, serve={"replicas": {"none": {}}})


def test_learned_prompts_and_indexes_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`inverdict invert`"):
        configured(tmp_path, evaluate={"judges": {"x": {"model": "a", "prompt": "inverse"}}})
    pool = jsonl(tmp_path / "pool.jsonl", pool_of(4).values())
    searched = {"judges": {"x": {"model": "a", "icl": {"arm": "semantic"}}}}
    with pytest.raises(InputError, match="`inverdict index`"):
        configured(tmp_path, data={"records": [pool], "pool": [pool]}, evaluate=searched)


def test_the_settings_of_the_server_fit_together(tmp_path: Path) -> None:
    with refused("missing_key", "serve.keys_file", naming="0.0.0.0"):
        configured(tmp_path, serve={"host": "0.0.0.0"})
    for replicas in ({"min": 3, "max": 2}, {"min": 2}):
        with refused("invalid_value", "serve.replicas.a.max"):
            configured(tmp_path, serve={"replicas": {"a": replicas}})


def test_adapters_are_served_by_the_engine_of_their_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"model.layers.0.mlp.down_proj": (64, 96)}
    adapters = {name: adapter_at(tmp_path / name, layers, rank=rank) for rank, name in enumerate(("x", "y"), start=1)}
    models = {
        "m": {"source": tiny_model(tmp_path / "m")},
        **{name: {"base": "m", "adapter": one} for name, one in adapters.items()},
        "a": SCRIPTED,
    }
    judges = {name: {"model": name} for name in ("x", "y", "a")}
    found = configured(tmp_path, models=models, evaluate={"judges": judges})
    assert {name: list(specs) for name, specs in found.engines.items()} == {"m": ["x", "y"], "a": ["a"]}
    told = versions(found).models
    assert len(set(told.values())) == 3
    with refused("conflict", "serve.replicas.x", naming="its base, m"):
        configured(tmp_path, models=models, evaluate={"judges": judges}, serve={"replicas": {"x": {}}})
    # Through the running panel a judge asks that engine for its adapter, if it serves these weights.
    about = SimpleNamespace(versions={"models": told})
    monkeypatch.setattr(served, "deployments", lambda app: {"evaluator-m", "evaluator-a"})
    monkeypatch.setattr(served, "about_panel", lambda app: about)
    specs = served_models(found.run, judges)
    assert {name: (spec.deployment, spec.adapter) for name, spec in specs.items() if isinstance(spec, ServedSpec)} == {
        "x": ("evaluator-m", "x"),
        "y": ("evaluator-m", "y"),
        "a": ("evaluator-a", None),
    }
    adapter_at(tmp_path / "y", layers, rank=3)
    with refused("other_configuration", "models.y"):
        served_models(found.run, judges)
