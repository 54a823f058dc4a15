"""A configuration that cannot answer is refused before a model is started."""

from pathlib import Path

import pytest

from tests.retrieval.making import jsonl, pool_of
from tests.serve.online import SCRIPTED, configured


def test_a_configuration_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    from judging.errors import InputError

    with pytest.raises(InputError, match="no `evaluate` section"):
        configured(tmp_path, evaluate=None)
    with pytest.raises(ValueError, match="'none' is none of models: a, b"):
        configured(tmp_path, evaluate={"judges": {"x": {"model": "none"}}})
    with pytest.raises(InputError, match="holds no finished inverse prompts: run `inverdict invert` first"):
        configured(tmp_path, evaluate={"judges": {"x": {"model": "a", "prompt": "inverse"}}})
    with pytest.raises(ValueError, match="can be reached from outside"):
        configured(tmp_path, serve={"host": "0.0.0.0"})
    with pytest.raises(ValueError, match="'none' is none of models"):
        configured(tmp_path, serve={"replicas": {"none": {}}})
    pool = jsonl(tmp_path / "pool.jsonl", pool_of(4).values())
    searched = {"judges": {"x": {"model": "a", "icl": {"arm": "semantic"}}}}
    with pytest.raises(InputError, match="holds no finished index"):
        configured(tmp_path, data={"records": [pool], "pool": [pool]}, evaluate=searched)
    assert SCRIPTED
