"""What no machine can ever give fails at once; what only has to wait, or may still be started, passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster import feasibility as demands
from cluster.__main__ import main
from cluster.feasibility import UNLIMITED, Demand, NodeType, model_demand, unmet
from cluster.model_specs import HttpSpec, ScriptedSpec, VllmSpec
from tests.evaluation.making import jsonl, row
from tests.refusals import refused
from tests.train.tiny import tiny_model

HEAD = NodeType("head", {"CPU": 2.0, "memory": 4.0 * 2**30}, 1)
A100 = NodeType("a100", {"CPU": 8.0, "GPU": 4.0, "accelerator_type:A100": 1.0}, 2)
L4 = NodeType("l4", {"CPU": 4.0, "GPU": 1.0, "accelerator_type:L4": 1.0}, UNLIMITED)


@pytest.mark.parametrize(
    ("demand", "types"),
    [
        (Demand("m", {"CPU": 2}), [HEAD]),
        (Demand("m", {"CPU": 0.5}, 4), [HEAD]),
        # 2 machines with 4 GPUs: 8 bundles of 1 GPU.
        (Demand("m", {"CPU": 1, "GPU": 1}, 8), [HEAD, A100]),
        # Each has CPUs for 2 bundles of 4: 4 in all.
        (Demand("m", {"CPU": 4, "GPU": 1}, 4), [A100]),
        (Demand("m", {"GPU": 1, "accelerator_type:L4": 0.001}, 1000), [A100, L4]),
        # 0.1 ten times is 1, whatever binary fractions make of it.
        (Demand("m", {"CPU": 0.1}, 20), [HEAD]),
        # Bundles of one engine may lie on machines of two types.
        (Demand("m", {"GPU": 1}, 9), [A100, NodeType("x", {"GPU": 1.0}, 1)]),
        (Demand("m", {}), [HEAD]),
    ],
)
def test_what_the_machines_can_give_passes(demand: Demand, types: list[NodeType]) -> None:
    assert unmet([demand], types) is None


@pytest.mark.parametrize(
    ("demand", "types", "asked"),
    [
        (Demand("m", {"CPU": 1, "GPU": 1}), [HEAD], "CPU 1, GPU 1"),
        # 8 CPUs, but never in one machine.
        (Demand("m", {"CPU": 8}), [HEAD, HEAD, HEAD, HEAD], "CPU 8"),
        # One more than 2 x 4 GPUs.
        (Demand("m", {"CPU": 0.1, "GPU": 1}, 9), [HEAD, A100], "CPU 0.1, GPU 1, 9 times at once"),
        # The CPUs bind before the GPUs: 2 x 1 bundles of 5.
        (Demand("m", {"CPU": 5, "GPU": 1}, 3), [A100], "CPU 5, GPU 1, 3 times at once"),
        (Demand("m", {"GPU": 1, "accelerator_type:H100": 0.001}), [A100, L4], "GPU 1, H100"),
        # Any number of L4 machines is no machine with two GPUs.
        (Demand("m", {"GPU": 2}), [L4], "GPU 2"),
        (Demand("m", {"memory": 8 * 2**30}), [HEAD], "8.0 GiB of memory"),
        (Demand("m", {"CPU": 1}), [], "CPU 1"),
        # A type that may never be started gives nothing.
        (Demand("m", {"GPU": 1}), [NodeType("gone", {"GPU": 8.0}, 0)], "GPU 1"),
    ],
)
def test_what_no_machine_can_ever_give_is_said_with_the_machines(
    demand: Demand, types: list[NodeType], asked: str
) -> None:
    said = unmet([Demand("ok", {"CPU": 0}), demand], types)
    assert said is not None
    assert said.startswith(f"m requests {asked}, which ")
    for one in types:
        assert one.name in said
    assert said.count("\n") == 0


def test_the_message_lists_the_nodes_with_their_resources() -> None:
    message = unmet([Demand("models.big", {"CPU": 1, "GPU": 1}, 16)], [HEAD, A100])
    assert message is not None
    assert message.startswith("models.big requests CPU 1, GPU 1, 16 times at once, ")
    assert "1 x head (CPU 2, 4.0 GiB of memory); 2 x a100 (CPU 8, GPU 4, A100)" in message


@pytest.mark.parametrize(("place", "key"), [("models.big", "models.big"), ("distill: big", "")])
def test_a_demand_that_can_never_be_met_is_refused(monkeypatch: pytest.MonkeyPatch, place: str, key: str) -> None:
    monkeypatch.setattr(demands, "node_types", lambda: [HEAD])
    demands.check_all([Demand("ok", {"CPU": 1})])
    with refused("infeasible", key, naming=f"{place} requests GPU 1"):
        demands.check_all([Demand("ok", {"CPU": 1}), Demand(place, {"GPU": 1})])
    # An autoscaler that does not report its types: nothing can be said.
    monkeypatch.setattr(demands, "node_types", lambda: None)
    demands.check_all([Demand(place, {"GPU": 1})])


def test_what_a_model_asks_for() -> None:
    spec = VllmSpec(source="x", tensor_parallel_size=2, pipeline_parallel_size=3, accelerator_type="A100")
    bundle = {"CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001}
    assert model_demand("m", spec, on_gpus=True) == Demand("m", bundle, 6)
    # Left open, an engine runs without a GPU where there is none; asked for, it is asked for anywhere.
    assert model_demand("m", VllmSpec(source="x", num_cpus=3), on_gpus=False) == Demand("m", {"CPU": 3}, 1)
    assert model_demand("m", VllmSpec(source="x", num_gpus=1), on_gpus=False) == Demand("m", {"CPU": 1, "GPU": 1}, 1)
    assert model_demand("m", VllmSpec(source="x", num_gpus=0), on_gpus=True) == Demand("m", {"CPU": 1}, 1)
    assert model_demand("m", ScriptedSpec(backend="scripted"), on_gpus=True) is None
    dry = ScriptedSpec(backend="scripted", num_gpus=2)
    assert model_demand("m", dry, on_gpus=False) == Demand("m", {"GPU": 2}, 1)
    assert model_demand("m", HttpSpec(backend="http", base_url="http://h/v1", model="m"), on_gpus=True) is None


def test_the_types_of_ray_up_are_read_on_the_head(tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    assert demands._bootstrapped(file) == []
    kinds = {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 0, "max_workers": 5},
    }
    file.write_text(yaml.safe_dump({"head_node_type": "head", "available_node_types": kinds}, sort_keys=False))
    # The head lives already: no second one is ever started.
    assert demands._bootstrapped(file) == [
        NodeType("head", {"CPU": 4}, 0),
        NodeType("gpu", {"CPU": 8, "GPU": 1}, 5),
    ]
    for broken in ("", "[", "available_node_types: 3", "available_node_types: {gpu: 3}"):
        file.write_text(broken)
        assert demands._bootstrapped(file) == []


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_job_that_can_never_get_its_gpus_fails_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "run": str(tmp_path / "run"),
        "data": {"records": [jsonl(tmp_path / "in.jsonl", [row("a"), row("b")])]},
        "models": {
            "big": {"source": tiny_model(tmp_path / "model"), "num_gpus": 1},
            "fake": {"backend": "scripted"},
        },
        "evaluate": {"judges": {"fake": {"model": "fake"}, "big": {"model": "big"}}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", str(tmp_path / "c.yaml")]) == 2
    said = capsys.readouterr().err
    assert "models.big requests CPU 1, GPU 1" in said
    assert "1 x node (CPU 2" in said
    # The scripted judge stands first, and was not asked: all demands are looked at before any work.
    assert not list((tmp_path / "run" / "evaluate").glob("verdicts/*/part-*"))
