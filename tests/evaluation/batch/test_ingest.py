"""Input files -> blocks of whole groups; invalid rows are set aside, or stop the job, which then leaves no files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.parts import parts_of
from evaluation.batch import ingest as module
from evaluation.batch.ingest import Ingested, ingest, ingested, iter_rows, kinds_of
from judging.data_config import DataConfig
from judging.readers import RowError
from judging.records import Record
from tests.evaluation.making import jsonl, row
from tests.refusals import refused


def take_in(
    folder: Path, rows: list[Any], *, block_rows: int = 2, check: Any = None, without: Any = (), **data: Any
) -> Ingested:
    folder.mkdir(parents=True, exist_ok=True)
    config = DataConfig(records=(jsonl(folder / "in.jsonl", rows),), **data)
    return ingest(
        config,
        folder / "job" / "records",
        block_rows=block_rows,
        check=check or (lambda record: None),
        without=without,
    )


def blocks(folder: Path) -> list[list[str]]:
    """The ids in each block."""
    return [[one["id"] for one in iter_rows([part])] for part in parts_of(folder / "job" / "records")]


def test_blocks_hold_whole_groups_in_the_order_of_the_input(tmp_path: Path) -> None:
    rows = [
        row(f"{group}{number}", group)
        for group, size in [("a", 3), ("b", 1), ("c", 1), ("d", 2)]
        for number in range(size)
    ]
    assert take_in(tmp_path, rows) == Ingested(7, 0)
    # At least two rows, then the next group begins a block; the last may be smaller.
    assert blocks(tmp_path) == [["a0", "a1", "a2"], ["b0", "c0"], ["d0", "d1"]]
    assert ingested(tmp_path / "job" / "records") == Ingested(7, 0)
    assert not (tmp_path / "job" / "records" / "rejected.jsonl").exists()


def test_each_task_with_each_set_of_rated_aspects_is_noted(tmp_path: Path) -> None:
    rows = [
        row("a", scores={"overall": 3, "utility": 2}),
        row("b", scores={"overall": 4, "utility": 1}),
        row("c", task="story", scores={"empathy": 7}, scale=[1, 9]),
        row("d", scores={}, scale=None),
    ]
    take_in(tmp_path, rows)
    folder = tmp_path / "job" / "records"
    known = [("qa", '{"overall": 0, "utility": 0}'), ("story", '{"empathy": 0}'), ("qa", "{}")]
    assert kinds_of(folder) == known
    # Of records that an earlier version has taken in they are read from the blocks, which stay.
    (folder / "kinds.json").unlink()
    written = [part.stat().st_mtime_ns for part in parts_of(folder)]
    assert sorted(kinds_of(folder)) == sorted(kinds_of(folder)) == sorted(known)
    assert [part.stat().st_mtime_ns for part in parts_of(folder)] == written


def test_blank_candidates_are_taken_in(tmp_path: Path) -> None:
    assert take_in(tmp_path, [row("a"), row("b", candidate=" "), row("c", candidate=None)]) == Ingested(3, 0)
    assert blocks(tmp_path) == [["a", "b", "c"]]


def test_a_setting_that_only_the_pool_s_file_knows_is_no_mistake(tmp_path: Path) -> None:
    pool = jsonl(tmp_path / "pool.jsonl", [{**row("p", "h"), "note": "x"}])
    assert take_in(tmp_path, [row("a")], columns={"note": "remark"}, pool=(pool,)) == Ingested(1, 0)
    with refused("unknown_key", "data.columns", naming="'nota'"):
        take_in(tmp_path / "other", [row("a")], columns={"nota": "remark"}, pool=(pool,))


def test_nothing_taken_in_yet(tmp_path: Path) -> None:
    assert ingested(tmp_path) is None


def test_scattered_groups_are_brought_together(tmp_path: Path) -> None:
    rows = [row(f"{group}{number}", group) for number in range(3) for group in "abc"]
    take_in(tmp_path, rows)
    found = blocks(tmp_path)
    assert sorted(chain.from_iterable(found)) == sorted(one["id"] for one in rows)
    assert [len(block) for block in found] == [3, 3, 3]
    assert all(len({id[0] for id in block}) == 1 for block in found)
    assert list((tmp_path / "job" / "records").glob(".*")) == []


def test_one_group_name_in_two_tasks_or_data_sets_is_two_groups(tmp_path: Path) -> None:
    rows = [row("a", "g"), row("b", "g", task="story"), row("c", "g", dataset="x"), row("d", "g")]
    take_in(tmp_path, rows, block_rows=1)
    assert sorted(map(sorted, blocks(tmp_path))) == [["a", "d"], ["b"], ["c"]]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    text = 'Zeile 1\nZeile 2\t"„ß🙂"\u2028{{candidate}}\\'
    given_row = row("a", candidate=text, reference="r", system="s", dataset="d", ratings={"overall": [2, None, 4]})
    take_in(tmp_path, [given_row])
    found = next(iter_rows(parts_of(tmp_path / "job" / "records")))
    group_key = found.pop("group_key")
    back = Record.from_row(found)
    assert (back.candidate, back.fields, back.scores) == (text, {"reference": "r"}, {"overall": 3})
    assert back.ratings == {"overall": (2, None, 4)}
    assert back.group_key == group_key == "qa/d/g"


LAYOUTS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)  # it writes files
@given(LAYOUTS, st.integers(1, 8), st.integers(1, 12))
def test_any_layout_keeps_every_record_and_divides_no_group(
    tmp_path_factory: pytest.TempPathFactory, layout: list[str], block_rows: int, bucket_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("layout")
    rows = [row(f"{number:02d}", group) for number, group in enumerate(layout)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_A_BUCKET", bucket_rows)
        assert take_in(folder, rows, block_rows=block_rows) == Ingested(len(rows), 0)
    found = blocks(folder)
    assert sorted(chain.from_iterable(found)) == [one["id"] for one in rows]
    homes = {
        group: {place for place, block in enumerate(found) for id in block if layout[int(id)] == group}
        for group in layout
    }
    assert all(len(places) == 1 for places in homes.values())
    assert all(len(block) >= block_rows for block in found[:-1])
    # Rows of a group keep their order, and stand side by side.
    for block in found:
        for group in {layout[int(id)] for id in block}:
            places = [place for place, id in enumerate(block) if layout[int(id)] == group]
            assert places == list(range(places[0], places[0] + len(places)))
            assert [block[place] for place in places] == sorted(block[place] for place in places)


def test_rows_that_do_not_fit_are_set_aside_within_the_share(tmp_path: Path) -> None:
    rows = [row("a"), "{broken", row("b"), row("c", scores={"overall": 9})]
    assert take_in(tmp_path, rows, max_rejected_share=0.5) == Ingested(2, 2)
    assert ingested(tmp_path / "job" / "records") == Ingested(2, 2)
    lines = (tmp_path / "job" / "records" / "rejected.jsonl").read_text().splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [(one["file"], one["line"]) for one in rejected] == [(str(tmp_path / "in.jsonl"), line) for line in (2, 4)]
    assert [(one["code"], one["key"]) for one in rejected] == [
        ("invalid_json", ""),
        ("out_of_scale", "scores.overall"),
    ]
    assert "9 lies outside the scale 1 to 5" in rejected[1]["reason"]


def test_groups_are_left_out_whole_and_counted(tmp_path: Path) -> None:
    rows = [
        row("a1", "a"),
        row("b1", "b"),
        row("a2", "a"),
        row("s1", "a", task="story"),
        row("d1", "a", dataset="d"),
        row("c1", "c"),
    ]
    # The group `a` of another task or data set is another group; a group that no record has does no harm.
    assert take_in(tmp_path, rows, without={"qa//a", "qa//nowhere"}, block_rows=1) == Ingested(4, 0, 2)
    assert ingested(tmp_path / "job" / "records") == Ingested(4, 0, 2)
    assert sorted(chain.from_iterable(blocks(tmp_path))) == ["b1", "c1", "d1", "s1"]
    assert not (tmp_path / "job" / "records" / "rejected.jsonl").exists()


def test_what_is_left_out_is_checked_all_the_same_and_counts_as_a_row(tmp_path: Path) -> None:
    rows = [row("a", "a"), row("b", "b"), "{", row("c", "c")]
    # One of four rows does not fit; of the two that remain it would be a third.
    assert take_in(tmp_path / "1", rows, without=("qa//a", "qa//b"), max_rejected_share=0.25) == Ingested(1, 1, 2)
    with rejected_whole(tmp_path / "2", "duplicate_id", "id", naming="in.jsonl, line 3: "):
        take_in(tmp_path / "2", [row("a", "a"), row("b", "b"), row("a", "a")], without=("qa//a",))


@contextmanager
def rejected_whole(folder: Path, code: str, key: str, *, naming: str = "") -> Iterator[None]:
    """The block is refused and leaves no files."""
    with refused(code, key, naming=naming):
        yield
    assert [path.name for path in (folder / "job").rglob("*")] == []


SHARE = "data.max_rejected_share"


def test_more_than_the_share_stops_and_leaves_nothing(tmp_path: Path) -> None:
    for place in ("in.jsonl, line 2: ", "(2 of 3 rows", "50%"):
        with rejected_whole(tmp_path, "too_many_rejected", SHARE, naming=place):
            take_in(tmp_path, [row("a"), "{", "{"], max_rejected_share=0.5)


def test_without_a_share_the_first_row_that_does_not_fit_stops(tmp_path: Path) -> None:
    with rejected_whole(tmp_path, "duplicate_id", "id", naming="in.jsonl, line 3: "):
        take_in(tmp_path, [row("a"), row("b"), row("a")])


def test_no_row_that_fits_stops_whatever_the_share(tmp_path: Path) -> None:
    with rejected_whole(tmp_path, "too_many_rejected", SHARE, naming="2 of 2 rows"):
        take_in(tmp_path, ["{", "{"], max_rejected_share=0.99)


def test_no_record_that_is_left_stops(tmp_path: Path) -> None:
    seen = {"qa//a", "qa//b"}
    with rejected_whole(tmp_path, "contaminated", "data.records", naming="All 3 records"):
        take_in(tmp_path, [row("x", "a"), row("y", "b"), row("z", "a")], without=seen)
    # Invalid rows are not the reason, as long as there are few enough.
    with rejected_whole(tmp_path, "contaminated", "data.records", naming="All 2 records"):
        take_in(tmp_path, [row("x", "a"), row("y", "b"), "{"], without=seen, max_rejected_share=0.5)


@pytest.mark.parametrize("key", ["dev_share", "pool_share", "groups_share"])
def test_a_share_that_selects_no_group_is_named(tmp_path: Path, key: str) -> None:
    shares = {"dev_share": 0.9999, "pool_share": 0.9999, "groups_share": 0.0001}
    with rejected_whole(tmp_path, "not_enough_groups", f"data.{key}"):
        pool = (jsonl(tmp_path / "pool.jsonl", [row("p", "h")]),) if key == "pool_share" else ()
        take_in(tmp_path, [row("a")], pool=pool, **{key: shares[key]})


def test_what_the_caller_refuses_is_rejected_with_its_words(tmp_path: Path) -> None:
    with rejected_whole(tmp_path, "invalid_value", "", naming="in.jsonl, line 1: not a"):
        take_in(tmp_path, [row("a")], check=lambda record: f"not {record.id}")


def test_an_error_of_the_caller_keeps_its_code_and_key(tmp_path: Path) -> None:
    problem = RowError("no", code="unknown_aspect", key="evaluate.aspects")
    with rejected_whole(tmp_path, "unknown_aspect", "evaluate.aspects", naming="in.jsonl, line 1: no"):
        take_in(tmp_path, [row("a")], check=lambda record: problem)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_stops(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with refused("empty_file", naming="in.jsonl"):
        ingest(
            DataConfig(records=(str(tmp_path / "in.jsonl"),)),
            tmp_path / "job" / "records",
            block_rows=2,
            check=lambda record: None,
        )
    assert list((tmp_path / "job").iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing_and_the_next_try_succeeds(tmp_path: Path) -> None:
    def fail(record: Record) -> None:
        if record.id == "c":
            raise KeyboardInterrupt

    rows = [row(id, id) for id in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        take_in(tmp_path, rows, block_rows=1, check=fail)
    assert list((tmp_path / "job").iterdir()) == []
    take_in(tmp_path, rows, block_rows=1)
    assert blocks(tmp_path) == [["a"], ["b"], ["c"], ["d"]]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path: Path) -> None:
    left = tmp_path / "job" / ".records.partial"
    left.mkdir(parents=True)
    (left / "part-000007.parquet").write_text("half")
    take_in(tmp_path, [row("a")])
    assert blocks(tmp_path) == [["a"]]
    assert not left.exists()
