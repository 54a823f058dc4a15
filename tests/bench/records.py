"""The record browser at 20,000 rows with long sources: size, time to write, to open and to filter in headless Chromium.

Run with `python -m tests.bench.records [ROWS]`. Opening: from navigation to the first rows. Filtering and sorting: from
the event to the laid-out rows, the largest of several. Of each the fastest of three or five: others share the machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.batch.ingest import RECORD_SCHEMA
from evaluation.reporting.records import write_records
from judging.records import Record, Scale
from tests.bench.measure import PeakMemory
from tests.browsing import CHROMIUM, chromium, new_page
from tests.evaluation.making import scores_file

NUM_ROWS, NUM_SYSTEMS = 20_000, 16
SOURCE_WORDS, CANDIDATE_WORDS, REASON_WORDS = 450, 90, 30  # about 2,500, 500 and 170 characters
NUM_WORDS, LETTERS = 6_000, list("etaoinshrdlucmfwypvbgk")
JUDGES = ("first", "second", "third")
QUERIES = ("s", "su", "zzzz", "Candidate 7", "r19999")
FIRST_ROWS = """
new MutationObserver((_, self) => {
  if (document.querySelector('#records tbody tr')) { window.firstRows = performance.now(); self.disconnect(); }
}).observe(document, { childList: true, subtree: true });
"""
# Milliseconds from an event on an element to the laid-out rows.
TIMED = """([id, value, event]) => {
  const at = document.getElementById(id), start = performance.now();
  if (value !== null) at.value = value;
  at.dispatchEvent(new Event(event, { bubbles: true }));
  document.body.getBoundingClientRect();
  return performance.now() - start;
}"""
SORTED = """(place) => {
  const start = performance.now();
  document.querySelectorAll('#records thead button')[place].click();
  document.body.getBoundingClientRect();
  return performance.now() - start;
}"""


def big_run(run: Path, num_rows: int) -> Path:
    """A run with a finished evaluation of `num_rows` records: three judges, labels, sources shared by 16 systems."""
    records, scores = _rows(num_rows)
    folder = run / "evaluate"
    (folder / "records").mkdir(parents=True)
    for first in range(0, num_rows, 64):
        table = pa.Table.from_pylist(records[first : first + 64], schema=RECORD_SCHEMA)
        pq.write_table(table, folder / "records" / f"part-{first:08d}.parquet")
    scores_file(folder, scores)
    (folder / "manifest.json").write_text(json.dumps({"summary": {"judges": {name: {} for name in JUDGES}}}))
    (folder / "fingerprint.json").write_text(json.dumps({"data": {"labels": "human"}}))
    (run / "report").mkdir()
    return run


def _rows(num_rows: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of records and of scores; one score in a hundred is missing."""
    draws = np.random.default_rng(0)
    words = np.array(["".join(draws.choice(LETTERS, size)) for size in draws.integers(2, 10, NUM_WORDS)])
    shares = 1 / np.arange(1, NUM_WORDS + 1)  # as of words in a language: few are frequent

    def text(number: int) -> str:
        return " ".join(draws.choice(words, number, p=shares / shares.sum()))

    records, scores, source = [], [], ""
    for number in range(num_rows):
        if number % NUM_SYSTEMS == 0:
            source = text(SOURCE_WORDS)
        label = float(draws.integers(1, 6))
        one = Record(
            f"r{number}",
            "qa",
            f"g{number // NUM_SYSTEMS}",
            source,
            f"Candidate {number}: {text(CANDIDATE_WORDS)}",
            system=f"system-{number % NUM_SYSTEMS}",
            scores={"overall": label},
            scales={"overall": Scale(1, 5)},
        )
        records.append({**one.to_row(), "group_key": one.group_key})
        given = np.clip(label + draws.normal(size=len(JUDGES)), 1, 5).tolist()
        is_lost = draws.random(len(JUDGES)) < 0.01
        known = {name: None if lost else score for name, score, lost in zip(JUDGES, given, is_lost, strict=True)}
        about = {"id": one.id, "group": one.group, "system": one.system, "label": label}
        scores.append({**about, "scores": known, "reason": text(REASON_WORDS)})
    return records, scores


def in_browser(browser: Any, path: Path) -> dict[str, float]:
    """Milliseconds: `open`, and the largest of `search`, `choose`, `disagreement` and `sort`."""
    with new_page(browser) as (page, problems):
        page.add_init_script(FIRST_ROWS)
        opened = []
        for _ in range(3):
            page.goto(f"file://{path}")
            page.wait_for_selector("#records tbody tr", timeout=60_000)
            opened.append(float(page.evaluate("window.firstRows")))
        found = {"open": min(opened)}

        def most(events: Iterable[tuple[str, str | None, str]]) -> float:
            return max(min(float(page.evaluate(TIMED, list(one))) for _ in range(5)) for one in events)

        # Perhaps before the page had time to prepare the search.
        found["first search"] = float(page.evaluate(TIMED, ["search", "candidate 1", "input"]))
        page.wait_for_timeout(1000)
        found["search"] = most(("search", query, "input") for query in QUERIES)
        page.evaluate(TIMED, ["search", "", "input"])
        systems = page.eval_on_selector_all("#system option", "all => all.map(one => one.value)")
        found["choose"] = most(("system", value, "input") for value in [*systems[-3:], ""])
        found["disagreement"] = most(("least", value, "input") for value in ("0.5", "0.9", "0"))
        num_columns = page.eval_on_selector_all("#records thead button", "all => all.length")
        found["sort"] = max(float(page.evaluate(SORTED, place)) for place in range(num_columns))
        assert not problems, problems
    return found


def main(num_rows: int = NUM_ROWS) -> Mapping[str, float]:
    """Prints one line a figure and returns them."""
    with tempfile.TemporaryDirectory() as folder:
        run = big_run(Path(folder), num_rows)
        with PeakMemory() as memory:
            start = time.perf_counter()
            write_records(run, num_rows)
            seconds = time.perf_counter() - start
        page = run / "report" / "records.html"
        size = page.stat().st_size / 1e6
        print(f"{num_rows:,} rows: {size:.1f} MB, written in {seconds:.1f} s, {memory.peak_mib:.0f} MiB")
        if CHROMIUM is None:
            print("Chromium not found: nothing measured in the browser. Install it (Debian: apt-get install chromium).")
            return {}
        with chromium() as browser:
            found = in_browser(browser, page)
        for name, value in found.items():
            print(f"{name:<15} {value:6.0f} ms")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
