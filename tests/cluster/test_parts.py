"""Rows as Parquet parts: named after their ids, written whole, read back, and made again where one is damaged."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import JobFailed
from cluster.parts import parts_of, sound_rows, write_part

SCHEMA = pa.schema([("id", pa.large_string()), ("n", pa.int64())])


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "n": len(id)} for id in ids]


def write(folder: Path, *ids: str, **more: Any) -> None:
    write_part(folder, [{**row, **more} for row in rows(*ids)], SCHEMA, ids)


def test_rows_come_back_in_order_of_part_and_then_of_row(tmp_path: Path) -> None:
    write(tmp_path, "b", "aaa")
    write(tmp_path, "c")
    names = [hashlib.sha256(ids).hexdigest()[:16] for ids in (b"b\0aaa", b"c")]
    assert [part.name for part in parts_of(tmp_path)] == sorted(f"part-{name}.parquet" for name in names)
    # sha256 of "b\0aaa" begins with 0e, that of "c" with 2e.
    assert list(sound_rows(tmp_path, ["id", "n"])) == rows("b", "aaa", "c")


def test_only_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    assert list(sound_rows(tmp_path, ["id"])) == [{"id": "a"}, {"id": "b"}]


def test_the_same_ids_written_again_take_the_place_of_the_first(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", n=1)
    write(tmp_path, "a", "b", n=2)
    assert list(sound_rows(tmp_path, ["n"])) == [{"n": 2}, {"n": 2}]
    # Other ids, or the same in another order, are another part; "ab" and "a", "b" are not the same ids.
    write(tmp_path, "b", "a")
    write(tmp_path, "ab")
    assert len(parts_of(tmp_path)) == 3


def test_what_a_schema_does_not_allow_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write(tmp_path, "a", n="many")
    assert parts_of(tmp_path) == []


def test_a_kill_in_the_middle_of_writing_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, "a", "b")
    assert parts_of(tmp_path) == []
    assert list(sound_rows(tmp_path, ["id"])) == []
    # The same rows, written anew, take the half-written file's place too.
    write(tmp_path, "a", "b")
    assert [path.name[:5] for path in tmp_path.iterdir()] == ["part-"]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"no parquet at all", None])
def test_a_damaged_part_is_removed_and_the_others_are_read(tmp_path: Path, damage: bytes | None) -> None:
    for id in ("a", "b", "c"):
        write(tmp_path, id)
    broken = parts_of(tmp_path)[1]
    lost = next(id for id in ("a", "b", "c") if hashlib.sha256(id.encode()).hexdigest()[:16] in broken.name)
    broken.write_bytes(broken.read_bytes()[:-9] if damage is None else damage)
    assert {row["id"] for row in sound_rows(tmp_path, ["id"])} == {"a", "b", "c"} - {lost}
    assert not broken.exists()
    assert len(parts_of(tmp_path)) == 2


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), OSError(5, "Input/output error"), PermissionError("no")]
)
def test_a_part_that_the_system_will_not_give_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fails(*args: Any, **more: Any) -> None:
        raise error

    write(tmp_path, "a")
    with monkeypatch.context() as patch:
        patch.setattr("cluster.parts.pq.read_table", fails)
        with pytest.raises(JobFailed, match=rf"part-\w+\.parquet .*{error.args[-1]}") as caught:
            list(sound_rows(tmp_path, ["id"]))
        assert caught.value.code == "unreadable_file"
    assert list(sound_rows(tmp_path, ["id"])) == [{"id": "a"}]


@pytest.mark.parametrize("place", ["first page", "footer"])
def test_a_part_with_damage_inside_is_made_again(tmp_path: Path, place: str) -> None:
    # pyarrow's word for these two is a bare OSError.
    write(tmp_path, "a")
    (part,) = parts_of(tmp_path)
    whole = part.read_bytes()
    part.write_bytes(
        whole[:4] + b"\0" * 20 + whole[24:] if place == "first page" else whole[:-30] + b"\xff" * 22 + whole[-8:]
    )
    assert list(sound_rows(tmp_path, ["id"])) == []
    assert not part.exists()


def test_a_folder_without_parts_or_no_folder_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_bytes(b"not ours")
    assert list(sound_rows(tmp_path, ["id"])) == []
    assert list(sound_rows(tmp_path / "none", ["id"])) == []
    # What is no part is not touched.
    assert (tmp_path / "notes.parquet").exists()
