"""Tiny files of our own in the published form of each public data set, and a local server that publishes files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from judging.public_data.converters import WMT_PAIRS
from judging.public_data.registry import registry
from tests.local_server import address_of, local_server


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_lines(*rows: Any) -> bytes:
    return b"".join(as_json(row) + b"\n" for row in rows)


def as_csv(*rows: Mapping[str, Any]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(*rows: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def topical_chat() -> dict[str, bytes]:
    scores = {"understandability": 1.0, "naturalness": 3.0, "coherence": 2.0, "engagingness": 1.5, "groundedness": 0.5}
    rows = [
        {
            "source": f"hello {number} \n hi \n\n",
            "system_id": system,
            "system_output": f"{system} {number} ",
            "context": "a fact\n",
            "scores": {**scores, "overall": 4.0},
        }
        for number in range(2)
        for system in ("Original Ground Truth", "Argmax")
    ]
    return {"topical_chat.json": as_json(rows)}


def summeval() -> dict[str, bytes]:
    scores = {"coherence": 1.0, "consistency": 2.0, "fluency": 3.0, "relevance": 4.0, "overall": 2.5}
    known = {"doc_id": "d1", "source": "An article.", "reference": "Its highlight.", "scores": scores}
    return {"summeval.json": as_json([{**known, "system_id": f"M{n}", "system_output": f"Text {n}."} for n in (0, 1)])}


def hanna() -> dict[str, bytes]:
    aspects = {"Relevance": 3, "Coherence": 4, "Empathy": 1, "Surprise": 2, "Engagement": 3, "Complexity": 5}
    rows = [
        {"Story ID": story, "Prompt": f"Prompt {story % 2}", "Human": "h", "Story": f"Story\n{story}", "Model": model}
        | {name: min(5, value + rater) for name, value in aspects.items()}
        | {"Worker ID": rater, "Name": "Ann"}
        for story, model in enumerate(("Human", "Human", "GPT", "GPT"))
        for rater in range(3)
    ]
    return {"hanna_stories_annotations.csv": as_csv(*rows)}


def newsroom() -> dict[str, bytes]:
    rows = [
        {
            "ArticleID": 7,
            "System": system,
            "ArticleText": "<p>One &amp; two.</p><p>Three.</p>",
            "SystemSummary": f"{system} says &quot;two&quot;.",
            "ArticleTitle": "T",
            "CoherenceRating": 1 + rater,
            "FluencyRating": 5,
            "InformativenessRating": 2,
            "RelevanceRating": 3,
        }
        for system in ("lede", "abs")
        for rater in range(3)
    ]
    return {"newsroom-human-eval.csv": as_csv(*rows)}


def alce() -> dict[str, bytes]:
    answers = {
        "1": {"id": "1", "question": "Who?", "output": "He.", "utility_score": 5},
        "2": {"id": "2", "question": "When?", "output": " ", "utility_score": 3},
        "3": {"id": "3", "question": "Why?", "output": "So.", "utility_score": None},
    }
    found = {"asqa": {"asqa-gpt-shot2.json": answers, "asqa-vicuna.json": {"1": {**answers["1"], "output": "She."}}}}
    found["eli5"] = {"eli5-gpt-shot2.json": {"9": answers["1"]}}
    return {"human_eval_utility_completed.json": as_json(found)}


def wmt23() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for pair in WMT_PAIRS:
        names = [name for name in registry()["wmt23"].files if name.startswith(f"{pair}/")]
        files |= {f"{pair}_source.txt": b"one\ntwo\nthree\n", f"{pair}_ref.txt": b"eins\nzwei\ndrei\n"}
        scores = []
        for number, name in enumerate(names):
            system = name.removeprefix(f"{pair}/").removesuffix(".txt")
            files[name] = f"{system} 1\n{system} 2\n{system} 3\n".encode()
            # One system lacks a score of the second segment.
            scores += [f"{system}\t{50 + number}.5", f"{system}\t{'None' if number == 1 else 70}", f"{system}\t100.0"]
        files[f"{pair}_score.txt"] = "\n".join([*scores, "refA\t99.0", "refA\t98.0", "refA\t97.0", ""]).encode()
    return files


def llmbar() -> dict[str, bytes]:
    pair = {"input": "Say it.", "output_1": "It.", "output_2": "No.", "label": 1}
    files = registry()["llmbar"].files
    return {name: as_json([pair, {**pair, "input": "Again.", "label": 2}]) for name in files}


def mt_bench() -> dict[str, bytes]:
    def vote(winner: str, judge: str, turn: int = 1, first: str = "x", second: str = "y") -> dict[str, Any]:
        def talk(model: str) -> list[dict[str, str]]:
            return [
                {"content": content, "role": role}
                for content, role in (("Q1", "user"), (f"{model} 1", "assistant"), ("Q2", "user"), ("-", "assistant"))
            ]

        known = {"question_id": 81, "model_a": first, "model_b": second, "winner": winner, "judge": judge, "turn": turn}
        return {**known, "conversation_a": talk(first), "conversation_b": talk(second)}

    votes = [vote("model_a", "e1"), vote("tie", "e2"), vote("model_a", "e3", first="y", second="x")]
    return {registry()["mt_bench"].files[0]: as_parquet(*votes, vote("model_b", "e1", turn=2))}


def aeollm(split: str) -> dict[str, bytes]:
    def row(question: int, answer: int) -> dict[str, Any]:
        known = {"questionId": question, "question": f"Q{question}?", "answerId": answer, "answer": f"A{answer}."}
        return {**known, "score": answer} if split == "train" else known

    return {
        file: as_csv(*(row(question, answer) for question in (1, 2) for answer in (1, 2)))
        for file in registry()[f"aeollm_{split}"].files
    }


def self_instruct() -> dict[str, bytes]:
    seed = {"id": "seed_task_0", "name": "n", "instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}]}
    user = {**seed, "id": "user_oriented_task_0", "instruction": "List.", "instances": [{"input": "", "output": "a"}]}
    return dict(zip(registry()["sft_self_instruct"].files, (as_lines(seed), as_lines(user)), strict=True))


def instructions(name: str) -> dict[str, bytes]:
    completion = {"prompt": "What is it?\n", "completion": "It.<|endoftext|>"}
    plain = {"instruction": "Name one.", "input": "of two", "output": "One."}
    files = registry()[name].files
    return {file: as_lines(completion) if file.endswith(".jsonl") else as_json([plain]) for file in files}


def infinity_instruct() -> dict[str, bytes]:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}, {"from": "human", "value": "Oh."}]
    row = {"id": 1, "conversations": turns, "label": None, "langdetect": "en", "source": "s"}
    return {f"0625/train-0000{number}-of-00002.parquet": as_parquet(row) for number in (0, 1)}


def published() -> dict[str, dict[str, bytes]]:
    """By data set its files by their published names."""
    return {
        "topical_chat": topical_chat(),
        "summeval": summeval(),
        "hanna": hanna(),
        "wmt23": wmt23(),
        "alce": alce(),
        "newsroom": newsroom(),
        "llmbar": llmbar(),
        "mt_bench": mt_bench(),
        "aeollm_train": aeollm("train"),
        "aeollm_test": aeollm("test"),
        "infinity_instruct": infinity_instruct(),
        "sft_self_instruct": self_instruct(),
        "sft_p3_t0": instructions("sft_p3_t0"),
        "sft_short_tasks": instructions("sft_short_tasks"),
        "sft_roleplay": instructions("sft_roleplay"),
    }


class Server:
    """`files`, `status`: by path. `cut`: the next body ends after so many bytes. `asked`: requests, with headers.

    `endless`: paths whose body has no stated length and does not end. `ignores_if_range`: as some servers do.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.cut: int | None = None
        self.endless: set[str] = set()
        self.ignores_if_range = False
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def serving() -> Iterator[Server]:
    """A server of files on this machine, with ETags and ranges."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, dict(self.headers)))
            if (status := server.status.get(self.path, 200)) != 200 or self.path not in server.files:
                self.send_error(status if status != 200 else 404)
                return
            if self.path in server.endless:
                self._without_end()
                return
            body = server.files[self.path]
            tag = f'"{hash(body)}"'
            start = 0
            wanted = self.headers.get("Range")
            if wanted and (server.ignores_if_range or self.headers.get("If-Range") == tag):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            cut, server.cut = server.cut, None
            self.wfile.write(body[start:][:cut])

        def _without_end(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # the client has gone
                while True:
                    self.wfile.write(bytes(100_000))

        def log_message(self, *_: Any) -> None:
            pass

    with local_server(Handler) as http:
        server.url = address_of(http)
        yield server
