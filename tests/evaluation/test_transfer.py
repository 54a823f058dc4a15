"""The job `transfer` with scripted judges: the cells of the matrix, its values by hand, its errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.config import RunConfig, load
from cluster.jobs import sections
from evaluation import transfer
from judging.tasks import load_task
from judging.template import Template, rubric_template
from judging.template_io import file_name, save_templates
from tests.evaluation.making import jsonl, row
from tests.refusals import refused

LEVELS = (1, 2, 3, 4, 5)


def learned(run: Path, model: str, source: str, *texts: str, task: str = "qa") -> None:
    """The artefacts of `invert` for a model: the selected template, and every valid candidate."""
    folder = run / "invert" / model
    for place in (folder / source, folder / "candidates" / source):
        place.mkdir(parents=True, exist_ok=True)
    rubric = rubric_template(load_task(task), "overall")
    for number, words in enumerate(texts):
        text = f"{words}\n{{{{source}}}}\n{{{{candidate}}}}"
        one = Template(text, task, "overall", rubric.scale, rubric.fields, origin=source)
        save_templates(folder / "candidates" / source / f"{task}.{number:03d}.txt", [one])
        if number == 0:
            save_templates(folder / source / file_name(task), [one])
    (folder / "manifest.json").write_text("{}")


def rule(*contains: str, label: int) -> dict[str, Any]:
    """A scripted judge that is sure of a label where the prompt holds the words."""
    return {"contains": contains[0], "label_logprobs": {str(level): 0.0 if level == label else -30 for level in LEVELS}}


def configuration(folder: Path, **transfer: Any) -> str:
    """Two groups of five candidates, levels 1 to 5. `sure` reads the level; `contrary` gives it the wrong way round."""
    rows = [
        row(f"{group}{level}", group, candidate=f"It is of level {level}.", scores={"overall": level})
        for group in ("g", "h")
        for level in LEVELS
    ]
    models = {
        "sure": {"backend": "scripted", "rules": [rule(f"of level {level}.", label=level) for level in LEVELS]},
        "contrary": {"backend": "scripted", "rules": [rule(f"of level {level}.", label=6 - level) for level in LEVELS]},
    }
    config = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "in.jsonl", rows)]},
        "models": models,
        "transfer": {"judges": ["sure", "contrary"], "resamples": 100, **transfer},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_every_models_prompt_under_every_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("sure", "contrary"):
        learned(tmp_path / "run", model, "inverse", f"Rate it, says {model}.")
    config = configuration(tmp_path, sources=["rubric", "inverse"])
    assert main(["run", config]) == 0
    [part] = json.loads((tmp_path / "run" / "transfer" / "matrix.json").read_text())["slices"]
    cells = {(cell["prompt"], cell["judge"]): cell for cell in part["cells"]}
    assert set(cells) == {
        (prompt, judge) for prompt in ("rubric", "inverse sure", "inverse contrary") for judge in ("sure", "contrary")
    }
    for (prompt, judge), cell in cells.items():
        assert cell["group.spearman"]["value"] == pytest.approx(1 if judge == "sure" else -1)
        assert cell["num_prompts"] == 1
        if prompt != "rubric":
            assert cell["minus_rubric"]["dataset.spearman"]["value"] == pytest.approx(0)
    assert (part["num_rows"], part["num_groups"]) == (10, 2)
    shown = capsys.readouterr().out
    assert "inverse contrary" in shown and "1.00 [1.00, 1.00]" in shown
    assert len(list((tmp_path / "run" / "transfer" / "evaluate" / "verdicts").iterdir())) == 6


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_cell_of_every_candidate_is_their_mean(tmp_path: Path) -> None:
    """The second candidate's prompt makes the judge say 3 to all: no order, so its correlation is undefined; the third
    makes it say the opposite. Mean over the defined ones: (1 - 1) / 2."""
    learned(tmp_path / "run", "sure", "forward", "Rate it.", "Say three.", "The wrong way round.")
    config = configuration(tmp_path, judges=["odd"], prompts_of=["sure"], sources=["forward"], every_candidate=True)
    raw = yaml.safe_load(Path(config).read_text())
    opposite = [
        {**rule(f"wrong way round.\nQuestion {group}?\nIt is of level {level}.", label=6 - level)}
        for group in ("g", "h")
        for level in LEVELS
    ]
    rules = [rule("Say three.", label=3), *opposite, *raw["models"]["sure"]["rules"]]
    raw["models"]["odd"] = {"backend": "scripted", "rules": rules}
    Path(config).write_text(yaml.safe_dump(raw))
    assert main(["transfer", config]) == 0
    [part] = json.loads((tmp_path / "run" / "transfer" / "matrix.json").read_text())["slices"]
    [cell] = part["cells"]
    assert (cell["prompt"], cell["judge"], cell["num_prompts"]) == ("forward sure", "odd", 3)
    assert cell["group.spearman.of_each_prompt"] == [pytest.approx(1), None, pytest.approx(-1)]
    assert cell["group.spearman"]["value"] == pytest.approx(0)
    assert cell["group.spearman"]["low"] == pytest.approx(-1)
    assert "minus_rubric" not in cell


def transferred(folder: Path, **settings: Any) -> None:
    transfer.main(load(Path(configuration(folder, **settings)), [], sections()))


def test_bad_input_is_refused_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with refused("missing_job", "transfer.sources", naming="forward prompts in"):
        transferred(tmp_path)
    with refused("unknown_model", "transfer.judges", naming="'nobody'"):
        transferred(tmp_path, judges=["nobody"])
    features = {"models": {"words": {"backend": "features", "feature": "length"}}}
    run = RunConfig.model_validate({"run": str(tmp_path / "run"), **features})
    with refused("unsupported", "transfer.judges", naming="'words'"):
        list(transfer._cells(run, transfer.Config(judges=("words",), sources=("rubric",))))
    assert not (tmp_path / "run").exists()
    learned(tmp_path / "run", "sure", "inverse", "Rate it.")
    learned(tmp_path / "run", "sure", "inverse", "Rate it.", task="story")
    more = {"judges": ["sure"], "sources": ["inverse"], "every_candidate": True}
    with refused("unsupported", "transfer.every_candidate", naming="(qa, story)"):
        transferred(tmp_path, **more)
    learned(tmp_path / "run", "contrary", "inverse")
    more["prompts_of"] = ["contrary"]
    with refused("unknown_prompt", "transfer.every_candidate", naming="inverse"):
        transferred(tmp_path, **more)
    assert main(["transfer", configuration(tmp_path, **more)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run" / "transfer").exists()
