"""The `data` section: shares, the dev part and the pool; settings that name something no file has."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from judging.data_config import DataConfig
from judging.data_names import Names
from judging.datasets import dev_groups, read_pool, read_records
from judging.errors import InputError
from judging.records import Record
from tests.judging.ratedfiles import GOOD, jsonl, row, write
from tests.refusals import refused


def test_the_data_section() -> None:
    config = DataConfig(records=("x.jsonl",), task="qa", scale=(1, 5))
    assert config.reading()["defaults"] == {"task": "qa", "scale": (1, 5)}
    assert DataConfig(records=("x.jsonl",)).reading()["defaults"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": ()},
        {"records": ("x",), "colour": "red"},
        {"records": ("x",), "format": "xml"},
        {"records": ("x",), "scale": (1, float("inf"))},
        {"records": ("x",), "max_rejected_share": 1.0},
        {"records": ("x",), "max_rejected_share": -0.1},
    ],
)
def test_a_data_section_that_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


@pytest.mark.parametrize(
    ("settings", "code", "key", "naming"),
    [
        ({"columns": {"answer": "candidate"}}, "unknown_key", "data.columns", "'answer'. The files have 'candidate', "),
        ({"aspects": {"story": ("overall",)}}, "unknown_task", "data.aspects", "'story'. The records have 'qa'"),
        ({"aspects": {"qa": ("overall", "wit")}}, "unknown_aspect", "data.aspects.qa", "'overall', 'style'"),
        ({"groups_share": {"e": 0.5}}, "unknown_dataset", "data.groups_share", "'e'. The records have 'd'"),
    ],
)
def test_a_setting_that_names_what_no_file_has(
    tmp_path: Path, settings: dict[str, Any], code: str, key: str, naming: str
) -> None:
    problem = problem_of(tmp_path, settings)
    assert problem is not None
    with refused(code, key, naming=naming):
        raise problem


def test_settings_that_name_what_the_files_have(tmp_path: Path) -> None:
    settings = {"columns": {"id": "id"}, "aspects": {"qa": ("overall",)}, "groups_share": {"d": 0.5}}
    assert problem_of(tmp_path, settings) is None


def problem_of(tmp_path: Path, settings: dict[str, Any]) -> InputError | None:
    names = Names()
    path = jsonl(tmp_path, row(dataset="d", ratings={"style": [2]}))
    data = DataConfig(records=(str(path),), **settings)
    assert len(list(read_records([path], names=names, aspects=data.aspects))) == 1
    return names.problem(data)


def test_a_dev_row_that_does_not_fit_cannot_be_left_out(tmp_path: Path) -> None:
    dev = write(tmp_path, json.dumps({**GOOD, "scores": {"overall": 9}}) + "\n", "dev.jsonl")
    with refused("out_of_scale", "scores.overall", naming="dev.jsonl, line 1"):
        dev_groups(DataConfig(records=("x",), dev=(str(dev),)))


def test_a_pool_row_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    pool = jsonl(tmp_path, row(), row(id="r2", scores={"overall": 9}), name="pool.jsonl")
    with refused("out_of_scale", "scores.overall", naming="pool.jsonl, line 2"):
        read_pool(DataConfig(records=("x",), pool=(str(pool),)))


def test_a_pool_share_that_leaves_no_group(tmp_path: Path) -> None:
    pool = jsonl(tmp_path, row(), name="pool.jsonl")
    assert list(read_pool(DataConfig(records=("x",), pool=(str(pool),)))) == ["r1"]
    with refused("not_enough_groups", "data.pool_share", naming="1e-09"):
        read_pool(DataConfig(records=("x",), pool=(str(pool),), pool_share=1e-9))


def test_pool_dev_and_test_part_the_groups(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": str(n), "group": f"g{n // 2}"} for n in range(400)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = [row for row in read_records([path]) if isinstance(row, Record)]
    data = DataConfig(records=(str(path),), pool=(str(path),), pool_share=0.5, dev_share=0.4)
    dev = data.model_copy(update={"part": "dev"})
    parts = {
        "pool": {r.group for r in records if data.serves(r)},
        "dev": {r.group for r in records if dev.takes(r)},
        "test": {r.group for r in records if data.takes(r)},
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 200
    # Of 200 groups half serve, and of the other 100 about 40 develop: within three standard deviations, 15 and 15.
    assert abs(len(parts["pool"]) - 100) < 22 and abs(len(parts["dev"]) - 40) < 20
    assert parts["dev"] == {r.group for r in records if data.develops(r)}


def test_without_a_dev_share_nothing_develops() -> None:
    data = DataConfig(records=("x",))
    assert data.takes(Record("a", "qa", "g", "s", "c")) and not data.develops(Record("a", "qa", "g", "s", "c"))
    assert code_of(part="dev") == "missing_key"
    assert code_of(pool_share=0.5) == "missing_key"


def code_of(**wrong: Any) -> str:
    """The code of the error for a data section with these keys."""
    with pytest.raises(ValidationError) as caught:
        DataConfig(records=("x",), **wrong)
    code: str = caught.value.errors()[0]["ctx"]["error"].code
    return code


def test_a_share_of_the_groups_by_data_set() -> None:
    records = [Record(str(n), "qa", f"g{n}", "s", "c", dataset=name) for name in ("a", "b") for n in range(200)]
    data = DataConfig(records=("x",), groups_share={"a": 0.25})
    taken = [record.dataset for record in records if data.takes(record)]
    # All of b; of a about 50, within three standard deviations (6.1 each).
    assert taken.count("b") == 200 and 31 < taken.count("a") < 69
    with pytest.raises(ValidationError):
        DataConfig(records=("x",), groups_share={"a": 0})


def test_the_dev_part_may_have_files_of_its_own(tmp_path: Path) -> None:
    own = write(tmp_path, json.dumps(row(group="d")) + "\n", "dev.jsonl")
    data = DataConfig(records=("test.jsonl",), dev=(str(own),))
    assert (data.judged, data.model_copy(update={"part": "dev"}).judged) == (("test.jsonl",), (str(own),))
    record = Record("a", "qa", "g", "s", "c")
    assert data.has_dev and data.takes(record) and data.model_copy(update={"part": "dev"}).takes(record)
    assert dev_groups(data) == {"qa//d"} and dev_groups(DataConfig(records=("x",))) == frozenset()
    assert code_of(dev=("y",), dev_share=0.5) == "conflict"


def test_a_task_file_is_an_input_and_a_built_in_task_is_none() -> None:
    files = ("in.jsonl",)
    assert DataConfig(records=files, task="mine/tone.yaml").task_files == ("mine/tone.yaml",)
    assert DataConfig(records=files, task="qa").task_files == DataConfig(records=files).task_files == ()
