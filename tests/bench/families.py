"""Fitted judges against people on five data sets: `python -m tests.bench.families DATA OUT [NAME ...]`.

DATA holds the rated files of `FAMILIES`, in the project's own format. For each of them and each of `MODELS`, or for the
data sets and models of these names, `inverdict fit-judge` learns from all rows and states its agreement,
cross-validated over groups, beside the same model zero-shot, embeddings and length. OUT keeps the runs: a killed one
resumes by the same command, and `tests.bench.fitted_panels` reads them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from cluster.__main__ import main as inverdict

MODELS = ("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct")


class Family(NamedTuple):
    """A data set: `file` in DATA, `where`: fields that its rows must have, and the rated `aspects`."""

    file: str
    aspects: tuple[str, ...]
    where: tuple[tuple[str, str], ...] = ()


FAMILIES = {
    "topical_chat": Family("topical_chat.jsonl", ("overall",)),
    "summeval": Family("summeval.jsonl", ("coherence", "relevance")),
    "alce": Family("alce.jsonl", ("utility",)),
    "wmt_en_de": Family("wmt23.jsonl", ("quality",), (("source_lang", "English"), ("target_lang", "German"))),
    "wmt_zh_en": Family("wmt23.jsonl", ("quality",), (("source_lang", "Chinese"), ("target_lang", "English"))),
    "hanna": Family("hanna.jsonl", ("coherence", "relevance")),
}


def main(arguments: Sequence[str]) -> int:
    data, out, *names = arguments
    families = [name for name in names if name in FAMILIES] or list(FAMILIES)
    for name, family in ((name, FAMILIES[name]) for name in families):
        for model in [name for name in names if name not in FAMILIES] or MODELS:
            config = configuration(Path(data), Path(out), name, family, model)
            if (code := inverdict(["fit-judge", str(config)])) != 0:
                return code
    return 0


def size(model: str) -> str:
    """The part of a model's name that tells its size, such as 0.5b."""
    return next(part for part in model.split("-") if part[:1].isdigit() and part.endswith("b"))


def configuration(data: Path, out: Path, name: str, family: Family, model: str) -> Path:
    """Write the configuration of a data set and a model below OUT, and the rows if they are a part of a file."""
    rows = data / family.file
    out.mkdir(parents=True, exist_ok=True)
    if family.where:
        lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if all(json.loads(line)[field] == value for field, value in family.where)]
        rows = out / f"{name}.jsonl"
        rows.write_text("".join(kept), encoding="utf-8")
    told = {
        "run": str(out / name),
        "data": {"records": [str(rows)], "pool": [str(rows)]},
        "models": {size(model): {"source": f"embedded:{model}", "max_model_len": 4096}},
        "fit_judge": {"aspects": list(family.aspects)},
        "evaluate": {
            "aspects": list(family.aspects),
            "judges": {f"fitted-{size(model)}": {"model": size(model), "score_mode": "fitted"}},
        },
    }
    file = out / f"{name}-{size(model)}.yaml"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
