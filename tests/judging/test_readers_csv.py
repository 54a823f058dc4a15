"""CSV files and the AEOLLM layout: what is read, what is refused with which code and key."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.datasets import Rejected, is_blank, read_records
from judging.records import Record, Scale
from tests.judging.ratedfiles import records, refused_whole, rejected, write
from tests.refusals import refused

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
    found = [one.id if isinstance(one, Record) else (one.line, one.code, one.key) for one in read_records([path])]
    assert found == [
        "a",
        (5, "invalid_csv", ""),
        (7, "missing_key", "group"),
        (8, "invalid_csv", ""),
        "e",
        (11, "duplicate_id", "id"),
    ]
    reasons = [one.reason for one in rejected(path)]
    assert "4 cells" in reasons[0] and "6 cells" in reasons[2] and f"{path}, line 10" in reasons[3]


def test_a_header_of_two_lines_counts_as_two(tmp_path: Path) -> None:
    path = write(tmp_path, 'task,group,source,candidate,"a\nnote"\nqa,,s,c,x\nqa,g,s,c,x\n', "x.csv")
    (only,) = rejected(path)
    assert (only.line, only.code, only.key) == (3, "missing_key", "group")


@pytest.mark.parametrize(
    ("content", "code", "key", "naming"),
    [
        (b"task,group,task,source\nqa,g,x,s\n", "duplicate_key", "task", "line 1: duplicate column name 'task'"),
        (b"task,,,source\nqa,g,x,s\n", "duplicate_key", "", "line 1: duplicate column name ''"),
        (b'task,group\nqa,"g\n', "invalid_csv", "", "line 2: invalid CSV: unexpected end of data"),
        (b'task,group\nqa,g\nqa,"g"x\n', "invalid_csv", "", "line 3: invalid CSV: ',' expected after '\"'"),
        (b"task,group\nqa,g\nqa,f\xfcr\n", "unreadable_file", "", "line 3: not UTF-8: byte 0xfc at position 5"),
        (b"\xff\xfet\x00a\x00", "unreadable_file", "", "line 1: not UTF-8: byte 0xff at position 1"),
    ],
)
def test_a_csv_that_is_broken_as_a_whole(tmp_path: Path, content: bytes, code: str, key: str, naming: str) -> None:
    path = write(tmp_path, content, "x.csv")
    refused_whole(code, path, key=key, naming=f"{path}, {naming}")


def test_a_csv_is_read_row_by_row(tmp_path: Path) -> None:
    # The broken end is far beyond what a reader looks ahead: the first rows come out before it is met.
    header = "id,task,group,source,candidate\n"
    path = write(tmp_path, header + "".join(f"{n},qa,g,s,{'x' * 1000}\n" for n in range(1000)) + '"', "x.csv")
    rows = read_records([path])
    first = next(rows)
    assert isinstance(first, Record) and first.id == "0"
    with refused("invalid_csv", naming="line 1002"):
        list(rows)


@pytest.mark.parametrize(
    ("scale", "code", "key", "naming"),
    [
        ("1 to 5", "invalid_value", "scale", "tuple"),
        ('"[1, 5"', "invalid_json", "scale", "delimiter: line 1 column 6 (char 5)"),
        ('"[1, ""x""]"', "invalid_value", "scale.1", "number"),
        ('"[1]"', "missing_key", "scale.1", "required"),
        ('"{""low"": 1}"', "invalid_value", "scale", "tuple"),
    ],
)
def test_a_csv_scale_that_does_not_fit(tmp_path: Path, scale: str, code: str, key: str, naming: str) -> None:
    path = write(tmp_path, f"task,group,source,candidate,scores.o,scale\nqa,g,s,c,3,{scale}\n", "x.csv")
    first = rejected(path)[0]
    assert (first.line, first.code, first.key) == (2, code, key) and naming in first.reason


@pytest.mark.parametrize(
    ("content", "naming"),
    [
        ("task;group;source;candidate\nqa;g;s;c\n", "semicolon (;)"),
        ("task;group;source;candidate\nqa;g;s, then;c\n", "semicolon (;)"),
        ("task\tgroup\tsource\tcandidate\nqa\tg\ts\tc\n", "tab"),
        ("task|group|source|candidate\nqa|g|s|c\n", "bar (|)"),
        ("sep=;\ntask;group\nqa;g\n", "`sep=;`"),
        ('"task";"group";"source"\n"qa";"g";"s"\n', "semicolon (;)"),
        ("task^group^source\nqa^g^s\n", "caret (^)"),
        ('"sep=,"\ntask,group\nqa,g\n', '`"sep=,"`'),
        ("  \ntask,group,source,candidate\nqa,g,s,c\n", "blank"),
        ("\ntask,group,source,candidate\nqa,g,s,c\n", "blank"),
    ],
)
def test_a_first_line_that_is_no_header_is_named(tmp_path: Path, content: str, naming: str) -> None:
    path = write(tmp_path, content, "x.csv")
    refused_whole("invalid_csv", path, naming=f"{path}, line 1: ")
    refused_whole("invalid_csv", path, naming=naming)


def test_the_names_of_a_header_are_trimmed(tmp_path: Path) -> None:
    content = 'task, group, source,candidate , scores.overall, system,scale\nqa,g,s,c,4,a,"[1, 5]"\n'
    (only,) = records(write(tmp_path, content, "x.csv"))
    assert (only.scores, only.system, only.candidate) == ({"overall": 4}, "a", "c")
    refused_whole("duplicate_key", write(tmp_path, "task, task\nqa,qa\n", "y.csv"), key="task")


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
    ("cells", "code", "key", "naming"),
    [
        ("4,1,q,1,a,3", "unknown_task", "taskId", "'4'"),
        ("-1,1,q,1,a,3", "unknown_task", "taskId", "'-1'"),
        ("²,1,q,1,a,3", "unknown_task", "taskId", "'²'"),
        ("٣,1,q,1,a,3", "unknown_task", "taskId", "'٣'"),
        ("qa,1,q,1,a,3", "unknown_task", "taskId", "'qa'"),
        (",1,q,1,a,3", "missing_key", "taskId", "AEOLLM"),
        ("0,,q,1,a,3", "missing_key", "questionId", "AEOLLM"),
        ("0,1,q,1,,3", "invalid_value", "candidate", "blank"),
        ("0,1,q,1,a", "invalid_csv", "", "5 cells"),
        ("0,1,q,1,a,good", "invalid_value", "scores.overall", "number"),
        ("0,1,q,1,a,9", "out_of_scale", "scores.overall", "1 to 5"),
    ],
)
def test_an_aeollm_row_that_does_not_fit(tmp_path: Path, cells: str, code: str, key: str, naming: str) -> None:
    path = write(tmp_path, AEOLLM + cells + "\n", "answers.csv")
    *good, found = read_records([path], format="aeollm", defaults={"scale": (1, 5)})
    assert len(good) == 4 and isinstance(found, Rejected)
    assert (found.line, found.code, found.key) == (6, code, key) and naming in found.reason


def test_aeollm_scores_need_a_scale(tmp_path: Path) -> None:
    path = write(tmp_path, AEOLLM, "answers.csv")
    # The last row has no score.
    found = [(one.line, one.code, one.key) for one in rejected(path, format="aeollm")]
    assert found == [(line, "missing_scale", "scores.overall") for line in (2, 3, 4)]


def test_another_csv_is_not_in_the_aeollm_layout(tmp_path: Path) -> None:
    path = write(tmp_path, "id,task\na,qa\n", "x.csv")
    first = rejected(path, format="aeollm")[0]
    assert (first.line, first.code, first.key) == (2, "missing_key", "taskId")


@pytest.mark.parametrize(
    ("name", "task", "dataset"),
    [
        ("train_dialog.csv", "dialogue", "aeollm_0"),
        ("test_story.csv", "expansion", "aeollm_1"),
        ("train_Xsum.csv", "summarisation", "aeollm_2"),
        ("NFCATS.csv", "qa", "aeollm_3"),
    ],
)
def test_the_aeollm_subtask_of_a_file_without_task_ids(tmp_path: Path, name: str, task: str, dataset: str) -> None:
    path = write(tmp_path, "questionId,question,answerId,answer,score\n1,Q,2,A,3\n", name)
    (only,) = records(path, format="aeollm", defaults={"scale": (1, 5)})
    assert (only.task, only.dataset, only.group, only.system, only.scores) == (task, dataset, "1", "2", {"overall": 3})


def test_aeollm_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = write(tmp_path, "qid,query,model,response,human\n1,Q,m,A,3\n", "train_story.csv")
    columns = {"qid": "group", "query": "source", "model": "system", "response": "candidate", "human": "scores.overall"}
    (only,) = records(path, format="aeollm", columns=columns, defaults={"scale": (1, 5)})
    assert (only.group, only.source, only.system, only.candidate) == ("1", "Q", "m", "A")
    assert (only.dataset, only.scores) == ("aeollm_1", {"overall": 3})
    # Without the map the row lacks what nothing names.
    assert rejected(path, format="aeollm")[0].code in ("missing_key", "unknown_key")


def test_an_aeollm_file_that_names_no_subtask(tmp_path: Path) -> None:
    path = write(tmp_path, "questionId,question,answerId,answer\n1,Q,2,A\n", "train.csv")
    (only,) = rejected(path, format="aeollm")
    assert (only.code, only.key) == ("missing_key", "taskId") and "train_dialog.csv" in only.reason


@pytest.mark.parametrize("written", [json.dumps, str])
def test_chat_messages_in_a_cell(tmp_path: Path, written: Callable[[Any], str]) -> None:
    """As JSON and as Python writes them, which pandas does."""
    messages = [{"role": "user", "content": "Why's that?"}, {"role": "assistant", "content": "So."}]
    cell = written(messages).replace('"', '""')
    (only,) = records(write(tmp_path, f'task,group,candidate\nqa,g,"{cell}"\n', "x.csv"))
    assert (only.source, only.candidate) == ("Why's that?", "So.")


@pytest.mark.parametrize("cell", ["[{'role': open('x')}]", "[{'role': 'user'", "[{'roles': 1}]", "[{'role': 1}, 2]"])
def test_a_cell_that_holds_no_chat_messages_is_a_text(tmp_path: Path, cell: str) -> None:
    (only,) = records(write(tmp_path, f'task,group,source,candidate\nqa,g,s,"{cell}"\n', "x.csv"))
    assert only.candidate == cell
