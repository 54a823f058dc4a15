"""The job `invert` with scripted models: pool, prompts, judge, configuration, and where it writes."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.train.making import jsonl

ONIONS = ("Why do onions make your eyes water?", "Cutting an onion sets a gas free that stings the eyes.")
MAGNETS = ("How does a compass find north?", "Its needle is a magnet that turns along the field of the earth.")
BRIDGE = ("The old bridge of Winsdale was closed on Monday after a crack was found.", "A crack closed the old bridge.")


def rated(id: str, texts: tuple[str, str], *, task: str = "qa", **scores: float) -> dict[str, Any]:
    return {
        "id": id,
        "task": task,
        "group": f"g-{id}",
        "source": texts[0],
        "candidate": texts[1],
        "scores": scores,
        "scale": [1, 5],
    }


POOL = [
    rated("a", ONIONS, overall=4, utility=2),
    rated("b", MAGNETS, overall=2, utility=4),
    rated("s", BRIDGE, task="summarisation", fluency=3),
    rated("half", ("Who was it?", "It was nobody."), overall=3),
    rated("nosource", ("", "An answer to nothing."), overall=3, utility=3),
]


def asking(
    manner: str, texts: tuple[str, str] | None = None, *, labels: tuple[str, str] = ("Question", "Answer")
) -> str:
    """A prompt as an inversion model might write it: it says what to do, and quotes its example."""
    asked = f"Rate the text in the {manner} manner with a score from 1 to 5. Say whether it is right and clear."
    return asked + (f"\n\n{labels[0]}: {texts[0]}\n{labels[1]}: {texts[1]}" if texts else "")


# The inversion model reads an example as a judge's reply, and writes a prompt for it.
INVERSION = [
    {"contains": '"overall_score": 4', "reply": asking("alpha", ONIONS)},
    {"contains": MAGNETS[0], "reply": asking("bravo", MAGNETS)},
    {"contains": BRIDGE[0], "reply": asking("summary", BRIDGE, labels=("Article", "Summary"))},
]
# The judge judges with those prompts, and as the baseline writes one itself, without a quote.
JUDGE = [
    {"contains": "alpha manner", "label_logprobs": {"4": -0.5, "2": -1.5}},
    {"contains": "bravo manner", "label_logprobs": {"4": -0.25, "2": -0.75}},
    {"contains": "summary manner", "label_logprobs": {"3": -0.125}},
    {"contains": "forward manner", "label_logprobs": {"4": -2.0, "2": -2.0, "3": -1.0}},
    {"contains": "Write the instruction that the judge was given", "reply": asking("forward")},
]


def scripted(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"backend": "scripted", "rules": list(rules), **more}


def configuration(folder: Path, *, judge: Any = None, inversion: Any = None, pool: Any = None, **invert: Any) -> str:
    """Write the pool and the configuration: one judge with one inversion model, both scripted."""
    folder.mkdir(exist_ok=True)
    rows = POOL if pool is None else pool
    config = {
        "run": str(folder / "run"),
        "data": {"records": ["none.jsonl"], "pool": [jsonl(folder / "pool.jsonl", rows)]},
        "models": {"judge": judge or scripted(*JUDGE), "inv": inversion or scripted(*INVERSION)},
        "invert": {
            "models": ["judge"],
            "inversion": {"judge": "inv"},
            "num_candidates": 1,
            "examples": ["a", "b"],
            **invert,
        },
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def place(folder: Path) -> Path:
    return folder / "run" / "invert" / "judge"


def files(folder: Path) -> list[str]:
    """The template files below the job's folder."""
    return sorted(str(path.relative_to(place(folder))) for path in place(folder).rglob("*.txt"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place(folder) / "candidates.jsonl").read_text().splitlines()]
