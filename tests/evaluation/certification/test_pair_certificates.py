"""Certificates of comparisons by hand: 20 groups of three texts, a fair judge, one that likes length, one position."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from evaluation.certification.store import PAIR_CERTIFICATES, load_certificates, load_pair_certificates
from judging.certificates.certificate import PairCertificate
from tests.evaluation.batch.comparing import FAIR, FIRST, scripted, texts
from tests.evaluation.batch.running import configuration
from tests.evaluation.certification.certifying import without_ray

NO_PROBES = dict.fromkeys(("position", "length", "format", "injection", "rerun"), 0)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def certified(folder: Path, *, pairs: Any = None, criteria: Any = None, rows: Any = None, **evaluate: Any) -> Path:
    """The path of a configuration with a fair judge and one that takes the first text, evaluated and certified."""
    models = {"fair": scripted(FAIR), "first": scripted(FIRST)}
    rows = texts(num_groups=20, num_tricky=0) if rows is None else rows
    config = Path(configuration(folder, rows, models, pairs=pairs or {}, **evaluate))
    plain = yaml.safe_load(config.read_text())
    plain["certify"] = {"resamples": 200, "probes": NO_PROBES, "criteria": criteria or {}}
    config.write_text(yaml.safe_dump(plain))
    assert main(["evaluate", str(config)]) == 0
    assert main(["certify", str(config)]) == 0
    return config


def found(folder: Path) -> dict[str, PairCertificate]:
    return {one.subject: one for one in load_pair_certificates(folder / "run")}


def test_accuracy_length_and_position_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certified(tmp_path)
    assert set(found(tmp_path)) == {"fair", "first", "panel"}
    fair, first = found(tmp_path)["fair"], found(tmp_path)["first"]
    # Three pairs in each group, all decided by people, all by the fair judge as by people.
    assert (fair.num_pairs, fair.num_groups, fair.num_systems, fair.coverage) == (60, 20, 3, 1)
    assert fair.accuracy.value == 1
    # Good is one letter longer than bad and mid, which are equally long: right, right and a tie.
    assert fair.length.value == pytest.approx((1 + 1 + 0.5) / 3)
    assert fair.minus_length.value == pytest.approx(1 - 2.5 / 3)
    assert fair.position.effect is not None and fair.position.effect.value == pytest.approx(0)
    # The judge of the first position ties every pair. Its preference there is .8 - .2.
    assert first.accuracy.value == 0.5
    assert first.position.effect is not None and first.position.effect.value == pytest.approx(0.6)
    assert first.position.biased and first.position.further["flip_share"].value == 1
    assert not first.verdict.holds
    assert [words for words in first.verdict.failed if words.startswith("probe position")]
    panel = found(tmp_path)["panel"]
    assert (panel.judges, panel.accuracy.value, panel.position.effect) == (("fair", "first"), 1, None)
    said = capsys.readouterr().out
    assert "qa / records / overall: pairs" in said and "accuracy of pairs" in said


def test_the_report_shows_them(tmp_path: Path) -> None:
    config = certified(tmp_path)
    assert main(["report", str(config)]) == 0
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "Comparisons of pairs" in page and "the lower end must be above chance, 0.50" in page


def test_too_few_groups_and_ties_of_people(tmp_path: Path) -> None:
    rows = texts(num_groups=6, num_tricky=0)
    for row in rows:
        if row["system"] == "mid":
            row["scores"] = {"overall": 1}  # as bad
    certified(tmp_path, rows=rows)
    fair = found(tmp_path)["fair"]
    # Of three pairs one is tied by people.
    assert (fair.num_pairs, fair.num_groups) == (12, 6)
    assert "6 groups, at least 20" in fair.verdict.failed


def test_unrated_pairs_and_pairs_that_a_judge_skips_are_not_measured(tmp_path: Path) -> None:
    rows = [{**row, "scores": row["scores"] if row["id"][-1] in "01234" else {}} for row in texts(10, 0)]
    judges = {"fair": {"model": "fair"}, "first": {"model": "first", "not_systems": ["good"]}}
    certified(tmp_path, rows=rows, judges=judges)
    fair, first = found(tmp_path)["fair"], found(tmp_path)["first"]
    assert (fair.num_pairs, fair.num_groups) == (15, 5)
    assert (first.num_pairs, first.num_systems, first.coverage) == (5, 2, 1)


def test_a_judge_that_skips_every_pair_has_no_certificate_of_pairs(tmp_path: Path) -> None:
    judges = {"fair": {"model": "fair"}, "first": {"model": "first", "not_systems": ["good", "mid"]}}
    certified(tmp_path, judges=judges, rows=texts(8, 0))
    assert set(found(tmp_path)) == {"fair", "panel"}


def test_pairs_that_come_later_are_certified_without_a_new_probe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = certified(tmp_path)
    capsys.readouterr()
    assert main(["certify", str(config)]) == 0
    assert "done before" in capsys.readouterr().err
    file = next((tmp_path / "run" / PAIR_CERTIFICATES).glob("fair/*.json"))
    whole = json.loads(file.read_text())
    file.unlink()
    assert main(["certify", str(config)]) == 0
    assert {**json.loads(file.read_text()), "date": "", "seal": ""} == {**whole, "date": "", "seal": ""}
    file.write_text(file.read_text().replace('"num_pairs": 60', '"num_pairs": 61'))
    assert main(["certify", str(config)]) == 2
    assert "was edited" in capsys.readouterr().err


def test_without_pairs_there_are_none(tmp_path: Path) -> None:
    models = {"fair": scripted(FAIR)}
    config = Path(configuration(tmp_path, texts(4), models))
    plain = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**plain, "certify": {"resamples": 200, "probes": NO_PROBES}}))
    assert main(["evaluate", str(config)]) == main(["certify", str(config)]) == 0
    assert not (tmp_path / "run" / PAIR_CERTIFICATES).exists() and load_certificates(tmp_path / "run")


def test_fingerprints_follow_the_pairwise_prompt(tmp_path: Path) -> None:
    certified(tmp_path)
    (tmp_path / "tie").mkdir()
    certified(tmp_path / "tie", pairs={"tie": {"label": True}})
    one, other = found(tmp_path)["fair"].fingerprints, found(tmp_path / "tie")["fair"].fingerprints
    assert one.templates != other.templates and one.models == other.models
    assert not math.isnan(found(tmp_path)["fair"].tie_margin)
