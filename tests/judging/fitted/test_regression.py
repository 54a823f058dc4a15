"""A fitted regression: readings by hand, the files, and files that are not its own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from judging.fitted.novelty import Novelty
from judging.fitted.regression import Reading, Regression, as_files, read_files, regression_of
from judging.fitted.ridge import Linear, Target, cross_validate
from judging.records import Scale
from tests.refusals import refused

# Distance: |first feature| / 2 (the second has deviation 1 as the rest). Quantiles: 0, 1, 2.
NOVELTY = Novelty(np.zeros(2), np.array([[1.0, 0.0]]), np.array([2.0]), 1.0, np.array([0.0, 1.0, 2.0]))


def made(**changes: object) -> Regression:
    known = {"linear": Linear(np.array([0.5, 0.0]), 3.0), "novelty": NOVELTY, "half_width": 1.0, "scale": Scale(1, 5)}
    return Regression(**{**known, "max_novelty": 1.0, **changes})  # type: ignore[arg-type]


def test_readings_by_hand() -> None:
    # 3 + .5 * 2 = 4, cut at 5 above; distance 1, the middle of three quantiles.
    assert made().read([2.0, 0.0]) == Reading(4.0, 3.0, 5.0, 0.5)
    # 3 + .5 * 20 = 13 lies above the scale; the distance 10 is beyond all training rows.
    assert made().read([20.0, 0.0]) == Reading(5.0, 4.0, 5.0, 1.0)
    assert made(half_width=math.inf).read([0.0, 0.0]) == Reading(3.0, 1.0, 5.0, 0.0)


@pytest.mark.parametrize("hidden", [[], [1.0], [1.0, 2.0, 3.0], [math.nan, 0.0], [math.inf, 0.0]])
def test_another_hidden_state_has_no_reading(hidden: list[float]) -> None:
    assert made().read(hidden) is None


@pytest.mark.parametrize(
    ("limit", "novelty", "is_unlike"), [(1.0, 1.0, True), (1.0, 0.99, False), (0.9, 0.9, True), (None, 1.0, False)]
)
def test_what_is_too_new(limit: float | None, novelty: float, is_unlike: bool) -> None:
    assert made(max_novelty=limit).is_unlike(novelty) is is_unlike


def written(folder: Path, one: Regression) -> Path:
    numbers, text = as_files(one, {"depth": 12})
    (folder / "qa.overall.safetensors").write_bytes(numbers)
    (folder / "qa.overall.json").write_text(text)
    return folder / "qa.overall.safetensors"


@pytest.mark.parametrize("half", [0.75, math.inf])
def test_what_is_read_is_what_was_written(tmp_path: Path, half: float) -> None:
    one = made(half_width=half, max_novelty=None)
    found, about = read_files(written(tmp_path, one))
    assert about["depth"] == 12
    for hidden in ([0.3, -2.0], [5.0, 1.0]):
        assert found.read(hidden) == one.read(hidden)
    assert found.max_novelty is None


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, made())
    good, text = path.read_bytes(), path.with_suffix(".json").read_text()
    for bad in (good[:-1], good[:-8] + b"\1" * 8, b""):
        path.write_bytes(bad)
        with refused("damaged_artifact"):
            read_files(path)
    path.write_bytes(good)
    about = json.loads(text)
    for broken in ("{", "[]", json.dumps({**about, "scale": [5, 1]}), json.dumps({"sha256": about["sha256"]})):
        path.with_suffix(".json").write_text(broken)
        with refused("damaged_artifact"):
            read_files(path)
    path.with_suffix(".json").unlink()
    with refused("damaged_artifact"):
        read_files(path)


def test_a_regression_learns_from_rows_and_its_interval_holds_nine_of_ten() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 5)
    features = random.normal(size=(200, 20))
    score = np.clip(3 + features[:, 0] + 0.3 * random.normal(size=200), 1, 5)
    target = Target([features], score, group)
    [found] = cross_validate([target])
    one = regression_of(target, found, Scale(1, 5), level=0.9, max_novelty=1.0, seed=0)
    new = random.normal(size=(500, 20))
    true = np.clip(3 + new[:, 0] + 0.3 * random.normal(size=500), 1, 5)
    readings = [one.read(row) for row in new]
    held = [r is not None and r.low <= t <= r.high for r, t in zip(readings, true, strict=True)]
    # 500 draws of .9: standard error .013; the cross-validated residuals are a little wide.
    assert 0.86 < float(np.mean(held)) < 0.97
    assert np.corrcoef([r.score for r in readings if r], true)[0, 1] > 0.8
