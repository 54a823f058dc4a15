"""`inverdict submit`: what is refused before anything travels, the ids, and submissions to a head in token mode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from cluster import submit
from cluster.__main__ import main
from tests.cluster.heads import Head, head
from tests.evaluation.making import jsonl, row
from tests.refusals import refused

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens


def configuration(folder: Path, run: str, **model: object) -> Path:
    rows = [row(f"r{number:02d}", f"g{number % 6}", scores={"overall": 1 + number % 5}) for number in range(30)]
    config = {
        "run": run,
        "data": {"records": [Path(jsonl(folder / "in.jsonl", rows)).name]},
        "models": {"m": {"backend": "scripted", **model}},
        "evaluate": {"judges": {"m": {"model": "m"}}, "block_rows": 2},
        "report": {"resamples": 100},
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("runs/x", "`run` must be an absolute path"),
        ("hdfs://bucket/x", "`run` must be a folder or an s3://, gs:// or file:// address, not hdfs:/bucket/x"),
    ],
)
def test_a_run_that_would_be_lost_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str, words: str
) -> None:
    configuration(tmp_path, run)
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "evaluate", "c.yaml", "--address", NOWHERE]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    # An absolute one by --set mends it: the next thing that is missing is the cluster.
    assert main(["submit", "evaluate", "c.yaml", "--address", NOWHERE, "--set", f"run={tmp_path}/r"]) == 2
    assert capsys.readouterr().err == (
        f"inverdict submit: No job server found at {NOWHERE}. Start the cluster, or correct --address.\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report-card", "c.yaml", "--address", NOWHERE], "Unknown job 'report-card'; it must be one of run, distill"),
        (["fit", "c.yaml", "--address", NOWHERE, "--retry-failed"], "fit does not support --retry-failed"),
        (["run", "c.yaml", "--address", NOWHERE, "--through-serve"], "run does not support --through-serve"),
        (["run", "c.yaml", "--address", "10.0.0.1:6379"], "--address must be the URL"),
        (["run", "c.yaml", "--address", "ray://me:secret@10.0.0.1:10001"], "--address must be the URL"),
        (["run", "c.yaml", "--address", "http://me:secret@10.0.0.1:8265"], "--address must not contain a password"),
        (["run", "../c.yaml", "--address", NOWHERE], "outside of the working directory"),
        (["run", "c.yaml", "--address", NOWHERE, "--set", "evaluate.jugdes=1"], "Unknown key `evaluate.jugdes`"),
    ],
)
def test_bad_words_are_refused_before_anything_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    (tmp_path / "inner").mkdir()
    configuration(tmp_path, str(tmp_path / "run"))
    (tmp_path / "inner" / "c.yaml").write_bytes((tmp_path / "c.yaml").read_bytes())
    monkeypatch.chdir(tmp_path / "inner")
    assert main(["submit", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said
    assert said.count("\n") == 1


def test_ids_count_the_attempts_of_a_job_on_a_run_directory() -> None:
    first = submit.next_id({}, Path("/shared/a"), "evaluate")
    assert first.endswith("-evaluate-1")
    assert submit.next_id({}, Path("/shared/a/"), "evaluate") == first
    assert submit.next_id({}, Path("/shared/b"), "evaluate") != first
    # Another job's attempts and another run's do not count; a failed one does.
    known = {first: "FAILED", first.replace("evaluate-1", "fit-7"): "SUCCEEDED", "raysubmit_x": "RUNNING"}
    assert submit.next_id(known, Path("/shared/a"), "evaluate") == first.replace("evaluate-1", "evaluate-2")
    # Ten comes after nine, whatever the order of the names.
    known = {first.replace("-1", f"-{number}"): "STOPPED" for number in (9, 10)}
    assert submit.next_id(known, Path("/shared/a"), "evaluate") == first.replace("evaluate-1", "evaluate-11")


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_job_at_work_in_the_run_directory_refuses_every_other(status: str) -> None:
    first = submit.next_id({}, Path("/shared/a"), "run")
    with refused("in_use", "run", naming=first):
        submit.next_id({first: status}, Path("/shared/a"), "evaluate")
    assert submit.next_id({first: status}, Path("/shared/b"), "evaluate")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head() as found:
        yield found


def submitted(
    cluster: Head, *words: str, token: str | None = None, cwd: Path = ROOT, job: str = "evaluate"
) -> subprocess.CompletedProcess[str]:
    """`inverdict submit` in a process of its own, with the token in the environment, or none where it is empty."""
    return subprocess.run(
        [sys.executable, "-m", "cluster", "submit", job, *words, "--address", cluster.url],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env=environment(cluster.token if token is None else token, cwd),
    )


def environment(token: str, home: Path) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home), **({"RAY_AUTH_TOKEN": token} if token else {})}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the packages and a configuration in it, as a checkout has them."""
    for package in ("cluster", "judging", "evaluation", "serve", "train", "retrieval"):
        shutil.copytree(ROOT / package, tmp_path / "here" / package, ignore=shutil.ignore_patterns("__pycache__"))
    configuration(tmp_path / "here", "runs/r")
    return tmp_path / "here"


def metrics(run: Path) -> Any:
    """All of `metrics.json` but the time and the folder of its writing."""
    text = (run / "report" / "metrics.json").read_text().replace(str(run), "RUN")
    return {key: value for key, value in json.loads(text).items() if key != "written"}


@pytest.mark.ray
def test_no_token_and_a_wrong_one_are_refused_and_the_right_one_does_what_a_local_run_does(
    cluster: Head, here: Path, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["c.yaml", "--set", f"run={tmp_path}/away"]
    without = submitted(cluster, *asked, token="", cwd=here)
    assert (without.returncode, without.stdout) == (2, "")
    assert f"The cluster at {cluster.url} requires a token. Set RAY_AUTH_MODE=token" in without.stderr
    wrong = submitted(cluster, *asked, token="f" * 32, cwd=here)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"The cluster at {cluster.url} rejects the token" in wrong.stderr
    assert "ffff" not in wrong.stderr
    assert not (tmp_path / "away").exists()

    right = submitted(cluster, *asked, cwd=here, job="run")
    assert right.returncode == 0, right.stdout + right.stderr
    assert "-run-1 runs at" in right.stderr
    assert f"Report: {tmp_path}/away/report/report.html" in right.stdout
    monkeypatch.chdir(here)
    assert main(["run", "c.yaml", "--set", f"run={tmp_path}/local"]) == 0
    assert metrics(tmp_path / "away") == metrics(tmp_path / "local")
    # The token is in no file that the job leaves and in nothing that the cluster tells of it.
    told = jobs(cluster)
    assert cluster.token not in json.dumps(told)
    assert [one["entrypoint"].split()[:5] for one in told] == [["python", "-m", "cluster", "run", "c.yaml"]]


@pytest.mark.ray
@pytest.mark.slow
def test_rays_own_command_leaves_the_report_of_a_local_run(cluster: Head, here: Path, tmp_path: Path) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    entrypoint = ["python", "-m", "cluster", "run", "c.yaml", "--set", f"run={tmp_path}/away"]
    done = subprocess.run(
        [ray, "job", "submit", "--address", cluster.url, "--working-dir", ".", "--", *entrypoint],
        cwd=here,
        env={**environment(cluster.token, here), "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Report: {tmp_path}/away/report/report.html" in done.stdout
    local = ["run", "c.yaml", "--set", f"run={tmp_path}/local"]
    subprocess.run(
        [sys.executable, "-m", "cluster", *local], cwd=here, env=environment("", here), capture_output=True, check=True
    )
    assert metrics(tmp_path / "away") == metrics(tmp_path / "local")


def jobs(cluster: Head) -> list[dict[str, Any]]:
    """What the job server tells of every submitted job."""
    return [one for one in cluster.tell("/api/jobs/") if one["type"] == "SUBMISSION"]


@pytest.mark.ray
def test_the_exit_code_comes_back(cluster: Head, here: Path, tmp_path: Path) -> None:
    # Half of the replies are garbage, 5 % may be: 3.
    asked = ["c.yaml", "--set", f"run={tmp_path}/r"]
    assert submitted(cluster, *asked, "--set", "models.m.garbage_share=0.5", cwd=here).returncode == 3


@pytest.mark.ray
@pytest.mark.slow
def test_the_exit_code_and_the_message_of_a_refused_job_come_back(cluster: Head, here: Path, tmp_path: Path) -> None:
    asked = ["c.yaml", "--set", f"run={tmp_path}/r"]
    assert submitted(cluster, *asked, "--set", "models.m.garbage_share=0.5", cwd=here).returncode == 3
    # The same place with another seed.
    other = submitted(cluster, *asked, "--set", "models.m.garbage_share=0.5", "--set", "seed=1", cwd=here)
    assert other.returncode == 2
    assert "contains work of another configuration: seed (0, now 1)" in other.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_job_on_the_run_directory_is_refused_and_a_killed_driver_is_resumed(
    cluster: Head, here: Path, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    asked = ["c.yaml", "--set", f"run={run}", "--set", "models.m.delay_s=3", "--set", "models.m.num_engines=1"]
    first = submitted(cluster, *asked, "--no-follow", cwd=here)
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    parts = run / "evaluate" / "verdicts" / "m"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # By our own client: the id tells. By any other way onto the cluster, here from this machine: the lock tells.
    second = submitted(cluster, *asked, cwd=here)
    assert second.returncode == 2
    assert f"{name} is already using {run}" in second.stderr
    around = subprocess.run(
        [sys.executable, "-m", "cluster", *("evaluate", *asked)],
        cwd=here,
        env=environment("", here),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert around.returncode == 2
    assert f"Another process is using {run}/evaluate" in around.stderr

    (driver,) = [
        one for one in cluster.process.children(recursive=True) if one.cmdline()[1:4] == ["-m", "cluster", "evaluate"]
    ]
    driver.kill()
    psutil.wait_procs([driver], timeout=20)
    while jobs_by_id(cluster)[name] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert 3 <= len(before) < 15  # 30 records in blocks of 2
    again = submitted(cluster, *asked, cwd=here)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{name[:-2]}-2 runs at" in again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert before.items() <= after.items()
    found = [one for path in parts.glob("part-*") for one in pq.read_table(path).column("id").to_pylist()]
    assert sorted(found) == [f"r{number:02d}" for number in range(30)]


def jobs_by_id(cluster: Head) -> dict[str, str]:
    return {one["submission_id"]: one["status"] for one in jobs(cluster)}


def test_a_head_whose_agent_is_not_up_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    tried: list[dict[str, Any]] = []

    class Client:
        def submit_job(self, **job: Any) -> None:
            tried.append(job)
            if len(tried) < 3:
                raise RuntimeError("Request failed with status code 500: No available agent to submit job.")
            if job["entrypoint"] == "broken":
                raise RuntimeError("no such option")

    submit._submit(Client(), entrypoint="fine")
    assert len(tried) == 3
    with pytest.raises(RuntimeError, match="no such option"):
        submit._submit(Client(), entrypoint="broken")
    assert len(tried) == 4  # what another try does not mend is not tried again
