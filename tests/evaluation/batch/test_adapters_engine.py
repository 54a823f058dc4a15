"""LoRA judges on one engine of the real vLLM, in batch and online: the scores of their merged models."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from cluster.tokens import Encoder
from evaluation.batch.config import prepared
from judging.records import Record
from tests.adapting import tuned
from tests.evaluation.batch.running import verdicts
from tests.evaluation.making import jsonl, template_at
from tests.serve.serving import Served, free_port, serving
from tests.train.tiny import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.usefixtures("ray_cluster")]
TEXTS = ("Yes.", "No, never.", "Bread rises by yeast.", "42", "The river bends north.", "It is what it is.")
RANKS = {"one": 4, "two": 9}  # the engine has room for 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A finished `evaluate` of the base, of two adapters of it, and of both as merged models."""
    folder = tmp_path_factory.mktemp("adapters")
    base = tiny_model(folder / "base", kind="qwen2")
    weights = load_file(folder / "base" / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 10  # else all tokens are about equally likely, whatever is adapted
    save_file(weights, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    models: dict[str, Any] = {"m": {"source": base, "max_model_len": 512, "kv_cache_gib": 0.3, "dtype": "float32"}}
    for seed, (name, rank) in enumerate(RANKS.items()):
        tuned(base, folder / name, seed, rank=rank, std=0.3)
        models[name] = {"base": "m", "adapter": str(folder / name / "adapter")}
        models[f"merged-{name}"] = {**models["m"], "source": str(folder / name / "merged")}
    template_at(folder / "prompts" / "qa.txt", "overall", text="Is {{candidate}} right? {{source}}")
    rows = [
        {"id": f"r{number}", "task": "qa", "group": f"g{number}", "source": "What is it?", "candidate": text}
        for number, text in enumerate(TEXTS)
    ]
    judges = {name: {"model": name, "prompt": str(folder / "prompts"), "min_label_mass": 0} for name in models}
    told = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": models,
        "evaluate": {"judges": judges},
        "serve": {"port": free_port()},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(told))
    return folder


@pytest.fixture(scope="module")
def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Scores by judge and record."""
    with (folder / "err.txt").open("w") as err, contextlib.redirect_stderr(err):
        assert main(["evaluate", str(folder / "c.yaml")]) == 0
    return {
        name: {row["id"]: row["score"] for row in verdicts(folder, name)}
        for name in ("m", *RANKS, *(f"merged-{name}" for name in RANKS))
    }


def test_adapters_on_one_engine_score_as_their_merged_models(folder: Path, scores: dict[str, dict[str, float]]) -> None:
    for name in RANKS:
        assert scores[name].keys() == {f"r{number}" for number in range(len(TEXTS))}
        for id, score in scores[name].items():
            assert score == pytest.approx(scores[f"merged-{name}"][id], abs=1e-3)
    # The base beside them is not changed by them: its scores are those of a forward pass of transformers.
    assert scores["m"] == pytest.approx(forward_scores(folder), abs=1e-3)
    # The adapters differ from each other and from the base by much more than that.
    for one, other in (("one", "two"), ("one", "m"), ("two", "m")):
        assert max(abs(scores[one][id] - scores[other][id]) for id in scores[one]) > 0.05


def forward_scores(folder: Path) -> dict[str, float]:
    """Expected scores of the base by record, without vLLM."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).eval()
    known = Encoder(str(folder / "base"))
    config = load(folder / "c.yaml", [], sections())
    evaluation = prepared(config).evaluation
    judge = evaluation.judge("m", [("qa", "overall")], {})
    found = {}
    for line in (folder / "in.jsonl").read_text().splitlines():
        record = Record(**json.loads(line))
        asked = judge.request(record, "overall")
        prefix, label_ids = known.label_tokens(asked["reply_prefix"], asked["labels"])
        ids = known.prompt_ids(asked["prompt"], prefix, 511)
        with torch.no_grad():
            masses = torch.softmax(model(torch.tensor([ids])).logits[0, -1].double(), dim=0)[list(label_ids)]
        found[record.id] = float((masses * torch.arange(1, 6)).sum() / masses.sum())
    return found


def test_three_engines_answered_for_five_models(folder: Path, scores: Any) -> None:
    said = (folder / "err.txt").read_text()
    assert said.count("starting the model") == 3
    assert "evaluate: m, one, two: starting the model" in said


def test_a_changed_adapter_is_another_evaluation(folder: Path, scores: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "one" / "adapter" / "adapter_config.json"
    kept = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(kept), "lora_alpha": 1}))
        assert main(["evaluate", str(folder / "c.yaml")]) == 2
    finally:
        file.write_text(kept)
    assert "models.one.adapter" in capsys.readouterr().err


@pytest.fixture(scope="module")
def served(folder: Path, scores: Any) -> Iterator[Served]:
    """A server of the base's engine alone: the base and both adapters."""
    told = yaml.safe_load((folder / "c.yaml").read_text())
    told["evaluate"]["judges"] = {name: told["evaluate"]["judges"][name] for name in ("m", *RANKS)}
    file = folder / "served.yaml"
    file.write_text(yaml.safe_dump(told))
    with serving(file, told["serve"]["port"], patience_s=400) as found:
        yield found


def test_online_they_score_as_in_batch(served: Served, scores: dict[str, dict[str, float]]) -> None:
    assert "serve: m is ready" in served.log.read_text()
    assert "serve: one is ready" not in served.log.read_text()
    for number, text in enumerate(TEXTS):
        body = {"task": "qa", "fields": {"source": "What is it?", "candidate": text}}
        votes = served.post("/v1/judge", body).json()["results"][0]["votes"]
        found = {vote["judge"]: vote["score"] for vote in votes}
        assert found == {name: pytest.approx(scores[name][f"r{number}"], abs=1e-3) for name in ("m", *RANKS)}


def test_a_chat_names_an_adapter_of_the_configuration_and_no_other(served: Served, folder: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 1, "temperature": 0, "logprobs": True}
    found = {name: served.post("/v1/chat/completions", {**asked, "model": name}).json() for name in ("m", *RANKS)}
    assert [one["model"] for one in found.values()] == ["m", *RANKS]
    first = [one["choices"][0]["logprobs"]["content"][0]["logprob"] for one in found.values()]
    assert len({round(logprob, 3) for logprob in first}) == 3
    for name in ("merged-one", str(folder / "one" / "adapter"), "m:one", "../one/adapter"):
        assert served.post("/v1/chat/completions", {**asked, "model": name}).status_code == 404
