"""Files as a whole, and JSONL: what is read, what is refused with which code."""

import json
import time
from pathlib import Path

import pytest

from judging.datasets import Rejected, read_records
from judging.records import Record
from tests.judging.ratedfiles import GOOD, RECORD, jsonl, records, refused_whole, rejected, row, write


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    refused_whole("missing_file", path)


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet", "x.txt"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "", name)
    refused_whole("empty_file", path)


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
    refused_whole("empty_file", path)


def test_the_second_file_is_checked_too(tmp_path: Path) -> None:
    refused_whole("missing_file", jsonl(tmp_path, GOOD), tmp_path / "none.jsonl")
    refused_whole("empty_file", jsonl(tmp_path, GOOD), write(tmp_path, "\n", "y.jsonl"))


def test_a_name_that_tells_no_format(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, name="x.txt")
    refused_whole("unsupported", path, key="data.format", naming=".jsonl, .ndjson, .csv, .tsv, .parquet")
    assert records(path, format="jsonl") == [RECORD]


@pytest.mark.parametrize("name", ["X.JSONL", "x.ndjson", "x.y.jsonl"])
def test_names_that_tell_the_format(tmp_path: Path, name: str) -> None:
    assert records(jsonl(tmp_path, GOOD, name=name)) == [RECORD]


def test_the_aeollm_layout_is_a_file(tmp_path: Path) -> None:
    refused_whole("conflict", tmp_path, key="data.format", naming="aeollm", format="aeollm")


def test_no_files_no_records() -> None:
    assert list(read_records([])) == []


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
    ("line", "naming"),
    [
        ("{", "Expecting property name enclosed in double quotes at column 2"),
        ('{"a": 1,}', "Illegal trailing comma before end of object at column 8"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes at column 2"),
        ('{"a": 1} {"b": 2}', "Extra data at column 10"),
        ('{"a": "b', "Unterminated string starting at column 7"),
        ('{"a": "\t"}', "Invalid control character at column 8"),
        ("text", "Expecting value at column 1"),
        ("[1]", "list"),
        ("7", "int"),
        ('"text"', "str"),
        ("null", "NoneType"),
        ("true", "bool"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"candidate": "\\ud83d"}', "surrogate"),
        ('{"extra": ["\\uDFFF"]}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
    ],
    ids=lambda text: text[:20],
)
def test_a_broken_line(tmp_path: Path, line: str, naming: str) -> None:
    path = write(tmp_path, f"\n{line}\n")
    (only,) = rejected(path)
    if "trailing comma" in naming and "property name" in only.reason:  # Python before 3.13
        naming = "Expecting property name enclosed in double quotes at column 9"
    assert (only.file, only.line, only.code) == (str(path), 2, "invalid_json")
    assert naming in only.reason and "\n" not in only.reason


def test_whole_surrogate_pairs_are_characters(tmp_path: Path) -> None:
    line = json.dumps(row(candidate="🙂 \\ud83d")) + "\n"  # the second one is a backslash, not an escape
    assert [one.candidate for one in records(write(tmp_path, line))] == ["🙂 \\ud83d"]


@pytest.mark.parametrize(
    ("data", "naming"),
    [
        (b'{"candidate": "\xff"}', "byte 0xff at position 16"),
        ('{"candidate": "für"}'.encode("latin-1"), "byte 0xfc at position 17"),
        (b'{"candidate": "\xed\xa0\x80"}', "byte 0xed at position 16"),  # a surrogate
        (b'{"candidate": "\xe2\x82', "byte 0xe2 at position 16"),  # cut off inside a character
    ],
)
def test_invalid_utf8_rejects_its_line_alone(tmp_path: Path, data: bytes, naming: str) -> None:
    path = write(tmp_path, json.dumps(GOOD).encode() + b"\n" + data + b"\n" + json.dumps(row(id="r2")).encode())
    first, found, last = read_records([path])
    assert isinstance(first, Record) and isinstance(last, Record) and isinstance(found, Rejected)
    assert (first.id, found.line, found.code, last.id) == ("r1", 2, "unreadable_file", "r2")
    assert naming in found.reason


def test_utf16_is_not_utf8(tmp_path: Path) -> None:
    first = rejected(write(tmp_path, json.dumps(GOOD).encode("utf-16")))[0]
    assert (first.line, first.code) == (1, "unreadable_file") and "byte 0xff at position 1" in first.reason


def test_a_text_of_10_mb(tmp_path: Path) -> None:
    text = "Wörter. " * (10 * 1024 * 1024 // 9)
    started = time.process_time()
    assert [one.candidate for one in records(jsonl(tmp_path, row(candidate=text)))] == [text]
    header, cells = "id,task,group,source,candidate", f'i,qa,g,s,"{text}"'
    assert [one.candidate for one in records(write(tmp_path, f"{header}\n{cells}\n", "x.csv"))] == [text]
    assert time.process_time() - started < 10


@pytest.mark.parametrize("start", ["[\n", '[{\n"a": 1\n', "[ {\n", '[{"task": "qa"},\n', '  [{"task": "qa",\n'])
def test_a_json_array_is_named(tmp_path: Path, start: str) -> None:
    path = write(tmp_path, start + '{"task": "qa"}\n]\n')
    refused_whole("invalid_json", path, naming=f"{path}, line 1: a JSON array")


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    twice = '{"candidate": "a", "candidate": "b"}\n{"scores": {"overall": 4, "overall": 1}}\n'
    first, second = rejected(write(tmp_path, twice))
    assert first.code == second.code == "duplicate_key"
    assert '"candidate"' in first.reason and '"overall"' in second.reason
