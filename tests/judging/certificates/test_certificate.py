"""Certificates: which criteria are met, the seal, the file, the published schema."""

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from judging.certificates.certificate import Certificate, Groups, figures, floor_figures, ids_hash, load_certificate
from judging.certificates.criteria import Criteria, Limits
from judging.errors import InputError
from judging.stats.bias import KINDS
from judging.stats.estimate import Estimate
from tests.judging.certificates.making import certificate, figure, probe
from tests.refusals import refused

HALF_SILENT = probe("position", 0.0).model_copy(update={"effect": figure(0.0).model_copy(update={"coverage": 0.4})})


def test_all_criteria_met() -> None:
    one = certificate()
    assert one.verdict.holds and one.verdict.failed == ()
    # Above chance, above length, coverage, groups, two probes.
    assert len(one.verdict.met) == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # The lower end .40 is not above chance .45, though the value is.
        ({"chance": {"group.spearman": figure(0.45)}}, "baseline, 0.45"),
        ({"minus_length": {"group.spearman": figure(0.05)}}, "length baseline 0.05 [-0.05, 0.15]"),
        ({"coverage": 0.9}, "coverage 0.900, at least 0.950"),
        ({"num_groups": 19}, "19 groups, at least 20"),
        ({"labels": "constructed"}, "constructed levels"),
        ({"probes": (probe("position", 0.4, biased=True, limit=0.1),)}, "probe position 0.40 [0.30, 0.50]"),
        # What was probed and came out undefined is not known to be unbiased.
        ({"probes": (probe("length", None, biased=None),)}, "probe length: undefined"),
        ({"probes": (HALF_SILENT,)}, "probe position: only 40%"),
        ({"agreement": {"group.spearman": figure(None)}}, "group.spearman is undefined"),
        ({"agreement": {}}, "group.spearman is undefined"),
        ({"criteria": Criteria(min_above_chance=0.4)}, "baseline, 0.40"),
        ({"criteria": Criteria(statistic="dataset.pearson")}, "dataset.pearson is undefined"),
    ],
)
def test_one_criterion_that_fails_is_enough_and_is_named(changes: dict[str, Any], words: str) -> None:
    verdict = certificate(**changes).verdict
    assert not verdict.holds
    assert len(verdict.failed) == 1 and words in verdict.failed[0]


def test_what_does_not_count_against_a_judge() -> None:
    skipped = probe("length", 0.0).model_copy(update={"effect": None, "biased": None, "skipped": "off"})
    assert certificate(probes=(skipped,)).verdict.holds
    # All texts of one length: the baseline gives no order.
    assert certificate(minus_length={"group.spearman": figure(None)}).verdict.holds
    assert certificate(labels="constructed", criteria=Criteria(accept_constructed=True)).verdict.holds
    below = {"minus_length": {"group.spearman": figure(-0.2)}}
    assert certificate(**below, criteria=Criteria(min_above_length=None)).verdict.holds


def test_the_criteria_name_a_statistic_of_order() -> None:
    for name in ("group.spearmen", "dataset.mean_absolute_error", "dataset.krippendorff_alpha"):
        with pytest.raises(ValidationError, match="must be one of"):
            Criteria(statistic=name)
    assert set(Limits.model_fields) == set(KINDS)
    with pytest.raises(ValidationError):
        Limits(length=-0.1)


def test_the_file_comes_back_as_it_was(tmp_path: Path) -> None:
    one = certificate(subject="ä", unscored={"timeout": 2}, human_ceiling={"group.spearman": figure(0.7)})
    (tmp_path / "c.json").write_text(one.to_text(), encoding="utf-8")
    assert load_certificate(tmp_path / "c.json", Certificate) == one


def test_a_file_from_before_an_attack_could_fail_alone_has_not_been_edited(tmp_path: Path) -> None:
    one = certificate()
    content = json.loads(one.to_text())
    for one_probe in content["probes"]:
        assert one_probe.pop("worst") is None
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert load_certificate(tmp_path / "c.json", Certificate) == one
    # An attack that is named is part of the seal.
    content["probes"][0]["worst"] = "pity"
    (tmp_path / "c.json").write_text(json.dumps(content))
    with refused("damaged_artifact", naming="c.json"):
        load_certificate(tmp_path / "c.json", Certificate)


@pytest.mark.parametrize(
    "edit",
    [
        lambda one: one["verdict"].update(holds=True),
        lambda one: one["agreement"]["group.spearman"].update(value=0.99),
        lambda one: one["probes"].pop(),
        lambda one: one["fingerprints"].update(code="d"),
        lambda one: one.update(seal=""),
        lambda one: one.update(date="2030-01-01T00:00:00Z"),
        lambda one: one["split"]["measured"].update(sha256="0"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, edit: Any) -> None:
    content = json.loads(certificate(num_groups=3).to_text())
    edit(content)
    (tmp_path / "c.json").write_text(json.dumps(content))
    with refused("damaged_artifact", naming="seal"):
        load_certificate(tmp_path / "c.json", Certificate)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2}', "\x00", '{"subject": "j"}'])
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError) as error:
        load_certificate(tmp_path / "c.json", Certificate)
    assert error.value.code == "damaged_artifact" and "\n" not in str(error.value)
    assert "seal" not in str(error.value)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with refused("missing_file", naming="c.json"):
        load_certificate(tmp_path / "c.json", Certificate)
    with refused("unreadable_file", naming=str(tmp_path)):
        load_certificate(tmp_path, Certificate)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    content = {**json.loads(certificate().to_text()), "trusted": True}
    (tmp_path / "c.json").write_text(json.dumps(content))
    with refused("damaged_artifact", "trusted"):
        load_certificate(tmp_path / "c.json", Certificate)


def test_reformatting_changes_no_content(tmp_path: Path) -> None:
    content = json.loads(certificate().to_text())
    (tmp_path / "c.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert load_certificate(tmp_path / "c.json", Certificate).verdict.holds


def test_every_certificate_follows_the_schema() -> None:
    schema = Certificate.model_json_schema()
    for one in (certificate(), certificate(agreement={"group.spearman": figure(None)}, probes=())):
        jsonschema.validate(json.loads(one.to_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**json.loads(certificate().to_text()), "more": 1}, schema)


def test_figures_and_their_floor_are_told_apart() -> None:
    found = {
        "group.spearman": Estimate(0.5, 0.4, math.nan, 9, 1.0),
        "floor.group.spearman": Estimate(0.0, -0.1, 0.1, 9, 1.0),
    }
    assert list(figures(found)) == list(floor_figures(found)) == ["group.spearman"]
    assert figures(found)["group.spearman"].high is None
    assert floor_figures(found)["group.spearman"].high == 0.1


def test_hashes_do_not_hang_on_the_order() -> None:
    assert ids_hash(["a", "b"]) == ids_hash(["b", "a"]) != ids_hash(["ab"])
    assert Groups.of(["b", "a", "b"]) == Groups.of(["a", "b"])
    many = Groups.of(map(str, range(100)))
    assert (many.num_groups, len(many.first)) == (100, 20)
