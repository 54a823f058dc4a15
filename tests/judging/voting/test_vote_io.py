"""The file of learned votes: written and read back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from judging.errors import InputError
from judging.voting.vote_io import _checksum, load_votes, save_votes
from tests.judging.voting.test_stacked_vote import STEEP, VOTE, made
from tests.refusals import refused


def test_the_file_of_votes_and_back(tmp_path: Path) -> None:
    votes = {("qa", "overall"): VOTE, ("dialogue", "wit"): made(ä=(1.0, STEEP))}
    save_votes(tmp_path / "votes.json", votes)
    assert load_votes(tmp_path / "votes.json") == votes
    written = (tmp_path / "votes.json").read_bytes()
    save_votes(tmp_path / "votes.json", dict(reversed(votes.items())))
    assert (tmp_path / "votes.json").read_bytes() == written
    assert [file.name for file in tmp_path.iterdir()] == ["votes.json"]


WEIGHT = "votes.0.vote.members.0.weight"


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
    ("places", "value", "sealed", "code", "key", "naming"),
    [
        (("format",), "other", False, "unsupported", "", "inverdict.votes"),
        (("schema_version",), 2, False, "unsupported", "schema_version", "version 2"),
        (("schema_version",), None, False, "unsupported", "schema_version", "version null"),
        (("sha256",), "0", False, "damaged_artifact", "", "checksum"),
        (("votes", 0, "vote", "members", 0, "weight"), 0.6, False, "damaged_artifact", "", "checksum"),
        (("votes",), 7, True, "damaged_artifact", "votes", ""),
        *(
            (("votes", 0, "vote", "members", 0, "weight"), value, True, "damaged_artifact", WEIGHT, "number")
            for value in ("1", float("nan"))
        ),
        (("votes", 0, "vote", "trick"), 1, True, "damaged_artifact", "votes.0.vote.trick", ""),
        (("more",), 1, True, "damaged_artifact", "more", ""),
        (("votes", 0, "task"), "", True, "damaged_artifact", "votes.0.task", ""),
    ],
)
def test_a_file_that_is_not_ours_to_trust(
    tmp_path: Path, places: Any, value: Any, sealed: bool, code: str, key: str, naming: str
) -> None:
    path = tmp_path / "votes.json"
    save_votes(path, {("qa", "overall"): VOTE})
    changed(path, *places, value=value, sealed=sealed)
    with pytest.raises(InputError) as caught:
        load_votes(path)
    assert (caught.value.code, caught.value.key) == (code, key)
    assert naming in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_two_votes_for_one_aspect(tmp_path: Path) -> None:
    path = tmp_path / "votes.json"
    save_votes(path, {("qa", "overall"): VOTE})
    entry = json.loads(path.read_text())["votes"][0]
    changed(path, "votes", value=[entry, entry], sealed=True)
    with refused("damaged_artifact", naming="two votes"):
        load_votes(path)


@pytest.mark.parametrize(
    ("content", "code", "key"),
    [
        (None, "missing_file", ""),
        (b"", "invalid_json", ""),
        (b"\xff\xfe", "invalid_json", ""),
        (b"[" * 100_000, "invalid_json", ""),
        (b"\x80\x04\x95", "invalid_json", ""),  # the beginning of a pickle
        (b"[]", "unsupported", ""),
        (b'{"format": "inverdict.votes"}', "unsupported", "schema_version"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes | None, code: str, key: str) -> None:
    path = tmp_path / "votes.json"
    if content is not None:
        path.write_bytes(content)
    with refused(code, key, naming=str(path)):
        load_votes(path)
