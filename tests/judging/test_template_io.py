"""Template files: what is written comes back, for one aspect and for several; a damaged file is one sentence."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.records import Scale
from judging.tasks import FieldSpec
from judging.template import Template
from judging.template_io import file_name, load_templates, save_templates
from tests.judging.templates import ALL, FIELDS, rubric, template
from tests.refusals import refused


@pytest.mark.parametrize(("task", "aspect"), ALL)
def test_save_and_load_every_rubric(tmp_path: Path, task: str, aspect: str) -> None:
    known = rubric(task, aspect)
    save_templates(tmp_path / "x.txt", [known])
    assert load_templates(tmp_path / "x.txt") == {aspect: known}


def test_one_aspect_alone_is_asked_for_as_ever(tmp_path: Path) -> None:
    save_templates(tmp_path / "x.txt", [template(origin="inverse")])
    (found,) = load_templates(tmp_path / "x.txt").values()
    assert found.render({"source": "Why?", "candidate": "So."}, mode="expected").text == (
        "Q: Why?\nA: So.\n\nReply with the score alone, in this form:\nScore: <a whole number from 1 to 5>"
    )


SEVERAL = [("fluency", Scale(1, 5)), ("coherence", Scale(1, 5.5)), ("yes", Scale(0, 1))]


def test_a_text_for_several_aspects_comes_back_in_the_files_order(tmp_path: Path) -> None:
    about = {"groups": ["qa//g"], "rank": 1}
    written = [template(aspect=aspect, scale=scale, origin="inverse", about=about) for aspect, scale in SEVERAL]
    save_templates(tmp_path / "x.txt", written)
    found = load_templates(tmp_path / "x.txt")
    assert [(aspect, one.scale) for aspect, one in found.items()] == SEVERAL
    for aspect, one in found.items():
        assert one == template(aspect=aspect, scale=one.scale, origin="inverse", about=about, several=True)
    # What was loaded is written as it was.
    save_templates(tmp_path / "again.txt", list(found.values()))
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "x.txt").read_bytes()


def test_the_head_as_it_is_written(tmp_path: Path) -> None:
    written = [template(aspect=aspect, scale=scale, about={"seed": 7}) for aspect, scale in SEVERAL[:2]]
    save_templates(tmp_path / "x.txt", written)
    assert (tmp_path / "x.txt").read_text() == (
        "---\ntask: qa\naspects:\n  fluency: [1, 5]\n  coherence: [1, 5.5]\n"
        "fields:\n- {name: source, title: Question}\n- {name: candidate, title: Answer}\n"
        "origin: rubric\nabout: {seed: 7}\n---\nQ: {{source}}\nA: {{candidate}}\n"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"aspect": "utility", "text": "{{source}} {{candidate}}"},
        {"aspect": "utility", "task": "story"},
        {"aspect": "utility", "fields": FIELDS[::-1]},
        {"aspect": "utility", "origin": "forward"},
        {"aspect": "utility", "about": {"seed": 8}},
        {"aspect": "overall", "scale": Scale(1, 3)},
    ],
    ids=lambda other: "+".join(other),
)
def test_templates_that_are_not_of_one_text_make_no_file(tmp_path: Path, other: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        save_templates(tmp_path / "x.txt", [template(), template(**other)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    save_templates(path, [template()])
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space left"):
            save_templates(path, [template("{{source}}{{candidate}}")])
    assert path.read_bytes() == before
    save_templates(path, [template("{{source}}{{candidate}}")])
    assert load_templates(path)["overall"].text == "{{source}}{{candidate}}"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_files_in_a_folder() -> None:
    assert file_name("qa", "overall") == "qa.overall.txt"
    assert file_name("qa") == "qa.txt"
    assert file_name("tasks/verse.yaml", "metre") == "verse.metre.txt"


# PyYAML reads the line ends of Unicode (next line, line and paragraph separator) back as spaces.
YAML_TEXT = st.text(
    st.characters(exclude_characters="\x85\u2028\u2029", exclude_categories=["Cs"]), max_size=8
) | st.sampled_from(
    ["---", "a ---\nb", "a\n---\nb", "---\n---\n", "yes", "1", "null", ": #", "é 🙂", "a\r\nb", "\ufeff"]
)


@settings(max_examples=50)
@given(
    head=st.lists(YAML_TEXT, min_size=7, max_size=7),
    around=st.lists(YAML_TEXT, min_size=3, max_size=3),
    number=st.integers() | st.floats(allow_nan=False),
)
def test_a_template_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, head: list[str], around: list[str], number: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "survives.txt"
    fields = (FieldSpec(name="source", title=head[2]), FieldSpec(name="candidate", title=head[3]))
    text = around[0].replace("{", "") + "{{source}}" + around[1].replace("{", "") + "{{candidate}}" + around[2]
    about = {"seed": number, "said": head[5]}
    several = head[1] != head[6]
    aspects = dict.fromkeys((head[1], head[6]))
    known = {
        aspect: Template(text, head[0], aspect, Scale(1, 5), fields, head[4], about, several) for aspect in aspects
    }
    if known[head[1]].problems():
        return
    save_templates(path, list(known.values()))
    found = load_templates(path)
    assert found == known
    assert list(found) == list(known)
    assert found[head[1]].fingerprint == known[head[1]].fingerprint


HEAD = """task: qa
aspects: {overall: [1, 5]}
fields:
- {name: source, title: Question}
- {name: candidate, title: Answer}
origin: inverse
"""
OLD = "aspect: overall\nscale: [1, 5]"
TEXT = "Q: {{source}}\nA: {{candidate}}\n"


@pytest.mark.parametrize("lead", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_written_by_hand(tmp_path: Path, lead: str, newline: str) -> None:
    path = tmp_path / "hand.txt"
    path.write_bytes((lead + f"---\n{HEAD}---\n{TEXT}".replace("\n", newline)).encode())
    assert load_templates(path) == {"overall": template(origin="inverse")}


@pytest.mark.parametrize(
    ("content", "code", "key", "naming"),
    [
        ("", "invalid_template", "", "front matter"),
        (TEXT, "invalid_template", "", "front matter"),
        (f"---\n{HEAD}", "invalid_template", "", "front matter"),
        (f"{HEAD}---\n{TEXT}", "invalid_template", "", "front matter"),
        (f"---\n---\n{TEXT}", "invalid_template", "", "mapping"),
        (f"---\n- a\n---\n{TEXT}", "invalid_template", "", "mapping"),
        (f"---\n{HEAD}about: }}\n---\n{TEXT}", "invalid_yaml", "", "'}', line 8"),
        (f"---\n!!python/object/apply:os.getcwd []\n---\n{TEXT}", "invalid_yaml", "", "constructor"),
        (f"---\n{HEAD.replace('task: qa', '')}---\n{TEXT}", "missing_key", "task", "required"),
        (f"---\n{HEAD.replace('task: qa', 'task: 7')}---\n{TEXT}", "invalid_value", "task", "string"),
        (f"---\n{HEAD.replace('origin: inverse', '')}---\n{TEXT}", "missing_key", "origin", "required"),
        # The head of files that held one aspect.
        (f"---\n{HEAD.replace('aspects: {overall: [1, 5]}', OLD)}---\n{TEXT}", "missing_key", "aspects", "required"),
        (f"---\n{HEAD}{OLD}\n---\n{TEXT}", "unknown_key", "aspect", ""),
        (f"---\n{HEAD.replace('{overall: [1, 5]}', '{}')}---\n{TEXT}", "invalid_value", "aspects", "at least 1"),
        (f"---\n{HEAD.replace('{overall: [1, 5]}', '')}---\n{TEXT}", "invalid_value", "aspects", "dictionary"),
        (f"---\n{HEAD.replace('{overall: [1, 5]}', 'overall')}---\n{TEXT}", "invalid_value", "aspects", "dictionary"),
        (
            f"---\n{HEAD.replace('[1, 5]}', '[1, 5], overall: [1, 3]}')}---\n{TEXT}",
            "duplicate_key",
            "",
            "'overall', line 3",
        ),
        (f"---\n{HEAD}task: story\n---\n{TEXT}", "duplicate_key", "", "'task', line 8"),
        (f"---\n{HEAD.replace('{overall:', '{7:')}---\n{TEXT}", "invalid_value", "aspects.7.[key]", "string"),
        (f"---\n{HEAD.replace('{overall:', '{? [a] :')}---\n{TEXT}", "invalid_yaml", "", "unhashable key, line 3"),
        (
            f"---\n{HEAD.replace('{overall: [1, 5]}', '{a: [1, 5], b: [5, 1]}')}---\n{TEXT}",
            "invalid_value",
            "",
            "5.0 to 1.0",
        ),
        (f"---\n{HEAD}about: {{groups: qa//g}}\n---\n{TEXT}", "invalid_value", "about", "groups"),
        (f"---\n{HEAD}about: {{groups: [7]}}\n---\n{TEXT}", "invalid_value", "about", "groups"),
        (f"---\n{HEAD}about: {{groups: null}}\n---\n{TEXT}", "invalid_value", "about", "groups"),
        (f"---\n{HEAD}colour: red\n---\n{TEXT}", "unknown_key", "colour", ""),
        (f"---\n{HEAD}about:\n---\n{TEXT}", "invalid_value", "about", "dictionary"),
        (f"---\n{HEAD.replace('[1, 5]', '[5, 1]')}---\n{TEXT}", "invalid_value", "", "5.0 to 1.0"),
        (f"---\n{HEAD.replace('[1, 5]', '[1, .inf]')}---\n{TEXT}", "invalid_value", "aspects.overall.1", "finite"),
        (f"---\n{HEAD.replace('[1, 5]', '[1]')}---\n{TEXT}", "missing_key", "aspects.overall.1", "required"),
        (f"---\n{HEAD.replace('[1, 5]', '5')}---\n{TEXT}", "invalid_value", "aspects.overall", "tuple"),
        (f"---\n{HEAD.replace(', title: Answer', '')}---\n{TEXT}", "missing_key", "fields.1.title", "required"),
        (f"---\n{HEAD.replace('name: source', 'name: a b')}---\n{TEXT}", "invalid_value", "fields.0.name", "pattern"),
    ],
)
def test_a_damaged_template_file(tmp_path: Path, content: str, code: str, key: str, naming: str) -> None:
    path = tmp_path / "damaged.txt"
    path.write_text(content, encoding="utf-8")
    with refused(code, key, naming=f"{path} is not a template file: "):
        load_templates(path)
    with refused(code, key, naming=naming):
        load_templates(path)


@pytest.mark.parametrize(
    ("content", "naming"),
    [
        (f"---\n{HEAD}---\n", "slot 'source' is missing"),
        (f"---\n{HEAD}---\n{TEXT}{{{{source}}}}", "slot 'source' is used 2 times"),
        (f"---\n{HEAD}---\n{TEXT}{{{{fact}}}}", "slot 'fact'"),
        (f"---\n{HEAD.replace('[1, 5]', '[0.1, 0.9]')}---\n{TEXT}", "0.1 to 0.9"),
        (f"---\n{HEAD.replace('[1, 5]}', '[1, 5], utility: [0.1, 0.9]}')}---\n{TEXT}", "0.1 to 0.9"),
    ],
)
def test_a_template_file_that_cannot_be_used(tmp_path: Path, content: str, naming: str) -> None:
    path = tmp_path / "unusable.txt"
    path.write_text(content, encoding="utf-8")
    with refused("invalid_template", naming=f"{path}: "):
        load_templates(path)
    with refused("invalid_template", naming=naming):
        load_templates(path)


def test_a_template_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with refused("missing_file", naming="none.txt"):
        load_templates(tmp_path / "none.txt")
    with refused("unreadable_file", naming=str(tmp_path)):
        load_templates(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"---\n\xff\xfe\n---\n")
    with refused("unreadable_file", naming="byte 0xff"):
        load_templates(tmp_path / "binary.txt")
