"""The notebook in examples/ runs from its first cell to its last, with the real model, and shows its results."""

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import inverdict
from evaluation.reporting import report
from tests.bench.measure import ROOT
from tests.evaluation.reporting.test_report import few_labels, finished

NOTEBOOK = ROOT / "examples" / "evaluate.ipynb"


def shown(code: str, names: dict[str, Any]) -> str:
    """What a notebook shows below a cell: its last expression, as HTML where it has such a form."""
    *rest, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        exec(compile(code, "cell", "exec"), names)
        return ""
    exec(compile(ast.Module(rest, []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return str(value._repr_html_()) if hasattr(value, "_repr_html_") else repr(value)


def run_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """The names at the notebook's end, and what each cell of code shows."""
    monkeypatch.chdir(tmp_path)  # it writes to runs/
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear the outputs before you commit"
    return names, [shown("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]


def check_shown(outputs: list[str]) -> None:
    """The first rows; nothing below the labels' cell; the evaluation; five tables' worth of HTML; the report's path."""
    first, labels, *tables, path = outputs
    assert labels == "" and "report.html" in path
    assert len(tables) == 5 and all("<table" in html and "<td>" in html for html in (first, *tables))
    assert "both" in tables[-1]


@pytest.mark.engine
def test_the_notebook_runs(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    names, outputs = run_cells(tmp_path, monkeypatch)
    check_shown(outputs)
    systems = names["found"].systems()
    assert len(systems) == 5 and systems["coverage"].min() > 0.9
    few = names["found"].with_few_labels()
    assert len(few) == 15 and set(few.loc[few["estimate"] == "labels alone", "n"]) == {10}
    assert names["found"].report().is_file()


def test_the_notebook_shows_a_finished_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without a model: every cell but the judging, on a run that is finished."""

    def evaluate(rows: pd.DataFrame, **settings: Any) -> inverdict.Evaluation:
        assert len(rows) == 80 and rows["scores"].notna().sum() == 50  # 16 questions, ten with labels; five systems
        report.main(finished(tmp_path / "run", few_labels()))
        return inverdict.load(tmp_path / "run")

    monkeypatch.setattr(inverdict, "evaluate", evaluate)
    check_shown(run_cells(tmp_path, monkeypatch)[1])
