"""A configuration that cannot be served is refused before a model is started."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from judging.errors import InputError
from tests.refusals import refused
from tests.retrieval.making import jsonl, pool_of
from tests.serve.online import configured


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
