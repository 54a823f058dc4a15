"""The record browser in headless Chromium: filters, order, open rows, hostile texts, colour schemes, 20,000 rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evaluation.reporting.record_data import packed
from evaluation.reporting.record_rows import Rows
from evaluation.reporting.records import records_page, write_records
from tests.bench.records import big_run, in_browser
from tests.browsing import chromium, needs_chromium, new_page
from tests.evaluation.reporting.test_records import HOSTILE
from tests.evaluation.reporting.test_report import finished, rows

pytestmark = needs_chromium

# r0: j 1, k 1, label 1; r1: 4, 5, 4; r2: none, 2, 5; r3: 5, 1, 2 (1 to 5).
SCORES = {"r0": (1, 1, 1), "r1": (4, 5, 4), "r2": (None, 2, 5), "r3": (5, 1, 2)}


def run_of(folder: Path, **texts: Any) -> Path:
    given = rows([1, 4, None, 5])
    for one in given:
        j, k, label = SCORES[one["id"]]
        one |= {"scores": {"j": j, "k": k}, "label": float(label), "reason": f"Because of {one['id']}", **texts}
    run = finished(folder / "run", given, texts={"fields": {"fact": "A fact."}, **texts}).run
    (run / "report").mkdir()
    write_records(run, 100)
    return run / "report" / "records.html"


def cells(page: Any, place: int) -> list[str]:
    """The text of a column of the table, by its place."""
    found: list[str] = page.eval_on_selector_all(
        "#records tbody tr.row", "(rows, place) => rows.map((row) => row.cells[place].textContent.trim())", place
    )
    return found


def head(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all("#records thead th", "all => all.map(one => one.textContent)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@contextmanager
def opened(browser: Any, path: Path, scheme: str = "light") -> Iterator[Any]:
    """The page with its rows; nothing on it may go wrong."""
    with new_page(browser, scheme) as (found, problems):
        found.goto(f"file://{path}")
        found.wait_for_selector("#records tbody tr")
        yield found
    assert problems == []


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    with opened(browser, run_of(tmp_path)) as found:
        yield found


def groups_and_systems(page: Any) -> list[str]:
    systems = [one.removeprefix("▸\u00a0") for one in cells(page, 0)]
    return [f"{group}{system}" for system, group in zip(systems, cells(page, 1), strict=True)]


def test_the_rows_and_their_numbers(page: Any) -> None:
    assert head(page) == ["system", "group", "candidate", "human score", "j", "k", "panel", "disagreement"]
    assert cells(page, 2) == [f"Answer r{number}." for number in range(4)]
    assert cells(page, 4) == ["1.00", "4.00", "–", "5.00"]
    # Between judges, as a share of the scale's width 4: 0, 1 / 4, one score only, 4 / 4.
    assert cells(page, 7) == [".00", ".25", "–", "1.00"]
    assert page.inner_text("#status") == "4 rows (record and aspect)."


@pytest.mark.parametrize(
    ("id", "value", "shown"),
    [
        ("search", "ANSWER R2", ["g1s0"]),
        ("search", "because of r3", ["g1s1"]),
        ("search", "question g0", ["g0s0", "g0s1"]),
        ("search", "a fact", ["g0s0", "g0s1", "g1s0", "g1s1"]),
        ("search", "unparsed", ["g1s0"]),
        ("search", "nowhere", []),
        ("scored", "missing", ["g1s0"]),
        ("scored", "complete", ["g0s0", "g0s1", "g1s1"]),
        ("least", "0.25", ["g0s1", "g1s1"]),
        ("least", "1", ["g1s1"]),
    ],
)
def test_a_filter(page: Any, id: str, value: str, shown: list[str]) -> None:
    page.eval_on_selector(
        f"#{id}", "(at, value) => { at.value = value; at.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )
    assert groups_and_systems(page) == shown
    assert page.inner_text("#status").startswith("4 rows" if len(shown) == 4 else f"{len(shown)} of 4 rows")


def test_filters_by_system_and_by_disagreement_with_the_label(page: Any) -> None:
    page.select_option("#system", label="s1")
    assert groups_and_systems(page) == ["g0s1", "g1s1"]
    assert page.is_hidden("#task")  # all rows have one
    page.select_option("#measure", label="k and human score")
    page.select_option("#system", label="all")
    # |1 - 1|, |5 - 4|, |2 - 5|, |1 - 2| of 4.
    assert cells(page, 7) == [".00", ".25", ".75", ".25"]


def test_a_column_sorts_down_then_up_and_rows_without_a_number_come_last(page: Any) -> None:
    page.click("#records thead th:nth-child(5) button")
    assert cells(page, 4) == ["5.00", "4.00", "1.00", "–"]
    page.click("#records thead th:nth-child(5) button")
    assert cells(page, 4) == ["1.00", "4.00", "5.00", "–"]
    assert page.get_attribute("#records thead th:nth-child(5)", "aria-sort") == "ascending"
    page.click("#records thead th:nth-child(2) button")
    page.click("#records thead th:nth-child(2) button")
    assert cells(page, 1) == ["g1", "g1", "g0", "g0"]


def test_an_open_row_has_the_texts_and_every_judge(page: Any) -> None:
    page.click("#records tbody tr:nth-child(3)")
    text = page.inner_text("#records td.detail")
    for one in ("Question g1?", "Answer r2.", "A fact.", "id r2", "scale 1 to 5", "Because of r2"):
        assert one in text
    assert "no score found in the reply in the expected format (unparsed)" in text
    assert "label mass .90" in text and "1 vote" in text
    page.focus("#records tbody tr:nth-child(1) .toggle")
    page.keyboard.press("Enter")
    assert len(page.query_selector_all("#records td.detail")) == 2
    page.click("#records tbody tr.is-open >> nth=0")
    assert "Answer r0." not in page.inner_text("#records td.detail")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_stay_text(browser: Any, tmp_path: Path, text: str) -> None:
    with opened(browser, run_of(tmp_path, source=text, candidate=text, system=text, dataset=text)) as page:
        page.click("#records tbody tr:nth-child(1)")
        shown = page.eval_on_selector_all("#records td.detail pre", "all => all.map((one) => one.textContent)")
        assert shown[:2] == [text, text]
        assert page.query_selector_all("#records :is(img, script, b)") == []


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_both_colour_schemes(browser: Any, tmp_path: Path, scheme: str, is_dark: bool) -> None:
    with opened(browser, run_of(tmp_path), scheme) as page:
        red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
        assert (red < 60) is is_dark
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 35, 40)"
        assert page.is_hidden("#filters")


def test_a_page_without_rows_and_one_that_is_damaged(browser: Any, tmp_path: Path) -> None:
    data = packed(Rows({"id": []}, ("j",)), label="human score")
    (tmp_path / "records.html").write_text(records_page(tmp_path, data))
    (tmp_path / "damaged.html").write_text(records_page(tmp_path, data[:-9]))
    with new_page(browser) as (page, problems):
        page.goto(f"file://{tmp_path}/records.html")
        page.wait_for_selector("#filters:not([hidden])")
        assert page.inner_text("#status") == "0 rows (record and aspect)."
        assert problems == []
        page.goto(f"file://{tmp_path}/damaged.html")
        page.wait_for_selector("#status:has-text('cannot be read')")


@pytest.mark.slow
def test_twenty_thousand_rows_open_and_filter_in_time(browser: Any, tmp_path: Path) -> None:
    run = big_run(tmp_path / "run", 20_000)
    write_records(run, 20_000)
    found = in_browser(browser, run / "report" / "records.html")
    assert found["open"] < 2000
    assert max(found["search"], found["choose"], found["disagreement"]) < 200
