"""Parquet files and folders of them: what is read, what is refused with which code and key."""

import datetime as dt
import decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judging.records import Scale
from tests.judging.ratedfiles import GOOD, parquet, records, refused_whole, rejected, row, write


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"task": pa.array([], pa.string())}), path)
    refused_whole("empty_file", path)


def test_parquet_names_and_folders_that_would_be_lost(tmp_path: Path) -> None:
    known = ("task", "group", "source", "candidate", "candidate ")
    pq.write_table(pa.table([pa.array(["x"])] * 5, names=known), tmp_path / "x.parquet")
    refused_whole("duplicate_key", tmp_path / "x.parquet", key="candidate")
    parquet(tmp_path / "set" / "system=a" / "x.parquet", row())
    refused_whole("unsupported", tmp_path / "set", key="system", naming="'system=a'")
    parquet(tmp_path / "upper" / "x.PARQUET", row())
    (tmp_path / "upper" / "folder.parquet").mkdir()
    assert len(records(tmp_path / "upper")) == 1
    far = pa.table({"task": ["qa"], "day": pa.array([10**7], pa.int32()).cast(pa.date32())})
    pq.write_table(far, tmp_path / "far.parquet")
    refused_whole("unreadable_file", tmp_path / "far.parquet")


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
    fourth, fifth = rejected(folder)
    assert (fourth.file, fourth.line, fourth.code) == (str(folder), 4, "duplicate_id")
    assert "'a'" in fourth.reason and f"{folder}, line 1" in fourth.reason
    assert (fifth.file, fifth.line, fifth.key) == (str(folder), 5, "candidate") and "blank" in fifth.reason


def test_a_folder_without_parquet_files(tmp_path: Path) -> None:
    parquet(tmp_path / ".cache" / "x.parquet", row())
    refused_whole("missing_file", tmp_path)


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
        refused_whole("unreadable_file", given, naming=str(path))


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"task": ["qa"], "group": ["g"], "source": ["s"], "candidate": texts}), path)
    refused_whole("unreadable_file", path)


def test_parquet_numbers_where_texts_belong(tmp_path: Path) -> None:
    (only,) = records(parquet(tmp_path / "x.parquet", row(candidate=7)))
    assert only.candidate == "7"
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
    (wrong,) = rejected(tmp_path / "y.parquet")
    assert (wrong.code, wrong.key) == ("unreadable_file", "raw")


def test_parquet_nan_is_no_score(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", row(scores={"overall": float("nan")}))
    assert [one.scores for one in records(path)] == [{}]
