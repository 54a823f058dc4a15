"""The record browser's data and page: which rows, what of them, and that hostile texts stay data."""

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import JobDir
from evaluation.reporting import record_data, record_rows, report
from evaluation.reporting.record_data import packed
from evaluation.reporting.record_rows import Rows, finished_rows, rows_so_far, selected
from evaluation.reporting.records import packed_records, records_page, write_records
from tests.evaluation.making import record, scores_file, write_verdicts_file
from tests.evaluation.making import write_records as write_record_parts
from tests.evaluation.reporting.test_report import finished, rows
from tests.refusals import refused

HOSTILE = {
    "end of the script": "</script><script>alert(1)</script>",
    "an image": "<img src=x onerror=alert(1)>",
    "comment": "<!--<script>",
    "line separators": "a\u2028b\u2029c",
    "NUL and escapes": "a\0b\x1b[31m\\u0000\"'`${7*7}",
    "directions": "\u202eevil\u2066",
    "beyond the first plane": "𝔘\U0010ffff",
}


def unpacked(content: bytes) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(content)))


def embedded(page: str) -> dict[str, Any]:
    """The data inside a page."""
    inside = page.split("<script id=data type='application/gzip;base64'>")[1].split("</script>")[0]
    return unpacked(base64.b64decode(inside, validate=True))


def texts_of(data: dict[str, Any], column: str) -> list[str]:
    return [data["texts"][place] for place in data["columns"][column]]


def test_the_rows_of_a_finished_evaluation(tmp_path: Path) -> None:
    given = rows([1, 4, None, 5], reason="because")
    run = finished(tmp_path / "run", given, texts={"fields": {"fact": "F"}})
    data = unpacked(packed_records(run.run, 10, why="w"))
    assert (data["num_rows"], data["note"], data["label"]) == (4, "", "human score")
    assert texts_of(data, "id") == ["r0", "r1", "r2", "r3"]
    assert texts_of(data, "system") == ["s0", "s1", "s0", "s1"]
    assert texts_of(data, "source") == ["Question g0?", "Question g0?", "Question g1?", "Question g1?"]
    assert texts_of(data, "candidate")[3] == "Answer r3."
    assert [[data["texts"][place] for place in one] for one in data["columns"]["fields"]] == [["fact", "F"]] * 4
    assert data["numbers"] == {"label": [1, 4, 2, 5], "low": [1] * 4, "high": [5] * 4}
    judge, panel = data["judges"]
    assert (judge["title"], judge["is_panel"], panel["name"], panel["is_panel"]) == ("j", False, "panel", True)
    assert judge["numbers"]["score"] == [1, 4, None, 5]
    assert [data["texts"][place] for place in judge["columns"]["unscored"]] == ["", "", "unparsed", ""]
    assert data["reasons"]["unparsed"].startswith("no score found")
    # A text that several rows have is stored once.
    assert data["texts"].count("Question g0?") == data["texts"].count("because") == 1


def test_a_run_without_labels_scores_or_rows(tmp_path: Path) -> None:
    given = [{**one, "label": None} for one in rows([None, None])]
    data = unpacked(packed_records(finished(tmp_path / "run", given).run, 10, why="w"))
    assert data["numbers"]["label"] == [None, None]
    assert data["judges"][0]["numbers"]["score"] == [None, None]
    nothing = unpacked(packed(Rows({"id": []}, ("j",)), label="human score"))
    assert (nothing["num_rows"], nothing["texts"], nothing["judges"][0]["numbers"]["score"]) == (0, [""], [])


def test_of_too_many_rows_the_largest_disagreement_and_a_sample_are_kept() -> None:
    # Rows 3 and 5 disagree most; two of the other six are drawn.
    disagreement = np.array([0.1, np.nan, 0.2, 0.9, 0.0, 0.5, 0.3, 0.1])
    found, top = selected(disagreement, 4)
    assert top == 2 and len(found) == 4
    assert {3, 5} <= set(found.tolist())
    assert found.tolist() == sorted(found.tolist()) == selected(disagreement, 4)[0].tolist()
    # Nothing is known of any: all are drawn.
    assert selected(np.full(9, np.nan), 4)[1] == 0
    assert selected(np.full(3, np.nan), 4)[0].tolist() == [0, 1, 2]


def test_the_page_says_what_it_leaves_out(tmp_path: Path) -> None:
    two = [{**one, "scores": {"j": 3, "k": other}} for one, other in zip(rows([3, 3, 3, 3]), (3, 5, 3, 3), strict=True)]
    run = finished(tmp_path / "run", [{**one, "label": 3.0} for one in two])
    found = finished_rows(run.run / "evaluate", 2, "w")
    # Only the judges on r1 disagree; the other row is drawn.
    assert "r1" in found.columns["id"] and len(found) == 2
    assert found.note == ("Of 4 rows this page has the row with the largest disagreement and 1 drawn at random (w).")


def test_one_judge_with_a_score_does_not_disagree(tmp_path: Path) -> None:
    given = [
        {"id": f"r{place}", "group": "g", "label": None, "scores": {"j": 3.0, "k": None, "f": place % 5 + 1.0}}
        for place in range(10)
    ]
    run = finished(tmp_path / "run", [{**one, "modes": {"f": "feature"}} for one in given])
    assert finished_rows(run.run / "evaluate", 4, "w").note == "Of 10 rows this page has 4 drawn at random (w)."


def test_text_features_are_no_opinion(tmp_path: Path) -> None:
    two = [{**one, "scores": {"j": 3, "k": other}} for one, other in zip(rows([3, 3, 3, 3]), (1, 3, 3, 5), strict=True)]
    given = [{**one, "label": None, "modes": {"k": "feature"}} for one in two]
    run = finished(tmp_path / "run", given)
    assert "largest disagreement" not in finished_rows(run.run / "evaluate", 2, "w").note
    data = unpacked(packed_records(run.run, 10, why="w"))
    assert [judge["is_feature"] for judge in data["judges"]] == [False, True, False]


def test_intervals_of_fitted_judges_and_single_ratings() -> None:
    columns: dict[str, Any] = {
        "id": ["a"],
        "ratings": ["[3, null, 4.5]"],
        "j.score": [3.123456],
        "j.low": [2.0],
        "j.high": [float("nan")],
        "j.novelty": [0.25],
        "j.mode": ["fitted"],
    }
    data = unpacked(packed(Rows(columns, ("j",)), label="human score"))
    assert texts_of(data, "ratings") == ["3, –, 4.5"]
    assert data["judges"][0]["numbers"] == {"score": [3.12346], "low": [2], "high": [None], "novelty": [0.25]}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_data(tmp_path: Path, text: str) -> None:
    given = rows([1, 4], system=text, reason=text, dataset=text)
    for number, one in enumerate(given):
        one |= {"id": f"{number}{text}", "group": f"g{text}"}
    run = finished(tmp_path / "run", given, texts={"source": f"s{text}", "candidate": text})
    write_run_report(run.run)
    page = (run.run / "report" / "records.html").read_text(encoding="utf-8")
    data = embedded(page)
    for column, wanted in {"id": f"0{text}", "group": f"g{text}", "source": f"s{text}", "candidate": text}.items():
        assert texts_of(data, column)[0] == wanted
    # The page of a harmless run differs in the data only.
    harmless = records_page(run.run, b"")
    assert page.replace(page.split("base64'>")[1].split("<")[0], "") == harmless
    assert text not in page


def write_run_report(run: Path) -> None:
    (run / "report").mkdir(exist_ok=True)
    write_records(run, 10)


def test_a_hostile_run_folder_is_escaped(tmp_path: Path) -> None:
    page = records_page(tmp_path / "<img onerror=alert(1)>", b"")
    assert "<img" not in page


def test_the_page_loads_nothing_and_allows_its_own_script_alone(tmp_path: Path) -> None:
    page, live = records_page(tmp_path, b"x"), records_page(tmp_path)
    for one in (page, live):
        assert "http://" not in one and "https://" not in one
        assert "unsafe" not in one and "innerHTML" not in one and "insertAdjacent" not in one
        policy = one.split('http-equiv=Content-Security-Policy content="')[1].split('"')[0]
        assert policy.startswith("default-src 'none'; style-src 'sha256-") and policy.count("sha256-") == 2
        assert ("connect-src 'self'" in policy) == (one is live)
    assert "<script id=data" in page and "<script id=data" not in live


def test_a_huge_text_is_cut_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = "x" * 250_000
    data = unpacked(packed(Rows({"id": ["a", "b"], "candidate": [huge, "short"]}, ()), label="human score"))
    first, second = texts_of(data, "candidate")
    assert first == "x" * 100_000 + " … [cut: 250,000 characters]" and second == "short"
    assert data["note"] == "1 text of more than 100,000 characters is cut."
    # All together may have 100,000 characters: the limit is halved until they fit, here to 50,000.
    monkeypatch.setattr(record_data, "MAX_CHARS", 100_000)
    data = unpacked(packed(Rows({"id": ["a", "b"], "candidate": [huge, "short"]}, ()), label="human score"))
    assert texts_of(data, "candidate")[0].startswith("x" * 50_000 + " …")


def test_the_setting_is_named_where_it_leaves_rows_out(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    (run / "report").mkdir()
    write_records(run, 3)
    note = embedded((run / "report" / "records.html").read_text())["note"]
    assert note.endswith("(report.records: 3).")


@pytest.mark.parametrize(("limit", "is_there"), [(10, True), (0, False)])
def test_the_report_writes_the_page_and_links_to_it(tmp_path: Path, limit: int, is_there: bool) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]), records=limit)
    folder = tmp_path / "run" / "report"
    folder.mkdir()
    (folder / "records.html").write_text("of an earlier report")
    report.main(run)
    assert ("href='records.html'" in (folder / "report.html").read_text()) is is_there
    assert (folder / "records.html").exists() is is_there
    if is_there:
        assert embedded((folder / "records.html").read_text())["num_rows"] == 4


def test_constructed_levels_are_not_called_human(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]), labels="constructed")
    assert unpacked(packed_records(run.run, 10, why="w"))["label"] == "constructed level"


def test_a_damaged_scores_file_is_one_sentence(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    (run / "evaluate" / "scores.parquet").write_bytes(b"PAR1 no more")
    with refused("damaged_artifact", naming="scores.parquet"):
        packed_records(run, 10, why="w")


def test_texts_of_a_damaged_part_are_missed_aloud(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5])).run
    next((run / "evaluate" / "records").glob("part-*")).write_bytes(b"x")
    data = unpacked(packed_records(run, 10, why="w"))
    assert (data["num_rows"], data["note"]) == (4, "The texts of 4 rows cannot be read.")


def under_way(run: Path, *judges: str) -> Path:
    """An evaluation of the records a, b and c that has begun."""
    job = JobDir(run, "evaluate")
    with job.opened(
        {"data": {"labels": "human"}, "evaluate": {"judges": {one: {} for one in judges}, "aspects": None}}
    ):
        job.claim()
    write_record_parts(job.path, [record("a", high=9.0), record("b")], [record("c", label=None)])
    return job.path


def test_what_has_been_judged_so_far(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j", "k")
    write_verdicts_file(folder, "j", {("a", "overall"): 3, ("b", "overall"): "timeout"})
    data = unpacked(packed_records(tmp_path / "run", 10, why="w"))
    assert sorted(texts_of(data, "id")) == ["a", "b"]
    at = texts_of(data, "id").index("a")
    # 3 on the task's scale of 1 to 5 is 5 on the people's of 1 to 9.
    assert [one["numbers"]["score"][at] for one in data["judges"]] == [5, None]
    assert (data["numbers"]["low"][at], data["numbers"]["high"][at]) == (1, 9)
    assert data["texts"][data["judges"][0]["columns"]["unscored"][1 - at]] == "timeout"
    assert data["texts"][data["judges"][0]["columns"]["reason"][at]] == "j on a"
    assert [judge["is_panel"] for judge in data["judges"]] == [False, False]


def thoughts_of(data: dict[str, Any], judge: int) -> list[str] | None:
    places = data["judges"][judge]["columns"].get("reasoning")
    return None if places is None else [data["texts"][place] for place in places]


def test_what_reasoning_judges_thought_is_there_while_they_judge_and_later(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j", "k")
    for judge, thought in (("j", "Hm"), ("k", None)):
        write_verdicts_file(folder, judge, {("a", "overall"): 3, ("b", "overall"): "cut_off"}, thought=thought)
    data = unpacked(packed_records(tmp_path / "run", 10, why="w"))
    assert thoughts_of(data, 0) == [f"Hm about {id}" for id in texts_of(data, "id")]
    assert thoughts_of(data, 1) is None  # a judge without has no column
    # A part of before has no such column, and one may be damaged.
    old = folder / "verdicts" / "j" / "part-0.parquet"
    pq.write_table(pq.read_table(old).drop_columns("reasoning"), old.with_name("part-1.parquet"))
    old.with_name("part-2.parquet").write_bytes(b"")
    given = [{**one, "id": id, "modes": {"j": "parsed"}} for one, id in zip(rows([3, None, 4]), "abc", strict=True)]
    done = finished(tmp_path / "done", given).run
    (folder / "verdicts").rename(done / "evaluate" / "verdicts")
    later = unpacked(packed_records(done, 10, why="w"))
    assert thoughts_of(later, 0) == ["Hm about a", "Hm about b", ""]
    # Only judges that reply in text can have thought.
    plain = finished(tmp_path / "plain", [{**one, "modes": {}} for one in given]).run
    (done / "evaluate" / "verdicts").rename(plain / "evaluate" / "verdicts")
    assert thoughts_of(unpacked(packed_records(plain, 10, why="w")), 0) is None


def test_the_newest_rows_are_shown_and_no_more_than_the_limit(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j")
    write_verdicts_file(folder, "j", {("a", "overall"): 3})
    old = folder / "verdicts" / "j" / "part-0.parquet"
    pq.write_table(pq.read_table(old).set_column(0, "id", [["c"]]), old.with_name("part-1.parquet"))
    os.utime(old, ns=(1, 1))
    found = rows_so_far(folder, ["j"], 1)
    assert found.columns["id"] == ["c"]
    assert "newest" in found.note
    assert rows_so_far(folder, ["j"], 2).columns["id"] == ["c", "a"]


def test_of_too_many_parts_the_newest_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = under_way(tmp_path / "run", "j", "k")
    for judge in ("j", "k"):
        write_verdicts_file(folder, judge, {("a", "overall"): 3})
        old = folder / "verdicts" / judge / "part-0.parquet"
        for place, id in enumerate("bc", start=1):
            pq.write_table(pq.read_table(old).set_column(0, "id", [[id]]), old.with_name(f"part-{place}.parquet"))
    for place, (judge, number) in enumerate([("j", 2), ("j", 1), ("k", 2), ("j", 0), ("k", 0), ("k", 1)]):
        os.utime(folder / "verdicts" / judge / f"part-{number}.parquet", ns=(place, place))
    monkeypatch.setattr(record_rows, "MAX_PARTS", 4)
    found = rows_so_far(folder, ["j", "k"], 10)
    # Four parts of six, two a judge: the newest two are k's of b and a; j's of the same names are read with them.
    assert found.columns["id"] == ["b", "a"]
    assert found.columns["j.score"] == found.columns["k.score"] == [3, 5]  # of 1 to 5, and of 1 to 9
    assert "more than 4 parts" in found.note


def test_a_damaged_part_of_verdicts_is_left_out_and_kept(tmp_path: Path) -> None:
    folder = under_way(tmp_path / "run", "j")
    write_verdicts_file(folder, "j", {("a", "overall"): 3})
    broken = folder / "verdicts" / "j" / "part-1.parquet"
    broken.write_bytes(b"")
    assert unpacked(packed_records(tmp_path / "run", 10, why="w"))["num_rows"] == 1
    assert broken.exists()


def test_before_the_first_verdict_there_are_no_rows(tmp_path: Path) -> None:
    under_way(tmp_path / "run", "j")
    assert unpacked(packed_records(tmp_path / "run", 10, why="w"))["num_rows"] == 0
    assert unpacked(packed_records(tmp_path / "nothing", 10, why="w"))["judges"] == []


def test_a_scores_file_of_an_earlier_evaluation_is_not_shown(tmp_path: Path) -> None:
    """`--retry-failed` removes the manifest first: until it is done only the verdicts count."""
    folder = under_way(tmp_path / "run", "j")
    scores_file(folder, rows([1, 4]))
    assert unpacked(packed_records(tmp_path / "run", 10, why="w"))["num_rows"] == 0
