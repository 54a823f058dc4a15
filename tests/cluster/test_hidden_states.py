"""Hidden states at several depths, and models cut to a depth, against transformers' own `output_hidden_states`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from cluster.hidden_states import Asked, _Model, _scripted, alike, of_like_length
from cluster.model_files import missing_pieces
from cluster.model_layers import cut, num_layers
from cluster.model_specs import ScriptedSpec, VllmSpec
from cluster.tokens import Encoder
from tests.refusals import refused
from tests.train.tiny import tiny_model

PROMPTS = ["Rate the text.", "Rate this much longer text, which has more words than the others.", "Rate it 1 to 5."]
LABELS = ["1", "2", "3", "4", "5"]


def batch(prompts: list[str]) -> dict[str, list[object]]:
    size = len(prompts)
    return {
        "id": list(range(size)),
        "prompt": list(prompts),
        "reply_prefix": ["Score: "] * size,
        "labels": [LABELS] * size,
        "json_schema": [""] * size,
    }


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3_text"])
def test_states_are_those_of_transformers_at_every_depth_padded_or_not(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path / "m", kind=kind)
    reader = _Model(folder, VllmSpec(source=folder, max_model_len=128), (1, 2), 1)
    alone = reader(batch(PROMPTS))
    assert alone["id"] == [0, 1, 2]
    assert alone["error"] == [""] * 3
    oracle = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    known = Encoder(folder)
    for place, prompt in enumerate(PROMPTS):
        spelled = known.label_tokens("Score: ", LABELS)
        ids = known.prompt_ids(prompt, spelled.prefix, 128)
        assert ids is not None
        with torch.no_grad():
            found = oracle(input_ids=torch.tensor([ids]), output_hidden_states=True)
            first = oracle.model.norm(found.hidden_states[1][0, -1])
        assert alone["num_prompt_tokens"][place] == len(ids)
        assert alone["hidden_states"][place][0] == pytest.approx(first.tolist(), abs=1e-5)
        assert alone["hidden_states"][place][1] == pytest.approx(found.hidden_states[2][0, -1].tolist(), abs=1e-5)
        logprobs = torch.log_softmax(found.logits[0, -1], -1)[list(spelled.ids)]
        assert alone["label_logprobs"][place] == pytest.approx(logprobs.tolist(), abs=1e-4)
    # On GPUs several prompts are padded into one pass.
    rows: list[dict[str, Any]] = [{} for _ in PROMPTS]
    prefix = known.label_tokens("Score: ", LABELS).prefix
    asked = [Asked(place, known.prompt_ids(one, prefix, 128) or [], []) for place, one in enumerate(PROMPTS)]
    reader._run(asked, rows)
    for place, row in enumerate(rows):
        assert row["hidden_states"][1] == pytest.approx(alone["hidden_states"][place][1], abs=1e-5)


def test_what_prompts_share_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model(tmp_path / "m", kind="qwen2")
    reader = _Model(folder, VllmSpec(source=folder, max_model_len=128), (1, 2), 1)
    passes: list[tuple[int, ...]] = []
    base = reader._model.model
    forward = base.forward

    def counted(**given: Any) -> Any:
        passes.append(tuple(given["input_ids"].shape))
        return forward(**given)

    monkeypatch.setattr(base, "forward", counted)
    shared = "One and the same beginning of a source that many texts answer, and a long one at that."
    prompts = [f"{shared} Yes.", "Something else.", f"{shared} No.", f"{shared} Yes."]
    found = reader(batch(prompts))
    lengths = found["num_prompt_tokens"]
    assert sum(rows * tokens for rows, tokens in passes) < sum(lengths) - lengths[0]
    assert [rows for rows, _ in passes].count(1) == 2  # the beginning, and the prompt of its own
    passes.clear()
    again = [reader(batch([prompt])) for prompt in prompts]
    assert passes == [(1, length) for length in lengths]  # nothing is kept from block to block
    for place, one in enumerate(again):
        for depth in (0, 1):
            assert one["hidden_states"][0][depth] == pytest.approx(found["hidden_states"][place][depth], abs=1e-5)
        assert one["label_logprobs"][0] == pytest.approx(found["label_logprobs"][place], abs=1e-4)


def asked(*prompts: list[int]) -> list[Asked]:
    return [Asked(place, ids, []) for place, ids in enumerate(prompts)]


def test_prompts_are_put_together_where_a_quarter_is_common() -> None:
    some = asked([1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 9, 9, 9], [5, *range(20, 29)], [1, 2, 3, 4])
    parts = [([one.place for one in part], known) for part, known in alike(some)]
    # The second and the fourth have one token of ten in common; of an equal prompt the last token is left.
    assert parts == [([0, 4, 2], 3), ([1], 0), ([3], 0)]
    assert list(alike([])) == []


def test_a_pass_has_prompts_of_like_length() -> None:
    some = asked([0] * 12, [0] * 30, [0] * 15, [0] * 10)
    assert [[len(one.ids) for one in part] for part in of_like_length(some, 0)] == [[10, 12, 15], [30]]
    assert [[len(one.ids) for one in part] for part in of_like_length(some, 6)] == [[10, 12], [15], [30]]
    assert [len(part) for part in of_like_length(asked(*[[0] * 400] * 5), 0)] == [2, 2, 1]
    assert [len(part) for part in of_like_length(asked([0] * 3000), 0)] == [1]


def test_a_prompt_that_is_too_long_is_an_error_of_its_row(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    reader = _Model(folder, VllmSpec(source=folder, max_model_len=64), (1,), 1)
    found = reader(batch(["word " * 500, "Rate it."]))
    assert found["error"] == ["too_long", ""]
    assert found["hidden_states"][0] == [[]]
    assert len(found["hidden_states"][1][0]) == 64


def test_half_point_labels_are_spelled_without_tokens(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    reader = _Model(folder, VllmSpec(source=folder, max_model_len=64), (2,), 1)
    found = reader({**batch(["Rate it."]), "labels": [[]]})
    assert (found["error"], found["label_logprobs"]) == ([""], [[]])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_a_cut_model_ends_in_the_state_of_that_depth(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = Path(tiny_model(tmp_path / "m", kind=kind))
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if not tied:
        whole.config.tie_word_embeddings = False
        whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight.clone())
        whole.save_pretrained(folder)
    cut(folder, 1, tmp_path / "cut")
    assert missing_pieces(tmp_path / "cut") == []
    assert num_layers(tmp_path / "cut") == 1
    smaller, size = (
        (tmp_path / "cut" / "model.safetensors").stat().st_size,
        (folder / "model.safetensors").stat().st_size,
    )
    assert smaller < 0.8 * size
    ids = torch.tensor([[5, 6, 7, 8]])
    part = AutoModel.from_pretrained(tmp_path / "cut", dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = whole.model.norm(whole(input_ids=ids, output_hidden_states=True).hidden_states[1])
        assert torch.allclose(part(input_ids=ids).last_hidden_state, wanted, atol=1e-5)
    before = (tmp_path / "cut" / "config.json").stat().st_mtime_ns
    cut(folder, 1, tmp_path / "cut")  # made once
    assert (tmp_path / "cut" / "config.json").stat().st_mtime_ns == before


def test_shards_are_cut_one_by_one(tmp_path: Path) -> None:
    folder = Path(tiny_model(tmp_path / "m"))
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    cut(folder, 1, tmp_path / "cut")
    assert missing_pieces(tmp_path / "cut") == []
    part = AutoModel.from_pretrained(tmp_path / "cut", dtype=torch.float32)
    assert torch.equal(part.layers[0].mlp.up_proj.weight, whole.model.layers[0].mlp.up_proj.weight)


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rwkv", "num_hidden_layers": 3}))
    with refused("unsupported"):
        num_layers(tmp_path)


def test_scripted_states_tell_prompts_apart_and_are_the_same_again() -> None:
    one, again = (_scripted(batch(PROMPTS), ScriptedSpec(backend="scripted"), 2) for _ in range(2))
    assert one == again
    assert len({tuple(row[0]) for row in one["hidden_states"]}) == 3
    assert all(row[0] == row[1] for row in one["hidden_states"])
    assert all(len(row) == 5 for row in one["label_logprobs"])
