"""The pages for people: every complete configuration in them loads, every relative link leads to a file and heading."""

import re
from pathlib import Path

import pytest

from cluster import config, jobs

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def where(page: Path) -> str:
    return str(page.relative_to(ROOT))


def configurations(page: Path) -> list[str]:
    """The page's YAML blocks that are a whole run's file: their first line is its `run:` key."""
    blocks = FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for _, kind, text in blocks if kind == "yaml" and text.startswith("run:")]


def links(page: Path) -> list[str]:
    """Targets of the page's links to files and headings, those in code blocks left out."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(prose) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?)\s*$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


EXAMPLES = [
    pytest.param(text, id=f"{where(page)}-{number}")
    for page in PAGES
    for number, text in enumerate(configurations(page), 1)
]
LINKS = [
    pytest.param(page, target, id=f"{where(page)}-{target}") for page in PAGES for target in dict.fromkeys(links(page))
]


def test_the_docs_have_configurations() -> None:
    assert len(EXAMPLES) >= 10  # README and nine pages


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_configuration_in_the_docs_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(text, encoding="utf-8")
    config.load(file, [], jobs.sections())


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_in_the_docs_leads_somewhere(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    assert file.exists(), f"{where(page)} links to {target}, which does not exist"
    if anchor and file.suffix == ".md":
        assert anchor in anchors(file), f"{where(page)} links to {target}: {file.name} has no such heading"
