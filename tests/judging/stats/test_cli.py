import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from judging.stats.cli import add_arguments, main, read_rows
from judging.stats.estimate import LEVELS, STATISTICS
from tests.refusals import refused

GOOD = [
    {"group": f"q{group}", "system": f"s{system}", "human": human, "score": human + (group * 7 + system * 3) % 5 / 2,
     "length": (group + system * 5) % 11, "text": "x"}
    for group in range(6)
    for system, human in enumerate([1, 2, 2.5, 4])
]  # fmt: skip


def run(path: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(path), "--resamples", "60", *options]))


def write(tmp_path: Path, content: str | bytes | list[dict[str, object]]) -> Path:
    path = tmp_path / "scores.jsonl"
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert run(path, "--json", *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)  # type: ignore[no-any-return]


def at(tree: object, dotted: str) -> dict[str, float]:
    for name in dotted.split("."):
        tree = tree[name]  # type: ignore[index]
    return tree  # type: ignore[return-value]


def test_json_has_every_statistic_and_its_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(write(tmp_path, GOOD), capsys)
    for names in STATISTICS.values():
        for name in names:
            for path in (name, f"floor.{name}"):
                assert {"value", "low", "high", "n", "coverage"} <= set(at(found, path))
    human, score = ([row[name] for row in GOOD] for name in ("human", "score"))
    assert at(found, "dataset.pearson")["value"] == pytest.approx(np.corrcoef(human, score)[0, 1])  # type: ignore[arg-type]
    assert (found["rows"], found["scored"], found["groups"], found["systems"]) == (24, 24, 6, 4)
    assert found["ceiling"] is None and found["baseline"] is None and found["notes"] == []
    assert at(found, "floor.aeollm.official.spearman")["low"] > 0


def test_text_is_an_aligned_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, GOOD), "--baseline", "length", "--levels", "dataset,aeollm") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("score against human, 24 rows (24 scored) in 6 groups")
    assert "difference to length" in lines[1] and len({len(line) for line in lines[1:12]}) == 1
    assert [line.split()[0] for line in lines[2:12]] == [*STATISTICS["dataset"], *STATISTICS["aeollm"]]


def test_baseline_and_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(write(tmp_path, GOOD), capsys, "--baseline", "length", "--interval", "bca")
    for name in ("dataset.pearson", "group.kendall_b", "aeollm.official.accuracy"):
        difference = at(found, name)["value"] - at(found, f"baseline.{name}")["value"]
        assert at(found, f"difference.{name}")["value"] == pytest.approx(difference)


def test_other_columns_levels_and_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD)
    found = as_json(path, capsys, "--score", "human", "--human", "length", "--levels", "dataset")
    assert set(found) & set(LEVELS) == {"dataset"}
    assert found == as_json(path, capsys, "--score", "human", "--human", "length", "--levels", "dataset")
    other = as_json(path, capsys, "--score", "human", "--human", "length", "--levels", "dataset", "--seed", "1")
    assert at(other, "dataset.pearson")["low"] != at(found, "dataset.pearson")["low"]


def test_order_bom_crlf_and_blank_lines_do_not_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(write(tmp_path, GOOD), capsys)
    text = "\r\n\r\n".join(json.dumps(row) for row in reversed(GOOD))
    assert as_json(write(tmp_path, b"\xef\xbb\xbf" + text.encode()), capsys) == plain


def test_unscored_rows_and_no_systems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{k: v for k, v in row.items() if k != "system"} | ({"score": None} if i < 6 else {})
            for i, row in enumerate(GOOD)]  # fmt: skip
    found = as_json(write(tmp_path, rows), capsys)
    assert at(found, "dataset.pearson")["n"] == 18 and at(found, "dataset.pearson")["coverage"] == 0.75
    assert "system" not in found and "no row has a system" in found["notes"][0]  # type: ignore[index]


def test_a_row_without_a_system_is_left_out_of_the_system_level_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [*GOOD, {"group": GOOD[0]["group"], "human": 1, "score": 3, "length": 1}]
    found, whole = (as_json(write(tmp_path, rows), capsys) for rows in (odd, GOOD))
    assert at(found, "system.pearson") | {"coverage": 1} == at(whole, "system.pearson") | {"coverage": 1}
    assert at(found, "dataset.pearson")["n"] == 25
    assert found["notes"] == ["1 of 25 rows have no system and are excluded from the system level"]


def test_a_baseline_has_no_distance_in_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(write(tmp_path, GOOD), capsys, "--baseline", "length")
    for name in ("mean_absolute_error", "krippendorff_alpha"):
        assert name in found["dataset"] and name not in found["baseline"]["dataset"]  # type: ignore[index]
        assert name not in found["difference"]["dataset"]  # type: ignore[index]


def test_nothing_scored_is_null_and_one_group_has_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(write(tmp_path, [row | {"score": None} for row in GOOD]), capsys)
    assert at(found, "group.kendall_b")["value"] is None and "no row has a score" in found["notes"][0]  # type: ignore[index]
    path = write(tmp_path, GOOD[:4])
    found = as_json(path, capsys)
    assert at(found, "dataset.pearson")["low"] is None and "one group" in found["notes"][0]  # type: ignore[index]
    assert run(path) == 0


def test_ratings_give_a_ceiling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"ratings": [row["human"], i % 3, None]} for i, row in enumerate(GOOD)]
    found = as_json(write(tmp_path, rows), capsys)
    assert at(found, "ceiling.dataset.pearson")["n"] == 24
    assert run(write(tmp_path, rows)) == 0
    assert "human ceiling" in capsys.readouterr().out


ROW = '{"group": "a", "system": "x", "human": 1, "score": 2}'


@pytest.mark.parametrize(
    ("content", "line", "code", "key", "naming"),
    [
        ("", None, "empty_file", "", ""),
        ("\n \n", None, "empty_file", "", ""),
        (f"{ROW}\n{{", 2, "invalid_json", "", "column 2"),
        (f"{ROW}\n[1]", 2, "invalid_json", "", "object"),
        (b"\n{\"group\": \"\xff\"}", 2, "unreadable_file", "", "byte 12"),
        ("[" * 100_000, 1, "invalid_json", "", ""),
        ('{"group": "a", "human": 1' + "1" * 5000 + ', "score": 1}', 1, "invalid_json", "", "too long"),
        ('{"group": "a", "human": 1, "score": NaN}', 1, "invalid_json", "", "NaN"),
        ('{"group": "a", "human": -Infinity, "score": 1}', 1, "invalid_json", "", "-Infinity"),
        ('{"group": "a", "human": 1e999, "score": 1}', 1, "invalid_value", "human", "too large"),
        ('{"group": "a", "human": 1' + "0" * 400 + ', "score": 1}', 1, "invalid_value", "human", "too large"),
        ('{"group": "a", "human": "4", "score": 1}', 1, "invalid_value", "human", '"4"'),
        ('{"group": "a", "human": 1, "score": true}', 1, "invalid_value", "score", "true"),
        ('{"group": "a", "human": 1, "score": {}}', 1, "invalid_value", "score", "{}"),
        ('{"group": "a", "human": null, "score": 1}', 1, "missing_key", "human", ""),
        ('{"group": "a", "score": 1}', 1, "missing_key", "human", ""),
        ('{"group": "a", "human": 1}', 1, "missing_key", "score", "null"),
        ('{"human": 1, "score": 1}', 1, "missing_key", "group", ""),
        ('{"group": 1.5, "human": 1, "score": 1}', 1, "invalid_value", "group", "text"),
        ('{"group": "a", "system": true, "human": 1, "score": 1}', 1, "invalid_value", "system", "text"),
        ('{"group": "a", "human": 1, "score": 1, "ratings": ["x"]}', 1, "invalid_value", "ratings", '"x"'),
        ('{"group": "a", "human": 1, "score": 1, "ratings": {"a": [1, 2]}}', 1, "invalid_value", "ratings", "list"),
        ('{"group": "a", "human": 1, "score": 1, "System": "x"}', 1, "unknown_key", "System", '"system"'),
        ("[\n" + ROW + "\n]", 1, "invalid_json", "", "array"),
        (f'{ROW}\n{{"group": "a", "human": 1, "score": 1, "score": 2}}', 2, "duplicate_key", "", '"score"'),
        (f"{ROW}\n\n{ROW}", 3, "duplicate_record", "group", "line 1"),
    ],
)  # fmt: skip
def test_bad_files_get_one_sentence(
    content: str | bytes, line: int | None, code: str, key: str, naming: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = write(tmp_path, content)
    with refused(code, key, naming=naming):
        read_rows(path, human="human", scores=["score"])
    assert run(path) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    place = f"{path} " if line is None else f"{path}, line {line}: "
    assert printed.err.startswith(f"inverdict agreement: {place}") and naming in printed.err


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.jsonl") == 2 and run(tmp_path) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "none.jsonl" in printed.err
    for path, code in ((tmp_path / "none.jsonl", "missing_file"), (tmp_path, "unreadable_file")):
        with refused(code, naming=str(path)):
            read_rows(path, human="human", scores=["score"])


@pytest.mark.parametrize("options", [["--levels", "word"], ["--resamples", "0"], ["--seed", "-1"], ["--seed", "x"]])
def test_bad_options(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(write(tmp_path, GOOD), *options)
    assert stop.value.code == 2 and capsys.readouterr().out == ""


def test_import_is_light() -> None:
    code = "import judging.stats.cli, sys; assert not {'numpy', 'scipy', 'pydantic'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
