"""One configuration planned for a made-up machine, and the row whose prompts are counted."""

from __future__ import annotations

from typing import Any

from cluster.config import build
from cluster.jobs import sections as known_sections
from judging.tasks import load_task
from judging.template import rubric_template
from tests.train.making import rated
from train.planning.plan import main

# 5e11 operations a second, and 100 tokens written.
MACHINE = {"gpus": 2, "tflops": 1, "gb_s": 1, "memory_gb": 1, "decode_tokens_per_s": 100}
PLAIN = {"nodes": {"own": MACHINE}, "node": "own", "mfu": 0.5, "tokens_per_answer": 8}
SFT: dict[str, Any] = {
    "models": {"m": {"base": "m"}},
    "lora_rank": 4,
    "epochs": 2,
    "num_workers": 2,
    "per_device_batch": 1,
    "effective_batch": 2,
    "cutoff": 64,
    "dev_share": 0,
}
RECORD = rated("one", {"overall": 3})
TEXTS = {"source": "Question one?", "candidate": "Answer one."}
ROW = {"id": "one", "task": "qa", "group": "g-one", **TEXTS, "scores": {"overall": 3}, "scale": [1, 5]}


def planned(model: Any, **sections: Any) -> dict[str, Any]:
    """The summary for one model `m`, of that source or specification."""
    spec = model if isinstance(model, dict) else {"source": str(model)}
    raw = {"run": "r", "models": {"m": spec}, "plan": PLAIN, **sections}
    return main(build(raw, known_sections(), origin="test")).summary


def words(summary: dict[str, Any]) -> dict[str, str]:
    return {one["words"]: one["source"] for one in summary["assumptions"]}


def row_of(group: str, **more: Any) -> dict[str, Any]:
    return {**ROW, "id": f"{group}-{len(more)}", "group": group, **more}


def prompt_tokens(row: dict[str, Any]) -> float:
    template = rubric_template(load_task("qa"), "overall")
    return len(template.render({"source": row["source"], "candidate": row["candidate"]}, mode="expected").text) / 4


def head_tokens() -> float:
    """What stands before the first example's first text."""
    template = rubric_template(load_task("qa"), "overall")
    return template.render(TEXTS, mode="expected", examples=[(TEXTS, 3)]).text.index("Question one?") / 4
