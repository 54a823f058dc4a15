"""The plan of what reads rated texts (inversion, optimisation, feedback, evaluation): every number by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judging.data_config import DataConfig
from judging.datasets import read_records
from judging.request_templates import pair_template
from judging.tasks import load_task
from judging.template import rubric_template, texts_for
from tests.train.making import jsonl, unit
from tests.train.planning.making import (
    PLAIN,
    RECORD,
    ROW,
    head_tokens,
    planned,
    prompt_tokens,
    row_of,
    words,
)
from train.inversion.one_shot import as_reply

pytestmark = pytest.mark.usefixtures("nothing_cached")


def test_inversion_by_hand(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    invert = {"models": ["m"], "inversion": {"m": "m"}, "num_candidates": 3, "max_tokens": 20, "sources": ["inverse"]}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, invert=invert)["jobs"]
    tokens = len(as_reply(unit(RECORD), RECORD, with_score=True)) / 4
    # 3 prompts are written, each of 20 tokens; each is then read with the text and answered by one token.
    assert row["tokens_in"] == pytest.approx(3 * tokens + 3 * (20 + tokens))
    assert (row["model"], row["tokens_out"]) == ("m/inverse", 3 * 20 + 3)
    # The first token of each comes with the reading: 3 x 19 others are written.
    assert row["gpu_hours"] == pytest.approx((2e6 * row["tokens_in"] / 5e11 + 57 / 100) / 3600)
    assert row["disk_bytes"] == 4 * 60 * 4


def test_every_candidate_is_tried_on_the_dev_part(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    dev = jsonl(tmp_path / "dev.jsonl", [{**ROW, "id": str(number)} for number in range(7)])
    invert = {"models": ["m"], "num_candidates": 3, "max_tokens": 20, "sources": ["forward"], "dev": [dev]}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, invert=invert)["jobs"]
    assert row["tokens_out"] == 3 * 20 + 3 * 7


def test_evaluation_counts_the_prompts_that_judges_get_and_reads_a_beginning_once(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW, {**ROW, "id": "two"}])
    judges = {"j": {"model": "m"}, "p": {"model": "m", "score_mode": "parsed", "max_tokens": 30}}
    summary = planned(folder, data={"records": [records]}, evaluate={"judges": judges})
    expected, parsed = summary["jobs"]
    template = rubric_template(load_task("qa"), "overall")
    prompt = template.render(texts_for(RECORD, template), mode="expected").text
    assert expected["tokens_in"] == 2 * len(prompt) / 4
    # The second prompt is the first again: only one is read.
    assert expected["gpu_hours"] == pytest.approx(2e6 * len(prompt) / 4 / 5e11 / 3600)
    assert (expected["tokens_out"], parsed["tokens_out"]) == (2, 60)
    assert "evaluate: 2 prompts per judge" in " ".join(words(summary))


def test_a_reasoning_model_may_think_its_whole_budget_in_every_reply(
    folder: Path, tmp_path: Path, instructions: dict[str, Any]
) -> None:
    """It generates the answer, the thinking and its two marks: 30 + 100 + 2 tokens, 8 + 100 + 2 in `distill`."""
    rows = [{**ROW, "system": "a"}, {**ROW, "id": "two", "candidate": "Another.", "system": "b"}]
    records = jsonl(tmp_path / "records.jsonl", rows)
    parsed = {"model": "m", "score_mode": "parsed", "max_tokens": 30}
    evaluate = {"judges": {"p": parsed}, "integrator": {"model": "m", "max_tokens": 50}, "pairs": {}}
    thinks = {"source": str(folder), "thinking_token_budget": 100}
    found = {"data": {"records": [records]}, "evaluate": evaluate, "instructions": instructions}
    summary = planned(thinks, distill={"models": ["m"]}, **found)
    written = {f"{row['job']} {row['model']}": row["tokens_out"] for row in summary["jobs"]}
    assert written == {
        "distill m": 3 * 110,
        "evaluate p": 2 * 132,
        "evaluate pairs p": 2 * 132,
        "evaluate integrator m": 2 * 152,
    }
    # The first token of each reply comes with the reading.
    read = {f"{row['job']} {row['model']}": row for row in summary["jobs"]}["evaluate p"]
    assert read["gpu_hours"] > 2 * 131 / 100 / 3600
    assert words(summary)["m: 100 tokens of thinking per reply (the maximum)"] == "models.m.thinking_token_budget"
    plain = planned(folder, distill={"models": ["m"]}, **found)
    assert [row["tokens_out"] for row in plain["jobs"]] == [3 * 8, 2 * 30, 2 * 30, 2 * 50]
    assert not any("thinking" in one for one in words(plain))
    # The responses are kept without the thinking.
    assert plain["jobs"][0]["disk_bytes"] == summary["jobs"][0]["disk_bytes"]


def test_a_cascade_asks_the_others_about_a_share(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [row_of(f"g{number}") for number in range(10)])
    judges = {"first": {"model": "m"}, "second": {"model": "m", "score_mode": "parsed", "max_tokens": 30}}
    evaluate = {"judges": judges, "vote": {"cascade": {"first": "first", "max_entropy": 0.6}}}
    plan = {**PLAIN, "cascade_share": 0.3}
    summary = planned(folder, data={"records": [records]}, evaluate=evaluate, plan=plan)
    first, second = summary["jobs"]
    assert (first["tokens_out"], second["tokens_out"]) == (10, 3 * 30)
    assert second["tokens_in"] == pytest.approx(0.3 * first["tokens_in"])
    told = words(summary)
    assert told["cascade: the others are asked about 30% of what first is asked about"] == (
        "plan.cascade_share (configured)"
    )
    # By default all are counted, and the dev part is judged without a cascade.
    assert planned(folder, data={"records": [records]}, evaluate=evaluate)["jobs"][1]["tokens_out"] == 10 * 30


def test_retrieved_examples_leave_only_the_rubrics_head_to_share(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW, {**ROW, "id": "two"}])
    judges = {
        "fixed": {"model": "m", "examples": ["a", "b"]},
        "found": {"model": "m", "icl": {"arm": "random", "k": 2}},
        "diverse": {"model": "m", "icl": {"arm": "diverse", "k1": 3, "k2": 1}},
    }
    fixed, found, diverse = planned(folder, data={"records": [records]}, evaluate={"judges": judges})["jobs"]
    one, head = prompt_tokens(ROW), head_tokens()
    example = one - head
    assert [fixed["tokens_in"], found["tokens_in"], diverse["tokens_in"]] == pytest.approx(
        [2 * (one + 2 * example), 2 * (one + 2 * example), 2 * (one + 4 * example)]
    )
    # Fixed: the second prompt is known; of both, the examples are counted as known.
    assert fixed["gpu_hours"] == pytest.approx(2e6 * one / 5e11 / 3600)
    assert found["gpu_hours"] == pytest.approx(2e6 * (2 * (one + 2 * example) - head) / 5e11 / 3600)


def test_only_the_groups_of_the_part_are_counted(folder: Path, tmp_path: Path) -> None:
    rows = [row_of(f"g{number}") for number in range(40)]
    data = DataConfig.model_validate(
        {"records": [jsonl(tmp_path / "r.jsonl", rows)], "dev_share": 0.5, "groups_share": 0.7}
    )
    num = {
        part: sum(data.model_copy(update={"part": part}).takes(one) for one in read_records(data.records))
        for part in ("test", "dev")
    }
    assert min(num.values()) > 5
    sections: dict[str, Any] = {"evaluate": {"judges": {"j": {"model": "m"}}}, "panel": {}}
    panel, evaluate = planned(folder, data=data.model_dump(), **sections)["jobs"]
    assert (panel["job"], panel["tokens_out"]) == ("panel", num["dev"])
    assert (evaluate["job"], evaluate["tokens_out"]) == ("evaluate", num["test"])
    # An optimised prompt has seen a quarter of the dev part, which `panel` leaves out where a judge uses it.
    sections["optimise"] = {"models": ["m"], "share": 0.25}
    assert planned(folder, data=data.model_dump(), **sections)["jobs"][1]["tokens_out"] == num["dev"]
    sections["evaluate"]["judges"]["o"] = {"model": "m", "prompt": "optimised"}
    assert planned(folder, data=data.model_dump(), **sections)["jobs"][1]["tokens_out"] == round(0.75 * num["dev"])
    # The dev part itself may be what is evaluated.
    (row,) = planned(
        folder, data={**data.model_dump(), "part": "dev"}, evaluate={"judges": {"j": {"model": "m"}}}
    )["jobs"]  # fmt: skip
    assert row["tokens_out"] == num["dev"]


def test_optimising_by_hand(folder: Path, tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "id": "two"}, {**ROW, "id": "three", "scores": {"relevance": 2}}]
    dev = jsonl(tmp_path / "dev.jsonl", rows)
    optimise = {"models": ["m"], "rounds": 2, "num_drafts": 3, "cases": 4, "max_tokens": 20, "share": 1}
    (row,) = planned(
        folder, data={"records": [dev], "dev": [dev]}, optimise={**optimise, "aspects": ["overall"]}
    )["jobs"]  # fmt: skip
    one = prompt_tokens(ROW)
    case = one - head_tokens()
    # Two texts by the start and by each of 2 x 3 drafts; 6 drafts of 20 tokens, each from 4 cases.
    assert row["tokens_in"] == pytest.approx(14 * one + 6 * 4 * case)
    assert row["tokens_out"] == 14 + 6 * 20
    # The texts are the same: half of what the judge reads is known. Of 3 drafts of a round two have a known request.
    assert row["gpu_hours"] == pytest.approx((2e6 * (7 * one + 2 * 4 * case) / 5e11 + 6 * 19 / 100) / 3600)


def test_feedback_by_hand(folder: Path, tmp_path: Path) -> None:
    # The first five are not rated, so nobody tries examples for them; nor is a row of an unknown task used.
    rows = [row_of(f"g{number}", **({} if number > 4 else {"scores": {}})) for number in range(10)]
    pool = jsonl(tmp_path / "pool.jsonl", [*rows, {**ROW, "id": "odd", "task": "cooking", "scores": {"salt": 1}}])
    feedback = {"model": "m", "queries": 3, "random": 2, "bm25": 1, "semantic": 0}
    (row,) = planned(folder, data={"records": [pool], "pool": [pool]}, feedback=feedback)["jobs"]
    # 3 texts, 3 examples each; a prompt and an example as long as its text's part.
    one, head = prompt_tokens(ROW), head_tokens()
    assert (row["tokens_in"], row["tokens_out"]) == (pytest.approx(9 * (2 * one - head)), 9)
    # Of 3 texts 2 have the rubric's head in common with one before: so have 6 of the 9 prompts.
    assert row["gpu_hours"] == pytest.approx(2e6 * (row["tokens_in"] - 6 * head) / 5e11 / 3600)


def test_tokens_are_counted_by_the_models_own_tokenizer(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token a character
    letters.save(str(folder / "tokenizer.json"))
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    summary = planned(folder, data={"records": [records]}, evaluate={"judges": {"j": {"model": "m"}}})
    assert summary["jobs"][0]["tokens_in"] == 4 * prompt_tokens(ROW)
    assert words(summary)["m: 1 characters per token of a judge's prompt"].endswith("tokenizer.json, 1 prompts")


def test_an_evaluation_without_its_files_is_left_out_and_said(folder: Path) -> None:
    summary = planned(folder, data={"records": ["gone.jsonl"]}, evaluate={"judges": {"j": {"model": "m"}}})
    assert (summary["jobs"], summary["total"]["gpu_hours"]) == ([], 0)
    assert words(summary)["evaluate is left out"] == "data: gone.jsonl is not on this machine"


@pytest.mark.parametrize("model", [{"backend": "scripted"}, {"backend": "http", "base_url": "http://h", "model": "x"}])
def test_every_judging_job_is_counted_for_models_elsewhere(model: dict[str, Any], tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [row_of(f"g{number}") for number in range(6)])
    summary = planned(
        model,
        data={"records": [rows], "dev": [rows], "pool": [rows]},
        optimise={"models": ["m"]},
        feedback={"model": "m"},
        panel={},
        evaluate={"judges": {"j": {"model": "m"}}, "integrator": {"model": "m", "max_tokens": 50}},
    )
    rows_of = {(row["job"], row["model"]): row for row in summary["jobs"]}
    assert list(rows_of) == [
        *(("optimise", "m"), ("feedback", "m"), ("panel", "j")),
        *(("evaluate", "j"), ("evaluate", "integrator m")),
    ]
    assert rows_of["evaluate", "integrator m"]["tokens_out"] == 6 * 50
    assert summary["total"]["gpu_hours"] == 0


def test_a_text_feature_costs_nothing(tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [row_of(f"g{number}") for number in range(6)])
    spec = {"backend": "features", "feature": "length"}
    summary = planned(spec, data={"records": [rows]}, evaluate={"judges": {"j": {"model": "m"}}})
    assert (summary["jobs"], summary["total"]["tokens_in"]) == ([], 0)
    assert words(summary)["j: a text feature, which costs nothing"] == "models.m.backend"


def test_examples_are_cut_at_their_budget(folder: Path, tmp_path: Path) -> None:
    records = jsonl(tmp_path / "records.jsonl", [ROW])
    judges = {"j": {"model": "m", "icl": {"arm": "random", "k": 4, "max_tokens": 10}}}
    (row,) = planned(folder, data={"records": [records]}, evaluate={"judges": judges})["jobs"]
    assert row["tokens_in"] == prompt_tokens(ROW) + 10


def test_a_fitted_judge_reads_the_labels_once_and_runs_a_part_of_its_model(folder: Path, tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [ROW])
    records = jsonl(tmp_path / "records.jsonl", [{**ROW, "id": "other", "group": "other"}])
    judges = {"f": {"model": "m", "score_mode": "fitted"}, "j": {"model": "m"}}
    told = {"data": {"records": [records], "pool": [pool]}, "evaluate": {"judges": judges}}
    summary = planned(folder, **told, fit_judge={"depths": [0.25, 0.5]})
    learned, fitted, plain = summary["jobs"]
    assert [row["job"] for row in summary["jobs"]] == ["fit-judge", "evaluate", "evaluate"]
    assert learned["tokens_in"] == fitted["tokens_in"] == plain["tokens_in"] == prompt_tokens(ROW)
    assert (learned["tokens_out"], fitted["tokens_out"], plain["tokens_out"]) == (0, 0, 1)
    assert learned["gpu_hours"] == plain["gpu_hours"]
    assert fitted["gpu_hours"] == pytest.approx(plain["gpu_hours"] / 2)
    assert fitted["gpu_memory_bytes"] == pytest.approx(plain["gpu_memory_bytes"] / 2)
    width = summary["jobs"][0]["disk"]["states"] / (4 * 2)  # one text, two depths
    assert width == int(width) > 0
    assert words(summary)["f: fitted: the lowest 50% of its model's layers"] == "fit_judge.depths: the largest"
    # Labels of the dev part instead.
    rows = jsonl(tmp_path / "rows.jsonl", [row_of(f"g{number}") for number in range(6)])
    told = {"data": {"records": [rows], "dev": [pool]}, "evaluate": {"judges": judges}}
    summary = planned(folder, **told, fit_judge={"labels": "dev", "judges": ["f"]})
    assert summary["jobs"][0]["tokens_in"] == prompt_tokens(ROW)


def test_pairs_count_both_orders_for_every_judge_that_compares(folder: Path, tmp_path: Path) -> None:
    # Three systems in one group are three pairs; the record without a system and the other group have none.
    rows = [{**ROW, "id": name, "system": name} for name in "abc"]
    rows = [{**row, "candidate": f"Answer {row['id']}."} for row in rows]
    rows += [{**ROW, "id": "nameless"}, row_of("other", system="a")]
    judges = {"j": {"model": "m"}, "p": {"model": "m", "score_mode": "parsed", "max_tokens": 30}, "f": {"model": "w"}}
    evaluate = {"judges": judges, "pairs": {"against": "a"}}
    records = jsonl(tmp_path / "records.jsonl", rows)
    models = {"m": {"source": str(folder)}, "w": {"backend": "features", "feature": "length"}}
    summary = planned(folder, data={"records": [records]}, models=models, evaluate=evaluate)
    rows_of = {row["model"]: row for row in summary["jobs"]}
    assert list(rows_of) == ["j", "p", "pairs j", "pairs p"]
    template = pair_template(load_task("qa"), "overall")
    texts = {"source": ROW["source"], "candidate": "Answer a.", "other": "Answer b."}
    # Against a: two pairs in two orders, all prompts of one length.
    tokens = 4 * len(template.render(texts, mode="expected").text) / 4
    assert (rows_of["pairs j"]["tokens_in"], rows_of["pairs j"]["tokens_out"]) == (pytest.approx(tokens), 4)
    assert rows_of["pairs p"]["tokens_out"] == 4 * 30
    assert any(one.startswith("pairs: 4 prompts per judge") for one in words(summary))
