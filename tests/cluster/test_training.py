"""Which training takes GPUs."""

import pytest
from pydantic import ValidationError

from cluster import runtime
from cluster.training import TrainingConfig


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
