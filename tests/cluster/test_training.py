"""What a training asks of the cluster."""

import pytest

from cluster.training import TrainingConfig, wants_gpus


@pytest.mark.parametrize(
    ("accelerator_type", "num_gpus", "wanted"),
    # Four workers: GPUs where each gets one, or where their type is named though no node is up yet.
    [(None, 4, True), (None, 3, False), (None, 0, False), ("A100", 0, True), ("A100", 4, True)],
)
def test_workers_ask_for_gpus(accelerator_type: str | None, num_gpus: int, wanted: bool) -> None:
    assert wants_gpus(TrainingConfig(num_workers=4, accelerator_type=accelerator_type), num_gpus) is wanted
