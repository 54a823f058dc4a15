"""Where a judge's prompts come from: the tasks' rubrics, what `inverdict invert` learned for its model, or files.

A folder of prompts holds `TASK.ASPECT.txt`, or `TASK.txt` for several aspects. It knows no records and no engines.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.artifacts import JobDir
from judging.errors import InputError
from judging.tasks import load_task
from judging.template import Template, Templates, rubric_template
from judging.template_io import file_name, load_templates, save_templates

RUBRIC = "rubric"
LEARNED = {"inverse": "invert", "forward": "invert", "optimised": "optimise"}  # source -> the job that leaves it
FALLBACK = "All candidates were refused; the task's written rubric judged in its place"


@dataclass(frozen=True)
class Prompts:
    """The prompts of one judge: a template file, a folder of them, or (`path` None) the tasks' rubrics."""

    judge: str
    path: Path | None = None

    def template(self, task: str, aspect: str) -> Template:
        """Raises InputError where there is none for that task and aspect, or one with another scale."""
        known = load_task(task)
        if self.path is None:
            return rubric_template(known, aspect)
        path = self._file(task, aspect)
        templates = load_templates(path)
        template = templates.get(aspect)
        if template is None or template.task not in (task, known.name):
            held = ", ".join(f"{one.task}/{one.aspect}" for one in templates.values())
            raise InputError(f"{_key(self.judge)}: {path} is for {held}, not for {task}/{aspect}")
        if template.scale != known.scale_of(aspect):
            raise InputError(
                f"{_key(self.judge)}: {path} asks for {template.scale}, the task's scale is "
                f"{known.scale_of(aspect)}: all judges of a panel need the same"
            )
        return template

    def seen_groups(self) -> frozenset[str]:
        """Keys of the groups whose human scores have formed one of the templates, whether it will be used or not."""
        if self.path is None:
            return frozenset()
        files = sorted(self.path.glob("*.txt")) if self.path.is_dir() else [self.path]
        return frozenset(key for file in files for one in load_templates(file).values() for key in one.seen_groups)

    def save(self, templates: Templates, folder: Path) -> None:
        """Leave in `folder` what the judge is asked, one file for each of `templates`: a folder of prompts itself."""
        folder.mkdir(parents=True, exist_ok=True)
        for (task, aspect), template in templates.items():
            place = folder / file_name(task, aspect)
            if self.path is None:
                save_templates(place, [template])
            else:
                # The whole file: of a prompt for several aspects, perhaps not all are judged.
                shutil.copyfile(self._file(task, aspect), place)

    def _file(self, task: str, aspect: str) -> Path:
        assert self.path is not None
        if not self.path.is_dir():
            return self.path
        names = (file_name(task, aspect), file_name(task))
        for name in names:
            if (self.path / name).exists():
                return self.path / name
        raise InputError(
            f"{_key(self.judge)}: {self.path} holds no template for {task}/{aspect}: neither {names[0]} nor {names[1]}"
        )


def find_prompts(run: Path, judge: str, model: str, prompt: str) -> Prompts:
    """What `prompt` of the configuration means for a judge of `model`. Raises InputError where it is not there."""
    if prompt == RUBRIC:
        return Prompts(judge)
    if prompt in LEARNED:
        job = LEARNED[prompt]
        learned = JobDir(run / job, model)
        if learned.manifest() is None or not (learned.path / prompt).is_dir():
            raise InputError(
                f"{_key(judge)}: {learned.path} holds no finished {prompt} prompts: run `inverdict {job}` first"
            )
        return Prompts(judge, learned.path / prompt)
    if not Path(prompt).exists():
        raise InputError(
            f"{_key(judge)}: there is no file {prompt} (paths count from the working directory), "
            f"and it is none of {', '.join((RUBRIC, *LEARNED))}"
        )
    return Prompts(judge, Path(prompt))


def warnings(judge: str, templates: Templates) -> list[str]:
    """A sentence for each task whose learned prompt is none: inversion fell back on the rubric."""
    tasks = dict.fromkeys(task for (task, _), one in templates.items() if one.about.get("fallback"))
    return [f"{judge}, {task}: {FALLBACK}" for task in tasks]


def _key(judge: str) -> str:
    return f"evaluate.judges.{judge}.prompt"
