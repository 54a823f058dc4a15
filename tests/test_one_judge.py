"""Wherever a judge is asked, it is the same one: below `min_label_mass` it abstains, and no caller scores it."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.exchange import Reply, Request
from evaluation.batch.verdicts import write_verdicts
from judging.judge import MIN_LABEL_MASS, Judge
from judging.records import Record, Scale
from judging.tasks import load_task
from judging.template import rubric_template
from retrieval.feedback import _write as write_feedback
from retrieval.mining import PAIR_SCHEMA
from serve.panel.panel import Ask, Asked, Panel
from train.inversion.one_shot import Unit
from train.inversion.prompt_candidates import Candidate
from train.inversion.ranking import dev_agreement, mean_log_probability
from train.optimisation.rewriting import judged_cases

TEMPLATE = rubric_template(load_task("qa"), "overall")
RECORD = Record("r", "qa", "g", "Why?", "So.", scores={"overall": 3.0}, scales={"overall": Scale(1, 5)})
JUDGE = Judge("j", "expected", {("qa", "overall"): TEMPLATE}, pool={"r": RECORD})


def reply(mass: float) -> dict[str, Any]:
    """A row of cluster.generate in which the labels have that much probability together, all of it on 3."""
    logprobs = [math.nan, math.nan, math.log(mass), math.nan, math.nan]
    return {"reply": "", "finish_reason": "stop", "label_logprobs": logprobs, "error": "", "detail": ""}


ENOUGH, TOO_LITTLE = reply(2 * MIN_LABEL_MASS), reply(MIN_LABEL_MASS / 2)


def in_batch(told: dict[str, Any], folder: Path) -> float | None:
    row = {
        "judge": "j",
        "id": "r",
        "task": "qa",
        "aspect": "overall",
        "num_prompt_tokens": 1,
        "num_generated_tokens": 1,
    }
    (folder / "j").mkdir()
    write_verdicts({name: [value] for name, value in {**row, **told}.items()}, {"j": JUDGE}, str(folder))
    (found,) = pq.read_table(folder / "j").to_pylist()
    assert (found["score"] is None) == (found["unscored"] == "low_label_mass")
    return found["score"]


def online(told: dict[str, Any], folder: Path) -> float | None:
    class Engine:
        async def generate(self, request: Request) -> Reply:
            return Reply(label_logprobs=tuple(told["label_logprobs"]), finish_reason="stop")

    panel = Panel({"j": Asked(JUDGE, Engine())})
    (answer,) = asyncio.run(panel.judge(Ask(RECORD, ("overall",))))
    return answer.votes[0].verdict.score


def in_feedback(told: dict[str, Any], folder: Path) -> float | None:
    pair = {**dict.fromkeys(PAIR_SCHEMA.names, "r"), "id": "p", "task": "qa", "aspect": "overall"}
    write_feedback({name: [value] for name, value in {**pair, **told}.items()}, JUDGE, str(folder))
    (found,) = pq.read_table(folder).to_pylist()
    assert (found["utility"] is None) == (found["score"] is None)
    return found["score"]


def in_the_ranking_of_prompts(told: dict[str, Any], folder: Path) -> float | None:
    candidate = Candidate(0, "e", "", "", {}, (), (), {"overall": TEMPLATE})
    replies = [{**told, "aspect": "overall", "record": 0}]
    value, why = mean_log_probability(candidate, replies, [RECORD])
    assert (value is None) == ("low_label_mass" in why)
    return value


def in_the_agreement_on_dev(told: dict[str, Any], folder: Path) -> float | None:
    other = Record("s", "qa", "g", "Why?", "No.", scores={"overall": 1.0}, scales={"overall": Scale(1, 5)})
    sure = {**reply(0.9), "label_logprobs": [0.0, *[math.nan] * 4]}
    candidate = Candidate(0, "e", "", "", {}, (), (), {"overall": TEMPLATE})
    replies = [{**told, "aspect": "overall", "record": 0}, {**sure, "aspect": "overall", "record": 1}]
    # With one of two texts left there is no order to agree with.
    return dev_agreement(candidate, replies, [RECORD, other])[0]


def in_rewriting(told: dict[str, Any], folder: Path) -> float | None:
    """Also what the rounds of `optimise` measure."""
    (case,) = judged_cases(TEMPLATE, [{**told, "record": 0}], [RECORD])
    return case.predicted


@pytest.mark.parametrize(
    "caller",
    [in_batch, online, in_feedback, in_the_ranking_of_prompts, in_the_agreement_on_dev, in_rewriting],
)
def test_every_caller_keeps_the_abstention(caller: Any, tmp_path: Path) -> None:
    (tmp_path / "enough").mkdir()
    (tmp_path / "little").mkdir()
    assert caller(ENOUGH, tmp_path / "enough") is not None
    assert caller(TOO_LITTLE, tmp_path / "little") is None


def test_they_all_ask_for_the_same_prompt() -> None:
    unit = Unit("qa", ("overall",), ())
    assert unit.task == TEMPLATE.task
    assert Judge.of(TEMPLATE).request(RECORD, "overall") == JUDGE.request(RECORD, "overall")
