"""The pages: nothing is loaded from outside, values are escaped, and a real browser shows a judgement."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.api.web_pages import csp_of, docs_page, web_page
from tests.retrieval.making import jsonl, pool_of
from tests.serve.online import Local, client, configured, listening
from tests.serve.panel.test_certification import fitting, write

CHROMIUM = shutil.which("chromium")


def test_the_page_needs_nothing_from_outside_and_holds_names_of_ours_alone() -> None:
    page = web_page({"qa": ["overall"]}, ["</script><b>"], has_report=False)
    assert "http://" not in page
    assert "https://" not in page
    assert "</script><b>" not in page
    assert not re.search(r"(src|href)=[\"'](?!data:|docs|report)", page)
    assert "report" not in page
    assert '<a href="report">' in web_page({}, [], has_report=True)


def test_tasks_keep_the_order_of_the_configuration() -> None:
    page = web_page({"qa": ["overall"], "dialogue": ["overall"]}, ["b", "a"], has_report=False)
    assert page.index('"qa"') < page.index('"dialogue"')
    assert '"judges": ["b", "a"]' in page


def test_the_list_of_endpoints_escapes_what_it_shows() -> None:
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}
    endpoint = {"description": "<script>alert(1)</script>", "requestBody": body}
    schemas = {"Body": {"title": "</pre><b>"}}
    page = docs_page({"paths": {"/v1/<i>": {"post": endpoint}}, "components": {"schemas": schemas}})
    assert not any(tag in page for tag in ("<script", "<i>", "<b>"))
    assert "POST /v1/&lt;i&gt;" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;/pre&gt;&lt;b&gt;" in page


def test_the_policy_allows_exactly_the_page_s_own_script() -> None:
    page = web_page({"qa": ["overall"]}, ["a"], has_report=False)
    policy = csp_of(page)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    assert csp_of(page.replace("use strict", "use loose")) != policy


async def test_pages_and_documentation_are_served_with_their_policy(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    link = "<p class=records><a href='records.html'>All judged records</a>: ...</p>\n"  # which are not served
    report.write_text(f"{link}<h1>Agreement</h1>")
    service = Local(configured(tmp_path))
    async with client(service, report=report) as http:
        for path, words in (("/", "A panel of judges"), ("/docs", "POST /v1/judge/batch"), ("/report", "Agreement")):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert words in answer.text and "records.html" not in answer.text
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        schema = (await http.get("/openapi.json")).json()
    assert {"/v1/judge", "/v1/judge/batch", "/v1/retrieve", "/v1/judges", "/v1/models", "/metrics"} <= set(
        schema["paths"]
    )
    assert all("422" not in one["responses"] for path in schema["paths"].values() for one in path.values())
    assert "<script" not in docs_page(schema)
    async with client(service) as http:
        assert (await http.get("/report")).status_code == 404


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The page behind a real server, with judges that show examples."""
    pool = jsonl(tmp_path / "pool.jsonl", pool_of(12).values())
    judges = {
        "words": {"model": "a", "icl": {"arm": "bm25", "k": 2}},
        "reasons": {"model": "b", "score_mode": "parsed"},
    }
    data = {"records": [pool], "pool": [pool]}
    with listening(Local(configured(tmp_path, data=data, evaluate={"judges": judges}))) as at:
        yield at


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: Debian's package `chromium` has it")
def test_in_a_browser_a_verdict_appears(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1100})
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: problems.append(request.url) if not request.url.startswith(address) else None
        )
        page.goto(address)
        page.fill("#source", "What is known about bread?")
        page.fill("#candidate", "It is baked <b>bold</b>.")
        page.click("#go")
        page.wait_for_selector("#answer .score")
        table = page.inner_text("#answer table")
        assert "words" in table
        assert "Scripted reason" in table
        assert re.search(r"r\d+, r\d+", table)
        assert "Not certified" in page.inner_text("#answer")
        assert re.fullmatch(r"\d\.\d\d of 1 to 5, overall", page.inner_text("#answer .score"))
        page.screenshot(path=tmp_path / "rated.png")
        assert (tmp_path / "rated.png").stat().st_size > 20_000
        page.fill("#other", "It is made of flour.")
        page.click("#go")
        page.wait_for_selector("#answer .score:has-text('for the second')")
        page.screenshot(path=tmp_path / "compared.png")
        page.uncheck("#judges input >> nth=0")
        page.uncheck("#judges input >> nth=1")
        page.click("#go")
        page.wait_for_selector("#answer .warn")
        assert "400" in page.inner_text("#answer")
        browser.close()
    # The refused request above is the browser's one error.
    assert [problem for problem in problems if "400" not in problem] == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: Debian's package `chromium` has it")
def test_in_a_browser_a_certified_answer_says_so(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    found = configured(tmp_path)
    write(tmp_path, fitting(found, "panel"), fitting(found, "first"))
    with listening(Local(configured(tmp_path))) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1100})
        page.goto(address)
        page.fill("#source", "What is known about bread?")
        page.fill("#candidate", "It is baked.")
        page.click("#go")
        page.wait_for_selector("#answer .good")
        assert page.inner_text("#answer .good").startswith("✓ Certified: agreement with people")
        judges = [row.split("\t")[0] for row in page.inner_text("#answer table").splitlines()[1:]]
        assert judges == ["first ✓", "second"]
        page.screenshot(path=tmp_path / "certified.png")
        browser.close()
