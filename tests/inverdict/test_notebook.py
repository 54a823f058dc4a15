"""The notebook in examples/ runs from its first cell to its last, with the real model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.measure import ROOT


@pytest.mark.engine
def test_the_notebook_runs(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes to runs/
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    cells = json.loads((ROOT / "examples" / "evaluate.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        assert not cell.get("outputs"), "clear the outputs before you commit"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    systems = names["found"].systems()
    assert len(systems) == 5 and systems["coverage"].min() > 0.9
    assert len(names["few"]) == 5 and names["few"][0]["labels_alone"]["n"] == 10
    assert names["found"].report().is_file()
