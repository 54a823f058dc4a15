"""The record browser in headless Chromium: filters, order, open rows, hostile texts, colour schemes, 20,000 rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evaluation.reporting import report
from evaluation.reporting.record_data import packed
from evaluation.reporting.record_rows import Rows
from evaluation.reporting.records import records_page, write_records
from tests.bench.records import big_run, in_browser
from tests.browsing import chromium, needs_chromium, new_page
from tests.evaluation.making import write_verdicts_file
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


def test_a_row_opens_with_the_keyboard_while_text_is_selected(page: Any) -> None:
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    page.focus("#records tbody tr:nth-child(1) .toggle")
    page.keyboard.press("Enter")
    assert len(page.query_selector_all("#records td.detail")) == 1
    assert page.evaluate("document.activeElement.className") == "toggle"


def test_the_printed_page_says_which_rows_it_has(page: Any) -> None:
    assert page.is_hidden("#printed")
    page.select_option("#system", label="s1")
    page.fill("#search", "answer")
    page.click("#records thead th:nth-child(5) button")
    page.emulate_media(media="print")
    words = "Printed: rows 1 to 2; System: s1; with “answer”; sorted by j, the largest first"
    assert page.inner_text("#printed") == words


def test_judges_with_names_of_columns_are_columns_of_their_own(browser: Any, tmp_path: Path) -> None:
    names = ("candidate", "group", "disagreement")
    given = [
        {**one, "scores": dict(zip(names, SCORES[one["id"]], strict=True)), "label": None}
        for one in rows([1, 4, None, 5])
    ]
    run = finished(tmp_path / "run", given).run
    (run / "report").mkdir()
    write_records(run, 100)
    with opened(browser, run / "report" / "records.html") as page:
        assert head(page) == ["system", "group", "candidate", *names, "panel", "disagreement"]
        page.click("#records thead th:nth-child(5) button")
        assert head(page)[4] == "group ↓" and head(page)[1] == "group"
        assert cells(page, 4) == ["5.00", "2.00", "1.00", "1.00"]
        page.click("#records thead th:nth-child(2) button")
        assert cells(page, 1) == ["g0", "g0", "g1", "g1"]


def test_decimals_follow_the_scale_and_no_zero_has_a_sign(browser: Any, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": ["a", "b"],
        "scale_low": [0.0, -5.0],
        "scale_high": [1.0, 5.0],
        "j.score": [0.1234, -0.001],
    }
    data = packed(Rows(columns, ("j",)), label="human score")
    (tmp_path / "records.html").write_text(records_page(tmp_path, data))
    with opened(browser, tmp_path / "records.html") as page:
        # A scale as narrow as one point has three decimals.
        assert cells(page, 1) == [".123", ".00"]


def test_marks_of_direction_end_with_their_name(browser: Any, tmp_path: Path) -> None:
    marks = "s\u202e\u2068s"
    with opened(browser, run_of(tmp_path, system=marks, dataset=marks)) as page:
        page.click("#records tbody tr:nth-child(1)")
        inside = "(at, mark) => [...at.childNodes].filter((a) => a.textContent.includes(mark)).map((a) => a.nodeName)"
        assert page.eval_on_selector("#records td.detail .meta", inside, "\u202e") == ["BDI", "BDI"]
        assert page.eval_on_selector("#records tr.row td", inside, "\u202e") == ["BDI"]


def test_without_a_script_the_page_does_not_load_for_ever(tmp_path: Path) -> None:
    assert "Loading" not in records_page(tmp_path, b"").split("<script>")[0]


@pytest.mark.parametrize("width", [400, 1400])
def test_names_of_any_length_fit_the_page(browser: Any, tmp_path: Path, width: int) -> None:
    names = ("L" + "ong" * 130, "meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo@prompt-v12")
    given = [{**one, "system": names[place % 2]} for place, one in enumerate(rows([1, 4, 2, 5]))]
    config = finished(tmp_path / "run", given)
    report.main(config)
    for name in ("report.html", "records.html"):
        with new_page(browser) as (page, problems):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"file://{tmp_path}/run/report/{name}")
            page.wait_for_selector("h1")
            page.wait_for_timeout(300)
            page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert problems == []


def test_a_link_to_a_part_opens_its_chapter(browser: Any, tmp_path: Path) -> None:
    report.main(finished(tmp_path / "run", rows([1, 4, 2, 5])))
    with new_page(browser) as (page, problems):
        page.goto(f"file://{tmp_path}/run/report/report.html")
        page.click("a[href='#slice-0']")
        page.wait_for_function("document.getElementById('slice-0').closest('details').open")
    assert problems == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_stay_text(browser: Any, tmp_path: Path, text: str) -> None:
    with opened(browser, run_of(tmp_path, source=text, candidate=text, system=text, dataset=text)) as page:
        page.click("#records tbody tr:nth-child(1)")
        shown = page.eval_on_selector_all("#records td.detail pre", "all => all.map((one) => one.textContent)")
        assert shown[:2] == [text, text]
        assert page.query_selector_all("#records :is(img, script, b)") == []


@pytest.mark.parametrize("text", ["Let me see.", *HOSTILE.values()], ids=["plain", *HOSTILE])
def test_the_thinking_is_folded_and_stays_text(browser: Any, tmp_path: Path, text: str) -> None:
    given = [{**one, "modes": {"j": "parsed"}} for one in rows([1, 4])]
    run = finished(tmp_path / "run", given).run
    (run / "report").mkdir()
    write_verdicts_file(run / "evaluate", "j", {("r0", "overall"): 1}, thought=text)
    write_records(run, 100)
    with opened(browser, run / "report" / "records.html") as page:
        page.click("#records tbody tr:nth-child(1)")
        assert not page.is_visible(".detail details pre")
        page.click(".detail details summary")
        assert page.is_visible(".detail details pre")
        (shown,) = page.eval_on_selector_all(".detail details pre", "all => all.map((one) => one.textContent)")
        assert shown == f"{text} about r0"
        assert page.query_selector_all("#records :is(img, script, b)") == []
        assert len(page.query_selector_all("#records td.detail")) == 1  # the click has not closed the row
        page.click("#records tbody tr.row:last-child")
        assert len(page.query_selector_all(".detail details")) == 1  # r1 has none


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
