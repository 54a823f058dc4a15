import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.errors import InputError
from judging.parse import parse_reply
from judging.records import Record, Scale, ScoreMode
from judging.tasks import FOLDER, FieldSpec, load_task
from judging.template import (
    CHAT_TOKENS,
    LABEL_PREFIX,
    Template,
    break_tags,
    fill,
    nearest_label,
    neutralise,
    rubric_template,
    texts_for,
)

MODES: tuple[ScoreMode, ...] = ("expected", "parsed")
ALL = [(path.stem, aspect) for path in sorted(FOLDER.glob("*.yaml")) for aspect in load_task(path.stem).aspects]
FIELDS = (FieldSpec(name="source", title="Question"), FieldSpec(name="candidate", title="Answer"))
SPECIAL = ("</s>", "<end_of_turn>", "<|endoftext|>", "<turn|>", "[gMASK]", " \u2581x ")


def template(text: str = "Q: {{source}}\nA: {{candidate}}", **changes: object) -> Template:
    known = {"task": "qa", "aspect": "overall", "scale": Scale(1, 5), "fields": FIELDS}
    return Template(text, **{**known, **changes})  # type: ignore[arg-type]


def rubric(task: str, aspect: str) -> Template:
    return rubric_template(load_task(task), aspect)


# Fill


def test_fill_goes_over_the_template_once() -> None:
    values = {"a": "{{b}}", "b": "{{a}} {{c}} {{", "c": r"\1 \g<0> $1 %s {0}"}
    assert fill("{{a}}|{{ b }}|{{\tc}}", values) == r"{{b}}|{{a}} {{c}} {{|\1 \g<0> $1 %s {0}"


def test_what_is_no_slot_stays_text() -> None:
    text = "{a} {{}} {{a b}} {{1a}} {{ä}} {{{ }}} {{a-b}} {% if %} ${a} %(a)s"
    assert fill(text, {"a": "WRONG", "b": "WRONG"}) == text


def test_slots_inside_data_stay_text() -> None:
    hostile = {"source": "{{candidate}} {{reply_format}} {0} %s", "candidate": r"{{source}} {{examples}} \g<0> {{x}}"}
    text = (
        template("{{examples}}Q: {{source}}\nA: {{candidate}}\n{{reply_format}}").render(hostile, mode="expected").text
    )
    # The data stand there as they are, the reply format once, where the template puts it.
    assert text == (
        "Q: {{candidate}} {{reply_format}} {0} %s\n"
        r"A: {{source}} {{examples}} \g<0> {{x}}"
        "\nReply with the score alone, in this form:\nScore: <a whole number from 1 to 5>"
    )


# Render


def test_a_rendered_rubric() -> None:
    prompt = rubric("qa", "overall").render({"source": "Why?", "candidate": "So."}, mode="expected")
    assert prompt.reply_prefix == "Score: "
    assert prompt.text == (
        "You read a question and an answer to it. You judge the answer.\n\n"
        "How good is the answer as a whole?\n"
        "Rate it with a whole number from 1 to 5:\n"
        "1 - Useless. Off topic or nonsense.\n"
        "2 - Poor. On topic, but mostly wrong or of no help.\n"
        "3 - Fair. Partly right, but vague or with a clear mistake.\n"
        "4 - Good. Right, but something that matters is missing or unclear.\n"
        "5 - Very good. Right, complete, clear and to the point.\n\n"
        "Reply with the score alone, in this form:\nScore: <a whole number from 1 to 5>\n\n"
        "Question:\n<source>\nWhy?\n</source>\n"
        "Answer:\n<candidate>\nSo.\n</candidate>"
    )


def test_examples_stand_between_the_instruction_and_the_text_to_judge() -> None:
    shown = [({"source": "Q1", "candidate": "A1"}, 2.0), ({"source": "Q2", "candidate": "A2"}, 4.5)]
    prompt = rubric("qa", "overall").render({"source": "Why?", "candidate": "So."}, mode="expected", examples=shown)
    assert prompt.text.endswith(
        "Example 1\nQuestion:\n<source>\nQ1\n</source>\nAnswer:\n<candidate>\nA1\n</candidate>\nScore: 2\n\n"
        "Example 2\nQuestion:\n<source>\nQ2\n</source>\nAnswer:\n<candidate>\nA2\n</candidate>\nScore: 5\n\n"
        "Now rate this one.\n"
        "Question:\n<source>\nWhy?\n</source>\nAnswer:\n<candidate>\nSo.\n</candidate>"
    )


def test_a_template_without_the_free_slots_gets_examples_in_front_and_the_format_at_the_end() -> None:
    prompt = template().render(
        {"source": "Why?", "candidate": "So."}, mode="parsed", examples=[({"source": "Q1", "candidate": "A1"}, 1)]
    )
    assert prompt == (
        "Example 1\nQuestion:\n<source>\nQ1\n</source>\nAnswer:\n<candidate>\nA1\n</candidate>\nScore: 1\n\n"
        "Now rate this one.\n"
        "Q: Why?\nA: So.\n\n"
        "Reply with one JSON object and nothing else, in this form:\n"
        '{"reason": "<one or two sentences>", "overall_score": <a whole number from 1 to 5>}',
        "",
    )


def test_one_of_several_aspects_is_asked_for_by_name() -> None:
    texts = {"source": "Why?", "candidate": "So."}
    joint = template("Rate coherence and fluency.\n{{source}}\n{{candidate}}", aspect="fluency", several=True)
    assert joint.render(texts, mode="expected") == (
        "Rate coherence and fluency.\nWhy?\nSo.\n\n"
        "Reply with the score for fluency alone, in this form:\nScore: <a whole number from 1 to 5>",
        "Score: ",
    )
    # A parsed reply names its aspect anyway.
    alone = template(joint.text, aspect="fluency")
    assert joint.render(texts, mode="parsed") == alone.render(texts, mode="parsed")


def test_the_name_of_an_aspect_is_no_slot() -> None:
    joint = template("{{source}} {{candidate}}", aspect="{{source}}", several=True)
    assert (
        "Reply with the score for {{source}} alone"
        in joint.render({"source": "s", "candidate": "c"}, mode="expected").text
    )


def test_the_groups_that_a_template_has_seen() -> None:
    assert template().seen_groups == frozenset()
    assert template(about={"groups": ["qa//g1", "qa/d/g2", "qa//g1"]}).seen_groups == {"qa//g1", "qa/d/g2"}


def test_an_empty_text_is_said_to_be_empty() -> None:
    text = rubric("dialogue", "groundedness").render({"source": "s", "fact": "", "candidate": ""}, mode="expected").text
    assert "<fact>\n(none)\n</fact>" in text and text.endswith("<candidate>\n(none)\n</candidate>")


def test_the_reply_schema_holds_the_reason_first_and_only_the_labels() -> None:
    schema = json.loads(rubric("dialogue", "naturalness").reply_schema())
    assert list(schema["properties"]) == schema["required"] == ["reason", "naturalness_score"]
    assert schema["properties"]["naturalness_score"]["enum"] == [1, 2, 3]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("score", "label"),
    [(1, "1"), (2.4, "2"), (2.5, "3"), (2.6, "3"), (4.5, "5"), (0, "1"), (9, "5")],  # the higher one at a half
)
def test_nearest_label(score: float, label: str) -> None:
    assert nearest_label(score, Scale(1, 5)) == label


def test_texts_for_takes_what_the_template_shows() -> None:
    record = Record("i", "dialogue", "g", "the source", "the candidate", fields={"fact": "the fact"})
    assert texts_for(record, rubric("dialogue", "overall")) == {"source": "the source", "candidate": "the candidate"}
    assert texts_for(record, rubric("dialogue", "groundedness"))["fact"] == "the fact"
    # A learned template may show more than the rubric's aspect does, and its task may be one of the user's own files.
    fields = (*FIELDS, FieldSpec(name="fact", title="F"), FieldSpec(name="reference", title="R"))
    assert texts_for(record, template(task="my own", fields=fields)) == {
        "source": "the source",
        "candidate": "the candidate",
        "fact": "the fact",
        "reference": "",
    }


# Hostile data

FRAGMENTS = st.sampled_from(
    ["<|im_start|>", "<|im_end|>", "<|IM_END|>", "<|eot_id|>", "<s>", "</s>", "<bos>", "[INST]", "[/INST]", "<<SYS>>",
     "<</SYS>>", "<｜User｜>", "<｜end▁of▁sentence｜>", "<start_of_turn>", "<end_of_turn>", "<think>", "</think>",
     "<|endoftext|>", "<turn|>", "[gMASK]", "\u2581x", "<source>", "</source>", "<candidate>", "</candidate>",
     "</Candidate>", "<fact>", "</fact>", "{{source}}", "{{candidate}}", "{{examples}}", "{{reply_format}}", "{{", "}}",
     "<", ">", "</", "<|", "|>", "|", "[", "]", "candidate>", "source>", "sou", "rce>", "im_end", " ", "\n", "Score: 5",
     "[</candidate>]", "<[gMASK]>", '{"overall_score": 5}', "Example 1", "ordinary words"]
)  # fmt: skip
HOSTILE = st.lists(FRAGMENTS | st.text(max_size=5), max_size=12).map("".join)


@settings(max_examples=200)
@given(st.sampled_from(ALL), st.sampled_from(MODES), st.lists(HOSTILE, min_size=9, max_size=9), st.integers(0, 2))
def test_data_opens_no_turn_and_closes_no_block(
    key: tuple[str, str], mode: ScoreMode, data: list[str], num_examples: int
) -> None:
    known = rubric(*key)
    names = [spec.name for spec in known.fields]
    texts = [dict(zip(names, data[start:], strict=False)) for start in (0, 3, 5)]
    shown = [(text, 2.0) for text in texts[1 : 1 + num_examples]]
    text = known.render(texts[0], mode=mode, examples=shown, special_tokens=SPECIAL).text
    # The template's own delimiters and no more: a block a field for the text to judge, and one for each example.
    for name in names:
        for tag in (f"<{name}>", f"</{name}>"):
            assert text.lower().count(tag) == 1 + num_examples
    assert CHAT_TOKENS.search(text) is None
    assert not any(token.strip().lower() in text.lower() for token in SPECIAL)


@given(HOSTILE)
def test_neutralise_is_idempotent_and_leaves_no_token(text: str) -> None:
    once = neutralise(text, SPECIAL)
    assert neutralise(once, SPECIAL) == once
    assert CHAT_TOKENS.search(once) is None
    assert not any(token.strip() in once for token in SPECIAL)
    # Nothing is lost: only spaces come in.
    assert once.replace(" ", "") == text.replace(" ", "")


@given(st.text(st.characters(exclude_characters="<[")))
def test_ordinary_text_is_left_unchanged(text: str) -> None:
    assert neutralise(text, ("</candidate>", "<|im_end|>")) == text


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > c",
        "<b>bold</b>",
        "List[int]",
        "[1] [2]",
        "a | b",
        "<|>",
        "<||>",
        "f(x) <- y",
        "<html>",
        "x << 2",
        "{{a}}",
        "",
    ],
)
def test_ordinary_brackets_are_left_unchanged(text: str) -> None:
    assert neutralise(text, ("<source>", "</source>")) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("</candidate>", "(/candidate)"),
        ("<candidate>", "(candidate)"),
        ("</CANDIDATE>", "(/CANDIDATE)"),
        ("</candidate >", "(/candidate )"),
        ("</ candidate>", "(/ candidate)"),
        ("< /candidate>", "( /candidate)"),
        ("</candidate\n>", "(/candidate\n)"),
        ("<candidate/>", "(candidate/)"),
        ("<candidate id=2>", "(candidate id=2)"),
        ("</cand\u200bidate>", "(/cand\u200bidate)"),
        ("<\u200b/\ufeffcandidate>", "(\u200b/\ufeffcandidate)"),
        ("\uff1c/candidate\uff1e", "(/candidate)"),
        ("\u2039/candidate\u203a", "(/candidate)"),
        ("<\uff0fcandidate>", "(\uff0fcandidate)"),
        ("<\\candidate>", "(\\candidate)"),
        ("</candidate", "(/candidate"),  # its bracket may follow
        ("</can\u034fdidate\ufe0f>", "(/can\u034fdidate\ufe0f)"),
        ("<\x00/candidate>", "(\x00/candidate)"),
        ("<//candidate>", "(//candidate)"),
        ("<\u2215candidate>", "(\u2215candidate)"),
        (
            "</\uff43\uff41\uff4e\uff44\uff49\uff44\uff41\uff54\uff45>",
            "(/\uff43\uff41\uff4e\uff44\uff49\uff44\uff41\uff54\uff45)",
        ),
        ("\u02c2/candidate\u02c3", "(/candidate)"),
        ("\u300a/candidate\u300b", "(/candidate)"),
        ("</candi date>", "(/candi date)"),
        ("</can\ndidate>", "(/can\ndidate)"),
        ("<<candidate>candidate>", "<(candidate)candidate>"),
        ("</source></candidate>", "(/source)(/candidate)"),
    ],
)
def test_a_tag_of_our_own_is_no_tag_however_it_is_written(text: str, safe: str) -> None:
    names = ("source", "candidate")
    assert break_tags(text, names) == safe
    assert break_tags(safe, names) == safe


@pytest.mark.parametrize(
    "text", ["a < b", "<b>x</b>", "<candidates>", "<candidate_2>", "candidate>", "<my candidate>", "x<y, candidate"]
)
def test_other_tags_are_left_unchanged(text: str) -> None:
    assert break_tags(text, ("source", "candidate")) == text


@given(HOSTILE)
def test_no_tag_of_our_own_is_left(text: str) -> None:
    once = break_tags(text, ("candidate", "source"))
    assert break_tags(once, ("candidate", "source")) == once
    assert not re.search(r"<\s*/?\s*(?:candidate|source)\b", once, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<|im_end|>", "< |im_end|>"),
        ("a<|im_start|>user", "a< |im_start|>user"),
        ("</s>", "< /s>"),
        ("</S>", "< /S>"),
        ("[/INST]", "[ /INST]"),
        ("<<SYS>>", "< <SYS>>"),
        ("<｜Assistant｜>", "< ｜Assistant｜>"),
        ("<start_of_turn>model", "< start_of_turn>model"),
        ("<<|x|>|im_end|>", "<< |x|>|im_end|>"),
        ("<s<s>>", "<s< s>>"),
    ],
)
def test_a_token_is_broken_up_after_its_first_character(text: str, safe: str) -> None:
    assert neutralise(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("[</candidate>]", "[< /candidate>]"),
        ("<[gMASK]>", "<[ gMASK]>"),
        ("<</CANDIDATE>>", "<< /CANDIDATE>>"),
        ("[[gMASK]]", "[[ gMASK]]"),
        ("<unused17>", "< unused17>"),
        ("<unused170>", "<unused170>"),  # no token of this model
        ("<a[b]>c", "< a[b]>c"),  # a token with both kinds of brackets
        ("\u2581x", "\u2581 x"),  # a token without any
        ("<" + "y" * 200 + ">", "< " + "y" * 200 + ">"),  # a very long one
    ],
)
def test_a_models_own_tokens_are_broken_up_wherever_they_stand(text: str, safe: str) -> None:
    tokens = ("</candidate>", "[gMASK]", "<unused17>", "<a[b]>", "\u2581x", "<" + "y" * 200 + ">")
    assert neutralise(text, tokens) == safe


def test_a_model_with_thousands_of_tokens_is_quick() -> None:
    tokens = tuple(f"<unused{number}>" for number in range(6000))
    text = "An ordinary text <b>with</b> some marks. " * 2000 + "<unused5999>"
    neutralise("", tokens)
    started = time.process_time()
    assert neutralise(text, tokens) == text.replace("<unused", "< unused")
    assert time.process_time() - started < 2


def test_tokens_of_white_space_do_no_harm() -> None:
    # A space put into them would only make more of them.
    assert neutralise("a    b\n\nc <x>", ("  ", "\n\n", " <x>", " ", "")) == "a    b\n\nc < x>"


def test_a_letter_is_no_token() -> None:
    assert neutralise("a b", ("a",)) == "a b"


@pytest.mark.parametrize(
    "text",
    [
        "<" * 1_000_000,
        "<|" * 500_000,
        "<|a" * 300_000,
        "<s>" * 300_000,
        "<" * 100_000 + "s>" * 100_000,
        "<｜" * 500_000,
        "< /" * 300_000,
        "<" + " " * 1_000_000,
        "<candidate" * 100_000,
        "<" + "\u200b" * 300_000 + "candidate",
    ],
    ids=lambda text: text[:4],
)
def test_a_malicious_text_is_quick(text: str) -> None:
    started = time.process_time()
    neutralise(text, SPECIAL)
    break_tags(text, ("source", "candidate"))
    assert time.process_time() - started < 3


def test_a_scale_of_half_points_is_asked_for_in_steps() -> None:
    half = template(scale=Scale(0.5, 5))
    texts = {"source": "Why?", "candidate": "So."}
    shown = half.render(texts, mode="parsed", examples=[(texts, 3.4)]).text
    assert "<a number from 0.5 to 5 in steps of 0.5>" in shown and "whole number" not in shown
    assert "Score: 3.5\n" in shown
    score = json.loads(half.reply_schema())["properties"]["overall_score"]
    assert score == {"type": "number", "enum": [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]}
    whole = json.loads(template().reply_schema())["properties"]["overall_score"]
    assert whole == {"type": "integer", "enum": [1, 2, 3, 4, 5]}


# Prefix first


@pytest.mark.parametrize(("task", "aspect"), ALL)
@pytest.mark.parametrize("mode", MODES)
def test_records_of_one_group_share_the_prompt_up_to_the_candidate(task: str, aspect: str, mode: ScoreMode) -> None:
    known = rubric(task, aspect)
    shared = {spec.name: f"the {spec.name} of the group" for spec in known.fields}
    examples = [({spec.name: f"example {spec.name}" for spec in known.fields}, 1.0)]
    one, other = (
        known.render({**shared, "candidate": text}, mode=mode, examples=examples).text
        for text in ("Yes.", "An answer.")
    )
    assert one.endswith("<candidate>\nYes.\n</candidate>")
    assert one.removesuffix("Yes.\n</candidate>") == other.removesuffix("An answer.\n</candidate>")


# A prompt is no verdict


@pytest.mark.parametrize(("task", "aspect"), ALL)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("several", [False, True])
def test_a_prompt_sent_back_as_reply_is_no_score(task: str, aspect: str, mode: ScoreMode, several: bool) -> None:
    known = rubric(task, aspect)
    texts = {spec.name: f"some {spec.name}" for spec in known.fields}
    bare = known.render(texts, mode=mode).text
    shown = known.render(texts, mode=mode, examples=[(texts, 1.0), (texts, known.scale.high)]).text
    learned = Template("{{source}} {{candidate}}", task, aspect, known.scale, FIELDS, several=several).render(
        {"source": "s", "candidate": "c"}, mode=mode, examples=[({"source": "s", "candidate": "c"}, 1.0)]
    )
    for reply in (known.text, bare, shown, learned.text, *known.text.splitlines(), *bare.splitlines()):
        for prefix in ("", LABEL_PREFIX, "```json\n"):
            assert parse_reply(prefix + reply, aspect, known.scale).score is None


# Problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{{source}} {{candidate}}", []),
        ("{{ source }} {{candidate}} {{examples}} {{reply_format}}", []),
        ("{{candidate}}", ["slot 'source' is missing"]),
        ("{source} {{candidate}}", ["slot 'source' is missing"]),
        ("", ["slot 'source' is missing", "slot 'candidate' is missing"]),
        ("{{source}} {{candidate}} {{candidate}}", ["slot 'candidate' stands 2 times"]),
        ("{{source}} {{candidate}} {{reply_format}} {{reply_format}}", ["slot 'reply_format' stands 2 times"]),
        ("{{source}} {{candidate}} {{fact}}", ["slot 'fact' is none of ['source', 'candidate']"]),
        (
            "{{source}} {{x}} {{x}}",
            [
                "slot 'candidate' is missing",
                "slot 'x' stands 2 times",
                "slot 'x' is none of ['source', 'candidate']",
            ],
        ),
    ],
)
def test_problems(text: str, problems: list[str]) -> None:
    assert template(text).problems() == problems


def test_problems_of_fields_and_scale() -> None:
    clash = template("{{examples}}", fields=(FieldSpec(name="examples", title="E"),))
    assert clash.problems() == ["field 'examples' has the name of a slot of ours"]
    assert template(scale=Scale(0.2, 1.2)).problems() == ["the scale 0.2 to 1.2 has fewer than two whole numbers"]


@pytest.mark.parametrize(("task", "aspect"), ALL)
def test_every_rubric_has_no_problem(task: str, aspect: str) -> None:
    known = rubric(task, aspect)
    assert known.problems() == []
    assert known.text.isascii() or re.search(r"\w", known.text)


def test_a_rubric_for_an_aspect_that_the_task_lacks() -> None:
    with pytest.raises(InputError, match=r"^task 'qa' has no aspect 'fluency': it has overall, utility$"):
        rubric("qa", "fluency")


def test_a_task_file_with_a_slot_of_its_own_makes_no_template() -> None:
    task = load_task("qa").model_copy(update={"intro": "You judge {{something}}."})
    with pytest.raises(InputError, match=r"^task 'qa', aspect 'overall': slot 'something' is none of "):
        rubric_template(task, "overall")


def test_the_fingerprint_tells_what_decides_the_prompt() -> None:
    base = template()
    others = [
        template("Q: {{source}}\nA:  {{candidate}}"),
        template(task="story"),
        template(aspect="utility"),
        template(scale=Scale(1, 3)),
        template(fields=FIELDS[::-1]),
        template(fields=(FIELDS[0], FieldSpec(name="candidate", title="Reply"))),
        template(several=True),
    ]
    assert len({known.fingerprint for known in (base, *others)}) == 8
    assert template(origin="inverse", about={"seed": 1}).fingerprint == base.fingerprint
