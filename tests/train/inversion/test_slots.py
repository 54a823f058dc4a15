"""The template text that a prompt becomes: slots and braces, the reply form, leftovers, tidiness, any text at all."""

import json
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.records import Scale
from judging.tasks import FieldSpec, load_task
from judging.template import FREE_SLOTS, SLOT, Template, fill, rubric_template
from judging.template_checks import outside_slots, shared_ngram, verify, words
from tests.train.inversion.quoting import (
    ASK,
    BOTH,
    CANDIDATE,
    FIELDS,
    REPLY_BLOCK,
    SOURCE,
    SOURCE_BLOCK,
    body,
    changed,
    made,
    news,
)
from train.inversion.slots import generalise

FIVE = Scale(1, 5)


# Slots and braces


def test_slots_and_braces_of_the_model_are_broken_up() -> None:
    result = made("Rate {{source}} and {{ candidate }} and {{x}} in {one} {{{y}}} from 1 to 5: {{reply_format}}")
    assert body(result) == (
        "Rate { {source} } and { { candidate } } and { {x} } in {one} { { {y} } } from 1 to 5: { {reply_format} }\n\n"
        f"{SOURCE_BLOCK}\n{REPLY_BLOCK}"
    )


def test_slots_and_braces_in_the_texts_come_back() -> None:
    content = {
        "source": "what is {x} in {{candidate}} ? {{{source}}} {{reply_format}} {",
        "candidate": "}} it is a {{slot}} \\1 \\g<0> {}",
    }
    prompt = f"{ASK} Conversation: {content['source']} Reply: {{{content['candidate']}}} as {{json}}"
    result = made(prompt, content)
    assert body(result) == f"{ASK} Conversation: {{{{source}}}} Reply: {{{{{{candidate}}}}}} as {{json}}"
    assert fill(body(result), content) == prompt
    assert result.found == {"source": "exact", "candidate": "exact"}


def test_placeholders_in_the_prompt_are_no_slots() -> None:
    result = made(f"{ASK} \U000f0000 \U000f0001 \U000ffffd \U000f1234")
    assert body(result) == f"{ASK}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"


# The reply's form


@pytest.mark.parametrize(
    "form",
    [
        json.dumps({"conversation": SOURCE, "reply": CANDIDATE, "overall_score": 4}),
        json.dumps({"conversation": SOURCE, "reply": CANDIDATE, "overall_score": 4}, indent=2),
        json.dumps({"texts": {"conversation": SOURCE}, "score": 4}),
        '{"overall_score": <number>}',
        "{'Overall Score': 3}",
        '{{"overall_score": 3}}',
        "{overall_score: 3}",
        '{\\"overall_score\\": 3}',
        f'{{"conversation": "{SOURCE}", "overall_score": ',
        '"overall_score": 4',
        '```json\n{"overall_score": 4}\n```',
        '("overall_score": 4, {"score": 4})'[1:-1].split(", ")[1],
    ],
)
def test_a_json_object_with_a_score_goes(form: str) -> None:
    result = made(f"{ASK}\n\n{form}")
    assert body(result) == f"{ASK}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"
    assert len(result.removed) == 1


def test_a_slot_outside_the_reply_form_stays() -> None:
    form = json.dumps({"conversation": "...", "reply": CANDIDATE, "overall_score": 4})
    result = made(f"{ASK} Conversation: {SOURCE}\nReply with JSON like this: {form}\nBe strict.")
    assert body(result) == (
        f"{ASK} Conversation: {{{{source}}}}\nReply with JSON like this.\nBe strict.\n\n{REPLY_BLOCK}"
    )
    assert result.found == {"source": "exact", "candidate": "appended"}
    assert result.removed == ('{"conversation": "...", "reply": "{{candidate}}", "overall_score": 4}',)


@pytest.mark.parametrize(
    "said", ['{"a": 1}', "Score: 1 to 5", "the score: how good it is", '{"underscore": 1}', "{ \n\n a score: 3"]
)
def test_what_is_no_reply_form_stays(said: str) -> None:
    assert said in body(made(f"{ASK}\n{said}", {}))


# Leftovers


@pytest.mark.parametrize(
    ("left", "stays"),
    [
        ("Note that Kilmore is a town.", False),  # a name
        ("The ship is the Northern one.", False),
        ("There were 212 people.", False),  # a number
        ("You know a hull tomorrow, and the company rests.", False),  # five words in a row
        ("Coherence matters, Overall it does.", True),  # the names of aspects
        ("Compare the Summary with the Article.", True),  # titles
        ("Be strict, but FAIR.", True),  # capitals of the instruction's own
        ("Kilmore, weak: Tuesday, weak - Divers.", True),  # where anybody writes a capital
        ("1 Tuesday, 5 Divers.", True),
        ("A hull tomorrow, and the sea.", True),  # four words in a row
    ],
)
def test_a_sentence_that_tells_of_the_example_goes(left: str, stays: bool) -> None:
    prompt = f"Rate the summary from 1 to 5. {left} Be strict."
    result = news(prompt)
    assert body(result).startswith(prompt if stays else "Rate the summary from 1 to 5. Be strict.")
    assert result.removed == (() if stays else (f" {left}",))


def test_points_of_the_scale_are_no_leftovers() -> None:
    content = {"source": "they made 10 of 50 shots in 75 minutes", "candidate": "they lost by 101 to 100"}
    prompt = "Rate the reply from 0 to 100. 50 is fair. 100 is good. 101 is too much."
    assert body(made(prompt, content)).startswith("Rate the reply from 0 to 100. 50 is fair. 100 is good.\n")


@pytest.mark.parametrize("left", ["Be NOT Fair, but mind Coherence in the Summary.", "Plan B is for the 7 of us."])
def test_words_of_the_instruction_and_single_letters_are_no_names(left: str) -> None:
    content = {"source": "The Summary is NOT Fair, its Coherence neither.", "candidate": "Plan B, with 7 of us"}
    assert news(f"Rate it from 1 to 5. {left}", content).text.startswith(f"Rate it from 1 to 5. {left}\n\n")


def test_words_around_a_slot_are_not_in_a_row() -> None:
    content = {"source": "then boats brought all the passengers", "candidate": CANDIDATE}
    prompt = "Rate how the boats brought {} all the passengers."
    assert body(made(prompt.format(CANDIDATE), content)).startswith(prompt.format("{{candidate}}"))


def test_any_word_of_a_text_without_capitals_may_be_a_name() -> None:
    content = {"source": "have you heard the beatles ?", "candidate": "who ?"}
    assert body(made(f"{ASK} It is about the Beatles. Listen to beatles.", content)).startswith(
        f"{ASK} Listen to beatles.\n"
    )


def test_a_slot_in_a_sentence_that_goes_is_appended() -> None:
    result = made(f"{ASK} Conversation: {SOURCE} The reply of Ann is this, {CANDIDATE}", BOTH | {"name": "Ann"})
    assert body(result) == f"{ASK} Conversation: {{{{source}}}}\n\n{REPLY_BLOCK}"
    assert result.found == {"source": "exact", "candidate": "appended"}
    assert result.removed == (" The reply of Ann is this, {{candidate}}",)


def test_taking_out_a_sentence_does_not_bring_two_halves_together() -> None:
    # "boats brought" + "all the passengers home" are five words in a row as soon as the name between them goes.
    content = {"source": "then boats brought all the passengers home", "name": "Ann"}
    result = made(f"{ASK} The old boats brought\nAsk Ann. \nall the passengers now", content)
    assert body(result) == f"{ASK}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"


# Refused


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \n ",
        "Rate it now",
        SOURCE,
        f"Reply: {CANDIDATE}",
        f"{SOURCE}\n{CANDIDATE} {CANDIDATE}",
        json.dumps({"conversation": SOURCE, "reply": CANDIDATE, "overall_score": 4}),
        "Judge what Ann says to Bob on Monday.",
    ],
)
def test_where_no_instruction_is_left_it_is_refused(prompt: str) -> None:
    result = made(prompt, BOTH | {"name": "Bob"})
    assert result.refused is not None
    assert re.fullmatch(r"too little of the instruction is left: [0-3] words, at least 4 are required", result.refused)
    assert sorted(SLOT.findall(result.text)) == ["candidate", "reply_format", "source"]


def test_words_that_our_own_blocks_bring_back_are_refused() -> None:
    # Between the two slots stand "source", "reply" and "candidate"; the title brings the rest.
    fields = (FIELDS[0], FieldSpec(name="candidate", title="What she said next"))
    result = generalise(ASK, {"source": "what she said next was odd", "candidate": ""}, fields, ())
    assert result.refused is None
    result = generalise(ASK, {"source": "so what she said next candidate", "candidate": ""}, fields, ())
    assert result.refused == "words of the example are left: 'what she said next candidate'"


def test_a_model_that_copies_the_whole_reply_leaves_its_first_sentence() -> None:
    said = "Following the guideline, I now evaluate the reply between 1 and 5."
    form = json.dumps({"conversation": SOURCE, "reply": CANDIDATE, "overall_score": 4})
    assert body(made(f"{said}\n{form}")) == f"{said}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"


# What is left is tidy


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ('Look at "{}" again.', "Look at again."),
        ("Look at ({}) again.", "Look at again."),
        ('Look at "{} {}" again.', "Look at again."),
        ("Look at “{}”.", "Look at."),
        ("Look at it [{}], please.", "Look at it, please."),
        ("Look again: {}", "Look again."),
        ("Look again:\n{}\nNow rate it.", "Look again.\nNow rate it."),
        ("Reply: {}\nNow rate it.", "Now rate it."),
        ("**Reply:** {}\nNow rate it.", "Now rate it."),
        ("- {}\n- Now rate it.", "- Now rate it."),
        ("2. {}\n3. Now rate it.", "3. Now rate it."),
        ("<reply>\n{}\n</reply>\nNow rate it.", "Now rate it."),
        ("```\n{}\n```\nNow rate it.", "Now rate it."),
        ("One.\n\n{}\n\nTwo.", "One.\n\nTwo."),
        ("One. {}. Two.", "One. Two."),
        ('Say "good" {} "bad" now.', 'Say "good" "bad" now.'),
        ("\n\n\n\nOne.\n \n\t\n\nTwo.{}", "One.\n\nTwo."),
    ],
)
def test_nothing_dangles_where_a_text_was_taken_out(around: str, expected: str) -> None:
    result = made(f"{ASK} Conversation: {SOURCE}\nReply: {CANDIDATE}\n{around.replace('{}', CANDIDATE)}")
    assert body(result).split("{{candidate}}")[1].strip("\n") == expected


# Real and long texts


def rows() -> list[dict[str, str]]:
    lines = (Path(__file__).parents[3] / "examples" / "constructed.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_our_rubric_filled_with_any_text_becomes_our_rubric_again() -> None:
    # The oracle is the rubric itself: all its words but the two free slots, and the reply format at the end.
    for row in rows():
        task = load_task(row["task"])
        template = rubric_template(task, "overall")
        texts = {spec.name: row.get(spec.name) or "" for spec in template.fields}
        expected = fill(template.text, {name: f"{{{{{name}}}}}" for name in texts} | dict.fromkeys(FREE_SLOTS, ""))
        prompt = fill(template.text, texts | dict.fromkeys(FREE_SLOTS, ""))
        result = generalise(prompt, texts, template.fields, list(task.aspects))
        assert words(body(result)) == words(expected)
        assert (result.refused, result.removed) == (None, ())
        assert verify(Template(result.text, task.name, "overall", template.scale, template.fields), [texts]) == []


def test_a_rubric_without_quotes_stays_whole_whatever_the_texts_are() -> None:
    task = load_task("qa")
    prompt = f"{task.intro} {task.aspects['overall'].question}"
    for row in rows():
        texts = {"source": row["source"], "candidate": row["candidate"]}
        assert generalise(prompt, texts, task.fields, list(task.aspects)).text.startswith(prompt)


def test_long_texts_take_little_time() -> None:
    chance = random.Random(1)
    known = ["".join(chance.choices("abcdefghijklmnop", k=5)) for _ in range(700)]
    content = {"source": " ".join(chance.choices(known, k=2_000)), "candidate": " ".join(chance.choices(known, k=200))}
    prompt = f"{ASK} {changed(' '.join(content['source'].split()[:300]), 4)} Reply: {content['candidate']}"
    start = time.process_time()
    assert set(made(prompt, content).found.values()) == {"fuzzy", "exact"}
    assert time.process_time() - start < 1  # 0.05 s on a laptop


@pytest.mark.parametrize(
    "unit", ["{", "}", '"', "(", "\n", "score: {", "a ", "A. ", '{"score": ', "1. ", "Ann ", "“'`*<"]
)
def test_no_text_takes_long(unit: str) -> None:
    start = time.process_time()
    made(unit * 3_000 + SOURCE + unit * 3_000, {"source": SOURCE, "candidate": unit * 50, "name": "Ann"})
    assert time.process_time() - start < 20


# Whatever comes

MESSY = st.lists(
    st.sampled_from(
        ["rate", "the reply", "Ann", "12", "do n't", "don't", "a b c d e", "b c", "c d e f g h", "{", "}", "{{source}}",
         '"', "(", ")", ":", ". ", "\n", "\n\n",
         '{"overall_score": ', "}", "<reply>", "</reply>", "- ", "\U000f0000", "你好吗"]
    )
).map(" ".join)  # fmt: skip
ANY = st.one_of(MESSY, st.text())


@settings(deadline=None, max_examples=400)
@given(ANY, ANY, ANY, st.data())
def test_the_guarantees_hold_for_any_text(prompt: str, source: str, candidate: str, data: st.DataObject) -> None:
    quoted = data.draw(st.permutations([prompt, source, candidate]), label="order")
    content = {"source": source, "candidate": candidate}
    result = made(" ".join(quoted), content)
    assert sorted(SLOT.findall(result.text)) == ["candidate", "reply_format", "source"]
    assert result.text.endswith("{{reply_format}}")
    assert "\n\n\n" not in result.text
    assert list(result.found) == ["source", "candidate"]
    if result.refused is None:
        parts = outside_slots(result.text)
        assert not any(shared_ngram(part, text) for part in parts for text in content.values())
        assert not [
            fault
            for fault in verify(Template(result.text, "qa", "overall", FIVE, FIELDS), [content])
            if "words" in fault
        ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([chr(code) for code in range(97, 123)]), min_size=4, max_size=30), st.randoms())
def test_exact_quotes_come_back_with_the_prompts_words_in_order(instruction: list[str], chance: random.Random) -> None:
    # Words of the texts and of the instruction differ, so that nothing but the quotes can be taken for them.
    source, candidate = (
        " ".join(f"{kind}{chance.randrange(10_000)}{chance.choice(['', ',', ' {{x}}', ' }'])}" for _ in range(12))
        for kind in "xy"
    )
    place = chance.randrange(len(instruction) + 1)
    prompt = f"{' '.join(instruction[:place])}\n{source}\n{' '.join(instruction[place:])}: {candidate}"
    result = made(prompt, {"source": source, "candidate": candidate})
    assert result.found == {"source": "exact", "candidate": "exact"}
    filled = fill(result.text, {"source": source, "candidate": candidate, "reply_format": ""})
    assert words(filled) == words(prompt)
