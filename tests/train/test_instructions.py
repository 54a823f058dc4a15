"""Instruction files in every known form: what is taken, which are chosen, and why the others are not."""

import json
import re
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from judging.errors import InputError
from judging.readers import RowError
from tests.refusals import refused
from tests.train.making import jsonl, parquet
from train.instructions import Instruction, InstructionConfig, Taken, read_instructions, share, to_instruction


def read(*files: str, limit: int | None = None) -> Taken:
    return read_instructions(InstructionConfig(files=files, limit=limit))


def texts(taken: Taken) -> list[str]:
    return [one.text for one in taken.instructions]


SHAREGPT = [
    {"from": "system", "value": "Be kind."},
    {"from": "human", "value": " Say hello. "},
    {"from": "gpt", "value": "Hello."},
    {"from": "human", "value": "Again."},
    {"from": "gpt", "value": "Hello again."},
]
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": " Say hello. "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Again."},
    {"role": "assistant", "content": "Hello again."},
]


@pytest.mark.parametrize(
    ("raw", "text", "output"),
    [
        ({"instruction": " Say hello. ", "input": "", "output": " Hello.\n"}, "Say hello.", "Hello."),
        ({"instruction": "Say hello."}, "Say hello.", ""),
        ({"instruction": "Say hello.", "input": None, "output": None}, "Say hello.", ""),
        # The input belongs to what a model is asked, a blank line apart.
        ({"instruction": "Translate.", "input": " Hallo ", "output": "Hello"}, "Translate.\n\nHallo", "Hello"),
        ({"instruction": "Translate.", "input": " \n", "output": "x"}, "Translate.", "x"),
        # TRL's two forms, in any mixture.
        ({"prompt": " Say hello. ", "completion": " Hello. "}, "Say hello.", "Hello."),
        ({"prompt": "Say hello."}, "Say hello.", ""),
        ({"prompt": "Say hello.", "completion": None}, "Say hello.", ""),
        ({"prompt": MESSAGES[:2], "completion": MESSAGES[2:3]}, "Say hello.", "Hello."),
        ({"prompt": MESSAGES[:2], "completion": "Hello."}, "Say hello.", "Hello."),
        ({"prompt": "Say hello.", "completion": MESSAGES[2:3]}, "Say hello.", "Hello."),
        ({"prompt": MESSAGES[:2], "completion": []}, "Say hello.", ""),
        # Of a conversation the first turn of each side; a system's turn is none.
        ({"messages": MESSAGES}, "Say hello.", "Hello."),
        ({"messages": MESSAGES[:2]}, "Say hello.", ""),
        ({"messages": SHAREGPT}, "Say hello.", "Hello."),
        ({"conversations": SHAREGPT}, "Say hello.", "Hello."),
        ({"conversations": MESSAGES}, "Say hello.", "Hello."),
        ({"messages": [{"role": "tool", "content": "x"}, *MESSAGES]}, "Say hello.", "Hello."),
        # What a Parquet file with several forms holds: every column, most of them empty.
        ({"instruction": None, "prompt": None, "messages": None, "conversations": SHAREGPT}, "Say hello.", "Hello."),
        ({"instruction": None, "prompt": "Say hello.", "messages": MESSAGES}, "Say hello.", ""),
        # Where a row has several forms the first one counts.
        ({"instruction": "Say hello.", "prompt": "Something else.", "output": "Hello."}, "Say hello.", "Hello."),
    ],
)
def test_every_known_form_is_read(raw: dict[str, Any], text: str, output: str) -> None:
    found = to_instruction(raw)
    assert (found.text, found.output) == (text, output)


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ({}, ("`instruction`", "`conversations`", "required")),
        ({"text": "Say hello."}, ("`instruction`", "`conversations`", "required")),
        ({"instruction": None, "messages": None}, ("`instruction`", "`conversations`", "required")),
        ({"instruction": ""}, ("instruction", "empty")),
        ({"instruction": " \n\t"}, ("instruction", "empty")),
        # An input alone asks for nothing.
        ({"instruction": " ", "input": "Hallo"}, ("instruction", "empty")),
        ({"prompt": ""}, ("instruction", "empty")),
        ({"prompt": []}, ("instruction", "empty")),
        ({"messages": []}, ("instruction", "empty")),
        ({"messages": MESSAGES[2:3]}, ("instruction", "empty")),
        (
            {"conversations": [{"from": "human", "value": " "}, {"from": "gpt", "value": "Hello."}]},
            ("instruction", "empty"),
        ),
        ({"conversations": [{"speaker": "human", "words": "Say hello."}]}, ("instruction", "empty")),
        ({"instruction": 5}, ("instruction: ", "string", "not int")),
        ({"instruction": ["Say", "hello"]}, ("instruction: ", "string", "not list")),
        ({"instruction": False}, ("instruction: ", "string", "not bool")),
        ({"instruction": "Add.", "input": 5}, ("input: ", "string", "not int")),
        ({"instruction": "Add.", "input": 0}, ("input: ", "string", "not int")),
        ({"instruction": "Add.", "input": {}}, ("input: ", "string", "not dict")),
        ({"instruction": "Add.", "output": 5.5}, ("output: ", "string", "not float")),
        ({"instruction": "Add.", "output": False}, ("output: ", "string", "not bool")),
        ({"prompt": 5}, ("prompt: ", "list of messages", "not int")),
        ({"prompt": {"role": "user"}}, ("prompt: ", "list of messages", "not dict")),
        ({"prompt": ["Say hello."]}, ("prompt: ", "list of messages", "not list")),
        ({"prompt": "Add.", "completion": 5}, ("completion: ", "list of messages", "not int")),
        ({"prompt": "Add.", "completion": 0}, ("completion: ", "list of messages", "not int")),
        # A text is a prompt, but no conversation.
        ({"messages": "Say hello."}, ("messages: ", "list of messages", "not str")),
        ({"conversations": [None]}, ("conversations: ", "list of messages", "not list")),
        ({"messages": [{"role": "user", "content": 5}]}, ("messages.content: ", "string", "not int")),
        ({"messages": [{"role": "user"}]}, ("messages.content: ", "string", "not NoneType")),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
            ("messages.content: ", "string"),
        ),
        ({"messages": [*MESSAGES[:2], {"role": "assistant", "content": None}]}, ("messages.content: ", "string")),
        ({"prompt": MESSAGES[:2], "completion": [{"role": "assistant"}]}, ("completion.content: ", "string")),
    ],
)
def test_a_row_that_does_not_fit_says_why(raw: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(RowError) as caught:
        to_instruction(raw)
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_the_id_comes_from_what_is_asked_alone() -> None:
    found = to_instruction({"instruction": "hello", "output": "a"})
    # `printf 5:hello | sha256sum`: the length keeps parts apart.
    assert found == Instruction("a3a285698dc7dbfe", "hello", "a")
    same = [{"prompt": " hello "}, {"messages": [{"role": "user", "content": "hello"}]}]
    assert {to_instruction(raw).id for raw in same} == {found.id}
    assert to_instruction({"instruction": "Hello"}).id != found.id
    assert to_instruction({"instruction": "hello", "input": "x"}).id != found.id


def test_rows_are_read_in_order_and_the_others_counted_and_listed(tmp_path: Path) -> None:
    first = jsonl(
        tmp_path / "a.jsonl",
        [
            {"instruction": "One."},
            "{broken",
            "",
            '["a", "list"]',
            {"instruction": " "},
            {"prompt": "One.", "completion": "again"},
            {"messages": MESSAGES},
        ],
    )
    second = parquet(tmp_path / "b.parquet", [{"instruction": "Two.", "input": None}, {"instruction": None}])
    taken = read(first, second)
    assert texts(taken) == ["One.", "Say hello.", "Two."]
    assert taken.num_duplicates == 1
    assert [(one.file, one.line) for one in taken.rejected] == [(first, 2), (first, 4), (first, 5), (second, 2)]
    reasons = [one.reason for one in taken.rejected]
    assert "JSON" in reasons[0]
    assert "list" in reasons[1]
    assert reasons[2] == "the instruction is empty"
    assert "`conversations`" in reasons[3]


def test_a_byte_order_mark_and_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"instruction": "One."}\n{"instruction": "\xff"}\r\n{"instruction": "caf\xc3\xa9"}\r\n'
    )
    taken = read(str(file))
    assert texts(taken) == ["One.", "café"]
    assert [(one.line, one.reason[:9]) for one in taken.rejected] == [(2, "not UTF-8")]


def test_half_of_a_surrogate_pair_is_a_row_that_does_not_fit(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", ['{"instruction": "a \\ud83d"}', '{"instruction": "a \\ud83d\\ude42"}'])
    taken = read(file)
    assert texts(taken) == ["a 🙂"]
    assert [one.line for one in taken.rejected] == [1]


def test_a_folder_of_parquet_files_with_conversations(tmp_path: Path) -> None:
    parquet(tmp_path / "set" / "b.parquet", [{"conversations": SHAREGPT}])
    parquet(
        tmp_path / "set" / "a.parquet", [{"messages": MESSAGES, "prompt": None}, {"messages": None, "prompt": "Two."}]
    )
    taken = read(str(tmp_path / "set"))
    # The files in order of name; the conversation in b asks what that in a asked.
    assert texts(taken) == ["Say hello.", "Two."]
    assert (taken.num_duplicates, taken.rejected) == (1, [])


def test_an_instruction_counts_once_and_the_first_answer_stays(tmp_path: Path) -> None:
    rows = [{"instruction": "One.", "output": f"answer {number}"} for number in range(3)]
    taken = read(jsonl(tmp_path / "a.jsonl", rows), jsonl(tmp_path / "b.jsonl", rows))
    assert [one.output for one in taken.instructions] == ["answer 0"]
    assert taken.num_duplicates == 5


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["{broken"], ["1 rows", "{file}, line 1", "JSON"]),
        ([{"instruction": ""}, {"x": 1}], ["2 rows", "{file}, line 1", "empty"]),
        (["", " "], ["0 rows"]),
    ],
)
def test_a_file_without_a_usable_row_is_refused(tmp_path: Path, rows: list[Any], parts: list[str]) -> None:
    file = jsonl(tmp_path / "a.jsonl", rows)
    for part in parts:
        with refused("no_records", "instructions.files", naming=part.format(file=file)):
            read(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.jsonl", None), ("a.jsonl", b""), ("a.txt", b"x"), ("a.parquet", b"no parquet")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    good = jsonl(tmp_path / "good.jsonl", [{"instruction": "One."}])
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))):
        read(good, str(tmp_path / name))


@pytest.mark.parametrize("section", [{"files": []}, {"files": ["a"], "limit": 0}, {"files": ["a"], "seed": 1}, {}])
def test_a_section_that_does_not_fit_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InstructionConfig(**section)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"instruction": f"Number {number}."} for number in range(count)]


def test_the_share_is_the_hash_of_the_id() -> None:
    # `printf split/abc | sha256sum` begins with b6aef479aa0c44af; over 2^64 that is 0.71361.
    assert share("abc") == pytest.approx(0.71361, abs=1e-5)


def test_shares_are_spread_evenly() -> None:
    shares = [share(to_instruction(row).id) for row in numbered(2000)]
    assert all(0 <= one < 1 for one in shares)
    # Each tenth holds 200 of 2000, with a standard deviation of 13; the hash is fixed, so this never wavers.
    assert all(140 < sum(low / 10 <= one < (low + 1) / 10 for one in shares) < 260 for low in range(10))


@pytest.mark.parametrize("limit", [1, 7, 50, 200, 201])
def test_the_choice_does_not_depend_on_the_order_of_rows_and_files(tmp_path: Path, limit: int) -> None:
    rows = numbered(200)
    whole = jsonl(tmp_path / "a.jsonl", rows)
    kept = read(whole, limit=limit)
    assert len(kept.instructions) == min(limit, 200)
    assert kept.num_over_limit == max(0, 200 - limit)
    # In the order of the file, whatever their hashes are.
    order = {row["instruction"]: place for place, row in enumerate(rows)}
    assert [order[text] for text in texts(kept)] == sorted(order[text] for text in texts(kept))
    Random(1).shuffle(rows)
    parts = [jsonl(tmp_path / f"{start}.jsonl", rows[start : start + 60]) for start in range(0, 200, 60)]
    shuffled = read(*parts, limit=limit)
    assert set(texts(shuffled)) == set(texts(kept))
    place = {row["instruction"]: number for number, row in enumerate(rows)}
    assert [place[text] for text in texts(shuffled)] == sorted(place[text] for text in texts(shuffled))


def test_a_greater_limit_keeps_what_a_smaller_one_chose(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", numbered(100))
    chosen = [set(texts(read(file, limit=limit))) for limit in (5, 20, 99, 100)]
    assert all(small < large for small, large in pairwise(chosen))


def test_doubles_and_bad_rows_take_no_place_under_the_limit(tmp_path: Path) -> None:
    rows = [one for row in numbered(20) for one in (row, row, {"instruction": ""})]
    taken = read(jsonl(tmp_path / "a.jsonl", rows), limit=15)
    plain = read(jsonl(tmp_path / "b.jsonl", numbered(20)), limit=15)
    assert texts(taken) == texts(plain)
    # 20 doubles, whether the first one was chosen or not; 5 of 20 different ones over the limit.
    assert (taken.num_duplicates, taken.num_over_limit, len(taken.rejected)) == (20, 5, 20)


def test_splits_stay_the_same_when_rows_are_added(tmp_path: Path) -> None:
    before = read(jsonl(tmp_path / "a.jsonl", numbered(100)))
    after = read(jsonl(tmp_path / "b.jsonl", numbered(300)[::-1]))
    held_out = {one.id for one in before.instructions if share(one.id) < 0.2}
    known = {one.id for one in before.instructions}
    assert 0 < len(held_out) < 100
    assert {one.id for one in after.instructions if share(one.id) < 0.2} & known == held_out


def test_the_limit_does_not_prefer_one_side_of_the_split(tmp_path: Path) -> None:
    chosen = read(jsonl(tmp_path / "a.jsonl", numbered(4000)), limit=1000).instructions
    num_held_out = sum(share(one.id) < 0.2 for one in chosen)
    # 1000 draws with 0.2: 200, standard deviation 12.6. One hash for both purposes would hold out 800 of the 1000.
    assert 150 < num_held_out < 250
    mean = sum(share(one.id) for one in chosen) / 1000
    # A mean of 1000 even draws: 0.5, standard deviation 0.289 / sqrt(1000) = 0.009.
    assert 0.46 < mean < 0.54


def test_the_demos_instructions_are_all_usable() -> None:
    file = Path(__file__).parents[2] / "examples" / "instructions.jsonl"
    taken = read(str(file))
    assert len(taken.instructions) == len(file.read_text(encoding="utf-8").splitlines())
    assert (taken.rejected, taken.num_duplicates) == ([], 0)
    assert all(one.output for one in taken.instructions)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert all(
        one.text.startswith(row["instruction"].strip()) for one, row in zip(taken.instructions, rows, strict=True)
    )
