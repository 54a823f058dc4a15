"""Where the texts of an example are found in a prompt: quoted exactly, changed, cut, short, inside one another."""

import json

import pytest

from judging.tasks import FieldSpec, load_task
from judging.template import rubric_template
from tests.train.inversion.quoting import (
    ARTICLE,
    ASK,
    BOTH,
    CANDIDATE,
    FIELDS,
    REPLY_BLOCK,
    SOURCE,
    SOURCE_BLOCK,
    SUMMARY,
    body,
    changed,
    made,
    news,
)
from train.inversion.slots import Generalised, generalise

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
