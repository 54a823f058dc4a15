"""Blocks are requested, answered and written in parts of the wanted size, in order, and none twice."""

from pathlib import Path
from typing import Any

import pytest
import ray.data

from cluster.errors import UserError, refusal
from cluster.generate_parts import run_parts

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def _requests(batch: dict[str, Any], offset: int) -> dict[str, Any]:
    return {"value": [number + offset for text in batch["numbers"] for number in map(int, text.split())]}


def _write(batch: dict[str, Any], folder: str) -> dict[str, Any]:
    values = list(map(int, batch["value"]))
    (Path(folder) / f"{values[0]}").write_text(" ".join(map(str, values)))
    return {"num_rows": [len(values)]}


@pytest.mark.parametrize(
    ("at_once", "wanted"),
    [
        (None, [[100, 101, 102, 103, 104], [200]]),
        (2, [[100, 101], [102, 103], [104], [200]]),
        (5, [[100, 101, 102, 103, 104], [200]]),
    ],
)
def test_the_parts_that_are_written(tmp_path: Path, at_once: int | None, wanted: list[list[int]]) -> None:
    blocks = [{"numbers": "0 1 2 3 4", "num_rows": 5}, {"numbers": "100", "num_rows": 1}]
    run_parts(
        blocks,
        lambda asked: asked,
        requests=(_requests, 100),
        write=(_write, str(tmp_path)),
        what="test",
        total=6,
        done=0,
        at_once=at_once,
    )
    found = [list(map(int, file.read_text().split())) for file in sorted(tmp_path.iterdir())]
    assert found == wanted


def test_parts_that_running_evaluators_answer_need_no_free_cpu(tmp_path: Path) -> None:
    taken = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"]}])  # as by the evaluators
    try:
        ray.get(taken.ready(), timeout=60)
        run_parts(
            [{"numbers": "0 1", "num_rows": 2}],
            lambda asked: asked,
            requests=(_requests, 0),
            write=(_write, str(tmp_path)),
            what="test",
            total=2,
            done=0,
            is_served=True,
        )
    finally:
        ray.util.remove_placement_group(taken)
    assert (tmp_path / "0").read_text() == "0 1"


class Engine:
    """Refuses on its node, as an engine whose adapter is missing there."""

    def __init__(self) -> None:
        raise UserError("LoRA adapter not found on n7: /a. Put it on a file system.", code="missing_file")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


def test_what_an_engines_node_refuses_is_one_sentence(tmp_path: Path) -> None:
    def answer(asked: ray.data.Dataset) -> ray.data.Dataset:
        return asked.map_batches(Engine, batch_size=None, concurrency=1)

    with pytest.raises(UserError, match=r"^LoRA adapter not found on n7: /a\. Put it on a file system\.$"):
        run_parts(
            [{"numbers": "0 1", "num_rows": 2}],
            answer,
            requests=(_requests, 0),
            write=(_write, str(tmp_path)),
            what="test",
            total=2,
            done=0,
        )
    assert not list(tmp_path.iterdir())
    assert refusal(RuntimeError("a bug, not cluster.errors.UserError: of anybody")) is None
