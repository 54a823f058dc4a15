"""What unknown columns are taken for, by their names and values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.column_guess import Guess, guess
from judging.column_names import Part, aspect_of, is_id_of, is_reference, is_system, means, parts
from judging.column_profile import profiles
from judging.wide import rest_of
from tests.judging.test_datasets import JSON

QUESTIONS = [f"Why is the number {n} so odd?" for n in range(4)]
ANSWERS = [f"Because the number {n} is what it is." for n in range(4)]


def guessed(columns: dict[str, list[Any]], **options: Any) -> Guess:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return guess(profiles(rows), **options)


def test_our_own_names_are_taken_as_they_are() -> None:
    own: dict[str, list[Any]] = {
        "id": ["a", "b"],
        "task": ["qa", "qa"],
        "group": ["g", "g"],
        "source": ["Why?", "Why?"],
        "candidate": ["So.", "No."],
        "scores": [{"overall": 4}, {"overall": 2}],
        "scale": [[1, 5], [1, 5]],
        "note": ["x", "y"],
    }
    found = guessed(own)
    assert found.fields == {name: name for name in own}
    assert (found.columns, found.has_task, found.task) == ({}, True, "qa")


def test_a_table_of_questions_and_answers() -> None:
    found = guessed({"question": QUESTIONS, "answer": ANSWERS, "model": ["a", "b"] * 2, "rating": ["4", "2", "5", "1"]})
    assert found.columns == {
        "question": "source",
        "answer": "candidate",
        "model": "system",
        "rating": "scores.overall",
    }
    assert (found.task, found.has_task, found.has_group, found.systems) == ("qa", False, False, ())


def test_an_id_that_repeats_is_the_group() -> None:
    table = {"prompt": QUESTIONS, "response": ANSWERS}
    assert guessed({"id": [1, 1, 2, 2], **table}).columns["id"] == "group"
    assert "id" not in guessed({"id": [1, 2, 3, 4], **table}).columns
    twice = {"prompt": [q for q in QUESTIONS[:2] for _ in range(2)], "response": ANSWERS}
    # An id of something smaller than the source would leave one text in each group.
    assert guessed({"item_id": [1, 2, 3, 4], **twice}).columns["item_id"] == "id"
    assert guessed({"item_id": [1, 1, 2, 2], **twice}).columns["item_id"] == "group"
    chats = {"messages": [chat(q, a) for q, a in zip(twice["prompt"], ANSWERS, strict=True)]}
    assert guessed({"item_id": [1, 2, 3, 4], **chats}).columns["item_id"] == "id"
    # One row twice among five: 4 of 5 ids differ, 2 of 5 sources.
    again = {name: [*cells, cells[0]] for name, cells in {"id": [1, 2, 3, 4], **twice}.items()}
    assert "id" not in guessed(again).columns
    # A group that some rows lack would divide a source.
    assert "item_id" not in guessed({"item_id": [1, 1, None, None], **twice}).columns
    found = guessed({"answer_id": [1, 2, 3, 4], "question_id": [1, 1, 2, 2], **table}).columns
    assert (found["answer_id"], found["question_id"]) == ("id", "group")


def test_wide_form_by_a_common_word() -> None:
    table: dict[str, list[Any]] = {
        "prompt": QUESTIONS,
        "gpt-4_answer": ANSWERS,
        "llama_answer": ANSWERS,
        "gold_answer": ANSWERS,
        "gpt-4_score": [1, 2, 3, 4],
        "llama_rating": [1, 2, 3, 4],
        "llama_seconds": [1, 2, 3, 4],
    }
    found = guessed(table)
    assert found.systems == ("gpt-4", "llama")
    assert found.columns == {
        "prompt": "source",
        "gpt-4_answer": "gpt-4",
        "llama_answer": "llama",
        "gpt-4_score": "gpt-4.scores.overall",
        "llama_rating": "llama.scores.overall",
    }


def test_wide_form_by_texts_beside_the_source() -> None:
    # Two systems, or a system and a city: that cannot be told.
    texts = {"question": QUESTIONS, "gpt": ANSWERS, "city": ANSWERS, "topic": ["x"] * 4}
    found = guessed(texts)
    assert (found.systems, found.column_of("candidate"), found.texts) == ((), None, ("gpt", "city"))
    # With a score beside each they are systems.
    found = guessed({**texts, "gpt_score": [1, 2, 3, 4], "city_score": [1, 2, 3, 4]})
    assert found.systems == ("gpt", "city") and found.columns["city_score"] == "city.scores.overall"


def test_wide_form_as_the_docs_describe_it() -> None:
    dotted = {"a": ANSWERS, "b": ANSWERS, "a.scores.overall": [1, 2, 3, 4], "b.system": ["x"] * 4, "b.note": ["y"] * 4}
    found = guessed({"source": QUESTIONS, **dotted, "meta": ["x"] * 4, "meta.lang": ["en"] * 4})
    assert found.systems == ("a", "b") and found.columns == {}
    cells = [{"candidate": answer, "scores": {"overall": 3}} for answer in ANSWERS]
    found = guessed({"question": QUESTIONS, "one": cells, "two": cells, "more": [{"k": 1}] * 4})
    assert found.systems == ("one", "two") and found.columns == {"question": "source"}


def test_chosen_and_rejected() -> None:
    found = guessed({"prompt": QUESTIONS, "chosen": ANSWERS, "rejected": ANSWERS})
    assert found.systems == ("chosen", "rejected") and found.columns == {"prompt": "source"}


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_an_arena() -> None:
    table: dict[str, list[Any]] = {
        "question_id": [1, 2],
        "model_a": ["x", "y"],
        "model_b": ["y", "x"],
        "winner": ["model_a", "tie"],
        "conversation_a": [chat("Why?", "So."), chat("What?", "That.")],
        "conversation_b": [chat("Why?", "No."), chat("What?", "This.")],
        "turn": [1, 1],
    }
    found = guessed(table)
    assert found.columns == {
        "question_id": "group",
        "model_a": "a.system",
        "model_b": "b.system",
        "winner": "preferred",
        "conversation_a": "a",
        "conversation_b": "b",
    }
    assert (found.systems, found.task, found.column_of("source")) == (("a", "b"), "qa", None)


def test_messages_alone_are_the_candidate() -> None:
    found = guessed({"messages": [chat("Why?", "So."), chat("What?", "That.")], "model": ["x", "y"]})
    assert found.columns == {"messages": "candidate", "model": "system"}


def test_messages_that_end_with_the_user_are_the_source() -> None:
    asked = [[*chat("Why?", "So."), {"role": "user", "content": "Really?"}]] * 2
    found = guessed({"messages": asked, "response": ["Yes, it is so.", "No, it is not."]})
    assert found.columns == {"messages": "source", "response": "candidate"} and found.task == "dialogue"


def test_what_the_reader_would_refuse_is_kept_as_a_text() -> None:
    found = guessed({"question": QUESTIONS, "answer": ANSWERS, "rating": [1, 2, 3, 4], "score": [1, 2, 3, 4]})
    # The second column of numbers is no aspect's; unmapped it would be refused as a misspelt name.
    assert found.columns["rating"] == "scores.overall" and found.columns.get("score") in (None, "score")
    found = guessed({"question": QUESTIONS, "answer": ANSWERS, "Label": ["good", "bad"] * 2})
    assert found.columns["Label"] == "Label"


def test_numbers_of_a_reference_are_no_scores() -> None:
    table = {"question": QUESTIONS, "answer": ANSWERS}
    found = guessed({**table, "gold": [42, 17, 800, 3]})
    assert found.columns["gold"] == "gold" and found.unread == {"gold": "scores.overall"}
    assert guessed({**table, "gold_score": [1, 2, 3, 4]}).columns["gold_score"] == "scores.overall"
    assert guessed({**table, "gold": ANSWERS}).unread == {}


def test_a_column_named_text_may_be_the_candidate_or_the_source() -> None:
    found = guessed({"question": QUESTIONS, "text": ANSWERS, "remarks": QUESTIONS})
    assert found.columns == {"question": "source", "text": "candidate"}
    assert guessed({"text": QUESTIONS, "summary": ANSWERS}).columns == {"text": "source", "summary": "candidate"}


def test_the_halves_of_a_source() -> None:
    found = guessed({"instruction": QUESTIONS, "input": ANSWERS, "output": ANSWERS})
    assert found.halves == ("instruction", "input")
    assert guessed({"instruction": QUESTIONS, "input": [""] * 4, "output": ANSWERS}).halves == ()
    given = {"instruction": "source"}
    assert guessed({"instruction": QUESTIONS, "input": ANSWERS, "output": ANSWERS}, given=given).halves == ()


def test_numbered_answers_have_numbered_scores() -> None:
    found = guessed({"question": QUESTIONS, "answer1": ANSWERS, "answer2": ANSWERS, "score1": [1, 2, 3, 4]})
    assert found.systems == ("1", "2") and found.columns["score1"] == "1.scores.overall"


def test_a_version_behind_a_dot_is_another_system() -> None:
    found = guessed({"question": QUESTIONS, "gpt-4": ANSWERS, "gpt-4.1": ANSWERS}, systems=["gpt-4"])
    assert found.systems == ("gpt-4",) and found.reasons["gpt-4.1"].startswith("no other use found")


def test_a_field_of_a_record_names_no_system() -> None:
    cells = [{"candidate": answer} for answer in ANSWERS]
    assert guessed({"id": cells, "b": cells, "question": QUESTIONS}).systems == ("b",)


def test_what_is_given_is_never_guessed() -> None:
    table = {"question": QUESTIONS, "answer": ANSWERS, "response": ANSWERS}
    found = guessed(table)
    assert (found.column_of("candidate"), found.texts) == (None, ("answer", "response"))
    found = guessed(table, given={"response": "candidate"}, task="story")
    assert found.columns == {"question": "source", "response": "candidate"}
    assert (found.task, found.task_reason, found.reasons["response"]) == ("story", "given", "given")
    found = guessed(table, systems=["answer", "response"])
    assert found.systems == ("answer", "response") and found.columns == {"question": "source"}
    found = guessed(table, given={"answer": "a", "response": "b"}, systems=["a", "response"])
    assert found.systems == ("a", "b") and found.columns["answer"] == "a"


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        (("src", "mt"), "translation"),
        (("source", "candidate", "target_lang"), "translation"),
        (("article", "summary"), "summarisation"),
        (("prompt", "story"), "story"),
        (("dialog", "response"), "dialogue"),
        (("dialog_id", "context", "response"), "dialogue"),
        (("question", "answer"), "qa"),
    ],
)
def test_the_task_by_the_names(columns: tuple[str, ...], task: str) -> None:
    assert guessed(dict.fromkeys(columns, ANSWERS)).task == task


def test_an_unknown_task_is_another_text() -> None:
    found = guessed({"task": ["breakfast"] * 4, "question": QUESTIONS, "answer": ANSWERS})
    assert found.columns["task"] == "task_name" and not found.has_task


def test_an_index_of_pandas_is_ignored() -> None:
    found = guessed({"Unnamed: 0": [0, 1, 2, 3], "question": QUESTIONS, "answer": ANSWERS})
    assert found.fields["Unnamed: 0"] == "" and "Unnamed: 0" not in found.columns


@pytest.mark.parametrize(
    ("name", "word"),
    [("Question", "question"), ("question_text", "question"), ("modelAnswer", "answer"), ("answers", "answer")],
)
def test_names_that_mean_a_word(name: str, word: str) -> None:
    assert means(name, ("question", "answer")) == word


@pytest.mark.parametrize("name", ["question_id", "answer_length", "text", ""])
def test_names_that_mean_none(name: str) -> None:
    assert means(name, ("question", "answer")) is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("answer_a", Part("answer", "a")),
        ("gpt-4o_answer", Part("answer", "gpt-4o")),
        ("answer1", Part("answer", "1")),
        ("answerB", Part("answer", "B")),
        ("answer", None),
        ("answered", None),
        ("llamaAnswer", Part("answer", "llama")),
        ("answer1_text", None),
        ("answer_length", None),
        ("model_answer", None),
    ],
)
def test_names_of_a_word_and_a_system(name: str, part: Part | None) -> None:
    assert parts(name, ("answer",)) == part


def test_other_names() -> None:
    assert (
        is_id_of("question_id", ("question",)) and is_id_of("qid", ("q",)) and not is_id_of("question", ("question",))
    )
    assert is_system("model_name") and is_system("System") and not is_system("model_score")
    assert is_reference("gold_answer") and not is_reference("goldfish")
    assert rest_of("a_score", "a") == rest_of("score_a", "a") == "score" and rest_of("data", "a") is None
    assert rest_of("score1", "1") == rest_of("scoreB", "B") == "score" and rest_of("gpt4", "gpt") is None
    aspects = ("overall", "fluency")
    assert [aspect_of(name, aspects) for name in ("rating", "Fluency", "human_fluency_score", "score.fluency")] == [
        "overall",
        "fluency",
        "fluency",
        "fluency",
    ]
    assert aspect_of("year", aspects) is None


NAMES = st.text(max_size=6) | st.sampled_from(
    [
        *(
            "id",
            "task",
            "group",
            "source",
            "candidate",
            "scores",
            "scale",
            "question",
            "answer",
            "answer_a",
            "answer_b",
        ),
        *("model", "model_a", "rating", "a_score", "a.scores.overall", "messages", "Unnamed: 0", "", "_", "gold"),
    ]
)


@given(st.lists(st.dictionaries(NAMES, JSON | st.sampled_from([*QUESTIONS, *ANSWERS, "qa"])), max_size=3))
def test_any_rows_give_a_guess(rows: list[dict[str, Any]]) -> None:
    columns = profiles(rows)
    found = guess(columns)
    assert list(found.fields) == list(columns) and found.reasons.keys() == columns.keys()
    assert set(found.columns) <= set(columns)
