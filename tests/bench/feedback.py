"""Speed of the job `feedback`, as ratios within one run: part of `make bench-retrieval`.

Prompts/s against plain `vllm.LLM.chat` on the same prompts in the same order, engine start excluded, as several pairs
of runs, and the share of the cacheable prompt tokens that came from the prefix cache.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.batch import ENGINE, compared, plain_vllm, watched
from tests.bench.measure import DATA

NUM_QUERIES = 24


def measure() -> dict[str, Any]:
    if not DATA.exists():
        return {"skipped": f"{DATA} is missing"}
    return compared("tests.bench.feedback")


def _config(folder: str) -> Any:
    from cluster.config import build
    from cluster.jobs import sections

    raw = {
        "run": f"{folder}/run",
        "data": {"records": [str(DATA / "topical_chat.jsonl")], "pool": [str(DATA / "topical_chat.jsonl")]},
        "models": {
            "m": {
                "source": "embedded:smollm2-135m-instruct",
                "dtype": ENGINE["dtype"],
                "max_model_len": ENGINE["max_model_len"],
            }
        },
        "feedback": {
            "model": "m",
            "aspects": ["overall"],
            "queries": NUM_QUERIES,
            "random": 3,
            "bm25": 2,
            "semantic": 0,
        },
    }
    return build(raw, sections(), origin="bench")


def _prompts(folder: str) -> list[str]:
    """What the job asks, in its order."""
    import pyarrow.parquet as pq

    from retrieval import feedback
    from retrieval.mining import mine, write_pairs
    from retrieval.pool import rated_pool

    run = _config(folder)
    pool = rated_pool(run.data)
    wanted = feedback.wanted_aspects(pool, run.feedback.aspects)
    templates = {key: feedback.rubric_template(feedback.load_task(key[0]), key[1]) for key in wanted}
    special = feedback.special_tokens_of(run.models["m"])
    place = Path(folder) / "beside"
    place.mkdir()
    write_pairs(place, list(mine(run.feedback, pool, wanted, run.seed)), run.feedback.block_rows)
    rows = [row for part in sorted((place / "pairs").iterdir()) for row in pq.read_table(part).to_pylist()]
    return [feedback._request(row, pool, templates, special)["prompt"] for row in rows]


def _child(side: str) -> dict[str, Any]:
    from retrieval import feedback

    with tempfile.TemporaryDirectory() as folder:
        prompts = _prompts(folder)
        if side == "raw":
            return plain_vllm(prompts)
        run = _config(folder)
        return watched(lambda: feedback.main(run), prompts, folder)


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[2])))
