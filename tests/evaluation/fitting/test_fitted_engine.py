"""A fitted judge on the real vLLM: transformers' hidden states, the batch path and the server give the same scores.

Its `fit-judge` was killed and resumed, and it votes in a learned panel.
"""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModel

from cluster import models
from cluster.__main__ import main
from cluster.tokens import Encoder
from evaluation.batch.config import prepared
from judging.fitted.regression import read_files
from judging.records import Record
from tests.evaluation.fitting.test_fit_judge import texts, write
from tests.killing import killed_when
from tests.serve.serving import free_port, serving

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.usefixtures("ray_cluster")]
SOURCE = "embedded:smollm2-135m-instruct"
NUM_GROUPS = 6


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("fitted-engine")
    told = {
        "run": str(folder / "run"),
        "data": {
            "records": [write(folder / "in.jsonl", texts(NUM_GROUPS, first=100))],
            "pool": [write(folder / "pool.jsonl", texts(12, size=5))],
            "dev_share": 0.5,
        },
        "models": {"m": {"source": SOURCE, "max_model_len": 1024, "kv_cache_gib": 0.5, "dtype": "float32"}},
        "fit_judge": {"depths": [0.3, 0.5], "max_novelty": None, "baseline_encoder": None, "block_rows": 5},
        "panel": {},
        "evaluate": {
            "judges": {"fitted": {"model": "m", "score_mode": "fitted"}, "plain": {"model": "m"}},
            "vote": {"rule": "learned"},
        },
        "serve": {"port": free_port()},
    }
    file = folder / "c.yaml"
    file.write_text(yaml.safe_dump(told))
    states = folder / "run" / "fit_judge" / "fitted" / "states"
    killed_when("fit-judge", str(file), lambda: len(list(states.glob("part-*.parquet"))) >= 2)
    kept = {part: part.stat().st_mtime_ns for part in states.glob("part-*.parquet")}
    assert 2 <= len(kept) < 12
    assert main(["fit-judge", str(file)]) == 0
    assert len(list(states.glob("part-*.parquet"))) == 12
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert main(["panel", str(file)]) == 0
    assert main(["evaluate", str(file)]) == 0
    return file


def test_the_killed_job_gives_the_numbers_of_one_that_was_not(config: Path, tmp_path: Path) -> None:
    assert main(["fit-judge", str(config), "--set", f"run={tmp_path}"]) == 0
    for name in ("qa.overall.safetensors", "held_out.parquet"):
        again, first = (run / "fit_judge" / "fitted" / name for run in (tmp_path, config.parent / "run"))
        assert again.read_bytes() == first.read_bytes()


def test_the_scores_are_those_of_transformers_hidden_states(config: Path) -> None:
    from cluster.config import load
    from cluster.jobs import sections

    found = {row["id"]: row for row in rows_of(config)}
    run = load(config, [], sections())
    evaluation = prepared(run).evaluation
    regression, about = read_files(config.parent / "run" / "fit_judge" / "fitted" / "qa.overall.safetensors")
    [folder] = (run.run / "fit_judge" / "models").glob(f"m-{about['depth']}-????????")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    known = Encoder(str(models.resolve(SOURCE).path))
    judge = evaluation.judge("fitted", [("qa", "overall")], {})
    for row in texts(NUM_GROUPS, first=100):
        if row["id"] not in found:
            continue  # of the dev part
        fields = {name: row[name] for name in ("id", "task", "group", "source", "candidate")}
        asked = judge.request(Record(**fields), "overall")
        ids = known.prompt_ids(asked["prompt"], known.spelled_prefix(asked["reply_prefix"], asked["labels"]), 1023)
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        reading = regression.read(hidden.tolist())
        assert reading is not None
        assert found[row["id"]]["fitted.score"] == pytest.approx(reading.score, abs=1e-3)
        assert found[row["id"]]["fitted.novelty"] == pytest.approx(reading.novelty, abs=1e-3)


def rows_of(config: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = pq.read_table(config.parent / "run" / "evaluate" / "scores.parquet").to_pylist()
    assert 0 < len(found) < 6 * NUM_GROUPS
    assert all(row["panel.score"] is not None for row in found)
    return found


def test_the_server_gives_the_same_scores_and_compares_nothing(config: Path) -> None:
    known = {str(row["id"]): row for row in rows_of(config)}
    with serving(config, yaml.safe_load(config.read_text())["serve"]["port"], patience_s=400) as served:
        for row in [row for row in texts(NUM_GROUPS, first=100) if row["id"] in known][:4]:
            fields = {"source": row["source"], "candidate": row["candidate"]}
            [result] = served.post("/v1/judge", {"task": "qa", "fields": fields}).json()["results"]
            for vote in result["votes"]:
                assert vote["score"] == pytest.approx(known[row["id"]][f"{vote['judge']}.score"], abs=1e-3)
            assert result["score"] == pytest.approx(known[row["id"]]["panel.score"], abs=1e-3)
        answer = served.post("/v1/judge", {"task": "qa", "fields": fields, "other": "No."})
        assert {vote["judge"] for vote in answer.json()["results"][0]["votes"]} == {"plain"}
        assert served.post("/v1/chat/completions", {"model": "m.layers15", "messages": []}).status_code >= 400
        about = [judge["score_mode"] for judge in served.get("/v1/judges").json()["data"]]
        assert about == ["fitted", "expected"]


def test_a_changed_model_is_refused_and_made_again(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [folder] = (place for place in (config.parent / "run" / "fit_judge" / "models").iterdir() if place.is_dir())
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + b"\0\1\2\3")
    assert main(["evaluate", str(config)]) == 2
    assert "was changed after `fit-judge`" in capsys.readouterr().err
    assert main(["fit-judge", str(config)]) == 0
    assert weights.read_bytes() == good
    assert main(["evaluate", str(config)]) == 0  # done before
