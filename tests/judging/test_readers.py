import csv
import datetime as dt
import decimal
import io
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.datasets import Rejected, is_blank, read_records
from judging.errors import InputError
from judging.records import Record, Scale
from tests.judging.ratedfiles import GOOD, RECORD, jsonl, parquet, records, refused, rejected, row, write

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
    path = write(tmp_path, 'task,group,source,candidate,"a\nnote"\nqa,,s,c,x\nqa,g,s,c,x\n', "x.csv")
    assert rejected(path) == [Rejected(str(path), 3, "group: field required")]


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("task;group;source;candidate\nqa;g;s;c\n", "the delimiter is a semicolon (;), not a comma"),
        ("task;group;source;candidate\nqa;g;s, then;c\n", "the delimiter is a semicolon (;), not a comma"),
        ("task\tgroup\tsource\tcandidate\nqa\tg\ts\tc\n", "the delimiter is a tab, not a comma"),
        ("task|group|source|candidate\nqa|g|s|c\n", "the delimiter is a bar (|), not a comma"),
        ("sep=;\ntask;group\nqa;g\n", "`sep=;` names a delimiter: remove the line"),
        ('"task";"group";"source"\n"qa";"g";"s"\n', "the delimiter is a semicolon (;), not a comma"),
        ("task^group^source\nqa^g^s\n", "the delimiter is a caret (^), not a comma"),
        ('"sep=,"\ntask,group\nqa,g\n', '`"sep=,"` names a delimiter: remove the line'),
        ("  \ntask,group,source,candidate\nqa,g,s,c\n", "the line is blank: the columns' names belong there"),
        ("\ntask,group,source,candidate\nqa,g,s,c\n", "the line is blank: the columns' names belong there"),
    ],
)
def test_a_first_line_that_is_no_header_is_named(tmp_path: Path, content: str, reason: str) -> None:
    path = write(tmp_path, content, "x.csv")
    assert refused(path).startswith(f"{path}, line 1: {reason}")


def test_the_names_of_a_header_are_trimmed(tmp_path: Path) -> None:
    content = 'task, group, source,candidate , scores.overall, system,scale\nqa,g,s,c,4,a,"[1, 5]"\n'
    (only,) = records(write(tmp_path, content, "x.csv"))
    assert (only.scores, only.system, only.candidate) == ({"overall": 4}, "a", "c")
    assert "stands twice" in refused(write(tmp_path, "task, task\nqa,qa\n", "y.csv"))


@pytest.mark.parametrize("start", ["[\n", '[{\n"a": 1\n', "[ {\n", '[{"task": "qa"},\n', '  [{"task": "qa",\n'])
def test_a_json_array_is_named(tmp_path: Path, start: str) -> None:
    path = write(tmp_path, start + '{"task": "qa"}\n]\n')
    assert refused(path) == f"{path}, line 1: a JSON array: write one object a line (`jq -c '.[]'` does it)"


def test_parquet_names_and_folders_that_would_be_lost(tmp_path: Path) -> None:
    known = ("task", "group", "source", "candidate", "candidate ")
    pq.write_table(pa.table([pa.array(["x"])] * 5, names=known), tmp_path / "x.parquet")
    assert refused(tmp_path / "x.parquet").endswith("the column name 'candidate' stands twice")
    parquet(tmp_path / "set" / "system=a" / "x.parquet", row())
    assert "the folder name 'system=a' holds a column" in refused(tmp_path / "set")
    parquet(tmp_path / "upper" / "x.PARQUET", row())
    (tmp_path / "upper" / "folder.parquet").mkdir()
    assert len(records(tmp_path / "upper")) == 1
    far = pa.table({"task": ["qa"], "day": pa.array([10**7], pa.int32()).cast(pa.date32())})
    pq.write_table(far, tmp_path / "far.parquet")
    assert "is not a readable Parquet file" in refused(tmp_path / "far.parquet")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    twice = '{"candidate": "a", "candidate": "b"}\n{"scores": {"overall": 4, "overall": 1}}\n'
    assert [one.reason for one in rejected(write(tmp_path, twice))] == [
        'the key "candidate" stands twice',
        'the key "overall" stands twice',
    ]


CELL = st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(CELL, CELL.filter(lambda text: not is_blank(text))), min_size=1, max_size=5))
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
        f"{folder}, line 5: candidate: it is empty or blank",
    ]


def test_a_folder_without_parquet_files(tmp_path: Path) -> None:
    parquet(tmp_path / ".cache" / "x.parquet", row())
    reason = "holds no .parquet file that is not hidden: give the folder that holds them"
    assert refused(tmp_path) == f"{tmp_path} {reason}"


def test_hidden_files_of_a_folder_are_not_data(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden" / "set"  # the folder's own place does not matter
    parquet(folder / "0.parquet", row(id="a"))
    for name in (".ipynb_checkpoints/0.parquet", "_temporary/1.parquet", "._0.parquet", "_metadata.parquet"):
        parquet(folder / name, row(id=name))
    assert [one.id for one in records(folder)] == ["a"]


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
    path = parquet(tmp_path / "x.parquet", row(candidate=7))
    assert [str(one) for one in rejected(path)] == [f"{path}, line 1: candidate: input should be a valid string"]
    (only,) = records(parquet(tmp_path / "y.parquet", row(id=3, group=7)))
    assert (only.id, only.group) == ("3", "7")


def test_parquet_values_become_text_by_one_rule(tmp_path: Path) -> None:
    known = {"task": ["qa"], "group": ["g"], "source": ["s"], "candidate": ["c"]}
    columns = {
        "decimal": pa.array([decimal.Decimal("1.50")]),
        "day": pa.array([dt.date(2024, 1, 2)]),
        "moment": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5)]),
        "raw": pa.array(["für".encode()]),
        "list": pa.array([["a", None, "b"]]),
        "struct": pa.array([{"text": "a"}]),
        "missing": pa.array([float("nan")]),
        "none": pa.array([None], pa.string()),
    }
    pq.write_table(pa.table({**known, **columns}), tmp_path / "x.parquet")
    (only,) = records(tmp_path / "x.parquet")
    assert only.fields == {
        "decimal": "1.50",
        "day": "2024-01-02",
        "moment": "2024-01-02T03:04:05",
        "raw": "für",
        "list": "a\nb",
        "struct": '{"text": "a"}',
    }
    pq.write_table(pa.table({**known, "raw": pa.array([b"\xff"])}), tmp_path / "y.parquet")
    assert rejected(tmp_path / "y.parquet")[0].reason == "raw: bytes that are not UTF-8"


def test_parquet_nan_is_no_score(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", row(scores={"overall": float("nan")}))
    assert [one.scores for one in records(path)] == [{}]


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
        ("0,1,q,1,,3", "candidate: it is empty or blank"),
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
