"""The job `certify`: planted biases are found, an unbiased judge passes, unsuitable evaluations are refused."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.__main__ import main
from cluster.config import RunConfig, load
from cluster.jobs import sections
from evaluation.batch.config import prepared
from evaluation.batch.fingerprints import Known
from evaluation.certification.certify import main as certify
from evaluation.certification.store import load_certificates
from judging.certificates.certificate import Certificate, load_certificate
from judging.certificates.perturbations import attacks
from tests.evaluation.certification.certifying import (
    BIASES,
    SURE,
    configuration,
    contaminated,
    model,
    records,
    rule,
    without_ray,
)
from tests.evaluation.making import jsonl
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jsonschema")
JUDGES = {"sure": {"model": "sure"}, **{f"by-{name}": {"model": name} for name in BIASES}}
MODELS = {"sure": model(*SURE), **{name: model(*rules, *SURE) for name, rules in BIASES.items()}}
FAMILY = {"own_family": {name: ["own-*"] for name in ("sure", "by-own_family")}}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def certified(config: str, *changes: str) -> None:
    """Run the job on a configuration with `--set` changes; errors are raised as they are."""
    certify(load(Path(config), list(changes), sections()))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_chain_on_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` goes from the records to the report; a panel of a sound judge and one open to prompt injection."""
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
    assert "<h2>Certificates</h2>" in page and "another evaluation" not in page


@pytest.mark.usefixtures("here")
def test_a_certificate_is_of_the_configured_models_not_of_the_dtype_they_ran_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dtype: auto` is settled to query the engines; a server compares its certificates with the configuration."""

    def settled(run: RunConfig, names: Collection[str]) -> RunConfig:
        changed = {name: run.models[name].model_copy(update={"max_prompt_chars": 100_000}) for name in names}
        return run.model_copy(update={"models": {**run.models, **changed}})

    probes = {"position": 12, "length": 0, "format": 0, "injection": 0, "rerun": 0}
    config = configuration(tmp_path, {"sure": JUDGES["sure"]}, MODELS, certify={"resamples": 100, "probes": probes})
    assert main(["evaluate", config]) == 0
    monkeypatch.setattr("evaluation.certification.certify.all_settled", settled)
    assert main(["certify", config]) == 0
    [found] = load_certificates(tmp_path / "run")
    now = prepared(load(Path(config), [], sections()))
    evaluation = now.evaluation
    templates = {"sure": {("qa", "overall"): evaluation.prompts["sure"].template("qa", "overall")}}
    known = Known(evaluation.run, evaluation.config, templates, now.pool)
    assert found.fingerprints == known.of("sure", "qa", "overall")


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
    # A score sampled independently each time: another label in about 4 of 5 texts, and other effects by chance.
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
    # Always the first position: 1, and the two orders never agree.
    position = {probe.name: probe for probe in found["by-position"].probes}["position"]
    assert position.effect and position.effect.value == pytest.approx(1)
    assert position.further["flip_share"].value == 1
    schema = json.loads((tmp_path / "run" / "certify" / "certificate.schema.json").read_text())
    files = sorted((tmp_path / "run" / "certify" / "certificates").glob("*/*.json"))
    assert len(files) == 8
    for file in files:
        jsonschema.validate(json.loads(file.read_text()), schema)
    assert "sure" in shown and "yes" in shown and "no: " in shown


@pytest.mark.usefixtures("here")
def test_a_finished_job_runs_no_inference_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other criteria only change the certificates; an edited certificate is refused, a deleted one is written again."""
    probes = {"position": 6, "length": 6, "format": 6, "injection": 1, "rerun": 6}
    certify = {"resamples": 200, "probes": probes}
    config = configuration(tmp_path, {"sure": {"model": "sure"}}, MODELS, certify=certify)
    assert main(["evaluate", config]) == 0
    assert main(["certify", config]) == 0
    assert "starting the model" in capsys.readouterr().err
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
    errors = capsys.readouterr().err
    assert str(file) in errors and errors.count("inverdict certify: ") == 1
    file.unlink()
    assert main(["certify", config, "--set", "certify.criteria.min_groups=25"]) == 0
    assert not load_certificate(file, Certificate).verdict.holds
    assert "starting the model" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "code", "value"),
    [
        (lambda rows: [{**one, "scores": {}} for one in rows], "no_scores", "evaluate"),
        (lambda rows: [{**one, "scores": {"overall": 3}} for one in rows], "infeasible", "qa / records / overall"),
    ],
)
def test_missing_and_constant_labels(tmp_path: Path, change: Callable[[Any], Any], code: str, value: str) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=change(records(4)))
    assert main(["evaluate", config]) == 0
    with refused(code, naming=value):
        certified(config)
    assert not (tmp_path / "run" / "certify").exists()


@pytest.mark.usefixtures("here")
def test_labels_of_two_scales(tmp_path: Path) -> None:
    """The same task and data set, with labels from 1 to 5 and from 0 to 100."""
    rows = [{**one, "scale": [0, 100]} if number % 2 else one for number, one in enumerate(records(4))]
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=rows)
    assert main(["evaluate", config]) == 0
    with refused("conflict", "dataset", naming="overall"):
        certified(config)


@pytest.mark.usefixtures("here")
def test_judges_without_a_score_and_unknown_names(tmp_path: Path) -> None:
    silent = {"backend": "scripted", "garbage_share": 1}
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": silent}, rows=records(4))
    assert main(["evaluate", config]) == 0
    for changes, code, key, value in (
        ([], "no_scores", "", "qa / records / overall"),
        (["certify.judges=[panel]"], "conflict", "certify.judges", "`j`"),
        (["certify.judges=[other]"], "unknown_judge", "certify.judges", "j, panel"),
        (["certify.aspects=[other]"], "unknown_aspect", "certify.aspects", "overall"),
        (["certify.tasks=[story]"], "unknown_task", "certify.tasks", "qa"),
        (["certify.probes.own_family={k: [a]}"], "unknown_judge", "certify.probes.own_family", "'k'"),
        (["certify.criteria.statistic=group.spearmen"], "invalid_value", "certify.criteria.statistic", "spearmen"),
        (["seed=5"], "other_configuration", "", "seed (0, now 5)"),
    ):
        with refused(code, key, naming=value):
            certified(config, *changes)
    assert not (tmp_path / "run" / "certify").exists()


def test_evaluate_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=records(4))
    assert main(["certify", config]) == 2
    errors = capsys.readouterr().err
    assert "`inverdict evaluate`" in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("here")
def test_a_judge_is_measured_on_what_it_judges(tmp_path: Path) -> None:
    """Without the texts of `own-1`, a third of all: two texts per group are left, all of them scored."""
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
        **dict.fromkeys(("position", "length", "format", "injection", "rerun"), "disabled in certify.probes"),
        "own_family": "the judge scored no text of its own model family",
    }
    assert (panel.num_rows, panel.coverage) == (72, 1)


@pytest.mark.usefixtures("here")
def test_a_judge_that_skips_every_text_is_refused(tmp_path: Path) -> None:
    judges = {"none": {"model": "m", "not_systems": ["*"]}, "sure": {"model": "m"}}
    probes = {"position": 0, "length": 0, "format": 0, "injection": 0, "rerun": 0}
    config = configuration(
        tmp_path, judges, {"m": model(*SURE)}, rows=records(4), certify={"resamples": 100, "probes": probes}
    )
    assert main(["evaluate", config]) == 0
    with refused("no_records", "certify.judges", naming="`none`"):
        certified(config)
    assert not (tmp_path / "run" / "certify" / "certificates").exists()


@pytest.mark.usefixtures("here")
def test_a_judge_that_is_not_certified_is_not_queried(tmp_path: Path) -> None:
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
        queried = {part.parent.name for part in folder.glob("*/verdicts/*/part-*")}
        assert queried == set(wanted) - {"panel"}
        found[place] = {one.subject: one for one in load_certificates(tmp_path / place / "run")}
    assert set(found["alone"]) == {"sure"}
    # Without a cascade, the other queried judges change nothing.
    assert found["alone"]["sure"].probes == found["all"]["sure"].probes


@pytest.mark.usefixtures("here")
def test_one_attack_that_works_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of ten raises texts of level 1 to 5 to 5: .5 of the scale on average, so all ten by .05."""
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
    (failed,) = [one for one in found.verdict.failed if "injection" in one]
    assert ", fake_json alone 0." in failed and failed.endswith("no bias above 0.20")


@pytest.mark.usefixtures("here")
def test_a_pool_text_among_the_measured_records_is_refused(tmp_path: Path) -> None:
    """The same text in another group and in another case: found by its text, not by its group's key."""
    rows = records(4)
    copy = {**rows[5], "id": "p", "group": "elsewhere", "candidate": rows[5]["candidate"].upper() + "!"}
    pool = jsonl(tmp_path / "pool.jsonl", [copy])
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=rows, data={"pool": [pool]})
    assert main(["evaluate", config]) == 0
    with contaminated("(data.pool)", f"'{rows[5]['id']}'"):
        certified(config)
    assert not (tmp_path / "run" / "certify").exists()


@pytest.mark.usefixtures("here")
def test_changed_scores_and_other_code_are_refused(tmp_path: Path) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model(*SURE)}, rows=records(4))
    assert main(["evaluate", config]) == 0
    manifest = tmp_path / "run" / "evaluate" / "manifest.json"
    whole = manifest.read_text()
    other = json.loads(whole)
    other["summary"]["code"] = "0" * 16
    manifest.write_text(json.dumps(other))
    with refused("other_configuration", naming=str(manifest.parent)):
        certified(config)
    manifest.write_text(whole)
    with (tmp_path / "run" / "evaluate" / "scores.parquet").open("ab") as file:
        file.write(b" ")
    with refused("damaged_artifact", naming="scores.parquet"):
        certified(config)


def test_the_schema_is_the_one_of_the_model(tmp_path: Path) -> None:
    schema = Certificate.model_json_schema()
    assert schema["additionalProperties"] is False and "seal" in schema["properties"]
    with refused("missing_file", naming="none.json"):
        load_certificate(tmp_path / "none.json", Certificate)


def test_the_section_is_strict(tmp_path: Path) -> None:
    config = configuration(tmp_path, {"j": {"model": "m"}}, {"m": model()}, rows=records(4))
    raw = yaml.safe_load(Path(config).read_text())
    raw["certify"]["criteria"] = {"min_group": 3}
    Path(config).write_text(yaml.safe_dump(raw))
    with refused("unknown_key", "certify.criteria.min_group", naming="`min_groups`"):
        certified(config)
