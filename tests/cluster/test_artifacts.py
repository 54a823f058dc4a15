"""A job's folder: claimed, locked, resumed, refused, complete; and what a failure leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.artifacts import JobDir, differences, file_hash, write_text
from cluster.errors import UserError
from tests.refusals import refused

FINGERPRINT = {"evaluate": {"vote": {"rule": "mean"}, "judges": ["a"]}, "seed": 0}
HOLD = """
import sys
from pathlib import Path
from cluster.artifacts import JobDir
with JobDir(Path(sys.argv[1]), "job").opened({}):
    print("held", flush=True)
    sys.stdin.read()
"""


def claimed(run: Path, fingerprint: object = FINGERPRINT) -> JobDir:
    job = JobDir(run, "job")
    with job.opened(fingerprint):  # type: ignore[arg-type]
        job.claim()
    return job


def test_the_same_fingerprint_is_taken_up_again(tmp_path: Path) -> None:
    job = claimed(tmp_path / "run")
    (job.path / "part").write_text("work")
    # Tuples and lists are the same JSON.
    with JobDir(tmp_path / "run", "job").opened(
        {**FINGERPRINT, "evaluate": {"vote": {"rule": "mean"}, "judges": ("a",)}}
    ):
        assert (job.path / "part").read_text() == "work"


def test_another_fingerprint_is_refused_with_what_changed(tmp_path: Path) -> None:
    claimed(tmp_path)
    changed = {"evaluate": {"vote": {"rule": "median"}, "judges": ["a"]}, "seed": 1}
    with pytest.raises(UserError) as caught, JobDir(tmp_path, "job").opened(changed):
        pass
    assert (caught.value.code, caught.value.key) == ("other_configuration", "")
    message = str(caught.value)
    assert "evaluate.vote.rule (mean, now median) and 1 more" in message
    assert str(tmp_path / "job") in message
    assert (tmp_path / "job" / "fingerprint.json").exists()


def test_differences_name_the_place_and_shorten_the_values() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": {"b": 1}}, {"a": {"b": 2, "c": None}}) == ["a.b (1, now 2)"]
    assert differences({"a": [1]}, {"b": [1]}) == ["a ([1], now none)", "b (none, now [1])"]
    assert differences({"a": "x" * 50}, {"a": {}}) == [f"a ({'x' * 37}..., now {{}})"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@given(JSON)
def test_equal_values_have_no_differences(value: object) -> None:
    assert differences(value, json.loads(json.dumps(value))) == []


def test_a_second_process_is_kept_out_while_the_first_is_at_work(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "held\n"
        with (
            refused("in_use", "run", naming=str(tmp_path / "run" / "job")),
            JobDir(tmp_path / "run", "job").opened({}),
        ):
            pass
        assert (tmp_path / "run" / "job" / ".lock").exists()
    finally:
        first.kill()
        first.communicate(timeout=30)
    # The lock dies with its process, however that ended.
    with JobDir(tmp_path / "run", "job").opened({}):
        pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_before_the_claim_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    job = JobDir(tmp_path / "a" / "b", "job")
    with pytest.raises(error), job.opened(FINGERPRINT):
        (job.path / "records").mkdir()
        (job.path / "records" / "part").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_failure_after_the_claim_leaves_the_work(tmp_path: Path) -> None:
    job = JobDir(tmp_path / "run", "job")
    with pytest.raises(ValueError), job.opened(FINGERPRINT):
        job.claim()
        (job.path / "part").write_text("work")
        raise ValueError
    assert (job.path / "part").read_text() == "work"
    assert job.is_claimed()


def test_a_failure_never_deletes_what_was_there_before(tmp_path: Path) -> None:
    mine = tmp_path / "run" / "job" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    job = JobDir(tmp_path / "run", "job")
    with pytest.raises(ValueError), job.opened(FINGERPRINT):
        raise ValueError
    assert mine.read_text() == "precious"


def test_a_failure_keeps_the_folders_around_that_others_use(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    job = JobDir(tmp_path / "run" / "deep", "job")
    with pytest.raises(ValueError), job.opened(FINGERPRINT):
        (tmp_path / "run" / "deep" / "other").write_text("another job's")
        raise ValueError
    assert [path.name for path in (tmp_path / "run" / "deep").iterdir()] == ["other"]


def test_the_manifest_says_complete_and_names_every_file(tmp_path: Path) -> None:
    job = JobDir(tmp_path, "job")
    with job.opened(FINGERPRINT):
        assert job.manifest() is None
        job.claim()
        (job.path / "scores").write_text("abc")
        job.finish({"num_scores": 3})
    manifest = job.manifest()
    assert manifest is not None
    # sha256 of "abc", from FIPS 180-2.
    assert manifest["files"]["scores"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert set(manifest["files"]) == {"scores", "fingerprint.json"}
    assert manifest["summary"] == {"num_scores": 3}
    assert manifest["fingerprint"] == FINGERPRINT
    job.reopen()
    assert job.manifest() is None
    job.reopen()


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", b"\xff"])
def test_a_damaged_fingerprint_is_refused_with_the_way_out(tmp_path: Path, content: str | bytes) -> None:
    job = claimed(tmp_path)
    file = job.path / "fingerprint.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused("damaged_artifact", naming=str(file)), job.opened(FINGERPRINT):
        pass
    assert file.exists()


def test_a_run_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("store_unwritable", "run", naming=str(tmp_path / "file")), JobDir(tmp_path / "file", "job").opened({}):
        pass


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "\ud800")
    assert file.read_text() == "old"


def test_the_hash_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    seen = [file_hash(tmp_path / "f")]
    for name, content in [("a", "1"), ("a", "2"), ("b", "2")]:
        (tmp_path / "f" / name).write_text(content)
        seen.append(file_hash(tmp_path / "f"))
    assert len(set(seen)) == len(seen)
    (tmp_path / "f" / "b").unlink()
    assert file_hash(tmp_path / "f") == seen[2]
