"""The job `evaluate` over Ray Data with engines that need no model: complete, resumed, refused, asked again."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.__main__ import main
from tests.cluster.fake_endpoint import Answer, Endpoint, failed, said, serving
from tests.evaluation.batch.running import configuration, scores, verdicts
from tests.evaluation.making import row
from tests.killing import killed_when

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SEVERAL = [
    *(
        row(f"q{number:02d}", f"g{number % 7}", scores={"overall": 3, "utility": 2}, system=f"s{number % 3}")
        for number in range(20)
    ),
    *(row(f"s{number}", f"h{number % 2}", task="story", scores={"empathy": 7}, scale=[1, 9]) for number in range(5)),
    row("unrated", "u", scores={}, scale=None),
]
# Each record with the aspects that people rated; the unrated one with the task's first.
WANTED = (
    [(f"q{number:02d}", aspect) for number in range(20) for aspect in ("overall", "utility")]
    + [(f"s{number}", "empathy") for number in range(5)]
    + [("unrated", "overall")]
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A folder where several tasks, aspects and judges have been evaluated and reported; tests only read it."""
    folder = tmp_path_factory.mktemp("done")
    judges = {"one": {"model": "m"}, "two": {"model": "m", "score_mode": "parsed"}}
    models = {"m": {"backend": "scripted", "num_engines": 2}}
    config = configuration(folder, SEVERAL, models, judges=judges, block_rows=4)
    assert main(["run", config]) == 0
    return folder


def test_every_record_and_aspect_has_one_verdict_of_each_judge_and_one_score(done: Path) -> None:
    for judge in ("one", "two"):
        assert sorted((one["id"], one["aspect"]) for one in verdicts(done, judge)) == sorted(WANTED)
    assert sorted((one["id"], one["aspect"]) for one in scores(done)) == sorted(WANTED)
    # Groups of about three in blocks of at least four records.
    assert len(list((done / "run" / "evaluate" / "records").glob("part-*"))) > 3


@pytest.mark.parametrize("names", [("one",), ("one", "two", "three", "four")])
def test_the_driver_reads_the_records_twice_however_many_judges_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    judges = {name: {"model": "m"} for name in names}
    config = configuration(tmp_path, SEVERAL, {"m": {"backend": "scripted"}}, judges=judges, block_rows=4)
    reads: Counter[str] = Counter()
    read_table = pq.read_table

    def counted(source: Any, *args: Any, **settings: Any) -> Any:
        if Path(source).parent.name == "records":
            reads[Path(source).name] += 1
        return read_table(source, *args, **settings)

    monkeypatch.setattr(pq, "read_table", counted)
    assert main(["evaluate", config]) == 0
    parts = [part.name for part in (tmp_path / "run" / "evaluate" / "records").glob("part-*")]
    assert len(parts) > 3
    assert reads == dict.fromkeys(parts, 2)  # to see what is to be asked, and to join the scores


def test_scores_are_on_the_human_scale_and_the_panel_is_their_mean(done: Path) -> None:
    by_key = {(one["id"], one["aspect"]): one for judge in ("one",) for one in verdicts(done, judge)}
    for one in scores(done):
        assert one["panel.score"] == pytest.approx((one["one.score"] + one["two.score"]) / 2)
        assert (one["panel.num_votes"], one["one.mode"], one["two.mode"]) == (2, "expected", "parsed")
        assert one["two.reason"].startswith("Scripted reason")
        said_by_one = by_key[one["id"], one["aspect"]]["score"]
        # A story's judge answers on 1 to 5, people on 1 to 9.
        on_human_scale = 1 + (said_by_one - 1) * 2 if one["aspect"] == "empathy" else said_by_one
        assert one["one.score"] == pytest.approx(on_human_scale)


def test_what_a_finished_run_leaves(done: Path) -> None:
    folder = done / "run" / "evaluate"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["summary"]["num_records"], manifest["summary"]["num_scores"]) == (26, 46)
    assert manifest["summary"]["num_left_out"] == 0
    whole = {"coverage": 1, "unscored": {}}
    assert manifest["summary"]["judges"] == {
        "one": {**whole, "model": "m", "prompt": "rubric", "score_mode": "expected", "examples": []},
        "two": {**whole, "model": "m", "prompt": "rubric", "score_mode": "parsed", "examples": []},
        "panel": whole,
    }
    templates = sorted(path.name for path in (folder / "templates" / "one").iterdir())
    assert templates == [f"{name}.txt" for name in ("qa.overall", "qa.utility", "story.empathy")]
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
    slices = json.loads((done / "run" / "report" / "metrics.json").read_text())["slices"]
    assert [(part["task"], part["aspect"], part["num_rows"]) for part in slices] == [
        ("qa", "overall", 20),
        ("qa", "utility", 20),
        ("story", "empathy", 5),
    ]


def test_the_second_run_does_nothing_and_says_the_same(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "run" / "evaluate").rglob("*.parquet")}
    # What changes speed or the verdict of the run, never a score, is no other work.
    settings = ("models.m.num_engines=1", "evaluate.block_rows=9", "evaluate.max_unscored_share=0")
    options = [word for setting in settings for word in ("--set", setting)]
    assert main(["evaluate", str(done / "c.yaml"), "--json", *options]) == 0
    said = capsys.readouterr()
    assert "done before" in said.err
    assert json.loads(said.out)["num_scores"] == 46
    assert main(["evaluate", str(done / "c.yaml"), "--retry-failed"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (done / "run" / "evaluate").rglob("*.parquet")} == before


def test_what_to_label_next_is_read_from_a_finished_evaluation(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-labels", str(done / "c.yaml"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    # The one unrated text; only the judge `one` has probabilities. Every label of an aspect is the same.
    [group] = plan["next"]
    assert (group["group"], group["texts"]) == ("u", {"unrated": ["overall"]})
    assert 0 < group["entropy"] < 1 and group["disagreement"] == 0  # the only row of its aspect is its judges' mean
    assert [part["note"] for part in plan["slices"]] == [f"all labels are {label}" for label in (3, 2, 7)]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluate.vote.rule=median", "evaluate.vote.rule (mean, now median)"),
        ("models.m.garbage_share=0.5", "models.m.garbage_share (0.0, now 0.5)"),
        ("evaluate.judges.one.min_label_mass=0.2", "evaluate.judges.one.min_label_mass (0.01, now 0.2)"),
        ("seed=1", "seed (0, now 1)"),
    ],
)
def test_another_configuration_in_the_same_place_is_refused_by_key(
    done: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    assert main(["evaluate", str(done / "c.yaml"), "--set", setting]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1


def test_another_input_in_the_same_place_is_refused_by_file(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = done / "in.jsonl"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b"\n")
        assert main(["evaluate", str(done / "c.yaml")]) == 2
    finally:
        file.write_bytes(kept)
    assert f"files.{file}" in capsys.readouterr().err


def test_garbage_and_too_long_texts_are_unscored_by_name_and_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(f"r{number:02d}", f"g{number % 5}") for number in range(20)]
    rows[3]["candidate"] = "x" * 10_000
    models = {"m": {"backend": "scripted", "garbage_share": 0.5, "max_prompt_chars": 5000}}
    judges = {"one": {"model": "m"}, "two": {"model": "m", "score_mode": "parsed"}}
    config = configuration(tmp_path, rows, models, judges=judges)
    assert main(["evaluate", config, "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    for judge, garbage in (("one", "low_label_mass"), ("two", "unparsed")):
        found = Counter(one["unscored"] for one in verdicts(tmp_path, judge))
        assert found["too_long"] == 1
        # Binomial with p 0.5 and n 19; the hash is fixed, so this never wavers.
        assert 3 <= found[garbage] <= 16
        assert found.total() == 20
        del found[None]
        told = summary["judges"][judge]
        assert (told["coverage"], told["unscored"]) == (pytest.approx(1 - found.total() / 20), found)
    by_id = {one["id"]: one for one in scores(tmp_path)}
    assert (by_id["r03"]["one.unscored"], by_id["r03"]["panel.unscored"]) == ("too_long", "no_quorum")
    for one in by_id.values():
        known = [one[f"{judge}.score"] for judge in ("one", "two") if one[f"{judge}.score"] is not None]
        assert one["panel.score"] == (pytest.approx(sum(known) / len(known)) if known else None)
    assert main(["evaluate", config, "--set", "evaluate.max_unscored_share=1"]) == 0


def test_a_judge_is_kept_from_texts_of_its_own_family(
    tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every third text is of a system `s0`: the judge `kin` does not read it, the judge `m` does.
    rows = [row(f"r{number:02d}", f"g{number % 4}", system=f"s{number % 3}") for number in range(12)]
    own = {one["id"] for one in rows if one["system"] == "s0"}
    endpoint.answer = lambda body: Answer(said('{"reason": "fine", "overall_score": 2}'))
    models = {
        "h": {"backend": "http", "base_url": endpoint.base_url, "model": "m"},
        "m": {"backend": "scripted"},
    }
    judges = {"kin": {"model": "h", "score_mode": "parsed", "not_systems": ["S0*"]}, "m": {"model": "m"}}
    config = configuration(tmp_path, rows, models, judges=judges, block_rows=3)
    # A third of its texts is more than the allowed share of 5 %, but it was asked to leave them out.
    assert main(["evaluate", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["judges"]["kin"] == {
        "coverage": pytest.approx(2 / 3),
        "unscored": {"own_family": 4},
        "model": "h",
        "prompt": "rubric",
        "score_mode": "parsed",
        "examples": [],
    }
    assert len(endpoint.requests) == 8
    assert not [body for body in endpoint.requests for id in own if f"Answer {id}." in str(body)]
    for one in scores(tmp_path):
        is_own = one["id"] in own
        assert (one["kin.score"], one["kin.unscored"]) == ((None, "own_family") if is_own else (2, None))
        assert (one["panel.num_votes"], one["panel.num_abstentions"]) == ((1, 1) if is_own else (2, 0))
    assert main(["evaluate", config, "--retry-failed"]) == 0
    assert len(endpoint.requests) == 8


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


def test_retry_failed_asks_the_unscored_rows_and_no_others(
    tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(f"r{number:02d}", f"g{number % 4}") for number in range(12)]
    lost = {"r02", "r05", "r11"}
    models = {"h": {"backend": "http", "base_url": endpoint.base_url, "model": "m", "max_retries": 0}}
    judges = {"h": {"model": "h", "score_mode": "parsed"}}
    config = configuration(tmp_path, rows, models, judges=judges, block_rows=3)

    def asked_for(body: dict[str, Any]) -> str:
        (id,) = [one["id"] for one in rows if one["candidate"] in body["messages"][0]["content"]]
        return str(id)

    def with_failures(body: dict[str, Any]) -> Answer:
        if asked_for(body) in lost:
            return Answer(failed("out of memory"), status=500)
        return Answer(said('{"reason": "fine", "overall_score": 2}'))

    endpoint.answer = with_failures
    assert main(["evaluate", config]) == 3
    assert Counter(map(asked_for, endpoint.requests)) == Counter(one["id"] for one in rows)
    assert {one["id"] for one in scores(tmp_path) if one["h.unscored"] == "error"} == lost

    endpoint.requests.clear()
    endpoint.answer = lambda body: Answer(said('{"reason": "mended", "overall_score": 5}'))
    # Without being told so, a finished run asks nothing again.
    assert main(["evaluate", config]) == 3
    assert endpoint.requests == []
    assert main(["evaluate", config, "--retry-failed"]) == 0
    assert Counter(map(asked_for, endpoint.requests)) == Counter(lost)
    assert {one["id"]: one["h.score"] for one in scores(tmp_path)} == {
        one["id"]: 5 if one["id"] in lost else 2 for one in rows
    }
    capsys.readouterr()


def test_a_run_that_is_killed_goes_on_to_the_same_scores(tmp_path: Path) -> None:
    rows = [row(f"r{number:02d}", f"g{number % 12:02d}") for number in range(36)]
    # A block of three takes 0.7 s: 12 of them leave time to kill in between.
    models = {"m": {"backend": "scripted", "delay_s": 0.7}}
    (tmp_path / "killed").mkdir()
    (tmp_path / "calm").mkdir()
    config = configuration(tmp_path / "killed", rows, models, block_rows=3)
    folder = tmp_path / "killed" / "run" / "evaluate"
    killed_when("evaluate", config, lambda: len(list(folder.glob("verdicts/m/part-*.parquet"))) >= 2)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("verdicts/m/part-*.parquet")}
    num_done = len(verdicts(tmp_path / "killed", "m"))
    assert 0 < num_done < 36
    assert not (folder / "manifest.json").exists()
    assert not (folder / "scores.parquet").exists()

    assert main(["evaluate", config]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("verdicts/m/part-*.parquet")}
    # What was there was not asked again.
    assert before.items() <= after.items()
    assert sorted(one["id"] for one in verdicts(tmp_path / "killed", "m")) == [one["id"] for one in rows]

    calm = configuration(tmp_path / "calm", rows, {"m": {"backend": "scripted"}}, block_rows=3)
    assert main(["evaluate", calm]) == 0
    assert scores(tmp_path / "killed") == scores(tmp_path / "calm")
