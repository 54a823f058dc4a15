"""The job `sft` on Ray Train with a tiny model: what it leaves, resume after kills, several workers, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from cluster.__main__ import main
from tests.train.tiny import tiny_model
from train.finetuning.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("base"))


def configuration(folder: Path, base: str, *, rows: int = 24, mode: str = "white_box", **sft: Any) -> str:
    """A configuration whose instructions all have one length, so that every order of them makes like batches."""
    lines = [{"instruction": f"Rate text {n:03d} now.", "output": f"Text {n:03d}: {n % 5}."} for n in range(rows)]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "run": str(folder / "run"),
        "instructions": {"files": [str(folder / "in.jsonl")]},
        "models": {"judge": {"backend": "scripted"}, "base": {"source": base}},
        "distill": {"models": ["judge"]},
        "sft": {
            "models": {"judge": {"base": "base", "mode": mode}},
            "epochs": 2,
            "effective_batch": 4,
            "per_device_batch": 2,
            "cutoff": 256,
            "dev_share": 0.2,
            "learning_rate": 0.01,
            "lora_rank": 4,
            "dtype": "float32",  # the same on every processor
            **sft,
        },
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def facts(folder: Path, direction: str = "inverse") -> dict[str, Any]:
    return dict(json.loads((folder / "run" / "sft" / "judge" / direction / "training.json").read_text()))


@pytest.fixture(scope="module")
def done(base: str, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """Distilled and trained in the black box; tests only read it."""
    folder = tmp_path_factory.mktemp("done")
    config = configuration(folder, base, mode="black_box")
    assert main(["distill", config]) == 0
    assert main(["sft", config]) == 0
    return folder


def test_what_a_finished_training_leaves(done: Path) -> None:
    folder = done / "run" / "sft" / "judge" / "inverse"
    found = facts(done)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found["num_train"] + found["num_dev"] == 24
    assert found["effective_batch"] == "1 workers x 2 rows x 2 accumulated = 4 rows a step"
    num_steps = -(-found["num_train"] // 4) * 2
    assert [one["step"] for one in found["losses"]] == list(range(1, num_steps + 1))
    assert [one["step"] for one in found["dev_losses"]] == [0, num_steps // 2, num_steps]
    assert found["loss_after"] < found["loss_before"]
    assert found["mfu"] is None  # of CPUs no peak is known
    assert found["tokens_per_s"] > 0 and found["peak_memory_bytes"] > 10**8
    assert manifest["summary"]["left_out"] == {}
    assert "inverse model (black_box)" in (folder / "adapter" / "README.md").read_text()


def test_in_bfloat16_the_losses_are_near_those_of_float32_and_the_weights_stay_float32(
    done: Path, base: str, tmp_path: Path
) -> None:
    config = configuration(tmp_path, base, mode="black_box", dtype="bfloat16")
    assert main(["distill", config]) == 0
    assert main(["sft", config]) == 0
    losses, expected = ([one["loss"] for one in facts(folder)["losses"]] for folder in (tmp_path, done))
    assert losses == pytest.approx(expected, rel=0.03) and losses != expected
    adapter = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        tmp_path / "run" / "sft" / "judge" / "inverse" / "adapter",
    )
    assert {weight.dtype for weight in adapter.parameters()} == {torch.float32}


def test_the_adapter_loads_and_the_merged_folder_says_the_same(done: Path, base: str) -> None:
    folder = done / "run" / "sft" / "judge" / "inverse"
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    ids = torch.tensor([[7, 8, 9, 10, 11]])
    with torch.no_grad():
        untrained = plain(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(plain, folder / "adapter").eval()(input_ids=ids).logits
        together = merged(input_ids=ids).logits
    assert torch.allclose(adapted, together, atol=1e-4)
    assert not torch.allclose(adapted, untrained, atol=1e-2)
    assert AutoTokenizer.from_pretrained(folder / "merged").chat_template


def test_the_dev_loss_is_the_mean_over_all_held_out_tokens(done: Path) -> None:
    folder = done / "run" / "sft" / "judge" / "inverse"
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    dev = Rows(str(folder / "pairs"), "dev")
    assert len(dev) % 2 == 1  # a batch of one at the end counts with its tokens, not as a batch
    total = 0.0
    for row in (dev[place] for place in range(len(dev))):
        with torch.no_grad():
            logits = merged(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        total += float(cross_entropy(logits[:-1], torch.tensor(row["labels"][1:]), reduction="sum"))
    assert facts(done)["loss_after"] == pytest.approx(total / dev.num_loss_tokens, abs=1e-5)


def test_a_second_run_has_nothing_to_do_and_another_rate_is_refused(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (done / "run" / "sft" / "judge" / "inverse" / "manifest.json").stat().st_mtime_ns
    assert main(["sft", str(done / "c.yaml")]) == 0
    assert "done before" in capsys.readouterr().err
    assert (done / "run" / "sft" / "judge" / "inverse" / "manifest.json").stat().st_mtime_ns == before
    assert main(["sft", str(done / "c.yaml"), "--set", "sft.learning_rate=0.02"]) == 2
    assert "sft.learning_rate (0.01, now 0.02)" in capsys.readouterr().err


@pytest.mark.slow
def test_the_white_box_trains_forward_and_inverse_from_one_base(base: str, tmp_path: Path) -> None:
    assert main(["sft", configuration(tmp_path, base, epochs=1)]) == 0
    forward, inverse = facts(tmp_path, "forward"), facts(tmp_path, "inverse")
    assert (forward["direction"], inverse["direction"]) == ("forward", "inverse")
    assert forward["base"] == inverse["base"] == base
    assert forward["losses"] != inverse["losses"]


WAYS = {"one": (1, 16, "ddp"), "ddp": (2, 8, "ddp"), "fsdp": (2, 8, "fsdp")}  # workers, rows of each, parallel
MODELS = {"lora": True, "full": False}  # method: whether embedding and head are one


@pytest.mark.slow
@pytest.mark.parametrize("method", MODELS)
def test_two_workers_learn_what_one_learns(method: str, tmp_path: Path) -> None:
    """A step takes all 16 rows, so their order and their place decide nothing; what is left is the sum of gradients."""
    base = tiny_model(tmp_path / "base", tied=MODELS[method])
    found, weights = {}, {}
    for way, (workers, rows, parallel) in WAYS.items():
        (tmp_path / way).mkdir()
        more = {"num_workers": workers, "per_device_batch": rows, "effective_batch": 16, "cpus_per_worker": 0.5}
        more |= {"method": method, "parallel": parallel, "epochs": 3, "dev_share": 0.4}
        configuration(tmp_path / way, base, mode="black_box", rows=19, **more)
        assert main(["distill", str(tmp_path / way / "c.yaml")]) == 0
        assert main(["sft", str(tmp_path / way / "c.yaml")]) == 0
        found[way] = facts(tmp_path / way)
        merged = tmp_path / way / "run" / "sft" / "judge" / "inverse" / "merged"
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is MODELS[method]
        weights[way] = dict(model.named_parameters())
    one = found["one"]
    assert one["num_train"] == 16 and len(one["losses"]) == 3 and one["loss_after"] < one["loss_before"]
    for way in ("ddp", "fsdp"):
        assert found[way]["effective_batch"] == "2 workers x 8 rows x 1 accumulated = 16 rows a step"
        for kind in ("losses", "dev_losses"):
            expected = [log["loss"] for log in one[kind]]
            assert [log["loss"] for log in found[way][kind]] == pytest.approx(expected, abs=1e-4)
        assert weights[way].keys() == weights["one"].keys()
        for name, weight in weights[way].items():
            assert torch.allclose(weight, weights["one"][name], atol=1e-3), name


LONG = {"mode": "black_box", "epochs": 50, "checkpoint_steps": 20}


def distilled(folder: Path, base: str, **more: Any) -> str:
    """A configuration of a longer training, its answers made."""
    config = configuration(folder, base, **LONG, **more)
    assert main(["distill", config]) == 0
    return config


@pytest.fixture(scope="module")
def uninterrupted(base: str, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert main(["sft", distilled(folder, base)]) == 0
    return facts(folder)


def started(config: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cluster", "sft", config]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_steps(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    file = folder / "run" / "sft" / "judge" / "inverse" / "steps.json"
    for _ in range(2400):
        if file.exists() and json.loads(file.read_text())[0] >= number:
            return
        assert process.poll() is None, "it ended too early"
        time.sleep(0.05)
    raise AssertionError("it never came so far")


def killed_a_worker(folder: Path, config: str, *, workers: int = 1) -> None:
    """Run the training, and kill one of its workers after 60 steps."""
    process = started(config)
    try:
        wait_for_steps(folder, 60, process)
        found = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "RayTrainWorker" in " ".join(child.cmdline())
        ]
        assert len(found) == workers
        os.kill(found[0].pid, signal.SIGKILL)
        assert process.wait(timeout=240) == 0
    finally:
        process.kill()


def same_as(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert [one["step"] for one in found["losses"]] == [one["step"] for one in expected["losses"]]
    assert [one["step"] for one in found["dev_losses"]] == [one["step"] for one in expected["dev_losses"]]
    assert found["loss_before"] == pytest.approx(expected["loss_before"], rel=1e-5)
    assert found["loss_after"] == pytest.approx(expected["loss_after"], abs=1e-5)


@pytest.mark.slow
def test_a_killed_driver_goes_on_from_the_checkpoint(base: str, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    config = distilled(tmp_path, base)
    process = started(config)
    children: list[psutil.Process] = []
    try:
        wait_for_steps(tmp_path, 60, process)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
        for child in children:  # its private cluster
            if child.is_running():
                child.kill()
    last = json.loads((tmp_path / "run" / "sft" / "judge" / "inverse" / "steps.json").read_text())[0]
    assert 60 <= last < 250
    assert not (tmp_path / "run" / "sft" / "judge" / "inverse" / "training.json").exists()
    assert main(["sft", config]) == 0
    same_as(facts(tmp_path), uninterrupted)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_goes_on(base: str, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    killed_a_worker(tmp_path, distilled(tmp_path, base))
    same_as(facts(tmp_path), uninterrupted)


@pytest.mark.slow
def test_fsdp_goes_on_from_the_shards_of_both_workers(base: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = {"parallel": "fsdp", "num_workers": 2, "cpus_per_worker": 0.5}
    for folder in (whole, killed):
        folder.mkdir()
    assert main(["sft", distilled(whole, base, **more)]) == 0
    killed_a_worker(killed, distilled(killed, base, **more), workers=2)
    same_as(facts(killed), facts(whole))
    names = {file.name for file in (killed / "run/sft/judge/inverse/checkpoints").rglob("*")}
    assert {"__0_0.distcp", "__1_0.distcp", "rng_state_0.pth", "rng_state_1.pth"} <= names


def refused(config: str, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    changes = [part for override in overrides for part in ("--set", override)]
    assert main(["sft", config, *changes]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    return line


def test_bad_input_is_one_sentence_and_leaves_nothing(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, base)
    said = refused(config, capsys, "sft.effective_batch=5")
    assert "effective_batch of 5 must be a multiple of num_workers x per_device_batch = 1 x 2 = 2" in said
    said = refused(config, capsys, "sft.padding_free=true", "sft.use_gpu=false")
    assert "needs the kernels of flash-attn, which run on GPUs, and `use_gpu` is false" in said
    said = refused(config, capsys, "sft.parallel=fsdp")
    assert "`parallel: fsdp` shards the model over the workers, and num_workers is 1" in said
    said = refused(config, capsys, "sft.models={judge: {base: judge}}")
    assert "'judge' is not a vLLM model" in said
    said = refused(config, capsys, "sft.models={judge: {base: nobody}}")
    assert "unknown model 'nobody'" in said and "sft.models.judge.base" in said
    assert "Run `inverdict distill` first" in refused(config, capsys, "sft.models={judge: {base: base}}")
    assert not (tmp_path / "run").exists()


def test_a_cutoff_shorter_than_the_completions_is_named(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, base, mode="black_box")
    rows = [{"instruction": f"{n} " + "Rate this. " * 60, "output": f"{n} of 5."} for n in range(3)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["distill", config]) == 0
    said = refused(config, capsys, "sft.cutoff=64")
    assert said.endswith("judge/inverse: no training pair is left (3 too_long). Raise sft.cutoff (64 tokens).")
    assert not (tmp_path / "run" / "sft" / "judge" / "inverse").exists()


def test_a_base_without_a_tokenizer_is_named(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((Path(base) / name).read_bytes())
    said = refused(configuration(tmp_path, str(bare)), capsys)
    assert f"Model folder {bare} lacks tokenizer files" in said
    assert not (tmp_path / "run").exists()
