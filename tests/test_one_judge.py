"""Wherever a judge is asked, it is the same one: below `min_label_mass` it abstains, and no caller scores it.

Where its replies are sampled, each request has a seed of its own, the same in batch and online.
"""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.exchange import Reply, Request
from evaluation.batch.integration import ASKED_SCHEMA
from evaluation.batch.integration import _requests as integration_requests
from evaluation.batch.verdicts import requests, write_verdicts
from evaluation.judges.integrator import Integrator, IntegratorConfig
from judging.judge import MIN_LABEL_MASS, Judge
from judging.records import Record, Scale, Verdict
from judging.tasks import load_task
from judging.template import rubric_template
from retrieval.feedback import _write as write_feedback
from retrieval.mining import PAIR_SCHEMA
from serve.panel.panel import Ask, Asked, Panel
from tests.evaluation.making import judge, record, write_records
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


class Heard:
    """Keeps the requests that it gets."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply('{"reason": "Good.", "score": 3}', "stop")


def seeds_in_batch(folder: Path, name: str, part: int, seed: int | None) -> dict[str, int]:
    batch = {"judge": [name], "part": [str(folder / "records" / f"part-{part:06d}.parquet")]}
    judges = {name: judge(name, mode="parsed") for name in ("j", "k")}
    found = requests(batch, judges, None, dict.fromkeys(judges, np.array([], np.uint64)), {}, seed)
    return dict(zip(found["id"], found.get("seed", []), strict=False))


def test_every_sampled_request_has_a_seed_of_its_own_the_same_in_batch_and_online(tmp_path: Path) -> None:
    texts = [record("a", "g"), record("b", "h"), record("c", "i")]
    write_records(tmp_path, texts, texts[::-1], texts[1:2])
    found = seeds_in_batch(tmp_path, "j", 0, 7)
    assert len(set(found.values())) == 3
    # The seed of the run, the judge and the prompt decide, not the block or the place in it.
    assert seeds_in_batch(tmp_path, "j", 1, 7) == found
    assert seeds_in_batch(tmp_path, "j", 2, 7) == {"b": found["b"]}
    for others in (seeds_in_batch(tmp_path, "j", 0, 8), seeds_in_batch(tmp_path, "k", 0, 7)):
        assert not set(others.values()) & set(found.values())
    heard = Heard()
    for temperature in (0.5, 0.0):
        panel = Panel({"j": Asked(judge("j", mode="parsed"), heard, max_tokens=9, temperature=temperature)})
        for one in texts:
            asyncio.run(panel.judge(Ask(one, ("overall",), seed=7)))
    # Without sampling the seed is that of the run, and in batch it is no column.
    assert [one.seed for one in heard.requests] == [*found.values(), 7, 7, 7]
    assert seeds_in_batch(tmp_path, "j", 0, None) == {}


def test_so_has_every_request_to_an_integrating_model(tmp_path: Path) -> None:
    heard, verdicts = Heard(), [Verdict("a", "overall", 2.0, "expected")]
    for one in (record("a"), record("b")):
        for temperature in (0.5, 0.0):
            integrator = Integrator(IntegratorConfig(model="i", temperature=temperature), heard)
            asyncio.run(integrator.integrate(one, TEMPLATE, verdicts, seed=7, timeout_s=5))
    assert [one.seed for one in heard.requests[1::2]] == [7, 7]
    rows = [{"id": one.prompt[-9:], "prompt": one.prompt, "aspect": "overall"} for one in heard.requests[::2]]
    pq.write_table(pa.Table.from_pylist(rows, schema=ASKED_SCHEMA), tmp_path / "part.parquet")
    batch = {"part": [str(tmp_path / "part.parquet")]}
    assert integration_requests(batch, set(), 7)["seed"] == [one.seed for one in heard.requests[::2]]
    assert len({one.seed for one in heard.requests}) == 3
    assert "seed" not in integration_requests(batch, set(), None)
