"""The cut model of a fitted judge: made once, kept while it is whole, made again where it is not."""

from pathlib import Path

from cluster import models
from cluster.config import RunConfig
from cluster.model_specs import VllmSpec
from evaluation.fitting.writing import write_cut_model
from tests.train.tiny import tiny_model


def test_a_damaged_cut_model_is_made_again_within_one_job_too(tmp_path: Path) -> None:
    spec = VllmSpec(source=tiny_model(tmp_path / "whole"))
    run = RunConfig(run=tmp_path / "run", models={"m": spec})
    made = write_cut_model(run, "m", spec, 1)
    weights = tmp_path / "run" / made["folder"] / "model.safetensors"
    good = weights.read_bytes()
    first = weights.stat().st_mtime_ns
    assert write_cut_model(run, "m", spec, 1) == made
    assert weights.stat().st_mtime_ns == first
    weights.write_bytes(good[:-4] + b"\0\1\2\3")
    with models.looked_up_once():
        assert models.resolve(str(weights.parent)).fingerprint != made["fingerprint"]
        assert write_cut_model(run, "m", spec, 1) == made
    assert weights.read_bytes() == good
    weights.unlink()
    assert write_cut_model(run, "m", spec, 1) == made
    assert weights.read_bytes() == good


def test_another_model_of_that_name_has_its_own(tmp_path: Path) -> None:
    made = []
    for name, kind in (("one", "llama"), ("other", "qwen2")):
        spec = VllmSpec(source=tiny_model(tmp_path / name, kind=kind))
        made.append(write_cut_model(RunConfig(run=tmp_path / "run", models={"m": spec}), "m", spec, 1))
    assert made[0]["folder"] != made[1]["folder"]
