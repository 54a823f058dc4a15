"""The report: its content, escaping, and that the page needs no external resources."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import JobDir
from cluster.config import RunConfig, run_schema
from evaluation.judges.prompt_sources import Prompts
from evaluation.reporting import report
from judging.records import UNSCORED_REASONS
from tests.evaluation.making import examples_parts, judge, record, scores_file, write_records
from tests.refusals import refused

HOSTILE = "<script>alert('x')</script><img src=\"http://evil.example/a.png\" onerror=alert(1)>' onmouseover=\"x&amp;"
MARKS = "\u202e\u2068"  # they turn round what follows in the same line
OWN_LINE = ("pre", "bdi", "section")  # of the sections the names are those of `one_line`


def finished(
    run: Path,
    rows: list[dict[str, Any]],
    *,
    labels: str = "human",
    texts: dict[str, str] | None = None,
    prompts: dict[str, str] | None = None,
    num_left_out: int = 0,
    icl: dict[str, Any] | None = None,
    **section: Any,
) -> RunConfig:
    """A run folder with a finished evaluation of these rows, and its configuration with a `report` section.

    `prompts`: the `prompt` of judges whose templates have been written already; all others use the rubric.
    """
    job = JobDir(run, "evaluate")
    with job.opened({"data": {"labels": labels}, "versions": {"ray": "1"}}):
        job.claim()
        scores_file(job.path, rows)
        own = texts or {}
        write_records(job.path, [record(one["id"], one["group"], **own) for one in rows])
        names = list(rows[0]["scores"])
        if names[0] not in (prompts or {}):
            Prompts(names[0]).save(judge(names[0]).templates, job.path / "templates" / names[0])
        judges: dict[str, dict[str, Any]] = {}
        for name in (*names, "panel"):
            lost = sum(one["scores"].get(name, 1) is None for one in rows)
            judges[name] = {
                "coverage": 1 - lost / len(rows),
                "unscored": {"unparsed": lost} if lost else {},
            }
            if name != "panel":
                prompt = (prompts or {}).get(name, "rubric")
                judges[name] |= {"model": "m", "prompt": prompt, "score_mode": "expected"}
                judges[name] |= {"icl": icl} if icl and name == names[0] else {}
        counts = {"num_records": len(rows), "num_scores": len(rows), "num_left_out": num_left_out}
        job.finish({**counts, "judges": judges})
    return run_schema({"report": report.Config})(run=run, report={"resamples": 100, **section})


def rows(values: list[float | None], labels: list[float | None] | None = None, **more: Any) -> list[dict[str, Any]]:
    known = labels or [1, 4, 2, 5]
    return [
        {"id": f"r{n}", "group": f"g{n // 2}", "system": f"s{n % 2}", "label": known[n], "scores": {"j": value}, **more}
        for n, value in enumerate(values)
    ]


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; `in_line` is what is in none of the elements `OWN_LINE`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.depth = 0
        self.in_line = ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.source = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.depth += tag in OWN_LINE
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag in OWN_LINE

    def handle_data(self, data: str) -> None:
        self.text += data
        if not self.depth:
            self.in_line += data


def page(run: RunConfig) -> Page:
    assert report.main(run).exit_code == 0
    return Page((run.run / "report" / "report.html").read_text(encoding="utf-8"))


def check_self_contained(found: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "data", "background"):
            is_link = name == "href" and (value.startswith("#slice-") or value == "records.html")
            assert value.startswith("data:image/png;base64,") or is_link
    style = found.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_files_and_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    done = report.main(run)
    written = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    agreement = written["slices"][0]["agreement"]["j"]["dataset"]["spearman"]
    assert (agreement["value"], agreement["n"], agreement["coverage"]) == (pytest.approx(1), 4, 1)
    assert (written["labels"], written["resamples"], written["interval"]) == ("human", 100, "percentile")
    # Two groups that agree tell no systems apart; their ranks are open.
    answer = "By people, s1 and s0 cannot be told apart on overall (fewer than 6 shared groups)."
    assert written["systems"][0]["sentence"] == answer
    assert written["systems"][0]["trust"]["light"] == "yellow"
    assert report.render(done.summary).startswith(f"qa / d / overall\n{answer}\nThe panel's group.spearman with people")
    shown = report.render(done.summary, verbose=True)
    assert shown.endswith(f"Report: {tmp_path / 'run' / 'report' / 'report.html'}")
    assert (
        "qa / d / overall: agreement with the human score, 4 rows, 2 groups, 2 systems; fewer than 10 groups" in shown
    )
    for line in ("j ", "panel ", "length ", "chance (panel) "):
        assert f"\n{line}" in shown
    assert capsys.readouterr().out == ""


@pytest.mark.draws
def test_the_page_is_self_contained(tmp_path: Path) -> None:
    found = page(finished(tmp_path / "run", rows([1, 4, 2, None])))
    check_self_contained(found)
    assert "http://" not in found.source
    assert "https://" not in found.source
    assert found.tags.count("img") == 4
    assert "all parts of the data" not in found.text
    assert "human score" in found.text


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    places = ("source", "candidate", "system", "group", "reason", "dataset", "id", "prompt")
    hostile = {place: HOSTILE.replace("x", place) for place in places}
    for place in ("source", "candidate", "system", "reason", "prompt"):
        hostile[place] += MARKS
    given = rows([1, 4, 5, None], **{place: hostile[place] for place in ("system", "group", "reason", "dataset")})
    for number, one in enumerate(given):
        one["id"] = f"{number}{hostile['id']}"
    given[2]["system"] = ""  # its id is shown instead
    # The group itself is not on the page, but this source contains it.
    texts = {"source": hostile["source"] + hostile["group"], "candidate": hostile["candidate"]}
    run = finished(tmp_path / HOSTILE.replace("/", "~"), given, texts=texts)
    (template,) = (run.run / "evaluate" / "templates").glob("*/*")
    template.write_text(f"{hostile['prompt']} {{{{candidate}}}}", encoding="utf-8")
    found = page(run)
    check_self_contained(found)
    for text in (*hostile.values(), HOSTILE.replace("/", "~"), "{{candidate}}"):
        assert text in found.text
    assert "<script" not in found.source
    assert '<img src="http' not in found.source
    assert not set(MARKS) & set(found.in_line)


def test_constructed_levels_are_never_called_human(tmp_path: Path) -> None:
    icl = {"arm": "bm25", "wanted": 4, "mean_examples": 4, "num_dropped": 0, "num_prompts_without": 0, "num_prompts": 4}
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]), labels="constructed", icl=icl)
    examples_parts(tmp_path / "run", "j", [1, 2, 3, 4])
    found = page(run)
    assert "the mean constructed level of a text's few-shot examples" in found.text
    assert "Agreement with the constructed levels" in found.text
    assert "They are not human ratings" in found.text
    output = report.render(report.main(run).summary, verbose=True) + found.source
    assert "human" not in output.lower().replace("they are not human ratings", "")
    assert "people" not in output.lower().replace("not that a judge agrees with people", "")
    assert "agreement with the constructed level," in output


def test_unscored_rows_are_counted_and_named(tmp_path: Path) -> None:
    found = page(finished(tmp_path / "run", rows([1, None, 2, 5])))
    assert f"1 unparsed ({UNSCORED_REASONS['unparsed']})" in found.text
    assert "0.750" in found.text


@pytest.mark.parametrize("number", [0, 12])
def test_records_left_out_are_counted(tmp_path: Path, number: int) -> None:
    run = finished(tmp_path / "run", rows([1, 2, 2, 5]), num_left_out=number)
    text = page(run).text
    assert ("12 further records were excluded" in text, "excluded" in text) == (bool(number), bool(number))
    written = json.loads((run.run / "report" / "metrics.json").read_text())
    assert written["evaluation"]["num_left_out"] == number


def test_all_unscored_is_a_report_of_nothing_but_that(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([None] * 4))
    found = page(run)
    assert "4 unparsed" in found.text
    assert "Largest errors of the panel" in found.text
    assert "panel –" not in found.text
    assert "nan" not in found.text.lower()
    json.loads((run.run / "report" / "metrics.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def test_without_labels_there_is_no_agreement(tmp_path: Path) -> None:
    given = rows([1, 2, 3, 4])
    for one in given:
        one["label"] = None
    run = finished(tmp_path / "run", given)
    found = page(run)
    assert "No record has a label" in found.text
    assert found.tags.count("img") == 1  # the ranking of the systems
    summary = report.main(run).summary
    assert summary["slices"] == [] and summary["systems"][0]["trust"]["light"] == "grey"
    shown = report.render(summary)
    assert "since no text has a label" in shown and "Fewer than 6 groups" in shown


def test_without_systems_the_agreement_is_the_answer(tmp_path: Path) -> None:
    given = rows([1, 4, 2, 5])
    for one in given:
        one["system"] = ""
    run = finished(tmp_path / "run", given)
    shown = report.render(report.main(run).summary)
    assert "No systems are compared on overall: no row names a system." in shown
    assert "4 of 4 rows name no system and are left out here. Set `system` in the data." in shown
    assert "agreement with the human score, 4 rows" in shown
    assert page(run).tags.count("img") == 3


def test_labels_on_some_groups_give_three_estimates(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", few_labels())
    (part,) = report.main(run).summary["systems"]
    assert (part["num_groups"], part["num_labelled_groups"]) == (40, 24)
    means = {one["system"]: one for one in part["with_few_labels"]["panel"]["means"]}
    # People's scores are one point above the judge's: the judge alone is wrong by it, both together are not.
    assert means["s0"]["labels_alone"]["value"] == pytest.approx(3.5) and means["s0"]["labels_alone"]["n"] == 24
    assert means["s0"]["judge_alone"]["value"] == pytest.approx(2.5)
    assert means["s0"]["prediction_powered"]["value"] == pytest.approx(3.5)
    assert means["s0"]["effective_labelled_groups"] > 24
    # One table on the terminal, the others where they are asked for.
    shown = report.render(report.main(run).summary)
    assert shown.count("both (PPI++)") == 1 and "s1 minus s0" not in shown and "groups won" not in shown
    shown = report.render(report.main(run).summary, verbose=True)
    assert shown.count("both (PPI++)") == 2 and "s1 minus s0" in shown and "groups won" in shown
    assert "24 of 40 groups have a human score" in page(run).text


def few_labels() -> list[dict[str, Any]]:
    """40 groups, 24 with labels, around a point above the judge's scores of 1, 2, 3, 4 in turn; s1 gains a point."""
    return [
        {
            "id": f"r{group}-{system}",
            "group": f"g{group:02}",
            "system": f"s{system}",
            "label": group % 4 + 2 + system + (group % 3 - 1) / 2 if group < 24 else None,
            "scores": {"j": float(group % 4 + 1 + system)},
        }
        for group in range(40)
        for system in (0, 1)
    ]


def test_slices_have_their_own_tables(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", [*rows([1, 4, 2, 5]), *rows([5, 2, 4, 1], aspect="utility")])
    found = page(run)
    assert found.tags.count("img") == 8
    assert "qa / d / overall" in found.text
    assert "qa / d / utility" in found.text
    found_slices = json.loads((run.run / "report" / "metrics.json").read_text())["slices"]
    values = [part["agreement"]["j"]["dataset"]["spearman"]["value"] for part in found_slices]
    # The second slice is the opposite; pooled, both would be near 0.
    assert values[0] == pytest.approx(1)
    assert values[1] == pytest.approx(-1)
    # The summary: one row per slice with a link to it.
    assert found.text.index("all parts of the data") < found.text.index("Coverage")
    for place in (0, 1):
        # Inside its chapter, which a link to it then opens.
        assert found.source.count(f"</summary>\n<p id=slice-{place}>") == 1
        assert found.source.count(f"'#slice-{place}'") == 2  # from the summary and from the answer


@pytest.mark.parametrize("number", [0, 1])
def test_the_number_of_largest_errors(tmp_path: Path, number: int) -> None:
    found = page(finished(tmp_path / "run", rows([5, 4, 2, 5], reason="because"), num_worst=number))
    assert found.text.count("Candidate") == number
    assert ("Answer r0." in found.text) is bool(number)
    assert ("because" in found.text) is bool(number)


def test_the_same_scores_give_the_same_numbers(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    first, second = report.main(run).summary, report.main(run).summary
    assert first["slices"] == second["slices"]
    assert first["scores_sha256"] == second["scores_sha256"]


def test_an_evaluation_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows([1, 4, 2, 5]))
    JobDir(tmp_path / "run", "evaluate").reopen()
    with refused("missing_job", naming=str(tmp_path / "run" / "evaluate")):
        report.main(run)
    assert not (tmp_path / "run" / "report").exists()


def test_retrieved_examples_and_the_retrievers_ranking_quality(tmp_path: Path) -> None:
    icl = {
        "arm": "trained",
        "wanted": 4,
        "mean_examples": 3.5,
        "num_dropped": 2,
        "num_prompts_without": 1,
        "num_prompts": 4,
    }
    both = [{**row, "scores": {"j": row["scores"]["j"], "k": 3 - row["scores"]["j"]}} for row in rows([1, 4, 2, 5])]
    run = finished(tmp_path / "run", both, icl=icl)
    fit = JobDir(tmp_path / "run", "fit")
    orders = {
        "num_queries": 9,
        "num_groups": 3,
        "ndcg": {
            "bm25": [0.6, 0.5, 0.7],
            "random": [0.5, None, None],
            "semantic": [0.6, 0.5, 0.7],
            "trained": [0.8, 0.7, 0.9],
        },
        "trained_minus": {"bm25": [0.2, 0.1, 0.3], "random": [0.3, None, None], "semantic": [0.2, 0.1, 0.3]},
    }
    with fit.opened({}):
        fit.claim()
        fit.finish({"orders": orders, "num_train": 30, "by_epoch": [0.4, 0.8], "best_epoch": 1})
    examples_parts(tmp_path / "run", "j", [1, 4, 2, 5])
    found = page(run)
    check_self_contained(found)
    assert "jtrained3.50 of 421 of 4" in found.text
    assert "Rows scored with examples: j 4." in found.text
    assert "on 9 texts of 3 groups" in found.text
    assert "trained.80.70 to .90–" in found.text
    assert "j minus k (no examples)" in found.text
    assert "Few-shot examples" not in page(finished(tmp_path / "other", rows([1, 4, 2, 5]))).text
