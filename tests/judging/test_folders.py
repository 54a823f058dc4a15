"""Folders of data files, tab-separated files, and what `Dataset.save_to_disk` of Hugging Face writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.judging.ratedfiles import GOOD, RECORD, jsonl, parquet, records, refused_whole, rejected, row, write

TSV = 'id\ttask\tgroup\tsystem\tsource\tcandidate\tscores.overall\tscale\nr1\tqa\tg1\ts1\tWhy?\tSo.\t4\t"[1, 5]"\n'


def test_a_tab_separated_file(tmp_path: Path) -> None:
    assert records(write(tmp_path, TSV, "x.tsv")) == [RECORD]
    assert records(write(tmp_path, TSV, "x.txt"), format="tsv") == [RECORD]
    commas = TSV.replace('"[1, 5]"', "1-5").replace("\t", ",")
    refused_whole("invalid_csv", write(tmp_path, commas, "y.tsv"), naming="the delimiter is a comma, not a tab")
    refused_whole("invalid_csv", write(tmp_path, TSV, "y.csv"), naming="data.format to tsv")


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    for name, id in (("b.jsonl", "r2"), ("part/a.ndjson", "r3"), ("a.jsonl", "r1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        jsonl(tmp_path, row(id=id), name=name)
    jsonl(tmp_path, row(id="x"), name=".hidden.jsonl")
    write(tmp_path, "# A data set", "README.md")
    assert [one.id for one in records(tmp_path)] == ["r1", "r2", "r3"]
    # Each file counts its own lines.
    jsonl(tmp_path, row(id="r4"), row(id="r1"), name="c.jsonl")
    (wrong,) = rejected(tmp_path)
    assert (wrong.file, wrong.line) == (
        str(tmp_path / "c.jsonl"),
        2,
    ) and f"{tmp_path / 'a.jsonl'}, line 1" in wrong.reason


def test_a_folder_holds_one_format(tmp_path: Path) -> None:
    jsonl(tmp_path, GOOD)
    parquet(tmp_path / "x.parquet", row(id="r2"))
    refused_whole("conflict", tmp_path, key="data.format", naming="jsonl, parquet")
    assert [one.id for one in records(tmp_path, format="jsonl")] == ["r1"]
    assert [one.id for one in records(tmp_path, format="parquet")] == ["r2"]
    refused_whole("missing_file", tmp_path, format="csv")


def saved(folder: Path, *shards: list[Mapping[str, Any]], schema: pa.Schema | None = None) -> Path:
    """The folder that `Dataset.save_to_disk` writes: Arrow streams, and a state that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{place:05d}-of-{len(shards):05d}.arrow" for place in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pa.Table.from_pylist([dict(one) for one in rows], schema=schema)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def test_a_saved_data_set(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", [row(), row(id="r2")], [row(id="r3"), row()])
    # What `map` leaves beside it is no part of it.
    saved(tmp_path / "other", [row(id="x")])
    (tmp_path / "other" / "data-00000-of-00001.arrow").rename(folder / "cache-1.arrow")
    (twice,) = rejected(folder)
    assert (twice.file, twice.line, twice.code) == (str(folder), 4, "duplicate_id")
    folder = saved(tmp_path / "again", [row(), row(id="r2")])
    assert [one.id for one in records(folder)] == ["r1", "r2"] and records(folder)[0] == RECORD


def test_a_saved_data_set_of_several_splits(tmp_path: Path) -> None:
    for split in ("test", "train"):
        saved(tmp_path / "set" / split, [row()])
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    refused_whole("unsupported", tmp_path / "set", key="data.records", naming="test, train")
    assert records(tmp_path / "set" / "train") == [RECORD]


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"_data_files": [7]}', '{"_data_files": null}'])
def test_a_damaged_state(tmp_path: Path, state: str) -> None:
    folder = saved(tmp_path / "set", [row()])
    (folder / "state.json").write_text(state)
    refused_whole("unreadable_file", folder, naming="state.json")


def test_a_saved_file_that_is_gone_or_damaged(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", [row()])
    file = folder / "data-00000-of-00001.arrow"
    file.write_bytes(b"not Arrow at all")
    refused_whole("unreadable_file", folder, naming=str(file))
    file.unlink()
    refused_whole("unreadable_file", folder, naming=str(file))


def test_a_state_leads_out_of_no_folder(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", [row()])
    saved(tmp_path / "secret", [row(id="secret")])
    far = {"filename": "../secret/data-00000-of-00001.arrow"}
    (folder / "state.json").write_text(json.dumps({"_data_files": [far]}))
    assert [one.id for one in records(folder)] == ["r1"]  # the file of that name in the folder itself


def test_what_the_real_package_writes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list([row(id=f"r{n}") for n in range(5)])
    whole.select([1, 3]).save_to_disk(str(tmp_path / "one"), num_shards=2)
    assert [one.id for one in records(tmp_path / "one")] == ["r1", "r3"]
    datasets.DatasetDict({"test": whole}).save_to_disk(str(tmp_path / "dict"))
    refused_whole("unsupported", tmp_path / "dict", key="data.records", naming="test")
    assert len(records(tmp_path / "dict" / "test")) == 5
