import csv
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from judging.datasets import DataConfig, Rejected, dev_groups, read_records
from judging.errors import InputError
from judging.records import Record, Scale, content_id

GOOD: Mapping[str, Any] = {
    "id": "r1",
    "task": "qa",
    "group": "g1",
    "system": "s1",
    "source": "Why?",
    "candidate": "So.",
    "scores": {"overall": 4},
    "scale": [1, 5],
}
RECORD = Record(
    "r1", "qa", "g1", "Why?", "So.", "s1", scores={"overall": 4.0}, scales={"overall": Scale(1, 5)}
)  # what GOOD becomes


def row(**changes: Any) -> dict[str, Any]:
    """GOOD with some keys changed; None takes a key away."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


def write(tmp_path: Path, content: str | bytes, name: str = "x.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(tmp_path: Path, *rows: object, name: str = "x.jsonl") -> Path:
    return write(tmp_path, "".join(f"{json.dumps(one)}\n" for one in rows), name)


def parquet(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(one) for one in rows]), path)
    return path


def records(*paths: Path, **options: Any) -> list[Record]:
    """The files' records; none of their rows may be rejected."""
    read = list(read_records(paths, **options))
    assert [str(one) for one in read if isinstance(one, Rejected)] == []
    return [one for one in read if isinstance(one, Record)]


def rejected(*paths: Path, **options: Any) -> list[Rejected]:
    return [one for one in read_records(paths, **options) if isinstance(one, Rejected)]


def refused(*paths: Path, **options: Any) -> str:
    """The message where a file is refused as a whole."""
    with pytest.raises(InputError) as caught:
        list(read_records(paths, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# A file as a whole


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    assert refused(path) == f"there is no file {path}: paths count from the working directory"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet", "x.txt"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "", name)
    assert refused(path) == f"{path} is empty: give a file with at least one row"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", "\n"),
        ("x.jsonl", "\n  \n\t\r\n\n"),
        ("x.jsonl", "\ufeff"),
        ("x.csv", "task,group,source,candidate\n"),
        ("x.csv", "task,group,source,candidate"),
        ("x.csv", "\n\n\n"),
        ("x.csv", "task,group,source,candidate\n\n\n"),
    ],
)
def test_a_file_without_rows(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path, content, name)
    assert refused(path) == f"{path} holds no rows: give a file with at least one record"


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"task": pa.array([], pa.string())}), path)
    assert refused(path) == f"{path} holds no rows: give a file with at least one record"


def test_the_second_file_is_checked_too(tmp_path: Path) -> None:
    assert "there is no file" in refused(jsonl(tmp_path, GOOD), tmp_path / "none.jsonl")
    empty = write(tmp_path, "\n", "y.jsonl")
    assert refused(jsonl(tmp_path, GOOD), empty) == f"{empty} holds no rows: give a file with at least one record"


def test_a_name_that_tells_no_format(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, name="x.txt")
    names = ".jsonl, .ndjson, .csv, .parquet"
    assert refused(path) == f"{path}: cannot tell the format from the name ({names}): rename it, or set data.format"
    assert records(path, format="jsonl") == [RECORD]


@pytest.mark.parametrize("name", ["X.JSONL", "x.ndjson", "x.y.jsonl"])
def test_names_that_tell_the_format(tmp_path: Path, name: str) -> None:
    assert records(jsonl(tmp_path, GOOD, name=name)) == [RECORD]


@pytest.mark.parametrize("format", ["jsonl", "csv", "aeollm"])
def test_a_folder_is_parquet_or_nothing(tmp_path: Path, format: str) -> None:
    assert refused(tmp_path, format=format) == f"{tmp_path} is a folder: the format {format} is read from a file"


def test_no_files_no_records() -> None:
    assert list(read_records([])) == []


# JSONL


def test_a_good_row(tmp_path: Path) -> None:
    assert records(jsonl(tmp_path, GOOD)) == [RECORD]


def test_everything_a_row_can_hold(tmp_path: Path) -> None:
    read = records(
        jsonl(
            tmp_path,
            row(
                dataset="d",
                scores={"overall": 4, "fluency": "0.5", "coherence": None},
                scales={"fluency": [0, 1]},
                ratings={"overall": [3, None, 5], "style": [2]},
                fact="a fact",
                reference=None,
                story_id=7,
                year=1.5,
                final=True,
                tags=["x"],
                more={"a": "b"},
            ),
        )
    )
    # Texts and numbers become fields; what is null, true, false, a list or an object does not.
    assert read == [
        Record(
            "r1",
            "qa",
            "g1",
            "Why?",
            "So.",
            "s1",
            "d",
            {"fact": "a fact", "story_id": "7", "year": "1.5"},
            {"overall": 4.0, "fluency": 0.5},
            {"overall": Scale(1, 5), "fluency": Scale(0, 1), "style": Scale(1, 5)},
            {"overall": (3.0, None, 5.0), "style": (2.0,)},
        )
    ]


def test_the_least_a_row_must_hold(tmp_path: Path) -> None:
    least = {"task": "qa", "group": "g", "source": "", "candidate": "So."}
    assert records(jsonl(tmp_path, least)) == [Record(content_id("qa", "", "g", "", "", "So."), "qa", "g", "", "So.")]


def test_null_is_the_same_as_nothing(tmp_path: Path) -> None:
    whole = {**GOOD, "id": None, "system": None, "dataset": None, "scales": None, "ratings": None, "task": None}
    read = records(jsonl(tmp_path, whole), defaults={"task": "story"})
    assert [(one.task, one.system, one.dataset) for one in read] == [("story", "", "")]


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        BOM + json.dumps(GOOD).encode() + b"\n",
        json.dumps(GOOD).encode() + b"\r\n",
        BOM + b"\r\n" + json.dumps(GOOD).encode() + b"\r\n\r\n",
        json.dumps(GOOD).encode(),  # no end of line at the end
        b"  " + json.dumps(GOOD).encode() + b"  \n",
    ],
)
def test_byte_order_mark_and_line_ends(tmp_path: Path, content: bytes) -> None:
    assert records(write(tmp_path, content)) == [RECORD]


def test_line_ends_inside_a_text_end_no_row(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\rg\nh"
    line = json.dumps(row(candidate=text), ensure_ascii=False) + "\n"
    assert [one.candidate for one in records(write(tmp_path, line))] == [text]


def test_line_numbers_count_blank_and_bad_lines(tmp_path: Path) -> None:
    good = [json.dumps(row(id=f"r{number}")) for number in range(3)]
    path = write(tmp_path, f"{good[0]}\n\n{{\n{good[1]}\n\r\n7\n{good[2]}\n[]\n")
    read = list(read_records([path]))
    assert [one.line if isinstance(one, Rejected) else one.id for one in read] == ["r0", 3, "r1", 6, "r2", 8]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "broken JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"a": 1,}', "broken JSON: Illegal trailing comma before end of object at column 8"),
        ("{'a': 1}", "broken JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"a": 1} {"b": 2}', "broken JSON: Extra data at column 10"),
        ('{"a": "b', "broken JSON: Unterminated string starting at column 7"),
        ('{"a": "\t"}', "broken JSON: Invalid control character at column 8"),
        ("text", "broken JSON: Expecting value at column 1"),
        ("[1]", "a JSON object is needed, not list"),
        ("7", "a JSON object is needed, not int"),
        ('"text"', "a JSON object is needed, not str"),
        ("null", "a JSON object is needed, not NoneType"),
        ("true", "a JSON object is needed, not bool"),
        ("[" * 100_000, "broken JSON: maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "broken JSON: Exceeds the limit"),
        ('{"candidate": "\\ud83d"}', "broken JSON: half of a surrogate pair"),
        ('{"extra": ["\\uDFFF"]}', "broken JSON: half of a surrogate pair"),
        ('{"\\udc00": 1}', "broken JSON: half of a surrogate pair"),
    ],
    ids=lambda text: text[:20],
)
def test_a_broken_line(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, f"\n{line}\n")
    (only,) = rejected(path)
    if "trailing comma" in reason and "property name" in only.reason:  # Python before 3.13
        reason = "broken JSON: Expecting property name enclosed in double quotes at column 9"
    assert str(only).startswith(f"{path}, line 2: {reason}")
    assert "\n" not in str(only)


def test_whole_surrogate_pairs_are_characters(tmp_path: Path) -> None:
    line = json.dumps(row(candidate="🙂 \\ud83d")) + "\n"  # the second one is a backslash, not an escape
    assert [one.candidate for one in records(write(tmp_path, line))] == ["🙂 \\ud83d"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"candidate": "\xff"}', "not UTF-8: byte 0xff at position 16"),
        ('{"candidate": "für"}'.encode("latin-1"), "not UTF-8: byte 0xfc at position 17"),
        (b'{"candidate": "\xed\xa0\x80"}', "not UTF-8: byte 0xed at position 16"),  # a surrogate
        (b'{"candidate": "\xe2\x82', "not UTF-8: byte 0xe2 at position 16"),  # cut off inside a character
    ],
)
def test_invalid_utf8_rejects_its_line_alone(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, json.dumps(GOOD).encode() + b"\n" + data + b"\n" + json.dumps(row(id="r2")).encode())
    read = list(read_records([path]))
    assert [one.id if isinstance(one, Record) else str(one) for one in read] == [
        "r1",
        f"{path}, line 2: {reason}",
        "r2",
    ]


def test_utf16_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(GOOD).encode("utf-16"))
    assert str(rejected(path)[0]) == f"{path}, line 1: not UTF-8: byte 0xff at position 1"


def test_a_text_of_10_mb(tmp_path: Path) -> None:
    text = "Wörter. " * (10 * 1024 * 1024 // 9)
    started = time.process_time()
    assert [one.candidate for one in records(jsonl(tmp_path, row(candidate=text)))] == [text]
    header, cells = "id,task,group,source,candidate", f'i,qa,g,s,"{text}"'
    assert [one.candidate for one in records(write(tmp_path, f"{header}\n{cells}\n", "x.csv"))] == [text]
    assert time.process_time() - started < 10


# Wrong fields


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": None}, "task: field required"),
        ({"task": ""}, "task: string should have at least 1 character"),
        ({"task": 7}, "task: input should be a valid string"),
        ({"group": None}, "group: field required"),
        ({"group": ""}, "group: string should have at least 1 character"),
        ({"group": 7}, "group: input should be a valid string"),
        ({"source": None}, "source: field required"),
        ({"source": ["a"]}, "source: input should be a valid string"),
        ({"candidate": None}, "candidate: field required"),
        ({"candidate": ""}, "candidate: string should have at least 1 character"),
        ({"candidate": {"text": "a"}}, "candidate: input should be a valid string"),
        ({"id": ""}, "id: string should have at least 1 character"),
        ({"id": 7}, "id: input should be a valid string"),
        ({"system": 7}, "system: input should be a valid string"),
        ({"scores": 4}, "scores: input should be a valid dictionary"),
        ({"scores": [4]}, "scores: input should be a valid dictionary"),
        ({"scores": {"overall": "good"}}, "scores.overall: input should be a valid number, unable to parse"),
        ({"scores": {"overall": ""}}, "scores.overall: input should be a valid number, unable to parse"),
        ({"scores": {"overall": [4]}}, "scores.overall: input should be a valid number"),
        ({"scores": {"overall": True}}, "scores.overall: a number is needed, not true or false"),
        ({"ratings": {"overall": [3, False]}}, "ratings.overall.1: a number is needed, not true or false"),
        ({"scores": {"overall": float("nan")}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": float("inf")}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": float("-inf")}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": "NaN"}}, "scores.overall: input should be a finite number"),
        ({"scores": {"overall": 10**400}}, "scores.overall: input should be a valid number"),
        ({"scores": {"overall": 0}}, "scores.overall: 0 lies outside the scale 1 to 5"),
        ({"scores": {"overall": 5.001}}, "scores.overall: 5.001 lies outside the scale 1 to 5"),
        ({"scores": {"overall": -4}}, "scores.overall: -4 lies outside the scale 1 to 5"),
        ({"scale": None}, "scores.overall has no scale: give `scale` in the row or data.scale in the configuration"),
        ({"scale": [1]}, "scale.1: field required"),
        ({"scale": [1, 5, 9]}, "scale: tuple should have at most 2 items after validation, not 3"),
        ({"scale": 5}, "scale: input should be a valid tuple"),
        ({"scale": "1-5"}, "scale: input should be a valid tuple"),
        ({"scale": "[1, 5"}, "scale: broken JSON: Expecting ',' delimiter"),
        ({"scale": "[" * 100_000}, "scale: broken JSON: maximum recursion depth exceeded"),
        ({"scale": ["a", "b"]}, "scale.0: input should be a valid number"),
        ({"scale": [1, float("inf")]}, "scale.1: input should be a finite number"),
        ({"scale": [5, 1]}, "scales.overall: a scale goes from a lower to a higher finite number, not from 5.0 to 1.0"),
        ({"scale": [3, 3]}, "scales.overall: a scale goes from a lower to a higher finite number, not from 3.0 to 3.0"),
        ({"scales": {"overall": [1, 3]}}, "scores.overall: 4 lies outside the scale 1 to 3"),
        ({"ratings": {"overall": [4, 6]}}, "ratings.overall: 6 lies outside the scale 1 to 5"),
        ({"ratings": {"overall": [float("nan")]}}, "ratings.overall.0: input should be a finite number"),
        ({"ratings": {"overall": 4}}, "ratings.overall: input should be a valid list"),
        ({"scores.overall": 3}, "two columns give 'scores.overall'"),
        ({"scores": 4, "scores.overall": 3}, "two columns give 'scores.overall'"),
    ],
)
def test_a_row_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = jsonl(tmp_path, row(id="first"), row(**changes))
    read = list(read_records([path]))
    assert isinstance(read[0], Record) and len(read) == 2
    assert str(read[1]).startswith(f"{path}, line 2: {reason}")
    assert "\n" not in str(read[1])


def test_a_caller_may_refuse_a_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, row(id="r2", task="poem"))
    read = list(read_records([path], check=lambda record: "no poems" if record.task == "poem" else None))
    assert read == [RECORD, Rejected(str(path), 2, "no poems")]


# Ids


def test_an_id_that_stands_twice_in_a_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(id="a"), row(id="b"), row(id="a", candidate="Another."), row(id="a"))
    assert [str(one) for one in rejected(path)] == [
        f"{path}, line {line}: id 'a' stands already in {path}, line 1" for line in (3, 4)
    ]


def test_an_id_that_stands_in_two_files(tmp_path: Path) -> None:
    one = jsonl(tmp_path, row(id="a"), row(id="b"), name="one.jsonl")
    two = jsonl(tmp_path, row(id="c"), row(id="b"), name="two.jsonl")
    header = "id,task,group,source,candidate\n"
    three = write(tmp_path, f"{header}d,qa,g,s,c\nc,qa,g,s,c\nb,qa,g,s,c\n", "three.csv")
    assert [str(found) for found in rejected(one, two, three)] == [
        f"{two}, line 2: id 'b' stands already in {one}, line 2",
        f"{three}, line 3: id 'c' stands already in {two}, line 1",
        f"{three}, line 4: id 'b' stands already in {one}, line 2",
    ]


def test_a_file_given_twice(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD)
    assert [str(one) for one in rejected(path, path)] == [f"{path}, line 1: id 'r1' stands already in {path}, line 1"]


def test_a_rejected_row_takes_no_id(tmp_path: Path) -> None:
    path = jsonl(tmp_path, row(id="a", candidate=""), row(id="a"))
    assert [one.line if isinstance(one, Rejected) else one.id for one in read_records([path])] == [1, "a"]


def test_without_an_id_the_content_is_the_id(tmp_path: Path) -> None:
    rows = [
        row(id=None),
        row(id=None, candidate="Else."),
        row(id=None, scores={"overall": 2}),
        row(id=None, system="s2"),
    ]
    read = list(read_records([jsonl(tmp_path, *rows)]))
    # The third differs in its score alone: the same text was rated twice.
    assert [isinstance(one, Record) for one in read] == [True, True, False, True]
    (again,) = records(jsonl(tmp_path, row(id=None), name="other name.jsonl"))
    assert again == read[0]


# CSV


CSV = """id,task,group,source,candidate,scores.overall,scores.style,scale,scales.style,ratings.overall,fact
r1,qa,g1,Why?,"So, ""that"" is it.
Really.",4,0.5,"[1, 5]","[0, 1]","[3, null, 5]",a fact
r2,qa,g1,Why?,No.,2,,"[1, 5]",,,
"""


@pytest.mark.parametrize("lead", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_with_columns_for_each_aspect(tmp_path: Path, lead: str, newline: str) -> None:
    path = write(tmp_path, lead + CSV.replace("\n", newline), "x.csv")
    first, second = records(path)
    assert first.candidate == f'So, "that" is it.{newline}Really.'
    assert (first.scores, first.fields) == ({"overall": 4.0, "style": 0.5}, {"fact": "a fact"})
    assert first.scales == {"overall": Scale(1, 5), "style": Scale(0, 1)}
    assert first.ratings == {"overall": (3.0, None, 5.0)}
    # Empty cells are what the row leaves out.
    assert (second.scores, second.fields, second.ratings) == ({"overall": 2.0}, {}, {})


def test_csv_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    content = (
        "id,task,group,source,candidate\n"  # line 1
        '"a",qa,g,s,"one\ntwo\nthree"\n'  # 2 to 4
        "b,qa,g,s\n"  # 5: four cells
        "\n"  # 6
        "c,qa,,s,text\n"  # 7: no group
        '"d",qa,g,"x\ny",text,more\n'  # 8 and 9: six cells
        "e,qa,g,s,text\n"  # 10
        "e,qa,g,s,text\n"  # 11
    )
    path = write(tmp_path, content, "x.csv")
    assert [one.id if isinstance(one, Record) else str(one) for one in read_records([path])] == [
        "a",
        f"{path}, line 5: 4 cells where the header has 5",
        f"{path}, line 7: group: field required",
        f"{path}, line 8: 6 cells where the header has 5",
        "e",
        f"{path}, line 11: id 'e' stands already in {path}, line 10",
    ]


def test_a_header_of_two_lines_counts_as_two(tmp_path: Path) -> None:
    path = write(tmp_path, 'task,group,source,candidate,"a\nnote"\nqa,g,s,,x\nqa,g,s,c,x\n', "x.csv")
    assert rejected(path) == [Rejected(str(path), 3, "candidate: field required")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"task,group,task,source\nqa,g,x,s\n", "line 1: the column name 'task' stands twice"),
        (b"task,,,source\nqa,g,x,s\n", "line 1: the column name '' stands twice"),
        (b'task,group\nqa,"g\n', "line 2: broken CSV: unexpected end of data"),
        (b'task,group\nqa,g\nqa,"g"x\n', "line 3: broken CSV: ',' expected after '\"'"),
        (b"task,group\nqa,g\nqa,f\xfcr\n", "line 3: not UTF-8: byte 0xfc at position 5"),
        (b"\xff\xfet\x00a\x00", "line 1: not UTF-8: byte 0xff at position 1"),
    ],
)
def test_a_csv_that_is_broken_as_a_whole(tmp_path: Path, content: bytes, reason: str) -> None:
    path = write(tmp_path, content, "x.csv")
    assert refused(path) == f"{path}, {reason}"


def test_a_csv_is_read_row_by_row(tmp_path: Path) -> None:
    # The broken end is far beyond what a reader looks ahead: the first rows come out before it is met.
    header = "id,task,group,source,candidate\n"
    path = write(tmp_path, header + "".join(f"{n},qa,g,s,{'x' * 1000}\n" for n in range(1000)) + '"', "x.csv")
    rows = read_records([path])
    first = next(rows)
    assert isinstance(first, Record) and first.id == "0"
    with pytest.raises(InputError, match="line 1002: broken CSV"):
        list(rows)


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        ("1 to 5", "scale: input should be a valid tuple"),
        ('"[1, 5"', "scale: broken JSON: Expecting ',' delimiter: line 1 column 6 (char 5)"),
        ('"[1, ""x""]"', "scale.1: input should be a valid number"),
        ('"[1]"', "scale.1: field required"),
        ('"{""low"": 1}"', "scale: input should be a valid tuple"),
    ],
)
def test_a_csv_scale_that_does_not_fit(tmp_path: Path, scale: str, reason: str) -> None:
    path = write(tmp_path, f"task,group,source,candidate,scores.o,scale\nqa,g,s,c,3,{scale}\n", "x.csv")
    assert str(rejected(path)[0]).startswith(f"{path}, line 2: {reason}")


CELL = st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(CELL, CELL.filter(bool)), min_size=1, max_size=5))
def test_any_text_survives_a_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["id", "task", "group", "source", "candidate", "fact"])
    writer.writerows([f"r{n}", "qa", "g", "s", candidate, fact] for n, (fact, candidate) in enumerate(texts))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(file.getvalue().encode())
    read = records(path)
    assert [(one.fields.get("fact", ""), one.candidate) for one in read] == texts


# Parquet


def test_a_parquet_file(tmp_path: Path) -> None:
    one = parquet(
        tmp_path / "x.parquet",
        {**GOOD, "scores": {"overall": 4, "style": None}, "ratings": {"overall": [3, None]}, "fact": "a fact"},
        {**GOOD, "id": "r2", "scores": {"overall": None, "style": 2}, "ratings": None, "fact": None},
    )
    first, second = records(one)
    assert (first.scores, first.ratings, first.fields) == (
        {"overall": 4.0},
        {"overall": (3.0, None)},
        {"fact": "a fact"},
    )
    assert (second.scores, second.ratings, second.fields) == ({"style": 2.0}, {}, {})
    assert second.scales == {"style": Scale(1, 5)}


def test_a_folder_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for split, ids in (("train", "ab"), ("test", "cd")):
        for number, id in enumerate(ids):
            parquet(folder / "data" / f"{split}-{number:05d}-of-00002.parquet", row(id=id))
    write(folder, "# A data set", "README.md")
    assert [one.id for one in records(folder)] == ["c", "d", "a", "b"]  # in the order of the paths


def test_parquet_rows_count_from_1_over_the_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    parquet(folder / "0.parquet", row(id="a"), row(id="b"))
    parquet(folder / "1.parquet", row(id="c"), row(id="a"), row(id="d", candidate=""))
    assert [str(one) for one in rejected(folder)] == [
        f"{folder}, line 4: id 'a' stands already in {folder}, line 1",
        f"{folder}, line 5: candidate: string should have at least 1 character",
    ]


def test_a_folder_without_parquet_files(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path} holds no .parquet file: give the folder that holds them"


@pytest.mark.parametrize("damage", ["text", "head", "tail", "middle", "empty in a folder"])
def test_a_corrupt_parquet_file(tmp_path: Path, damage: str) -> None:
    path = parquet(tmp_path / "set" / "x.parquet", *(row(id=f"r{n}", candidate="text " * 50) for n in range(50)))
    data = path.read_bytes()
    path.write_bytes(
        {
            "text": b"not Parquet at all",
            "head": b"XXXX" + data[4:],
            "tail": data[: len(data) // 2],
            "middle": data[:40] + bytes(len(data) // 2) + data[40 + len(data) // 2 :],
            "empty in a folder": b"",
        }[damage]
    )
    given = path.parent if damage == "empty in a folder" else path
    if damage == "head":  # pyarrow looks at the foot alone
        assert len(records(given)) == 50
    else:
        assert refused(given).startswith(f"{path} is not a readable Parquet file: ")


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"task": ["qa"], "group": ["g"], "source": ["s"], "candidate": texts}), path)
    assert refused(path).startswith(f"{path} is not a readable Parquet file: ")


def test_parquet_numbers_where_texts_belong(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", row(group=7))
    assert [str(one) for one in rejected(path)] == [f"{path}, line 1: group: input should be a valid string"]


def test_parquet_nan_is_no_score(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", row(scores={"overall": float("nan")}))
    assert str(rejected(path)[0]) == f"{path}, line 1: scores.overall: input should be a finite number"


# AEOLLM

AEOLLM = """taskId,questionId,question,answerId,answer,score
0,101,How are you?,7,"Fine, thanks.",4
1,102,Go on.,7,And so on.,3.5
2,103,A long text.,8,Short.,1
3,104,Why?,8,So.,
"""


def test_the_aeollm_layout(tmp_path: Path) -> None:
    path = write(tmp_path, AEOLLM, "answers.csv")
    read = records(path, format="aeollm", defaults={"scale": (1, 5)})
    assert [(one.task, one.dataset, one.group, one.system) for one in read] == [
        ("dialogue", "aeollm_0", "101", "7"),
        ("expansion", "aeollm_1", "102", "7"),
        ("summarisation", "aeollm_2", "103", "8"),
        ("qa", "aeollm_3", "104", "8"),
    ]
    assert [one.scores for one in read] == [{"overall": 4.0}, {"overall": 3.5}, {"overall": 1.0}, {}]
    assert (read[0].source, read[0].candidate, read[0].fields) == ("How are you?", "Fine, thanks.", {})


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("4,1,q,1,a,3", "taskId '4' is none of 0 to 3"),
        ("-1,1,q,1,a,3", "taskId '-1' is none of 0 to 3"),
        ("²,1,q,1,a,3", "taskId '²' is none of 0 to 3"),
        ("٣,1,q,1,a,3", "taskId '٣' is none of 0 to 3"),
        ("qa,1,q,1,a,3", "taskId 'qa' is none of 0 to 3"),
        (",1,q,1,a,3", "the AEOLLM column 'taskId' is missing or empty"),
        ("0,,q,1,a,3", "the AEOLLM column 'questionId' is missing or empty"),
        ("0,1,q,1,,3", "the AEOLLM column 'answer' is missing or empty"),
        ("0,1,q,1,a", "5 cells where the header has 6"),
        ("0,1,q,1,a,good", "scores.overall: input should be a valid number"),
        ("0,1,q,1,a,9", "scores.overall: 9 lies outside the scale 1 to 5"),
    ],
)
def test_an_aeollm_row_that_does_not_fit(tmp_path: Path, cells: str, reason: str) -> None:
    path = write(tmp_path, AEOLLM + cells + "\n", "answers.csv")
    read = list(read_records([path], format="aeollm", defaults={"scale": (1, 5)}))
    assert len(read) == 5 and str(read[4]).startswith(f"{path}, line 6: {reason}")


def test_aeollm_scores_need_a_scale(tmp_path: Path) -> None:
    path = write(tmp_path, AEOLLM, "answers.csv")
    assert [one.line for one in rejected(path, format="aeollm")] == [2, 3, 4]  # the last row has no score


def test_another_csv_is_not_in_the_aeollm_layout(tmp_path: Path) -> None:
    path = write(tmp_path, "id,task\na,qa\n", "x.csv")
    assert str(rejected(path, format="aeollm")[0]) == f"{path}, line 2: the AEOLLM column 'taskId' is missing or empty"


# Columns and defaults


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"doc": "Why?", "output": "So.", "key": "g1", "rating": 4, "range": [1, 5], "uid": "r1"})
    columns = {
        "doc": "source",
        "output": "candidate",
        "key": "group",
        "rating": "scores.overall",
        "range": "scales.overall",
        "uid": "id",
    }
    assert records(path, columns=columns, defaults={"task": "qa", "system": "s1"}) == [RECORD]


def test_a_dotted_name_joins_the_object_in_any_order(tmp_path: Path) -> None:
    whole = {**GOOD, "style": 2, "scores": {"overall": 4, "fluency": None}, "fluent": 3}
    columns = {"style": "scores.style", "fluent": "scores.fluency"}
    for ordered in (whole, dict(reversed(whole.items()))):
        (only,) = records(jsonl(tmp_path, ordered), columns=columns)
        assert only.scores == {"overall": 4, "style": 2, "fluency": 3}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"rating": 2}, "scores.overall"),
        ({"rating": 2, "scores": 4}, "scores.overall"),
        ({"rating": 2, "scores": []}, "scores.overall"),
    ],
)
def test_a_dotted_name_never_takes_another_score_s_place(tmp_path: Path, more: dict[str, Any], name: str) -> None:
    path = jsonl(tmp_path, {**GOOD, **more})
    assert [one.reason for one in rejected(path, columns={"rating": "scores.overall"})] == [
        f"two columns give {name!r}"
    ]


def test_two_columns_with_one_name_of_ours(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "article": "Another source."})
    assert [one.reason for one in rejected(path, columns={"article": "source"})] == ["two columns give 'source'"]
    # A way out: both get another name.
    (only,) = records(path, columns={"article": "source", "source": "origin"})
    assert (only.source, only.fields) == ("Another source.", {"origin": "Why?"})


def test_a_name_with_a_dot_of_its_own_is_a_field(tmp_path: Path) -> None:
    (only,) = records(jsonl(tmp_path, {**GOOD, "meta.lang": "de", "score.x": "y"}))
    assert only.fields == {"meta.lang": "de", "score.x": "y"}


def test_defaults_fill_gaps_and_never_overwrite(tmp_path: Path) -> None:
    defaults = {"task": "story", "dataset": "d", "scale": (0, 100)}
    bare = {name: value for name, value in GOOD.items() if name not in ("task", "scale", "id")}
    given, filled = records(jsonl(tmp_path, GOOD, bare), defaults=defaults)
    assert (given.task, given.dataset, given.scales) == ("qa", "d", {"overall": Scale(1, 5)})
    assert (filled.task, filled.dataset, filled.scales) == ("story", "d", {"overall": Scale(0, 100)})


def test_reading_leaves_the_defaults_alone(tmp_path: Path) -> None:
    defaults = {"task": "qa", "scores": {"style": 2}, "scale": (1, 5)}
    path = jsonl(tmp_path, row(scores=None), row(id="r2", scores=None))
    assert [one.scores for one in records(path, defaults=defaults)] == [{"style": 2}, {"style": 2}]
    assert defaults == {"task": "qa", "scores": {"style": 2}, "scale": (1, 5)}


def test_the_data_section() -> None:
    config = DataConfig(records=("x.jsonl",), task="qa", scale=(1, 5))
    assert config.reading()["defaults"] == {"task": "qa", "scale": (1, 5)}
    assert DataConfig(records=("x.jsonl",)).reading()["defaults"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": ()},
        {"records": ("x",), "colour": "red"},
        {"records": ("x",), "format": "xml"},
        {"records": ("x",), "scale": (1, float("inf"))},
        {"records": ("x",), "max_rejected_share": 1.0},
        {"records": ("x",), "max_rejected_share": -0.1},
    ],
)
def test_a_data_section_that_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


# Whatever stands in a file


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [*GOOD, "dataset", "scales", "ratings", "scores.overall", "scale", "scales.overall", "self", "model_config"]
)


@given(
    st.lists(
        st.dictionaries(NAMES, JSON | st.sampled_from(["[1, 5]", "[", "{"]), max_size=4) | JSON, min_size=1, max_size=4
    )
)
def test_any_json_gives_records_or_reasons(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    whole = [{**GOOD, "id": f"r{n}", **one} if isinstance(one, dict) else one for n, one in enumerate(rows)]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in whole), encoding="utf-8")
    read = list(read_records([path]))
    assert len(read) == len(rows)
    for number, one in enumerate(read, start=1):
        if isinstance(one, Rejected):
            assert (one.file, one.line) == (str(path), number) and one.reason and "\n" not in one.reason
        else:
            assert Record.from_row(one.to_row()) == one
            assert all(score in one.scales[aspect] for aspect, score in one.scores.items())


# The real files

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
REAL = {
    # file: rows, groups, aspects (shared/data/README.md)
    "topical_chat": (
        216,
        36,
        {"understandability", "groundedness", "naturalness", "coherence", "engagingness", "overall"},
    ),
    "summeval": (960, 60, {"coherence", "consistency", "fluency", "relevance"}),
    "hanna": (638, 58, {"relevance", "coherence", "empathy", "surprise", "engagement", "complexity"}),
    "alce": (464, 120, {"utility"}),
    "wmt23": (972, 72, {"quality"}),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the rated texts are not there: {SHARED}")
@pytest.mark.parametrize("name", REAL)
def test_the_real_files(name: str) -> None:
    num_rows, num_groups, aspects = REAL[name]
    read = records(SHARED / f"{name}.jsonl")
    assert len(read) == len({one.id for one in read}) == num_rows
    assert len({one.group_key for one in read}) == num_groups
    assert {aspect for one in read for aspect in one.scores} == aspects
    assert all(Record.from_row(one.to_row()) == one for one in read)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the rated texts are not there: {SHARED}")
def test_the_real_files_together() -> None:
    read = records(*(SHARED / f"{name}.jsonl" for name in REAL))
    assert len(read) == 216 + 960 + 638 + 464 + 972
    chat = read[0]
    assert chat.scales["overall"] == Scale(1, 5) and chat.scales["groundedness"] == Scale(0, 1)
    assert chat.fields["fact"]
    assert {"source_lang", "target_lang", "reference"} <= set(read[-1].fields)


def test_pool_dev_and_test_part_the_groups(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": str(n), "group": f"g{n // 2}"} for n in range(400)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = [row for row in read_records([path]) if isinstance(row, Record)]
    data = DataConfig(records=(str(path),), pool=(str(path),), pool_share=0.5, dev_share=0.4)
    dev = data.model_copy(update={"part": "dev"})
    parts = {
        "pool": {r.group for r in records if data.serves(r)},
        "dev": {r.group for r in records if dev.takes(r)},
        "test": {r.group for r in records if data.takes(r)},
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 200
    # Of 200 groups half serve, and of the other 100 about 40 develop: within three standard deviations, 15 and 15.
    assert abs(len(parts["pool"]) - 100) < 22 and abs(len(parts["dev"]) - 40) < 20
    assert parts["dev"] == {r.group for r in records if data.develops(r)}


def test_without_a_dev_share_nothing_develops() -> None:
    data = DataConfig(records=("x",))
    assert data.takes(Record("a", "qa", "g", "s", "c")) and not data.develops(Record("a", "qa", "g", "s", "c"))
    with pytest.raises(ValueError, match="set one of them too"):
        DataConfig(records=("x",), part="dev")


def test_only_the_named_aspects_of_a_task_count(tmp_path: Path) -> None:
    both = row(scores={"overall": 4, "utility": 2}, ratings={"overall": [4], "utility": [2]})
    path = write(tmp_path, json.dumps(both) + "\n" + json.dumps({**both, "id": "s", "task": "story"}) + "\n")
    kept, other = (r for r in read_records([path], aspects={"qa": ("utility",)}) if isinstance(r, Record))
    assert (kept.scores, kept.scales, kept.ratings) == ({"utility": 2}, {"utility": Scale(1, 5)}, {"utility": (2,)})
    assert set(other.scores) == {"overall", "utility"}


def test_a_share_of_the_groups_by_data_set() -> None:
    records = [Record(str(n), "qa", f"g{n}", "s", "c", dataset=name) for name in ("a", "b") for n in range(200)]
    data = DataConfig(records=("x",), groups_share={"a": 0.25})
    taken = [record.dataset for record in records if data.takes(record)]
    # All of b; of a about 50, within three standard deviations (6.1 each).
    assert taken.count("b") == 200 and 31 < taken.count("a") < 69
    with pytest.raises(ValidationError):
        DataConfig(records=("x",), groups_share={"a": 0})


def test_the_dev_part_may_have_files_of_its_own(tmp_path: Path) -> None:
    own = write(tmp_path, json.dumps(row(group="d")) + "\n", "dev.jsonl")
    data = DataConfig(records=("test.jsonl",), dev=(str(own),))
    assert (data.judged, data.model_copy(update={"part": "dev"}).judged) == (("test.jsonl",), (str(own),))
    record = Record("a", "qa", "g", "s", "c")
    assert data.has_dev and data.takes(record) and data.model_copy(update={"part": "dev"}).takes(record)
    assert dev_groups(data) == {"qa//d"} and dev_groups(DataConfig(records=("x",))) == frozenset()
    with pytest.raises(ValidationError, match="keep one of the two"):
        DataConfig(records=("x",), dev=("y",), dev_share=0.5)
