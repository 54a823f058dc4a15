"""Chat messages as source and candidate: the texts that a judge reads, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from judging.chat import last_role
from tests.judging.ratedfiles import jsonl, parquet, records, rejected, row


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ASKED = [message("user", "Why?"), message("assistant", "So."), message("user", "Really?")]


def test_a_conversation_is_a_transcript(tmp_path: Path) -> None:
    (only,) = records(jsonl(tmp_path, row(source=ASKED, candidate="Yes.")))
    assert (only.source, only.candidate) == ("User: Why?\n\nAssistant: So.\n\nUser: Really?", "Yes.")


def test_one_message_of_the_user_is_its_text_alone(tmp_path: Path) -> None:
    whole, plain = records(jsonl(tmp_path, row(source=[message("user", "Why?")]), row(id="r2", source="Why?")))
    assert whole.source == plain.source == "Why?"  # one group, one source
    (only,) = records(jsonl(tmp_path, row(source=[message("system", "Be brief."), message("user", "Why?")])))
    assert only.source == "System: Be brief.\n\nUser: Why?"


def test_a_content_may_have_parts_of_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "input_text", "text": "not?"}]
    (only,) = records(jsonl(tmp_path, row(source=[message("user", parts)])))
    assert only.source == "Why\nnot?"


def test_the_last_message_is_the_candidate(tmp_path: Path) -> None:
    reply = [message("assistant", "So.", name="bot", tool_calls=None)]
    (only,) = records(jsonl(tmp_path, row(candidate=reply)))
    assert (only.source, only.candidate) == ("Why?", "So.")


def test_earlier_messages_are_the_source_where_there_is_none(tmp_path: Path) -> None:
    whole = [*ASKED, message("assistant", "Yes.")]
    (only,) = records(jsonl(tmp_path, row(source=None, candidate=whole)))
    assert (only.source, only.candidate) == ("User: Why?\n\nAssistant: So.\n\nUser: Really?", "Yes.")
    # Given twice, they must be the same; white space does not count.
    again = [message("user", "Why?\n"), message("assistant", "So.")]
    assert records(jsonl(tmp_path, row(candidate=again)))[0].source == "Why?"
    # A blank source is none.
    assert records(jsonl(tmp_path, row(source=" ", candidate=again)))[0].source == "Why?\n"
    (wrong,) = rejected(jsonl(tmp_path, row(source="What?", candidate=again)))
    assert (wrong.code, wrong.key) == ("conflict", "candidate") and "data.columns" in wrong.reason


def test_messages_in_parquet_have_every_key(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Why?", "name": None}]
    (only,) = records(parquet(tmp_path / "x.parquet", row(source=asked)))
    assert only.source == "Why?"


@pytest.mark.parametrize(
    ("messages", "code", "naming"),
    [
        ([], "invalid_value", "no chat message"),
        (["Why?"], "invalid_value", "message 1 must be an object with `role` and `content`"),
        ([[message("user", "Why?")]], "invalid_value", "message 1 must be"),
        ([{"from": "human", "value": "Why?"}], "unsupported", "message 1 has `from` and `value`"),
        ([message("user", "Why?"), {"content": "So."}], "invalid_value", "message 2 must be"),
        ([message("human", "Why?")], "invalid_value", "not 'human'"),
        ([message(["user"], "Why?")], "invalid_value", "not ['user']"),  # type: ignore[arg-type]
        ([{"role": "user"}], "invalid_value", "message 1: `content`"),
        ([message("user", None)], "invalid_value", "message 1: `content`"),
        ([message("user", 7)], "invalid_value", "message 1: `content`"),
        ([message("user", [])], "invalid_value", "message 1: `content`"),
        ([message("user", ["Why?"])], "unsupported", "type 'str'"),
        ([message("user", [{"type": "image_url", "image_url": {"url": "x"}}])], "unsupported", "type 'image_url'"),
        ([message("user", [{"type": "text", "text": None}])], "unsupported", "type 'text'"),
        ([message("assistant", "", tool_calls=[{"id": "1"}])], "unsupported", "`tool_calls`"),
    ],
)
def test_any_other_list_is_refused(tmp_path: Path, messages: list[Any], code: str, naming: str) -> None:
    for column in ("source", "candidate"):
        (only,) = rejected(jsonl(tmp_path, row(**{column: messages})))
        assert (only.code, only.key) == (code, column) and naming in only.reason and "\n" not in only.reason


def test_a_candidate_ends_with_the_assistant(tmp_path: Path) -> None:
    (only,) = rejected(jsonl(tmp_path, row(source=None, candidate=ASKED)))
    assert (only.code, only.key) == ("invalid_value", "candidate") and "'user'" in only.reason


def test_an_empty_message_is_an_empty_candidate(tmp_path: Path) -> None:
    (only,) = rejected(jsonl(tmp_path, row(candidate=[message("assistant", " ")])))
    assert (only.key, only.reason) == ("candidate", "candidate: empty or blank")


@pytest.mark.parametrize(
    ("value", "role"), [(ASKED, "user"), ([message("assistant", "a")], "assistant"), (["a"], None), ("a", None)]
)
def test_the_role_of_the_last_message(value: Any, role: str | None) -> None:
    assert last_role(value) == role
