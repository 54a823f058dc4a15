"""Published files of public data sets -> rows in the form that the readers expect, one function per published form.

A converter takes the files by their published names, in the registry's order, and yields one row per text: `dataset`,
`task`, `group`, `system`, `source`, `candidate`, human `scores` with their scale, and further texts. It changes no
wording. What it leaves out is said in the registry's `note`.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from judging.errors import InputError
from judging.readers import RowError, aeollm_row, raw_rows

Row = dict[str, Any]
Files = Mapping[str, Path]
Converter = Callable[[Files], Iterator[Row]]

END_OF_TEXT = "<|endoftext|>"
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt")
HANNA_ASPECTS = ("relevance", "coherence", "empathy", "surprise", "engagement", "complexity")
NEWSROOM_ASPECTS = ("coherence", "fluency", "relevance")
SUMMEVAL_ASPECTS = ("coherence", "consistency", "fluency", "relevance")
TOPICAL_CHAT_SCALES = {
    "understandability": (0, 1),
    "naturalness": (1, 3),
    "coherence": (1, 3),
    "engagingness": (1, 3),
    "groundedness": (0, 1),
    "overall": (1, 5),
}
WMT_PAIRS = {"en-de": ("wmt23_ende", "English", "German"), "zh-en": ("wmt23_zhen", "Chinese", "English")}


def topical_chat(files: Files) -> Iterator[Row]:
    """UniEval's JSON list: source, system_id, system_output, context (the fact), scores."""
    (rows,) = map(_json, files.values())
    groups: dict[str, str] = {}
    originals = {row["source"]: row["system_output"].strip() for row in rows if row["system_id"].startswith("Original")}
    for row in rows:
        own = row["system_output"].strip()
        original = originals.get(row["source"])
        yield {
            "task": "dialogue",
            "dataset": "topical_chat",
            "group": groups.setdefault(row["source"], f"tc{len(groups):03d}"),
            "system": row["system_id"],
            "source": row["source"].strip(),
            "candidate": own,
            "reference": None if original == own else original,
            "scores": {aspect: row["scores"][aspect] for aspect in TOPICAL_CHAT_SCALES},
            "scales": TOPICAL_CHAT_SCALES,
            "fact": row["context"].strip(),
        }


def summeval(files: Files) -> Iterator[Row]:
    """UniEval's JSON list: doc_id, system_id, source, system_output, reference, scores."""
    (rows,) = map(_json, files.values())
    for row in rows:
        yield {
            "task": "summarisation",
            "dataset": "summeval",
            "group": row["doc_id"],
            "system": row["system_id"],
            "source": row["source"].strip(),
            "candidate": row["system_output"].strip(),
            "reference": (row.get("reference") or "").strip() or None,
            "scores": {aspect: row["scores"][aspect] for aspect in SUMMEVAL_ASPECTS},
            "scale": (1, 5),
        }


def hanna(files: Files) -> Iterator[Row]:
    """A CSV file with a row per story and rater: Story ID, Prompt, Story, Model, a column per aspect."""
    (path,) = files.values()
    prompts: dict[str, str] = {}
    for story, rated in _grouped(_rows(path), "Story ID"):
        prompt = rated[0]["Prompt"].strip()
        yield {
            "task": "story",
            "dataset": "hanna",
            "group": prompts.setdefault(prompt, f"p{len(prompts):02d}"),
            "system": rated[0]["Model"],
            "source": prompt,
            "candidate": rated[0]["Story"].strip(),
            "ratings": _ratings(rated, {aspect: aspect.capitalize() for aspect in HANNA_ASPECTS}),
            "scale": (1, 5),
            "story_id": story,
        }


def newsroom(files: Files) -> Iterator[Row]:
    """A CSV file with a row per summary and rater: ArticleID, System, ArticleText, SystemSummary, ...Rating; HTML."""
    (path,) = files.values()
    named = ({**row, "pair": (row["ArticleID"], row["System"])} for row in _rows(path))
    for (article, system), rated in _grouped(named, "pair"):
        yield {
            "task": "summarisation",
            "dataset": "newsroom",
            "group": article,
            "system": system,
            "source": _without_html(rated[0]["ArticleText"]),
            "candidate": _without_html(rated[0]["SystemSummary"]),
            "ratings": _ratings(rated, {aspect: f"{aspect.capitalize()}Rating" for aspect in NEWSROOM_ASPECTS}),
            "scale": (1, 5),
        }


def alce(files: Files) -> Iterator[Row]:
    """One JSON object: by data set, by model's file, by question: question, output, utility_score."""
    (found,) = map(_json, files.values())
    for dataset, models in found.items():
        for model, answers in models.items():
            for id, answer in answers.items():
                score, text = answer.get("utility_score"), (answer.get("output") or "").strip()
                if score is None or not text:
                    continue
                yield {
                    "task": "qa",
                    "dataset": f"alce_{dataset}",
                    "group": f"{dataset}:{id}",
                    "system": model.removeprefix(f"{dataset}-").removesuffix(".json"),
                    "source": answer["question"].strip(),
                    "candidate": text,
                    "scores": {"utility": score},
                    "scale": (1, 5),
                }


def wmt23(files: Files) -> Iterator[Row]:
    """By language pair: a text file per system, the sources, the references, and scores (system, tab, number), by line.

    A segment is kept if every system has a score for it. The scores of the human reference are not used.
    """
    for pair, (dataset, source_lang, target_lang) in WMT_PAIRS.items():
        sources, references = (_lines(files[f"{pair}_{what}.txt"]) for what in ("source", "ref"))
        systems = {Path(name).stem: _lines(path) for name, path in files.items() if name.startswith(f"{pair}/")}
        scores = defaultdict[str, list[str]](list)
        for line in _lines(files[f"{pair}_score.txt"]):
            system, _, score = line.partition("\t")
            scores[system].append(score.strip())
        told = [("references", references), *systems.items(), *((f"scores of {one}", scores[one]) for one in systems)]
        for name, texts in told:
            if len(texts) != len(sources):
                raise InputError(
                    f"{pair}, {name}: {len(texts)} lines, but there are {len(sources)} sources.", code="invalid_value"
                )
        for index, source in enumerate(sources):
            if any(scores[system][index] == "None" for system in systems):
                continue
            for system, texts in systems.items():
                yield {
                    "task": "translation",
                    "dataset": dataset,
                    "group": f"{pair}:{index}",
                    "system": system,
                    "source": source.strip(),
                    "candidate": texts[index].strip(),
                    "reference": references[index].strip(),
                    "scores": {"quality": float(scores[system][index])},
                    "scale": (0, 100),
                    "source_lang": source_lang,
                    "target_lang": target_lang,
                }


def llmbar(files: Files) -> Iterator[Row]:
    """A JSON list per subset: input, output_1, output_2, label (1 or 2, the better one)."""
    for name, path in files.items():
        part = f"llmbar_{Path(name).parent.name.lower()}"
        for number, pair in enumerate(_json(path)):
            for place in (1, 2):
                yield {
                    "task": "qa",
                    "dataset": part,
                    "group": f"{part.removeprefix('llmbar_')}-{number}",
                    "system": f"output_{place}",
                    "source": pair["input"].strip(),
                    "candidate": pair[f"output_{place}"].strip(),
                    "scores": {"overall": float(pair["label"] == place)},
                    "scale": (0, 1),
                }


def mt_bench(files: Files) -> Iterator[Row]:
    """A row per vote: question_id, model_a, model_b, winner, conversation_a, conversation_b, turn. The first turns."""
    (path,) = files.values()
    first = (row for row in _rows(path) if row["turn"] == 1)
    named = ({**row, "pair": (row["question_id"], *sorted((row["model_a"], row["model_b"])))} for row in first)
    for (question, *models), votes in _grouped(named, "pair"):
        texts = {vote[f"model_{side}"]: vote[f"conversation_{side}"] for vote in votes for side in "ab"}
        for model in models:
            shares = [_share(vote, model) for vote in votes]
            yield {
                "task": "qa",
                "dataset": "mt_bench",
                "group": f"{question}:{models[0]}:{models[1]}",
                "system": model,
                "source": texts[model][0]["content"].strip(),
                "candidate": texts[model][1]["content"].strip(),
                "scores": {"overall": math.fsum(shares) / len(shares)},
                "ratings": {"overall": shares},
                "scale": (0, 1),
            }


def aeollm(files: Files) -> Iterator[Row]:
    """A CSV file per subtask; columns with other names than the submission format has are kept as they are."""
    for name, path in files.items():
        for row in _rows(path):
            yield aeollm_row(Path(name), row)


def instructions(files: Files) -> Iterator[Row]:
    """Instruction sets of any common form as instruction, input, output, origin."""
    for name, path in files.items():
        for row in _json(path) if path.suffix == ".json" else _rows(path):
            for one in row.get("instances") or [row]:
                yield {**_instruction({**row, **one}), "origin": Path(name).stem}


def _instruction(row: Row) -> Row:
    if turns := row.get("conversations") or row.get("messages"):
        return {"instruction": _turn(turns, USER), "input": "", "output": _turn(turns, ASSISTANT)}
    asked, given, answered = row.get("instruction", row.get("prompt")), row.get("input"), row.get("output")
    answered = row.get("completion") if answered is None else answered
    return {
        "instruction": (asked or "").strip(),
        "input": (given or "").strip(),
        "output": (answered or "").removesuffix(END_OF_TEXT).strip(),
    }


def _turn(turns: Iterable[Row], roles: tuple[str, ...]) -> str:
    """The text of the first message in one of the roles."""
    texts = (one.get("value", one.get("content")) for one in turns if one.get("from", one.get("role")) in roles)
    return (next(texts, "") or "").strip()


def _share(vote: Row, model: str) -> float:
    """1 for a vote for the model, 0 for one against it, .5 for a tie."""
    side = "model_a" if vote["model_a"] == model else "model_b"
    return 0.5 if vote["winner"].startswith("tie") else float(vote["winner"] == side)


def _ratings(rated: Iterable[Row], columns: Mapping[str, str]) -> dict[str, list[float | None]]:
    """The single ratings by aspect. `columns`: aspect -> column."""
    return {
        aspect: [float(row[column]) if row[column] is not None else None for row in rated]
        for aspect, column in columns.items()
    }


def _grouped(rows: Iterable[Row], key: str) -> Iterator[tuple[Any, list[Row]]]:
    """The rows by the value of a column, in the order in which the values first occur."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    yield from found.items()


def _without_html(text: str) -> str:
    """Plain text of a cell that was encoded for a web page."""
    return html.unescape(re.sub(r"</?(?:p|br)\s*/?>", "\n", html.unescape(text))).strip()


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV, JSONL or Parquet file. Raises InputError for one that cannot be parsed."""
    for line, row in raw_rows(path):
        if isinstance(row, RowError):
            raise InputError(f"{path.name}, line {line}: {row}", code=row.code)
        yield row


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {error}", code="invalid_json") from error


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


CONVERTERS: Mapping[str, Converter] = {
    one.__name__: one
    for one in (topical_chat, summeval, hanna, newsroom, alce, wmt23, llmbar, mt_bench, aeollm, instructions)
}
