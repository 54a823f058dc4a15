"""Where a judge's prompts come from: the tasks' rubrics, prompts learned for its model, or files.

A folder of prompts has `TASK.ASPECT.txt`, or `TASK.txt` for several aspects. No records and no engines here.
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
LEARNED = {"inverse": "invert", "forward": "invert", "optimised": "optimise"}  # source -> the job that makes it
FALLBACK = "All candidates were rejected; the task's rubric is used instead"


@dataclass(frozen=True)
class Prompts:
    """The prompts of one judge: a template file, a folder of them, or (`path` None) the tasks' rubrics."""

    judge: str
    path: Path | None = None

    def template(self, task: str, aspect: str) -> Template:
        """The template of that task and aspect. Raises InputError where it is missing or has another scale."""
        known = load_task(task)
        if self.path is None:
            return rubric_template(known, aspect)
        path = self._file(task, aspect)
        templates = load_templates(path)
        template = templates.get(aspect)
        if template is None or template.task not in (task, known.name):
            covered = ", ".join(f"{one.task}/{one.aspect}" for one in templates.values())
            raise InputError(
                f"{_key(self.judge)}: {path} is a template for {covered}, not for {task}/{aspect}.",
                code="unknown_prompt",
                key=_key(self.judge),
            )
        if template.scale != known.scale_of(aspect):
            raise InputError(
                f"{_key(self.judge)}: {path} has the scale {template.scale}, but {task}/{aspect} has "
                f"{known.scale_of(aspect)}. All judges of a panel must use the task's scale.",
                code="conflict",
                key=_key(self.judge),
            )
        return template

    def seen_groups(self) -> frozenset[str]:
        """Keys of the groups whose human scores were used to make any of the templates, used here or not."""
        if self.path is None:
            return frozenset()
        files = sorted(self.path.glob("*.txt")) if self.path.is_dir() else [self.path]
        return frozenset(key for file in files for one in load_templates(file).values() for key in one.seen_groups)

    def save(self, templates: Templates, folder: Path) -> None:
        """Write the judge's prompts to `folder`, one file for each of `templates`; a valid folder of prompts."""
        folder.mkdir(parents=True, exist_ok=True)
        for (task, aspect), template in templates.items():
            file = folder / file_name(task, aspect)
            if self.path is None:
                save_templates(file, [template])
            else:
                # The whole file, even if not all aspects of the prompt are judged.
                shutil.copyfile(self._file(task, aspect), file)

    def _file(self, task: str, aspect: str) -> Path:
        assert self.path is not None
        if not self.path.is_dir():
            return self.path
        names = (file_name(task, aspect), file_name(task))
        for name in names:
            if (self.path / name).exists():
                return self.path / name
        raise InputError(
            f"{_key(self.judge)}: {self.path} has no template for {task}/{aspect}. Add {names[0]} or {names[1]}.",
            code="unknown_prompt",
            key=_key(self.judge),
        )


def find_prompts(run: Path, judge: str, model: str, prompt: str) -> Prompts:
    """The prompts that a judge's setting `prompt` refers to.

    Args:
        run: the run folder.
        judge: the judge's name.
        model: the judge's model, by its name under `models`.
        prompt: the setting: a source or a path.

    Raises:
        InputError: the job of that source has not finished, or there is no such file.
    """
    if prompt == RUBRIC:
        return Prompts(judge)
    if prompt in LEARNED:
        job = LEARNED[prompt]
        learned = JobDir(run / job, model)
        if learned.manifest() is None or not (learned.path / prompt).is_dir():
            raise InputError(
                f"{_key(judge)}: no finished {prompt} prompts in {learned.path}. Run `inverdict {job}` first.",
                code="missing_job",
                key=_key(judge),
            )
        return Prompts(judge, learned.path / prompt)
    if not Path(prompt).exists():
        raise InputError(
            f"{_key(judge)} must be one of {', '.join((RUBRIC, *LEARNED))}, or a file; file not found: {prompt}. Paths "
            "are relative to the working directory.",
            code="missing_file",
            key=_key(judge),
        )
    return Prompts(judge, Path(prompt))


def warnings(judge: str, templates: Templates) -> list[str]:
    """A warning for each task whose learned prompt is missing: inversion fell back to the rubric."""
    tasks = dict.fromkeys(task for (task, _), one in templates.items() if one.about.get("fallback"))
    return [f"{judge}, {task}: {FALLBACK}" for task in tasks]


def _key(judge: str) -> str:
    return f"evaluate.judges.{judge}.prompt"
