"""`inverdict data fetch` from a server on this machine: every data set, checksums, rows that do not fit, `--from`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cluster import download
from cluster.errors import JobFailed
from evaluation.data_command import describe
from evaluation.data_fetch import fetch
from judging.public_data import registry as registries
from judging.public_data.places import cache_folder, is_here
from judging.public_data.registry import Entry, registry
from tests.judging.public_data.test_converters import NUM_ROWS
from tests.published import Server, as_json, published, serving, topical_chat
from tests.refusals import refused

PUBLISHED = published()
NOW, LATER = "0123456789" * 4, "9876543210" * 4  # commits of every branch
SELF_INSTRUCT = ("data/seed_tasks.jsonl", "human_eval/user_oriented_instructions.jsonl")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Publishes all data sets, on the hub and elsewhere, and an empty cache."""
    monkeypatch.setenv("INVERDICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INVERDICT_DATA", raising=False)
    monkeypatch.setattr(download, "_hub_token", lambda: None)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with serving() as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setattr(download, "GITHUB_FILES", one.url)
        monkeypatch.setattr(download, "GITHUB_API", one.url)
        moved = {}
        for name, entry in registry().items():
            at = entry.at.replace("https://raw.githubusercontent.com", one.url)
            moved[name] = entry.model_copy(update={"at": at})
            publish(one, moved[name], NOW, PUBLISHED[name])
        monkeypatch.setattr(registries, "registry", lambda: moved)
        yield one


def publish(server: Server, entry: Entry, commit: str, files: Mapping[str, bytes]) -> None:
    """Publish files at the entry's revision; of a branch, as that commit, which the host tells."""
    is_commit = download.COMMIT.fullmatch(entry.revision)
    for revision in {entry.revision, entry.revision if is_commit else commit}:
        path = "/" + entry.at.format(revision=revision).split("/", 3)[3]
        server.files |= {f"{path}/{file}": body for file, body in files.items()}
    owner, name = entry.at.removeprefix(f"{download.HUB}/datasets/").removeprefix(f"{server.url}/").split("/")[:2]
    told = as_json({"sha": commit})
    server.files[f"/repos/{owner}/{name}/commits/{entry.revision}?per_page=1"] = told
    server.files[f"/api/datasets/{owner}/{name}/revision/{entry.revision}"] = told
    tree = as_json([{"type": "file", "path": file} for file in files])
    server.files[f"/api/datasets/{owner}/{name}/tree/{commit}/0625"] = tree


def entry_of(name: str) -> Entry:
    return registries.registry()[name]


@pytest.mark.parametrize("name", NUM_ROWS)
def test_every_data_set(server: Server, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_here(f"dataset:{name}")
    found = fetch(name)
    assert found == (name, cache_folder() / f"{name}.jsonl", NUM_ROWS[name], 0)
    assert is_here(f"dataset:{name}") and len(found.path.read_text().splitlines()) == NUM_ROWS[name]
    said = capsys.readouterr().err
    assert entry_of(name).licence in said and f"{NUM_ROWS[name]} rows" in said
    record = json.loads(found.path.with_suffix(".json").read_text())
    assert record["files"].keys() == PUBLISHED[name].keys() and record["rows"] == NUM_ROWS[name]
    assert sorted(path.name for path in cache_folder().iterdir() if not path.name.endswith(".lock")) == [
        f"{name}.json",
        f"{name}.jsonl",
    ]


def test_a_second_fetch_downloads_nothing_and_says_no_licence(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fetch("alce")
    asked = len(server.asked)
    capsys.readouterr()
    assert fetch("alce_eli5") == first and len(server.asked) == asked  # a part comes with its whole
    assert capsys.readouterr().err == ""
    first.path.write_text("{}\n")  # damaged
    assert fetch("alce") == first and len(server.asked) == asked + 1


def test_a_file_that_the_publisher_changed_is_refused(server: Server) -> None:
    before = fetch("topical_chat").path.read_text()
    (path,) = (path for path in server.files if path.endswith("topical_chat.json"))
    server.files[path] = topical_chat()["topical_chat.json"].replace(b"hello", b"good day")
    with refused("damaged_artifact", naming="topical_chat.json of topical_chat"):
        fetch("topical_chat", again=True)
    assert (cache_folder() / "topical_chat.jsonl").read_text() == before
    (cache_folder() / "topical_chat.json").unlink()
    assert "good day" in fetch("topical_chat").path.read_text()


def test_another_revision_is_not_compared_with_the_recorded_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fetch("topical_chat")
    known = registries.registry()
    monkeypatch.setitem(known, "topical_chat", known["topical_chat"].model_copy(update={"revision": "v2"}))
    body = topical_chat()["topical_chat.json"].replace(b"hello", b"good day")
    server.files["/maszhongming/UniEval/v2/reproduce/data/dialogue/topical_chat.json"] = body
    assert fetch("topical_chat") == before  # what is in the cache stays
    assert "good day" in fetch("topical_chat", again=True).path.read_text()


def test_a_stated_checksum_is_compared_at_the_first_fetch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registries.registry()
    wrong = known["summeval"].model_copy(update={"checksums": {"summeval.json": "0" * 64}})
    monkeypatch.setitem(known, "summeval", wrong)
    with refused("damaged_artifact", naming="summeval.json"):
        fetch("summeval")
    assert not is_here("dataset:summeval")


def test_an_interrupted_fetch_keeps_the_files_that_are_there(server: Server) -> None:
    (path,) = (path for path in server.files if path.endswith("Adversarial/Manual/dataset.json"))
    server.status[path] = 503
    with pytest.raises(JobFailed, match="503"):
        fetch("llmbar")
    asked = len(server.asked)
    del server.status[path]
    fetch("llmbar")
    assert server.paths()[asked:] == [path]


def interrupted(server: Server) -> None:
    """A fetch of a branch with two files, of which the second fails."""
    path = next(path for path in server.files if NOW in path and path.endswith(SELF_INSTRUCT[1]))
    server.status[path] = server.status[path.replace(NOW, "main")] = 503
    with pytest.raises(JobFailed, match="503"):
        fetch("sft_self_instruct")
    server.status.clear()
    server.asked.clear()


def test_a_fetch_is_continued_at_the_commit_that_it_began_with(server: Server) -> None:
    interrupted(server)
    found = fetch("sft_self_instruct")
    assert server.paths() == [
        "/repos/yizhongw/self-instruct/commits/main?per_page=1",
        f"/yizhongw/self-instruct/{NOW}/{SELF_INSTRUCT[1]}",
    ]
    record = json.loads(found.path.with_suffix(".json").read_text())
    assert record["downloaded_from"] == f"{server.url}/yizhongw/self-instruct/{NOW}"
    assert record["at"] == f"{server.url}/yizhongw/self-instruct/main"
    assert describe("sft_self_instruct")["downloaded_from"] == record["downloaded_from"]


@pytest.mark.parametrize("is_told", [True, False])
def test_files_of_two_commits_of_a_branch_are_not_mixed(
    server: Server, capsys: pytest.CaptureFixture[str], is_told: bool
) -> None:
    commit = "/repos/yizhongw/self-instruct/commits/main?per_page=1"
    if not is_told:
        server.status[commit] = 403
    interrupted(server)
    files = {name: body.replace(b"Add.", b"Sum.") for name, body in PUBLISHED["sft_self_instruct"].items()}
    publish(server, entry_of("sft_self_instruct"), LATER, files)
    if not is_told:
        server.status[commit] = 403
    assert "Sum." in fetch("sft_self_instruct").path.read_text()
    revision = LATER if is_told else "main"
    assert server.paths() == [commit, *(f"/yizhongw/self-instruct/{revision}/{file}" for file in SELF_INSTRUCT)]
    assert ("is not known" in capsys.readouterr().err) != is_told


def test_what_was_fetched_of_another_revision_is_not_continued(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as after an update of Inverdict: the registry names another commit."""
    (path,) = (path for path in server.files if path.endswith("Adversarial/Manual/dataset.json"))
    server.status[path] = 503
    with pytest.raises(JobFailed, match="503"):
        fetch("llmbar")
    moved = entry_of("llmbar").model_copy(update={"revision": LATER})
    monkeypatch.setitem(registries.registry(), "llmbar", moved)
    publish(server, moved, LATER, {name: b.replace(b"Say it.", b"Tell.") for name, b in PUBLISHED["llmbar"].items()})
    assert "Say it." not in fetch("llmbar").path.read_text()


def test_a_data_set_that_is_too_large_is_refused_and_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is of all files together: the first fits, the second has no end."""
    monkeypatch.setitem(
        registries.registry(), "sft_self_instruct", entry_of("sft_self_instruct").model_copy(update={"max_mb": 1})
    )
    server.endless.update(path for path in server.files if path.endswith(SELF_INSTRUCT[1]))
    with pytest.raises(JobFailed, match=SELF_INSTRUCT[1]) as failed:
        fetch("sft_self_instruct")
    assert failed.value.code == "too_large" and "\n" not in str(failed.value)
    size = len(PUBLISHED["sft_self_instruct"][SELF_INSTRUCT[0]])
    assert f"more than {1_000_000 - size:,} bytes" in str(failed.value)
    assert [path.name for path in cache_folder().iterdir()] == [".sft_self_instruct.jsonl.lock"]


def test_rows_that_no_job_could_read_are_left_out_and_said(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (path for path in server.files if path.endswith("summeval.json"))
    (row, *_) = json.loads(server.files[path])
    rows = [{**row, "system_id": f"M{number}", "system_output": f"Text\u2028 {number}."} for number in range(40)]
    rows[3]["scores"] = {**row["scores"], "fluency": 9}
    server.files[path] = as_json(rows)
    found = fetch("summeval")
    assert (found.rows, found.left_out) == (39, 1) and len(found.path.read_text().split("\n")) == 40
    assert "row 4 is left out: scores.fluency" in capsys.readouterr().err
    for one in rows[:10]:
        one["scores"] = {**row["scores"], "fluency": 9}
    server.files[path] = as_json(rows)
    (cache_folder() / "summeval.json").unlink()
    with pytest.raises(JobFailed, match=r"10 of 40 rows do not fit, the first: scores\.fluency"):
        fetch("summeval")


def test_published_files_of_another_form(server: Server) -> None:
    (path,) = (path for path in server.files if path.endswith("summeval.json"))
    for body, reason in ((as_json([{"id": 1}]), "doc_id"), (b"<html>", "is not JSON"), (b"[]", "no rows")):
        server.files[path] = body
        with pytest.raises(JobFailed, match=reason) as failed:
            fetch("summeval")
        assert failed.value.code == "unsupported" and not is_here("dataset:summeval")


def test_columns_of_other_names_are_kept_for_data_columns(server: Server) -> None:
    for path in [path for path in server.files if "train_" in path]:
        server.files[path] = b"qid,query,model,response,human\n1,Why?,m,So.,4\n"
    found = fetch("aeollm_train")
    assert json.loads(found.path.read_text().splitlines()[3]) == {
        "task": "qa",
        "dataset": "aeollm_3",
        "qid": "1",
        "query": "Why?",
        "model": "m",
        "response": "So.",
        "human": "4",
    }


@pytest.mark.parametrize("is_flat", [True, False])
def test_published_files_that_are_here_already(server: Server, tmp_path: Path, is_flat: bool) -> None:
    for name in ("mt_bench", "infinity_instruct"):
        for file, body in PUBLISHED[name].items():
            place = tmp_path / name / (Path(file).name if is_flat else file)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(body)
        assert fetch(name, folder=tmp_path / name).rows == NUM_ROWS[name]
    assert server.asked == []
    (file,) = (tmp_path / "mt_bench").rglob("*.parquet")
    file.write_bytes(file.read_bytes() + b" ")
    with refused("damaged_artifact", naming="of mt_bench"):  # given again, they are read again
        fetch("mt_bench", folder=tmp_path / "mt_bench")
    with refused("missing_file", naming=f"{tmp_path}/mt_bench lacks summeval.json"):
        fetch("summeval", folder=tmp_path / "mt_bench")
    (tmp_path / "mt_bench" / "dataset.json").write_text("[]")  # five files of this data set have that last name
    with refused("missing_file", naming="lacks Natural/dataset.json"):
        fetch("llmbar", folder=tmp_path / "mt_bench")
