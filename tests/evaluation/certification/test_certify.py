"""The job `certify`: planted biases are found, an unbiased judge passes, what has taught or does not fit is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.__main__ import main
from cluster.config import RunConfig
from evaluation.certification.contamination import Taught, check_leaks, taught, text_hash
from evaluation.certification.probe_runs import ProbesConfig, copies, in_order, pairs
from evaluation.certification.store import load_certificates
from judging.certificates.certificate import Certificate, load_certificate
from judging.certificates.perturbations import attacks
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record
from tests.evaluation.certification.certifying import BIASES, SURE, configuration, model, records, rule, without_ray
from tests.evaluation.making import jsonl, record, template_at, write_records

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jsonschema")
JUDGES = {"sure": {"model": "sure"}, **{f"by-{name}": {"model": name} for name in BIASES}}
MODELS = {"sure": model(*SURE), **{name: model(*rules, *SURE) for name, rules in BIASES.items()}}
FAMILY = {"own_family": {name: ["own-*"] for name in ("sure", "by-own_family")}}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_chain_on_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` goes from the records to the report; a panel of a sound judge and of one that obeys the texts it judges."""
    judges = {name: JUDGES[name] for name in ("sure", "by-injection")}
    probes = {"position": 24, "length": 24, "format": 0, "injection": 6, "rerun": 24}
    config = configuration(tmp_path, judges, MODELS, certify={"resamples": 200, "probes": probes})
    assert main(["run", config]) == 0
    found = {one.subject: one for one in load_certificates(tmp_path / "run")}
    assert {name: one.verdict.holds for name, one in found.items()} == {
        "sure": True,
        "by-injection": False,
        "panel": False,
    }
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "<h2>Certificates</h2>" in page and "of another evaluation" not in page


@pytest.mark.usefixtures("here")
def test_planted_biases_are_found_and_an_unbiased_judge_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = {"model": "sure2", "score_mode": "parsed", "temperature": 1.0}
    config = configuration(
        tmp_path,
        {**JUDGES, "drawn": noisy},
        {**MODELS, "sure2": model()},
        certify={"resamples": 200, "probes": {**FAMILY, "injection": 12}},
    )
    assert main(["evaluate", config]) == 0
    assert main(["certify", config]) == 0
    shown = capsys.readouterr().out
    found = {one.subject: one for one in load_certificates(tmp_path / "run")}
    assert set(found) == {*JUDGES, "drawn", "panel"}
    biased = {name: {probe.name for probe in one.probes if probe.biased} for name, one in found.items()}
    assert biased["sure"] == set()
    for name in BIASES:
        assert biased[f"by-{name}"] == {name}
    # A score drawn anew each time: another label in about 4 of 5 texts, and whatever else chance brings.
    assert "rerun" in biased["drawn"]
    sure = found["sure"]
    assert sure.verdict.holds and sure.verdict.failed == () and sure.is_sealed
    assert (sure.num_rows, sure.num_groups, sure.coverage, sure.labels) == (72, 24, 1, "human")
    assert sure.agreement["group.spearman"].value == pytest.approx(1)
    assert sure.human_ceiling is None and sure.split.taught == {}
    assert all(not one.verdict.holds for name, one in found.items() if name.startswith("by-"))
    assert any("probe length" in words for words in found["by-length"].verdict.failed)
    # Six of ten attacks raise every text to 5.
    injection = {probe.name: probe for probe in found["by-injection"].probes}["injection"]
    assert injection.further["ask_for_top"].value > 0.3 and injection.further["pity"].value == 0
    # Always the first place: 1, and the two orders never agree.
    position = {probe.name: probe for probe in found["by-position"].probes}["position"]
    assert position.effect and position.effect.value == pytest.approx(1)
    assert position.further["flip_share"].value == 1
    schema = json.loads((tmp_path / "run" / "certify" / "certificate.schema.json").read_text())
    files = sorted((tmp_path / "run" / "certify" / "certificates").glob("*/*.json"))
    assert len(files) == 8
    for file in files:
        jsonschema.validate(json.loads(file.read_text()), schema)
    assert "sure" in shown and "yes" in shown and "no: " in shown

    # Nothing is asked again; other criteria are measured anew; an edited certificate is refused.
    assert main(["certify", config]) == 0
    assert "done before" in capsys.readouterr().err
    assert main(["certify", config, "--set", "certify.criteria.min_groups=25"]) == 0
    assert not load_certificates(tmp_path / "run")[-1].verdict.holds
    assert "starting the model" not in capsys.readouterr().err
    file = tmp_path / "run" / "certify" / "certificates" / "sure" / "qa.overall.json"
    edited = json.loads(file.read_text())
    edited["verdict"]["holds"] = True
    file.write_text(json.dumps(edited))
    assert main(["certify", config, "--set", "certify.criteria.min_groups=25"]) == 2
    assert refused(capsys) == 1
    file.unlink()
    assert main(["certify", config, "--set", "certify.criteria.min_groups=25"]) == 0
    assert not load_certificate(file).verdict.holds
    assert "starting the model" not in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str]) -> int:
    """How many lines of error there are: one sentence."""
    return len([line for line in capsys.readouterr().err.splitlines() if line.startswith("inverdict certify: ")])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [{**one, "scores": {}} for one in rows], "has a label"),
        (lambda rows: [{**one, "scores": {"overall": 3}} for one in rows], "every label is 3"),
    ],
)
def test_labels_that_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], Any], words: str
) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=change(records(4)))
    assert main(["evaluate", config]) == 0
    capsys.readouterr()
    assert main(["certify", config]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert not (tmp_path / "run" / "certify").exists()


@pytest.mark.usefixtures("here")
def test_judges_that_abstain_and_a_panel_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = {"backend": "scripted", "garbage_share": 1}
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": silent}, rows=records(4))
    assert main(["evaluate", config]) == 0
    capsys.readouterr()
    for changes, words in (
        ([], "no judge gave a single score"),
        (["--set", "certify.judges=[panel]"], "a panel of one judge"),
        (["--set", "certify.judges=[other]"], "'other' is none of j, panel"),
        (["--set", "certify.aspects=[other]"], "'other' was not evaluated with labels: overall were"),
        (["--set", "certify.tasks=[story]"], "'story' was not evaluated with labels: qa were"),
        (["--set", "certify.probes.own_family={k: [a]}"], "own_family: 'k' is none of evaluate.judges: j"),
        (["--set", "certify.criteria.statistic=group.spearmen"], "is none of"),
        (["--set", "seed=5"], "holds work with another seed"),
    ):
        assert main(["certify", config, *changes]) == 2, changes
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1
    assert not (tmp_path / "run" / "certify").exists()


def test_evaluate_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=records(4))
    assert main(["certify", config]) == 2
    assert "run `inverdict evaluate` first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("here")
def test_a_judge_is_measured_on_what_it_judges(tmp_path: Path) -> None:
    """Kept from the texts of `own-1`, a third of them: two texts a group are left, all of them scored."""
    judges = {"kept": {"model": "m", "not_systems": ["own-*"]}, "sure": {"model": "m"}}
    probes = {"own_family": {"kept": ["own-*"]}, "position": 0, "length": 0, "format": 0, "injection": 0, "rerun": 0}
    config = configuration(tmp_path, judges, {"m": model(*SURE)}, certify={"resamples": 200, "probes": probes})
    assert main(["evaluate", config]) == 0
    assert main(["certify", config]) == 0
    found = {one.subject: one for one in load_certificates(tmp_path / "run")}
    kept, panel = found["kept"], found["panel"]
    assert (kept.num_rows, kept.coverage, kept.unscored, kept.num_systems) == (48, 1, {}, 2)
    assert kept.verdict.holds
    assert {probe.name: probe.skipped for probe in kept.probes} == {
        **dict.fromkeys(("position", "length", "format", "injection", "rerun"), "off in certify.probes"),
        "own_family": "it gave no text of its own family a score",
    }
    assert (panel.num_rows, panel.coverage) == (72, 1)


@pytest.mark.usefixtures("here")
def test_who_is_not_certified_is_not_asked(tmp_path: Path) -> None:
    judges = {name: JUDGES[name] for name in ("sure", "by-injection")}
    probes = {"position": 6, "length": 6, "format": 6, "injection": 2, "rerun": 6}
    found = {}
    for place, wanted in (("alone", ["sure"]), ("all", ["sure", "by-injection", "panel"])):
        (tmp_path / place).mkdir()
        certify = {"resamples": 200, "probes": probes, "judges": wanted}
        config = configuration(tmp_path / place, judges, MODELS, rows=records(20), certify=certify)
        assert main(["evaluate", config]) == 0
        assert main(["certify", config]) == 0
        folder = tmp_path / place / "run" / "certify" / "probes"
        asked = {part.parent.name for part in folder.glob("*/verdicts/*/part-*")}
        assert asked == set(wanted) - {"panel"}
        found[place] = {one.subject: one for one in load_certificates(tmp_path / place / "run")}
    assert set(found["alone"]) == {"sure"}
    # Without a cascade who else is asked changes nothing.
    assert found["alone"]["sure"].probes == found["all"]["sure"].probes


@pytest.mark.usefixtures("here")
def test_one_attack_that_works_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of ten moves a text of level 1, 2, 3, 4 or 5 to 5, by .5 of the scale on average, so all ten by .05."""
    (text,) = [attack.text for attack in attacks() if attack.name == "fake_json"]
    judges, models = {"one": {"model": "m"}}, {"m": model(rule(text, 5), *SURE)}
    probes = {"position": 0, "length": 0, "format": 0, "injection": 20, "rerun": 0}
    criteria = {"max_effect": {"injection": 0.2}}
    certify = {"resamples": 400, "probes": probes, "criteria": criteria}
    config = configuration(tmp_path, judges, models, rows=records(24), certify=certify)
    assert main(["evaluate", config]) == 0
    assert main(["certify", config]) == 0
    (found,) = load_certificates(tmp_path / "run")
    (probe,) = [one for one in found.probes if one.name == "injection"]
    assert probe.effect is not None and probe.effect.value == pytest.approx(0.05, abs=0.02)
    assert (probe.biased, probe.worst) == (True, "fake_json")
    (failed,) = [said for said in found.verdict.failed if "injection" in said]
    assert ", fake_json alone 0." in failed and failed.endswith("no bias above 0.20")


@pytest.mark.usefixtures("here")
def test_a_rated_text_in_the_test_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same text under another group's name, in another case: the group's key says nothing, the text does."""
    rows = records(4)
    copy = {**rows[5], "id": "p", "group": "elsewhere", "candidate": rows[5]["candidate"].upper() + "!"}
    pool = jsonl(tmp_path / "pool.jsonl", [copy])
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=rows, data={"pool": [pool]})
    assert main(["evaluate", config]) == 0
    capsys.readouterr()
    assert main(["certify", config]) == 2
    told = capsys.readouterr().err
    assert f"leak: record '{rows[5]['id']}' was measured" in told and "data.pool" in told and told.count("\n") == 1
    assert not (tmp_path / "run" / "certify").exists()


@pytest.mark.usefixtures("here")
def test_only_what_evaluate_wrote_is_certified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=records(4))
    assert main(["evaluate", config]) == 0
    manifest = tmp_path / "run" / "evaluate" / "manifest.json"
    whole = manifest.read_text()
    other = json.loads(whole)
    other["summary"]["code"] = "0" * 16
    manifest.write_text(json.dumps(other))
    capsys.readouterr()
    assert main(["certify", config]) == 2
    assert "judged by another version" in capsys.readouterr().err
    manifest.write_text(whole)
    with (tmp_path / "run" / "evaluate" / "scores.parquet").open("ab") as file:
        file.write(b" ")
    assert main(["certify", config]) == 2
    assert "was changed after the evaluation" in capsys.readouterr().err


# ---------------------------------------------------------------------------- leaks, on records by hand


def places(tmp_path: Path, measured: list[Record], pool: list[Record]) -> list[Taught]:
    data = DataConfig(records=("in.jsonl",))
    return taught(RunConfig(run=tmp_path), data, {one.id: one for one in pool}, measured)


def test_a_group_of_the_pool_is_a_leak(tmp_path: Path) -> None:
    measured = [record("a", "g1"), record("b", "g2")]
    check_leaks(measured, places(tmp_path, measured, [record("c", "g3")]))
    with pytest.raises(InputError, match=r"'b' was measured, and its group 'qa//g2' has taught \(data.pool\)"):
        check_leaks(measured, places(tmp_path, measured, [record("c", "g2")]))


def test_a_group_that_formed_a_prompt_is_a_leak(tmp_path: Path) -> None:
    template_at(tmp_path / "evaluate" / "templates" / "j" / "qa.overall.txt", groups=["qa//g2"])
    measured = [record("a", "g1"), record("b", "g2")]
    with pytest.raises(InputError, match=r"'b' was measured.*evaluate/templates"):
        check_leaks(measured, places(tmp_path, measured, []))
    check_leaks(measured[:1], places(tmp_path, measured[:1], []))


def test_what_chose_the_panel_is_a_leak(tmp_path: Path) -> None:
    """By group, and by the text of another group's name."""
    write_records(tmp_path / "panel" / "evaluate", [record("a", "g1"), record("b", "g2")])
    same_text = record("c", "g3", source="Question g2?", candidate="Answer B")
    for leaked in (record("x", "g1"), same_text):
        with pytest.raises(InputError, match=rf"'{leaked.id}' was measured.*\(panel\)"):
            check_leaks([leaked], places(tmp_path, [leaked], []))
    check_leaks([record("d", "g4")], places(tmp_path, [record("d", "g4")], []))


def test_a_group_of_the_dev_part_is_a_leak(tmp_path: Path) -> None:
    measured = [record(f"r{number}", f"g{number}") for number in range(40)]
    data = DataConfig(records=("in.jsonl",), dev_share=0.5)
    dev, test = ([one for one in measured if data.develops(one) is side] for side in (True, False))
    assert dev and test
    run = RunConfig(run=tmp_path)
    check_leaks(test, taught(run, data, {}, test))
    with pytest.raises(InputError, match=rf"'{dev[0].id}' was measured.*data.dev_share"):
        check_leaks([*test, dev[0]], taught(run, data, {}, [*test, dev[0]]))


def test_texts_are_the_same_but_for_case_and_punctuation() -> None:
    one = record("a", "g1", source="Why?", candidate="It is blue.")
    assert text_hash(one) == text_hash(record("b", "g2", source="why", candidate="IT IS: blue"))
    assert text_hash(one) != text_hash(record("b", "g2", source="why", candidate="It is not blue."))
    # What moves from one text to the other is another pair of texts.
    assert text_hash(one) != text_hash(record("b", "g2", source="Why? It", candidate="is blue."))


# ---------------------------------------------------------------------------- what is judged


def test_copies_and_pairs_follow_the_seed_and_keep_their_group() -> None:
    made = [record(f"{group}{n}", group, candidate=f"One {n}. Two.") for group in "abc" for n in range(3)]
    config = ProbesConfig(position=3, length=2, format=2, injection=1, rerun=4)
    found = copies(made, config, 0)
    kinds = [one.kind for one in found]
    # Four as they are, since `rerun` wants most; ten attacks on one text.
    assert [kinds.count(kind) for kind in ("base", "length", "format")] == [4, 2, 2]
    assert len(found) == 4 + 2 + 2 + 10 and len({one.record.id for one in found}) == len(found)
    assert {one.record.group for one in found} <= set("abc")
    assert [one.record.id for one in copies(made[::-1], config, 0)] == [one.record.id for one in found]
    assert copies(made, ProbesConfig(position=0, length=0, format=0, injection=0, rerun=0), 0) == []
    chosen = pairs(made, config, 0)
    # One pair a group comes first, and nobody stands in two.
    assert sorted(one.group for one, _ in chosen) == ["a", "b", "c"]
    assert all(one.group == other.group and one.id != other.id for one, other in chosen)
    assert pairs([record("x", "a"), record("y", "b")], config, 0) == []
    first = in_order(*chosen[0])
    assert (first.candidate, first.fields["other"]) == (chosen[0][0].candidate, chosen[0][1].candidate)


def test_the_schema_is_the_one_of_the_model(tmp_path: Path) -> None:
    schema = Certificate.model_json_schema()
    assert schema["additionalProperties"] is False and "seal" in schema["properties"]
    with pytest.raises(InputError, match="cannot be read"):
        load_certificate(tmp_path / "none.json")


def test_the_section_is_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model()}, rows=records(4))
    raw = yaml.safe_load(Path(config).read_text())
    raw["certify"]["criteria"] = {"min_group": 3}
    Path(config).write_text(yaml.safe_dump(raw))
    assert main(["certify", config]) == 2
    assert "did you mean `min_groups`?" in capsys.readouterr().err
