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
from train.inversion.slots import Generalised, generalise

FIVE = Scale(1, 5)
FIELDS = (FieldSpec(name="source", title="Conversation so far"), FieldSpec(name="candidate", title="Reply"))
SOURCE = "do you like to cook at home ? \n i do , mostly soups . what about you ?"
CANDIDATE = "i bake bread on sundays , the smell fills the whole house . it 's my only skill , i do n't cook ."
BOTH = {"source": SOURCE, "candidate": CANDIDATE}
SOURCE_BLOCK = "Conversation so far:\n<source>\n{{source}}\n</source>"
REPLY_BLOCK = "Reply:\n<candidate>\n{{candidate}}\n</candidate>"
ASK = "Rate the reply to the conversation from 1 to 5."
ARTICLE = (
    "The ferry Northern Star ran aground near Kilmore harbour early on Tuesday. Rescue boats brought all 212 "
    "passengers ashore before noon. Divers will examine the hull tomorrow, and the company has cancelled its sailings "
    "until Friday."
)
SUMMARY = "A ferry with 212 passengers ran aground near Kilmore; nobody was hurt and sailings are cancelled."
NEWS = {"source": ARTICLE, "candidate": SUMMARY}
NEWS_FIELDS = load_task("summarisation").fields_of("overall")


def made(prompt: str, content: dict[str, str] = BOTH, aspects: tuple[str, ...] = ("overall",)) -> Generalised:
    return generalise(prompt, content, FIELDS, aspects)


def news(prompt: str, content: dict[str, str] = NEWS) -> Generalised:
    return generalise(prompt, content, NEWS_FIELDS, ("coherence", "overall"))


def body(result: Generalised) -> str:
    """The text without the reply format, which must be its last paragraph."""
    text, end = result.text[: -len("\n\n{{reply_format}}")], result.text[-len("\n\n{{reply_format}}") :]
    assert end == "\n\n{{reply_format}}"
    return text


def changed(text: str, every: int) -> str:
    """`text` with each so-manieth word another one."""
    return " ".join("elsewhere" if place % every == every - 1 else word for place, word in enumerate(text.split(" ")))


# Found


def test_texts_quoted_exactly_become_slots_and_nothing_else_changes() -> None:
    result = made(f'{ASK}\n\nConversation:\n{SOURCE}\nReply: "{CANDIDATE}"\n\n1 - dull.  \n5 - It\'s (very) good!')
    assert body(result) == (
        f'{ASK}\n\nConversation:\n{{{{source}}}}\nReply: "{{{{candidate}}}}"\n\n1 - dull.  \n5 - It\'s (very) good!'
    )
    assert result == Generalised(result.text, {"source": "exact", "candidate": "exact"}, (), None)


@pytest.mark.parametrize(
    "quoted",
    [
        "I bake bread on Sundays, the smell fills the whole house. It's my only skill, I don't cook.",
        "I BAKE BREAD ON SUNDAYS, THE SMELL FILLS THE WHOLE HOUSE. IT’S MY ONLY SKILL, I DON’T COOK.",
        "i  bake\tbread on\nsundays ,the smell fills the whole house .it 's my only skill , i do n't cook.",
        "i bake bread on sundays - the smell fills the ｗｈｏｌｅ house! it's my only skill; i don't cook .",
    ],
)
def test_case_spacing_and_punctuation_do_not_hide_a_text(quoted: str) -> None:
    result = made(f'{ASK} Conversation: {SOURCE} Reply: "{quoted}" Think of the tone.')
    assert body(result) == f'{ASK} Conversation: {{{{source}}}} Reply: "{{{{candidate}}}}" Think of the tone.'
    assert result.found == {"source": "exact", "candidate": "normalised"}


def test_a_text_escaped_as_json_is_found() -> None:
    said = json.dumps({"dialogue": SOURCE, "reply": 'she said "no" \\ and left the old house'})
    result = made(f"{ASK}\n{said}", {"source": SOURCE, "candidate": 'she said "no" \\ and left the old house'})
    assert body(result) == ASK + '\n{"dialogue": "{{source}}", "reply": "{{candidate}}"}'
    assert result.found == {"source": "normalised", "candidate": "normalised"}


def test_a_text_of_which_only_the_beginning_is_quoted_is_found() -> None:
    first_two = ". ".join(ARTICLE.split(". ")[:2]) + "."
    result = news(f"Rate the summary from 1 to 5.\nArticle: {first_two}\nSummary: {SUMMARY}\nBe strict.")
    assert body(result) == "Rate the summary from 1 to 5.\nArticle: {{source}}\nSummary: {{candidate}}\nBe strict."
    assert result.found == {"source": "fuzzy", "candidate": "exact"}


def test_a_text_with_every_fifth_word_changed_is_found() -> None:
    prompt = f"Rate the summary from 1 to 5.\nArticle: {changed(ARTICLE, 5)}\nSummary: {changed(SUMMARY, 5)}"
    result = news(prompt)
    assert body(result) == "Rate the summary from 1 to 5.\nArticle: {{source}}\nSummary: {{candidate}}"
    assert result.found == {"source": "fuzzy", "candidate": "fuzzy"}


def test_changed_words_at_the_ends_of_a_quote_go_with_it() -> None:
    quote = SUMMARY.replace("A ferry", "One boat").replace("are cancelled", "were stopped")
    assert body(news(f'Rate the summary from 1 to 5. Summary: "{quote}" Article: {ARTICLE}')) == (
        'Rate the summary from 1 to 5. Summary: "{{candidate}}" Article: {{source}}'
    )


FRUIT = "apples pears plums figs dates limes nuts kiwis grapes lemons melons peaches"


@pytest.mark.parametrize(("every", "how"), [(3, "fuzzy"), (2, "appended")])
def test_a_span_is_a_quote_where_more_than_60_percent_of_its_words_match(every: int, how: str) -> None:
    # Two words of three are 67 %, every second one is 50 %. Nowhere do five words in a row match.
    result = made(f"{ASK} Reply: {changed(FRUIT, every)}.", {"source": "", "candidate": FRUIT})
    assert result.found["candidate"] == how
    assert ("elsewhere" in result.text) == (how == "appended")


def test_a_cut_quote_of_plain_words_is_found() -> None:
    content = {"source": "what do you think of it then , is it as good as they say ? no idea", "candidate": ""}
    result = made(f'{ASK} Conversation: "What do you think of it then, is it as good"', content)
    assert body(result) == f'{ASK} Conversation: "{{{{source}}}}"\n\n{REPLY_BLOCK}'


def test_what_leads_up_to_a_quote_in_its_own_words_goes_with_it() -> None:
    # "so" is the text's, "another" and "old" are not; "so" is a word of a title as well.
    content = {"source": "so , the latest film from studio ghibli is out .", "candidate": ""}
    result = made(f"{ASK}\nSo, another old film from Studio Ghibli is out. Be strict.", content)
    assert body(result) == f"{ASK}\n{{{{source}}}} Be strict.\n\n{REPLY_BLOCK}"


def test_the_prompts_first_words_are_never_taken_for_a_quote() -> None:
    cut = "rescue boats brought all 212 passengers ashore before noon"
    result = news(f"Behold how {cut}. Rate the summary from 1 to 5.")
    assert body(result).startswith("Behold how {{source}} Rate the summary from 1 to 5.")


def test_words_of_the_instruction_around_a_quote_stay() -> None:
    cut = "Rescue boats brought all 212 passengers ashore before noon"
    result = news(f"Rate the summary from 1 to 5. Somebody once wrote down {cut} though nobody quite believed that.")
    assert body(result).startswith(
        "Rate the summary from 1 to 5. Somebody once wrote down {{source}} though nobody quite believed that."
    )


def test_an_instruction_between_two_quotes_of_a_text_stays() -> None:
    # 21 and 15 words match, 9 between them do not: together 80 %, but 9 unmatched words in a row are no paraphrase.
    half = ARTICLE.index(" Divers")
    between = "Please think hard about whether this looks right, reader."
    result = news(f"Rate the summary from 1 to 5. {ARTICLE[:half]} {between} {ARTICLE[half + 1 : -1]}, 'twas said")
    assert body(result).startswith(f"Rate the summary from 1 to 5. {{{{source}}}} {between}")
    assert (result.found["source"], len(result.removed)) == ("fuzzy", 1)


def test_a_label_ends_a_quote() -> None:
    # The cut summary's words stand in the article too, in the same order and right after what is quoted of it.
    summary = "Divers examine the hull tomorrow and sailings stay cancelled until Friday, said a speaker of the firm."
    prompt = "Rate the summary from 1 to 5. Article: {} Summary: {}"
    cut = prompt.format(ARTICLE[: ARTICLE.index(" Divers")], summary[: summary.index(", said")])
    result = news(cut, {"source": ARTICLE, "candidate": summary})
    assert body(result) == prompt.format("{{source}}", "{{candidate}}")
    assert result.found == {"source": "fuzzy", "candidate": "fuzzy"}


def test_a_quote_from_both_texts_is_the_shorter_ones() -> None:
    second = "Rescue boats brought all 212 passengers ashore before noon."
    content = {"source": ARTICLE, "candidate": f"{second} Nobody was hurt in the end."}
    assert news(f"Rate what follows from 1 to 5. {second}", content).found == {
        "source": "appended",
        "candidate": "fuzzy",
    }


def test_ideographs_are_no_quote_unless_five_stand_in_a_row() -> None:
    content = {"source": "", "candidate": "今天天气很好我们一起去公园看花然后回家吃饭"}
    scattered, run = "今天很好一起公园看花", "今天我们一起去公园看花"
    assert made(f"请给这个回复打分：{scattered}", content).text.startswith(f"请给这个回复打分：{scattered}")
    assert body(made(f"请给这个回复打分：{run}", content)) == f"请给这个回复打分：{{{{candidate}}}}\n\n{SOURCE_BLOCK}"
    few = made("请给这个回复打分。大家一起去公园了。要严格！", content)
    assert few.text.startswith("请给这个回复打分。 要严格！\n\n")
    assert few.removed == ("大家一起去公园了。",)


def test_words_of_everybody_are_no_quote() -> None:
    # Every word but "rate" stands in the conversation too, and in this order.
    content = {"source": "so do you think that it is good or not ? i think it is good", "candidate": "yes"}
    prompt = "Rate the reply. Do you think it is good?"
    assert body(made(prompt, content)) == f"{prompt}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"


# Found: short texts

LANGUAGES = (FieldSpec(name="source_lang", title="From"), FieldSpec(name="target_lang", title="Into"), *FIELDS)


def test_short_texts_are_found_as_words() -> None:
    content = {"source_lang": "English", "target_lang": "German", "source": "Hello.", "candidate": "Hallo."}
    result = generalise(
        "Rate this translation from English to German (0 to 100).\nSource: Hello.\nTranslation: Hallo.",
        content,
        LANGUAGES,
        ("quality",),
    )
    assert body(result) == (
        "Rate this translation from {{source_lang}} to {{target_lang}} (0 to 100).\n"
        "Source: {{source}}\nTranslation: {{candidate}}"
    )
    assert set(result.found.values()) == {"exact"}


@pytest.mark.parametrize(
    ("candidate", "prompt", "expected"),
    [
        # Inside a longer word, or as a word of the instruction: no quote. Alone on a line or in quotes: one.
        ("art", "Rate the article, its start and its parts.", None),
        (
            "yes",
            "Say yes or no: is the reply good? Reply: yes",
            "Say yes or no: is the reply good? Reply: {{candidate}}",
        ),
        ("yes", "Say yes or no, is the reply good?", None),
        ("5", "Rate the reply from 1 to 5, please.", None),
        ("No.", 'Rate the reply "No." from 1 to 5.', 'Rate the reply "{{candidate}}" from 1 to 5.'),
        ("no", 'Rate the reply "No." from 1 to 5.', 'Rate the reply "{{candidate}}." from 1 to 5.'),
        (":-)", "Rate the reply from 1 to 5: :-)", "Rate the reply from 1 to 5: {{candidate}}"),
        (".", "Rate the reply. It is short.", None),
        ("it is not so", "Rate it is not so as a reply.", "Rate {{candidate}} as a reply."),
        ("你好", "Rate the reply 你好 from 1 to 5.", "Rate the reply 你好 from 1 to 5."),
    ],
)
def test_a_short_text_is_found_where_it_stands_alone(candidate: str, prompt: str, expected: str | None) -> None:
    result = made(prompt, {"source": "", "candidate": candidate})
    if expected and "{{" in expected:
        assert body(result) == f"{expected}\n\n{SOURCE_BLOCK}"
    else:
        assert body(result) == f"{prompt}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}"


def test_a_short_text_in_the_instruction_stays_where_it_asks() -> None:
    content = {"source_lang": "English", "target_lang": "", "source": "", "candidate": ""}
    result = generalise("Language: English\nIs it good english, from 1 to 5?", content, LANGUAGES, ())
    assert "Language: {{source_lang}}\nIs it good english, from 1 to 5?\n\nInto:\n" in result.text


# Not found


@pytest.mark.parametrize("content", [BOTH, {}, {"source": "", "candidate": " \n"}])
def test_texts_that_are_not_quoted_are_appended_as_in_the_rubric(content: dict[str, str]) -> None:
    result = made(ASK, content)
    assert result == Generalised(
        f"{ASK}\n\n{SOURCE_BLOCK}\n{REPLY_BLOCK}\n\n{{{{reply_format}}}}",
        {"source": "appended", "candidate": "appended"},
        (),
        None,
    )


def test_appended_blocks_are_those_of_the_rubric() -> None:
    task = load_task("translation")
    for aspect in task.aspects:
        template = rubric_template(task, aspect)
        result = generalise(ASK, {}, template.fields, list(task.aspects))
        assert template.text.endswith(body(result).removeprefix(f"{ASK}\n\n"))


def test_one_text_is_found_and_the_other_appended() -> None:
    assert body(made(f"{ASK} Reply: {CANDIDATE}")) == f"{ASK} Reply: {{{{candidate}}}}\n\n{SOURCE_BLOCK}"


# Texts in texts


def test_a_text_inside_another_one_is_found_where_it_stands_by_itself() -> None:
    content = {"source": f"hi there . {CANDIDATE} see you on monday then", "candidate": CANDIDATE}
    prompt = "{} Conversation: {} Reply: {}"
    assert body(made(prompt.format(ASK, content["source"], CANDIDATE), content)) == prompt.format(
        ASK, "{{source}}", "{{candidate}}"
    )
    assert body(made(prompt.format(ASK, content["source"], "?"), content)) == (
        prompt.format(ASK, "{{source}}", "?") + f"\n\n{REPLY_BLOCK}"
    )


def test_a_text_inside_another_ones_cut_quote_is_not_taken_for_it() -> None:
    # An extractive summary: the article's second sentence. The article is quoted up to the middle of the third.
    second = "Rescue boats brought all 212 passengers ashore before noon."
    cut = ARTICLE[: ARTICLE.index(", and the company")]
    prompt = "Rate the summary from 1 to 5. Article: {} Summary: {}"
    result = news(prompt.format(cut, second), {"source": ARTICLE, "candidate": second})
    assert body(result) == prompt.format("{{source}}", "{{candidate}}")
    assert result.found == {"source": "fuzzy", "candidate": "exact"}


def test_the_longer_text_is_looked_for_first() -> None:
    content = {"candidate": CANDIDATE, "source": f"{CANDIDATE} thanks"}
    result = made(f"{ASK} Conversation: {CANDIDATE} thanks Reply: {CANDIDATE}", content)
    assert body(result) == f"{ASK} Conversation: {{{{source}}}} Reply: {{{{candidate}}}}"


def test_two_equal_texts_take_the_first_and_the_second_quote() -> None:
    result = made(f"{ASK} Conversation: {SOURCE} Reply: {SOURCE}", {"source": SOURCE, "candidate": SOURCE})
    assert body(result) == f"{ASK} Conversation: {{{{source}}}} Reply: {{{{candidate}}}}"


def test_further_quotes_are_taken_out() -> None:
    cut = CANDIDATE[: CANDIDATE.index(" .")]
    prompt = f'{ASK}\nReply: {CANDIDATE}\nAgain: "{CANDIDATE.upper()}"\nIs ({cut}) what you would say to {SOURCE}'
    result = made(prompt)
    assert body(result) == f"{ASK}\nReply: {{{{candidate}}}}\nIs what you would say to {{{{source}}}}"
    assert result.removed == (CANDIDATE.upper(), cut)


def test_quotes_that_share_an_edge_are_taken_out_once() -> None:
    # Six words, twenty of the text's in the wrong order, six words: two spans, and what lies between belongs to both.
    letters = " ".join("abcdefghijklmnopqrst")
    first, last = "alphabet betamax gammaray deltaic epsilons zetazeta", "eta theta iota kappa lambda mu"
    again = f"{first} {letters[::-1]} {last}"
    content = {"source": "", "candidate": f"{first} {letters} {last}"}
    result = made(f"{ASK}\nReply: {content['candidate']}.\n{again}\nBe strict.", content)
    assert body(result) == f"{ASK}\nReply: {{{{candidate}}}}.\nBe strict.\n\n{SOURCE_BLOCK}"
    assert result.removed == (again,)


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
    assert re.fullmatch(r"of the instruction [0-3] words are left, and it takes 4", result.refused)
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
