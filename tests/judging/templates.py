"""Templates for tests: a plain one, and the rubrics of the built-in tasks."""

from judging.records import Scale, ScoreMode
from judging.tasks import FOLDER, FieldSpec, load_task
from judging.template import Template, rubric_template

MODES: tuple[ScoreMode, ...] = ("expected", "parsed")
ALL = [(path.stem, aspect) for path in sorted(FOLDER.glob("*.yaml")) for aspect in load_task(path.stem).aspects]
FIELDS = (FieldSpec(name="source", title="Question"), FieldSpec(name="candidate", title="Answer"))


def template(text: str = "Q: {{source}}\nA: {{candidate}}", **changes: object) -> Template:
    known = {"task": "qa", "aspect": "overall", "scale": Scale(1, 5), "fields": FIELDS}
    return Template(text, **{**known, **changes})  # type: ignore[arg-type]


def rubric(task: str, aspect: str) -> Template:
    return rubric_template(load_task(task), aspect)
