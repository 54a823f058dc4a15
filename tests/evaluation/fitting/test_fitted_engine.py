"""A fitted judge on the real vLLM: transformers' hidden states, the batch path and the server give the same scores."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModel

from cluster import models
from cluster.__main__ import main
from cluster.tokens import encoder
from evaluation.batch.config import prepared
from judging.fitted.regression import read_files
from judging.records import Record
from tests.evaluation.fitting.test_fit_judge import texts, write
from tests.serve.serving import free_port, serving

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.usefixtures("ray_cluster")]
SOURCE = "embedded:smollm2-135m-instruct"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("fitted-engine")
    told = {
        "run": str(folder / "run"),
        "data": {
            "records": [write(folder / "in.jsonl", texts(2, first=100))],
            "pool": [write(folder / "pool.jsonl", texts(12, size=5))],
        },
        "models": {"m": {"source": SOURCE, "max_model_len": 1024, "kv_cache_gib": 0.5, "dtype": "float32"}},
        "fit_judge": {"depths": [0.3, 0.5], "max_novelty": None, "baseline_encoder": None},
        "evaluate": {"judges": {"fitted": {"model": "m", "score_mode": "fitted"}}},
        "serve": {"port": free_port()},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(told))
    assert main(["fit-judge", str(folder / "c.yaml")]) == 0
    assert main(["evaluate", str(folder / "c.yaml")]) == 0
    return folder / "c.yaml"


def test_the_scores_are_those_of_transformers_hidden_states(config: Path) -> None:
    from cluster.config import load
    from cluster.jobs import sections

    found = {row["id"]: row for row in rows_of(config)}
    run = load(config, [], sections())
    evaluation = prepared(run).evaluation
    regression, about = read_files(config.parent / "run" / "fit_judge" / "fitted" / "qa.overall.safetensors")
    [folder] = (run.run / "fit_judge" / "models").glob(f"m-{about['depth']}-*")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    known = encoder(str(models.resolve(SOURCE).path), "auto")
    judge = evaluation.judge("fitted", [("qa", "overall")], {})
    for row in texts(2, first=100):
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
    assert len(found) == 12
    return found


def test_the_server_gives_the_same_scores_and_compares_nothing(config: Path) -> None:
    known = {str(row["id"]): row for row in rows_of(config)}
    with serving(config, yaml.safe_load(config.read_text())["serve"]["port"], patience_s=400) as served:
        for row in texts(2, first=100)[:4]:
            fields = {"source": row["source"], "candidate": row["candidate"]}
            [vote] = served.post("/v1/judge", {"task": "qa", "fields": fields}).json()["results"][0]["votes"]
            assert vote["score"] == pytest.approx(known[row["id"]]["fitted.score"], abs=1e-3)
        answer = served.post("/v1/judge", {"task": "qa", "fields": fields, "other": "No."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported")
        assert served.post("/v1/chat/completions", {"model": "m.layers15", "messages": []}).status_code >= 400
        about = [judge["score_mode"] for judge in served.get("/v1/judges").json()["data"]]
        assert about == ["fitted"]


def test_a_changed_model_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [folder] = (config.parent / "run" / "fit_judge" / "models").iterdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    assert main(["evaluate", str(config)]) == 2
    assert "was changed after `fit-judge`" in capsys.readouterr().err
