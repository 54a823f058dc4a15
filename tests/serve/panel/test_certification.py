"""Which judgements are certified: only those of the configuration that was tested; and what is rejected without."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.batch.fingerprints import Known, known_of_pairs
from judging.certificates.certificate import Certificate, PairCertificate
from judging.certificates.criteria import Criteria
from judging.errors import InputError
from serve.panel.build import Online
from tests.judging.certificates.making import certificate, pair_certificate
from tests.refusals import refused
from tests.serve.online import BODY, FIELDS, SCRIPTED, Local, client, configured


def fitting(found: Online, subject: str, aspect: str = "overall", **changes: Any) -> Certificate:
    """A certificate for what this configuration runs."""
    known = Known(found.run, found.evaluate, {name: one.templates for name, one in found.judges.items()}, found.pool)
    judges = tuple(found.judges) if subject == "panel" else (subject,)
    about = {"judges": judges, "kind": "panel" if subject == "panel" else "judge", "aspect": aspect}
    return certificate(subject, **{**about, "fingerprints": known.of(subject, "qa", aspect), **changes})


def write(folder: Path, *ones: Certificate) -> None:
    for number, one in enumerate(ones):
        path = folder / "run" / "certify" / "certificates" / one.subject / f"qa.{one.aspect}.{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.to_text())


async def judged(found: Online, body: Any = BODY) -> dict[str, Any]:
    async with client(Local(found)) as http:
        told: dict[str, Any] = (await http.post("/v1/judge", json=body)).json()
    return told


def marks(told: dict[str, Any]) -> tuple[bool, list[bool]]:
    (result,) = told["results"]
    assert told["certified"] == result["certified"]
    return told["certified"], [vote["certified"] for vote in result["votes"]]


async def test_without_certificates_nothing_is_certified(tmp_path: Path) -> None:
    assert marks(await judged(configured(tmp_path))) == (False, [False, False])


async def test_the_panel_and_each_judge_stand_for_themselves(tmp_path: Path) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"), fitting(found, "first"), fitting(found, "second", num_groups=3))
    assert marks(await judged(configured(tmp_path))) == (True, [True, False])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"options": {"judges": ["first"]}}, (True, [True])),
        ({"options": {"judges": ["second"]}}, (False, [False])),
        # Not the vote that was certified.
        ({"options": {"vote": "median"}}, (False, [True, False])),
        ({"options": {"min_votes": 2}}, (False, [True, False])),
        ({"options": {"examples": False}}, (False, [False, False])),
        ({"aspects": ["utility"]}, (False, [False, False])),
        ({"other": "It is blue."}, (False, [False, False])),
    ],
)
async def test_an_answer_given_in_another_way_is_not(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[bool, list[bool]]
) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"), fitting(found, "first"))
    assert marks(await judged(configured(tmp_path), {**BODY, **changes})) == expected


async def test_a_free_rubric_is_never_certified(tmp_path: Path) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"))
    told = await judged(configured(tmp_path), {"rubric": "Is it short?", "fields": FIELDS})
    assert marks(told) == (False, [False, False])


async def test_a_panel_that_lacks_a_vote_is_not_the_one_that_was_tested(tmp_path: Path) -> None:
    silent = {"models": {"a": SCRIPTED, "b": {**SCRIPTED, "garbage_share": 1}}}
    found = configured(tmp_path, **silent)
    write(tmp_path, fitting(found, "panel"))
    told = await judged(configured(tmp_path, **silent))
    assert told["degraded"] and marks(told)[0] is False


@pytest.mark.parametrize("part", ["code", "models", "templates", "settings", "retriever", "weights"])
async def test_a_certificate_of_something_else_does_not_count(tmp_path: Path, part: str) -> None:
    found = configured(tmp_path)
    one = fitting(found, "panel")
    other: Any = "other" if part in ("code", "retriever", "weights") else {"first": "other", "second": "other"}
    changed = one.fingerprints.model_copy(update={part: other})
    write(tmp_path, fitting(found, "panel", fingerprints=changed))
    again = configured(tmp_path)
    assert marks(await judged(again))[0] is False
    async with client(Local(again)) as http:
        (told,) = (await http.get("/v1/judges")).json()["panel"]["certificates"]
    assert (told["counts"], told["holds"], told["why_not"]) == (False, True, f"other fingerprints: {part}")


async def test_another_configuration_is_something_else(tmp_path: Path) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"), fitting(found, "first"))
    judges = {"first": {"model": "a"}, "second": {"model": "b", "score_mode": "parsed"}}
    voted = configured(tmp_path, evaluate={"judges": judges, "vote": {"rule": "median"}})
    # The vote is the panel's; the judge is the same.
    assert marks(await judged(voted)) == (False, [True, False])
    stricter = {**judges, "first": {"model": "a", "min_label_mass": 0.5}}
    assert marks(await judged(configured(tmp_path, evaluate={"judges": stricter}))) == (False, [False, False])
    scripted = {"a": {**SCRIPTED, "rules": [{"contains": "x", "reply": "y"}]}, "b": SCRIPTED}
    assert marks(await judged(configured(tmp_path, models=scripted))) == (False, [False, False])
    # A judge that is no longer there, and one that was added.
    alone = configured(tmp_path, evaluate={"judges": {"first": {"model": "a"}}})
    assert marks(await judged(alone)) == (True, [True])


async def test_of_several_data_sets_each_must_bear_it_out(tmp_path: Path) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"), fitting(found, "panel", dataset="e"))
    assert marks(await judged(configured(tmp_path)))[0] is True
    write(tmp_path, fitting(found, "panel"), fitting(found, "panel", dataset="e", coverage=0.2))
    assert marks(await judged(configured(tmp_path)))[0] is False


async def test_judges_list_their_certificates(tmp_path: Path) -> None:
    found = configured(tmp_path)
    write(tmp_path, fitting(found, "first"), fitting(found, "panel", criteria=Criteria(min_groups=50)))
    async with client(Local(configured(tmp_path))) as http:
        told = (await http.get("/v1/judges")).json()
    first, second = told["data"]
    (one,) = first["certificates"]
    assert (one["task"], one["aspect"], one["counts"], one["holds"], one["why_not"]) == (
        *("qa", "overall"),
        *(True, True, None),
    )
    assert (one["agreement"]["value"], one["statistic"], one["num_groups"]) == (0.5, "group.spearman", 40)
    assert second["certificates"] == []
    (panel,) = told["panel"]["certificates"]
    assert (panel["counts"], panel["why_not"]) == (False, "its criteria are not met")
    assert panel["failed"] == ["40 groups, at least 50"]


# ---------------------------------------------------------------------------- pairs

PAIRS: dict[str, Any] = {
    "evaluate": {
        "judges": {"first": {"model": "a"}, "second": {"model": "b", "score_mode": "parsed"}},
        "pairs": {"aspects": ["overall"]},
    }
}
PAIR = {**BODY, "other": "It is blue."}


def comparing(found: Online, subject: str, **changes: Any) -> PairCertificate:
    """A certificate for the comparisons of this configuration."""
    known = known_of_pairs(found.run, found.evaluate, list(found.judges), [("qa", "overall")])
    judges = tuple(found.judges) if subject == "panel" else (subject,)
    prints = known.of(subject, "qa", "overall")
    return pair_certificate(subject, **{"judges": judges, "fingerprints": prints, **changes})


def write_pairs(folder: Path, *ones: PairCertificate) -> None:
    for one in ones:
        path = folder / "run" / "certify" / "pair_certificates" / one.subject / "qa.overall.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.to_text())


async def test_comparisons_are_certified_by_certificates_of_their_own(tmp_path: Path) -> None:
    found = configured(tmp_path, **PAIRS)
    write_pairs(tmp_path, comparing(found, "panel"), comparing(found, "first"))
    again = configured(tmp_path, **PAIRS)
    assert marks(await judged(again, PAIR)) == (True, [True, False])
    # Single texts are not, and neither are other aspects or judges alone without a certificate.
    assert marks(await judged(again)) == (False, [False, False])
    assert marks(await judged(again, {**PAIR, "aspects": ["utility"]})) == (False, [False, False])
    assert marks(await judged(again, {**PAIR, "options": {"judges": ["first"]}})) == (True, [True])
    assert marks(await judged(again, {**PAIR, "options": {"judges": ["second"]}})) == (False, [False])
    (told,) = again.certified.summaries["panel"]
    assert (told["statistic"], told["num_pairs"], told["counts"]) == ("pairs.accuracy", 80, True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tie_margin": 0.1}, "issued for ties within 0.1 of 0.5"),
        ({"num_groups": 3}, "its criteria are not met"),
        ({"fingerprints": pair_certificate().fingerprints}, "other fingerprints"),
        ({"judges": ("first", "third")}, "not served here"),
    ],
)
async def test_certificates_of_other_comparisons_do_not_count(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    write_pairs(tmp_path, comparing(configured(tmp_path, **PAIRS), "panel", **changes))
    found = configured(tmp_path, **PAIRS)
    assert marks(await judged(found, PAIR)) == (False, [False, False])
    (told,) = found.certified.summaries["panel"]
    assert why in told["why_not"]


# ---------------------------------------------------------------------------- required


async def test_what_is_not_certified_is_refused_where_it_is_required(tmp_path: Path) -> None:
    write(tmp_path, fitting(configured(tmp_path), "panel"))
    found = configured(tmp_path, serve={"require_certificate": True})
    async with client(Local(found)) as http:
        assert (await http.post("/v1/judge", json=BODY)).status_code == 200
        for body, param, words in (
            ({**BODY, "aspects": ["overall", "utility"]}, "aspects", "panel is not certified for utility."),
            ({**BODY, "options": {"judges": ["first"]}}, "aspects", "judge is not certified for overall."),
            ({**BODY, "options": {"vote": "median"}}, "aspects", "panel is not certified for overall."),
            ({**BODY, "other": "It is blue."}, "aspects", "panel is not certified for comparisons by overall."),
            ({"rubric": "Is it secret?", "fields": FIELDS}, "rubric", ""),
        ):
            answer = await http.post("/v1/judge", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["type"], error["code"]) == (403, "permission_error", "not_certified")
            assert error["param"] == param and words in error["message"]
            assert FIELDS["candidate"] not in answer.text and "secret" not in answer.text
        items = (await http.post("/v1/judge/batch", json={"items": [BODY, {**BODY, "aspects": ["utility"]}]})).json()
        assert [one["status"] for one in items["data"]] == [200, 403]
        asked = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
        for messages, status in ((asked, 200), ([{"role": "system", "content": "Is it short?"}, *asked], 403)):
            body = {"model": "inverdict-panel", "messages": messages}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == status


def test_a_server_that_would_refuse_everything_does_not_start(tmp_path: Path) -> None:
    with refused("not_certified", "serve.require_certificate", naming=str(tmp_path / "run" / "certify")):
        configured(tmp_path, serve={"require_certificate": True})
    write(tmp_path, fitting(configured(tmp_path), "panel", coverage=0.1))
    with refused("not_certified", "serve.require_certificate"):
        configured(tmp_path, serve={"require_certificate": True})


def test_an_edited_certificate_stops_the_server(tmp_path: Path) -> None:
    one = fitting(configured(tmp_path), "panel", coverage=0.1)
    content = json.loads(one.to_text())
    content["verdict"] = {"holds": True, "met": [], "failed": []}
    path = tmp_path / "run" / "certify" / "certificates" / "panel" / "qa.overall.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"(?=.*qa\.overall\.json)(?=.*seal)"):
        configured(tmp_path)
