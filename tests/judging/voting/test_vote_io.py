"""The file of learned votes: written and read back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from judging.errors import InputError
from judging.voting.vote_io import _checksum, load_votes, save_votes
from tests.judging.voting.test_stacked_vote import STEEP, VOTE, made


def test_the_file_of_votes_and_back(tmp_path: Path) -> None:
    votes = {("qa", "overall"): VOTE, ("dialogue", "wit"): made(ä=(1.0, STEEP))}
    save_votes(tmp_path / "votes.json", votes)
    assert load_votes(tmp_path / "votes.json") == votes
    written = (tmp_path / "votes.json").read_bytes()
    save_votes(tmp_path / "votes.json", dict(reversed(votes.items())))
    assert (tmp_path / "votes.json").read_bytes() == written
    assert [file.name for file in tmp_path.iterdir()] == ["votes.json"]


def changed(path: Path, *places: Any, value: Any, sealed: bool = False) -> None:
    """Set the value at a place in the file; `sealed`: with a checksum that fits."""
    content = json.loads(path.read_text())
    inner = content
    for place in places[:-1]:
        inner = inner[place]
    inner[places[-1]] = value
    if sealed:
        content["sha256"] = _checksum(content["votes"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("places", "value", "sealed", "words"),
    [
        (("format",), "other", False, "not a file of learned votes"),
        (("schema_version",), 2, False, "has schema version 2, and this Inverdict reads 1"),
        (("schema_version",), None, False, "has schema version null"),
        (("sha256",), "0", False, "was changed after it was written"),
        (("votes", 0, "vote", "members", 0, "weight"), 0.6, False, "was changed after it was written"),
        (("votes",), 7, True, "holds no votes that can be used (votes: "),
        (("votes", 0, "vote", "members", 0, "weight"), "1", True, "vote.members.0.weight: "),
        (("votes", 0, "vote", "members", 0, "weight"), float("nan"), True, "vote.members.0.weight: "),
        (("votes", 0, "vote", "trick"), 1, True, "vote.trick: Extra inputs"),
        (("more",), 1, True, "more: Extra inputs"),
        (("votes", 0, "task"), "", True, "votes.0.task: "),
    ],
)
def test_a_file_that_is_not_ours_to_trust(tmp_path: Path, places: Any, value: Any, sealed: bool, words: str) -> None:
    path = tmp_path / "votes.json"
    save_votes(path, {("qa", "overall"): VOTE})
    changed(path, *places, value=value, sealed=sealed)
    with pytest.raises(InputError) as caught:
        load_votes(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert str(caught.value).endswith("learn the votes again") and "\n" not in str(caught.value)


def test_two_votes_for_one_aspect(tmp_path: Path) -> None:
    path = tmp_path / "votes.json"
    save_votes(path, {("qa", "overall"): VOTE})
    entry = json.loads(path.read_text())["votes"][0]
    changed(path, "votes", value=[entry, entry], sealed=True)
    with pytest.raises(InputError, match="two votes for one task and aspect"):
        load_votes(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\x80\x04\x95", "is not JSON"),  # the beginning of a pickle
        (b"[]", "not a file of learned votes"),
        (b'{"format": "inverdict.votes"}', "schema version null"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "votes.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_votes(path)
