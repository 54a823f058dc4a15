"""API keys: shown once, kept as hashes, read again on change."""

import json
import stat
from pathlib import Path

import pytest

from cluster.__main__ import main
from serve.api import api_keys as keys
from serve.api.api_keys import Keys, add, hash_of, read, revoke
from tests.refusals import refused


def test_a_key_is_shown_once_and_kept_as_a_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "more" / "keys.json"
    assert main(["keys", "new", str(path), "--name", "ci"]) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) > 40
    assert key not in path.read_text()
    assert json.loads(path.read_text())["keys"][0]["sha256"] == hash_of(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["keys", "list", str(path)]) == 0
    told = capsys.readouterr().out
    assert "ci" in told
    assert key not in told
    assert Keys(path).names(key)


def test_several_keys_and_one_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.json"
    first, second = add(path, "a"), add(path, "b")
    known = Keys(path)
    assert known.names(first)
    assert known.names(second)
    assert not known.names("")
    id = read(path)[0]["id"]
    assert main(["keys", "revoke", str(path), "--id", id]) == 0
    assert not Keys(path).names(first)
    assert Keys(path).names(second)
    assert main(["keys", "revoke", str(path), "--id", id]) == 2
    assert id in capsys.readouterr().err
    with refused("unknown_id"):
        revoke(path, id)
    with refused("last_key", naming=str(path)):
        revoke(path, read(path)[0]["id"])


def test_a_change_counts_while_serving_and_damage_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RECHECK_S", 0.0)
    path = tmp_path / "keys.json"
    first = add(path, "a")
    known = Keys(path)
    second = add(path, "b")
    assert known.names(second)
    path.write_text("half")
    assert known.names(first)
    path.unlink()
    assert known.names(first)
    third = add(path, "c")
    assert known.names(third)
    assert not known.names(first)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "unreadable_file"),
        ("{}", "unreadable_file"),
        ('{"keys": []}', "empty_file"),
        ('{"keys": [{"sha256": 5}]}', "empty_file"),
        ("[1]", "unreadable_file"),
    ],
)
def test_a_file_that_is_no_key_file_is_refused(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with refused(code, naming="inverdict keys new"):
        Keys(path)


def test_a_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    with refused("missing_file", naming="none.json"):
        read(tmp_path / "none.json")
