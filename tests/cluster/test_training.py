"""Which training takes GPUs, and how long it goes on after lost nodes."""

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import ValidationError

from cluster import runtime
from cluster.errors import JobFailed
from cluster.training import Steps, TrainingConfig, on_gpu, train


@pytest.mark.parametrize(
    ("config", "num_gpus", "expected"),
    [
        ({}, 0, False),
        ({}, 2, True),
        ({"num_workers": 4}, 2, False),
        # A cluster that has scaled down to its head shows no GPU; KubeRay tells of none that it can start.
        ({"accelerator_type": "A100"}, 0, True),
        ({"use_gpu": True}, 0, True),
        ({"use_gpu": False}, 8, False),
    ],
)
def test_a_training_takes_gpus(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, object], num_gpus: int, expected: bool
) -> None:
    monkeypatch.setattr(runtime, "num_gpus", lambda: num_gpus)
    assert TrainingConfig.model_validate(config).on_gpus() is expected


def test_a_type_of_gpu_without_gpus_is_refused() -> None:
    with pytest.raises(ValidationError, match="A100 is a type of GPU, and `use_gpu` is false"):
        TrainingConfig.model_validate({"accelerator_type": "A100", "use_gpu": False})


def stumbling(settings: dict[str, Any]) -> None:
    """Reports one more checkpoint and fails, until there are `settings["last"]`; then fails for good."""
    import ray.train
    import torch

    # On a node with GPUs a worker that asked for none must not take one.
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    with patch.object(torch.cuda, "is_available", return_value=True):
        assert not on_gpu()

    known = ray.train.get_checkpoint()
    done = 0
    if known is not None:
        with known.as_directory() as folder:
            done = int((Path(folder) / "done").read_text())
    Steps(Path(settings["steps"])).write(done, settings["last"])
    if done == settings["last"]:
        raise RuntimeError("stuck for good")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "done").write_text(str(done + 1))
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
    raise RuntimeError("the node is gone")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_training_goes_on_as_long_as_it_gets_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # No failure is allowed without a new checkpoint: the first one comes after one, the second does not.
    config = TrainingConfig(use_gpu=False, cpus_per_worker=1, max_failures=0)
    with pytest.raises(JobFailed, match=r"t: training failed: .*stuck for good"):
        train(stumbling, {"last": 1}, config, folder=tmp_path, what="t")
    assert capsys.readouterr().err.count("the node is gone; goes on from the last checkpoint") == 1
    assert Steps(tmp_path / "steps.json").read() == (1, 1)
