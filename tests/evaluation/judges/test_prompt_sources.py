"""Where a judge's prompts come from: sources, files, folders; errors name the file and the key."""

from pathlib import Path

import pytest

from evaluation.judges.prompt_sources import FALLBACK, Prompts, find_prompts, warnings
from judging.records import Scale
from judging.tasks import load_task
from judging.template import Template, rubric_template
from judging.template_io import load_templates, save_templates
from tests.evaluation.making import inverted, template_at
from tests.refusals import refused

OVERALL, UTILITY = ("qa", "overall"), ("qa", "utility")
KEY = "evaluate.judges.j.prompt"


# Sources


def test_the_rubric_reads_no_file(tmp_path: Path) -> None:
    found = find_prompts(tmp_path / "run", "j", "m", "rubric")
    assert found == Prompts("j", None)
    assert found.template("qa", "utility") == rubric_template(load_task("qa"), "utility")
    assert found.seen_groups() == frozenset()


@pytest.mark.parametrize("source", ["inverse", "forward"])
def test_a_source_is_the_folder_of_the_judges_model(tmp_path: Path, source: str) -> None:
    inverted(tmp_path, "other")
    folder = inverted(tmp_path, "m")
    template_at(folder / source / "qa.txt", "overall", "utility", text="Mine: {{source}} {{candidate}}")
    found = find_prompts(tmp_path, "j", "m", source)
    assert found == Prompts("j", tmp_path / "invert" / "m" / source)
    assert found.template(*UTILITY).text == "Mine: {{source}} {{candidate}}"


@pytest.mark.parametrize("source", ["inverse", "forward"])
def test_a_source_whose_job_has_not_finished(tmp_path: Path, source: str) -> None:
    inverted(tmp_path, "other")
    with refused("missing_job", KEY, naming=f"{tmp_path}/invert/m. Run `inverdict invert`"):
        find_prompts(tmp_path, "j", "m", source)
    # Templates exist, but a killed job writes no manifest.
    template_at(tmp_path / "invert" / "m" / source / "qa.txt")
    with refused("missing_job", KEY, naming=source):
        find_prompts(tmp_path, "j", "m", source)
    # A manifest without the folder.
    (inverted(tmp_path / "b", "m") / source).rmdir()
    with refused("missing_job", KEY, naming=f"{tmp_path}/b/invert/m"):
        find_prompts(tmp_path / "b", "j", "m", source)


@pytest.mark.parametrize("prompt", ["invers", "Inverse", "rubrics", "prompts/none.txt"])
def test_neither_a_source_nor_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.chdir(tmp_path)
    for named in (f"file not found: {prompt}", "rubric, inverse, forward, optimised"):
        with refused("missing_file", KEY, naming=named):
            find_prompts(tmp_path / "run", "j", "m", prompt)


def test_a_folder_of_a_sources_name_is_given_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inverse").mkdir()
    assert find_prompts(tmp_path / "run", "j", "m", "./inverse").path == Path("inverse")
    with refused("missing_job", KEY, naming="`inverdict invert`"):
        find_prompts(tmp_path / "run", "j", "m", "inverse")


# Files and folders


def test_a_folder_prefers_the_aspects_own_file(tmp_path: Path) -> None:
    template_at(tmp_path / "qa.txt", "overall", "utility", text="Both: {{source}} {{candidate}}")
    template_at(tmp_path / "qa.utility.txt", "utility", text="Alone: {{source}} {{candidate}}")
    template_at(tmp_path / "story.txt", "overall", task="story")
    prompts = Prompts("j", tmp_path)
    assert (prompts.template(*OVERALL).text[:5], prompts.template(*OVERALL).several) == ("Both:", True)
    assert (prompts.template(*UTILITY).text[:6], prompts.template(*UTILITY).several) == ("Alone:", False)
    assert prompts.template("story", "overall").task == "story"


def test_a_folder_without_a_template_for_the_task_or_the_aspect(tmp_path: Path) -> None:
    prompts = Prompts("j", tmp_path)
    for named in (f"{tmp_path} ", "qa/utility", "qa.utility.txt or qa.txt"):
        with refused("unknown_prompt", KEY, naming=named):
            prompts.template(*UTILITY)
    template_at(tmp_path / "qa.txt", "overall")
    with refused("unknown_prompt", KEY, naming=f"{tmp_path}/qa.txt is a template for qa/overall, not for qa/utility"):
        prompts.template(*UTILITY)
    # The aspect's own file counts, whatever its content.
    template_at(tmp_path / "qa.overall.txt", "utility")
    with refused("unknown_prompt", KEY, naming="qa.overall.txt is a template for qa/utility, not for qa/overall"):
        prompts.template(*OVERALL)


def test_a_file_for_another_task_aspect_or_scale(tmp_path: Path) -> None:
    prompts = Prompts("j", template_at(tmp_path / "x.txt", "overall", "coherence", task="story"))
    with refused("unknown_prompt", KEY, naming=f"{tmp_path}/x.txt is a template for story/overall, story/coherence"):
        prompts.template(*OVERALL)
    (known,) = load_templates(template_at(tmp_path / "y.txt")).values()
    save_templates(tmp_path / "y.txt", [Template(known.text, "qa", "overall", Scale(1, 7), known.fields)])
    with refused("conflict", KEY, naming=f"{tmp_path}/y.txt has the scale 1 to 7, but qa/overall has 1 to 5"):
        Prompts("j", tmp_path / "y.txt").template(*OVERALL)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "qa.txt").write_text("Rate {{candidate}}")
    with refused("invalid_template", naming=f"{tmp_path}/qa.txt"):
        Prompts("j", tmp_path).template(*OVERALL)
    with refused("invalid_template", naming=f"{tmp_path}/qa.txt"):
        Prompts("j", tmp_path).seen_groups()


def test_saved_prompts_are_loaded_unchanged(tmp_path: Path) -> None:
    template_at(tmp_path / "in" / "qa.txt", "overall", "utility", groups=["qa//g"])
    prompts = Prompts("j", tmp_path / "in")
    # One of the two aspects is judged; it is still one of several.
    asked = {UTILITY: prompts.template(*UTILITY)}
    prompts.save(asked, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["qa.utility.txt"]
    assert {UTILITY: Prompts("k", tmp_path / "out").template(*UTILITY)} == asked
    assert asked[UTILITY].several


# Groups used to make the prompts


def test_the_groups_used_to_make_any_of_the_templates(tmp_path: Path) -> None:
    template_at(tmp_path / "qa.txt", "overall", "utility", groups=["qa//a", "qa/d/b"])
    template_at(tmp_path / "story.overall.txt", task="story", groups=["qa//a", "story//c"])
    template_at(tmp_path / "dialogue.overall.txt", task="dialogue")
    (tmp_path / "notes.md").write_text("no template")
    assert Prompts("j", tmp_path).seen_groups() == {"qa//a", "qa/d/b", "story//c"}
    assert Prompts("j", tmp_path / "qa.txt").seen_groups() == {"qa//a", "qa/d/b"}


def test_one_warning_per_task_for_a_fallback() -> None:
    def template(task: str, fallback: object) -> Template:
        rubric = rubric_template(load_task(task), "overall")
        return Template(rubric.text, task, "overall", rubric.scale, rubric.fields, about={"fallback": fallback})

    templates = {
        OVERALL: template("qa", True),
        UTILITY: template("qa", True),
        ("story", "overall"): template("story", False),
        ("dialogue", "overall"): rubric_template(load_task("dialogue"), "overall"),
        ("translation", "overall"): template("translation", True),
    }
    assert warnings("j", templates) == [f"j, qa: {FALLBACK}", f"j, translation: {FALLBACK}"]
