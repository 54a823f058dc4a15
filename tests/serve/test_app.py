"""`inverdict serve` in a process of its own, a real local Serve with scripted judges, and what it survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.__main__ import main
from serve.api.api_keys import add
from tests.serve.online import BODY, HOSTILE, SCRIPTED
from tests.serve.serving import PLANTED, ROOT, SMALL, Served, configuration, free_port, left_of, serving

pytestmark = pytest.mark.ray
OVERLAP = {"backend": "features", "feature": "overlap"}
RECORDS = ROOT / "examples" / "constructed.jsonl"
SHARED = ROOT.parent / "shared" / "data" / "topical_chat.jsonl"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    key = add(folder / "keys.json", "tests")
    port = free_port()
    judges = {
        "first": {"model": "a"},
        "second": {"model": "b", "score_mode": "parsed"},
        "slow": {"model": "hung"},
        "shared": {"model": "overlap"},
    }
    config = configuration(
        folder,
        data={"records": [str(RECORDS)], "labels": "constructed"},
        models={"a": SCRIPTED, "b": SCRIPTED, "hung": {**SCRIPTED, "delay_s": 40}, "overlap": OVERLAP},
        evaluate={"judges": judges, "vote": {"min_votes": 1}},
        serve={
            "port": port,
            "keys_file": str(folder / "keys.json"),
            "max_in_flight": 12,  # of each of the two interfaces
            "timeout_s": 6,
            "body_timeout_s": 2,
            "replicas": {"a": {"min": 2, "max": 2}},
            "panel": {"num_replicas": 2},
        },
    )
    with serving(config, port, key) as found:
        yield found


FAST = {"judges": ["first", "second"]}


def test_it_says_where_it_answers_and_the_line_works(served: Served) -> None:
    log = served.log.read_text()
    for name in ("a", "b", "hung", "panel", "ingress"):
        assert f"serve: {name} is ready (" in log
    assert f"serve: ready at {served.address} " in log
    line = next(line for line in log.splitlines() if line.startswith("curl "))
    told = subprocess.run(
        ["bash", "-c", line.replace("curl ", "curl -s ")],
        env={**os.environ, "KEY": served.key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["results"][0]["votes"][0]["judge"] == "first"


def test_the_openai_client_as_it_is(served: Served) -> None:
    import openai

    speaks = openai.OpenAI(base_url=f"{served.address}/v1", api_key=served.key, max_retries=0)
    assert [one.id for one in speaks.models.list()] == ["a", "b", "hung", "inverdict-panel"]
    messages: Any = [{"role": "user", "content": "Hello"}]
    answer = speaks.chat.completions.create(model="a", messages=messages)
    assert answer.choices[0].message.content
    parts = [
        part.choices[0].delta.content or ""
        for part in speaks.chat.completions.create(model="a", messages=messages, stream=True)
    ]
    assert "".join(parts) == answer.choices[0].message.content
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.address}/v1", api_key="wrong", max_retries=0).models.list()


def test_a_hung_judge_costs_its_vote(served: Served) -> None:
    began = time.monotonic()
    answer = served.post("/v1/judge", {**BODY, "options": {"timeout_s": 1}})
    assert time.monotonic() - began < 6
    told = answer.json()
    assert (answer.status_code, told["quorum"], told["degraded"]) == (200, True, True)
    unscored = {vote["judge"]: vote["unscored"] for vote in told["results"][0]["votes"]}
    assert unscored == {"first": None, "second": None, "slow": "timeout", "shared": None}


@pytest.mark.usefixtures("ray_cluster")
def test_batch_and_online_give_the_same_scores(served: Served, tmp_path: Path) -> None:
    source = SHARED if SHARED.exists() else RECORDS
    rows = [json.loads(line) for line in source.read_text().splitlines()][:200]
    if not SHARED.exists():
        rows = [row for row in rows if row["task"] == "qa"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configuration(
        tmp_path,
        data={"records": [str(tmp_path / "rows.jsonl")]},
        models={"a": SCRIPTED, "b": SCRIPTED, "overlap": OVERLAP},
        evaluate={
            "judges": {
                "first": {"model": "a"},
                "second": {"model": "b", "score_mode": "parsed"},
                "shared": {"model": "overlap"},
            },
            "aspects": ["overall"],
        },
    )
    assert main(["evaluate", str(config)]) == 0
    batch = {row["id"]: row for row in pq.read_table(tmp_path / "run" / "evaluate" / "scores.parquet").to_pylist()}

    whole = {"judges": ["first", "second", "shared"]}

    def online(row: dict[str, Any]) -> dict[str, Any]:
        known = ("source", "candidate", "fact")
        fields = {name: row[name] for name in known if row.get(name)}
        body = {"task": row["task"], "fields": fields, "aspects": ["overall"], "options": whole}
        return dict(served.post("/v1/judge", body).json())

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(online, rows))
    from judging.datasets import read_records

    ids = [record.id for record in read_records([tmp_path / "rows.jsonl"])]  # type: ignore[union-attr]
    assert len(ids) == len(batch) == len(answers)
    for id, told in zip(ids, answers, strict=True):
        one = batch[id]
        first, second, shared = told["results"][0]["votes"]
        assert first["score"] == pytest.approx(one["first.score"], abs=1e-12)
        assert (second["score"], shared["score"]) == (one["second.score"], one["shared.score"])
        assert told["score"] == pytest.approx(one["panel.score"], abs=1e-12)


@pytest.mark.usefixtures("ray_cluster")
def test_a_batch_through_the_running_evaluators_gives_the_same_scores(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(
        tmp_path,
        data={"records": [str(RECORDS)], "labels": "constructed"},
        models={"a": SCRIPTED, "overlap": OVERLAP},
        evaluate={"judges": {"first": {"model": "a"}, "shared": {"model": "overlap"}}},
    )
    address = next(line for line in served.log.read_text().splitlines() if "ray.address=" in line).partition("ray.")[2]
    # This process has a cluster of its own already: the server's is another process's.
    command = [sys.executable, "-m", "cluster", "evaluate", str(config), "--through-serve", "--set", f"ray.{address}"]
    # As in a shell: Ray has set this variable in the process of the tests.
    shell = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=shell)
    assert done.returncode == 0, done.stderr
    through = pq.read_table(tmp_path / "run" / "evaluate" / "scores.parquet")
    assert main(["evaluate", str(config), "--set", f"run={tmp_path / 'own'}"]) == 0
    assert through.equals(pq.read_table(tmp_path / "own" / "evaluate" / "scores.parquet"))
    assert main(["evaluate", str(config), "--through-serve", "--set", f"run={tmp_path / 'third'}"]) == 2
    assert "no panel is running on this Ray cluster" in capsys.readouterr().err


def replicas_of(served: Served, deployment: str) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(served.process.pid).children(recursive=True)
        if f"ServeReplica:inverdict:{deployment}" in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize("num_kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_replicas_that_are_killed_in_mid_request_never_show_as_a_bare_error(served: Served, num_kills: int) -> None:
    body = {**BODY, "options": {**FAST, "timeout_s": 3}}
    seen: dict[int, int] = {}
    killed = 0
    stop = time.monotonic() + 240

    def ask(_: int) -> None:
        while killed < num_kills and time.monotonic() < stop:
            answer = served.post("/v1/judge", body)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
            if answer.status_code == 200:
                told = answer.json()
                assert told["quorum"]
                assert told["degraded"] == any(vote["unscored"] for vote in told["results"][0]["votes"])
            else:
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"]
                assert answer.json()["error"]["message"]
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        while killed < num_kills and time.monotonic() < stop:
            num_answers = sum(seen.values())
            found = replicas_of(served, "evaluator-a") + replicas_of(served, "evaluator-b")
            if found:
                found[killed % len(found)].kill()
                killed += 1
            # The next one dies only when some have been answered without this one.
            while killed < num_kills and sum(seen.values()) < num_answers + 8 and time.monotonic() < stop:
                time.sleep(0.05)
        for one in asking:
            one.result()
    assert killed == num_kills
    assert seen[200] >= num_kills
    assert set(seen) <= {200, 503}
    wait_until_whole(served)


def wait_until_whole(served: Served) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = served.post("/v1/judge", {**BODY, "options": FAST})
        if answer.status_code == 200 and not answer.json()["degraded"]:
            return
        time.sleep(0.5)
    raise AssertionError("the panel does not recover")


def test_five_times_too_much_is_refused_and_passes(served: Served) -> None:
    wait_until_whole(served)
    body = {**BODY, "options": {"judges": ["first", "slow"], "timeout_s": 1}}
    with ThreadPoolExecutor(120) as pool:
        statuses = [one.status_code for one in pool.map(lambda _: served.post("/v1/judge", body), range(120))]
    # 408: on a busy machine the body of one of 120 requests at once may arrive late.
    assert set(statuses) <= {200, 408, 429, 503}
    assert 200 in statuses
    assert 429 in statuses
    began = time.monotonic()
    while served.post("/v1/judge", {**BODY, "options": FAST}).status_code != 200:
        time.sleep(0.1)
        assert time.monotonic() - began < 10
    assert time.monotonic() - began < 10


def test_metrics_are_those_of_both_replicas_of_the_interface(served: Served) -> None:
    """Each process counts for itself; whichever answers `/metrics` returns the counts of all."""

    def counts() -> dict[str, float]:
        families = text_string_to_metric_families(served.get("/metrics").text)
        samples = [one for family in families for one in family.samples if one.name == "ray_inverdict_requests_total"]
        return {one.labels["WorkerId"]: one.value for one in samples if one.labels["route"] == "/docs"}

    num_requests = 0
    deadline = time.monotonic() + 60
    # A connection each: the proxy chooses a replica for every request, and may choose one of them for some time.
    while len(counts()) < 2 and time.monotonic() < deadline:
        for _ in range(10):
            assert served.get("/docs").status_code == 200
            num_requests += 1
    while sum((found := counts()).values()) < num_requests and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (sum(found.values()), len(found)) == (num_requests, 2)


def test_a_repeated_batch_is_judged_once_whichever_replica_gets_it(served: Served) -> None:
    body = {"items": [{**BODY, "options": FAST}]}
    keyed = {"headers": {"idempotency-key": "the same"}}
    found = [served.post("/v1/judge/batch", body, **keyed).json() for _ in range(8)]
    # Latencies are measured anew where a text is judged anew.
    assert found == [found[0]] * 8
    assert served.post("/v1/judge/batch", {"items": [BODY]}, **keyed).status_code == 400
    assert served.post("/v1/judge/batch", body).json() != found[0]


def test_bodies_and_headers_that_are_meant_to_harm(served: Served) -> None:
    bearer = {"authorization": f"Bearer {served.key}", "content-type": "application/json"}
    with httpx.Client(base_url=served.address, headers=bearer, timeout=60) as http:

        def refused(**request: Any) -> int:
            try:
                return http.post("/v1/judge", **request).status_code
            except httpx.TransportError:  # the connection was closed on it
                return 0

        assert refused(content=b" " * 100_000_000) in (413, 0)
        assert refused(content=(b" " * 100_000 for _ in range(1000))) in (413, 0)
        assert refused(content=b"{}", headers={"x-long": "x" * 65_536}) in (0, 400, 431)

        def slow() -> Iterator[bytes]:
            for _ in range(50):
                time.sleep(0.1)
                yield b" "

        assert refused(content=slow()) in (408, 0)
        for headers in ({"x-request-timeout-seconds": "0"}, {"x-request-disconnect-disabled": "?1"}):
            began = time.monotonic()
            hung = {**BODY, "options": {"judges": ["slow"], "timeout_s": 1}}
            answer = http.post("/v1/judge", json=hung, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_quorum")
            assert time.monotonic() - began < 8
        assert http.post("/v1/judge", json={**BODY, "options": FAST}).status_code == 200


def test_no_key_no_text_and_no_environment_reaches_a_log(served: Served) -> None:
    body = {**BODY, "fields": {"source": "Where is the zebracorn?", "candidate": HOSTILE}, "options": FAST}
    assert served.post("/v1/judge", body).status_code == 200
    assert httpx.get(f"{served.address}/v1/judges", headers={"authorization": "Bearer zebrakey"}).status_code == 401
    assert PLANTED.startswith("zebra")
    logs = [served.log, *(log for log in (served.session() / "logs").rglob("*") if log.is_file())]
    assert any(log.parent.name == "serve" for log in logs)
    for log in logs:
        text = log.read_text(errors="replace")
        assert served.key not in text, log
        assert "zebra" not in text, log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("evaluate.judges.first.prompt=inverse", "no finished inverse prompts in"),
        ("evaluate.judges.first.model=none", "unknown model 'none'"),
        ("serve.port=PORT", "cannot be used"),
        ("serve.keys_file=none.json", "Key file not found: none.json"),
        ("serve.host=0.0.0.0", "can be reached from outside"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_nothing_is_left(
    served: Served, change: str, words: str, tmp_path: Path
) -> None:
    change = change.replace("PORT", served.address.rpartition(":")[2])
    drop = ["--set", "serve.keys_file=null"] if "host" in change else []
    other = [] if "port" in change else ["--set", f"serve.port={free_port()}"]
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "serve", str(served.config), *SMALL, *other, *drop, "--set", change],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert left_of(served.config, before) == []
