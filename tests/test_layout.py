"""The layout: no import cycle, local imports and those by name included; forbidden imports; sizes."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from cluster import jobs
from tests import architecture

ROOT = Path(__file__).parents[1]
PACKAGES = ("inverdict", "judging", "cluster", "retrieval", "train", "evaluation", "serve")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
}


def imported(module: str) -> set[str]:
    """Our modules that a file imports, at its top or inside a function, for types alone too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{name.name}" for name in node.names)})
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return {name for name in found if name in FILES} - {module}


def test_no_file_imports_itself_through_others() -> None:
    edges = {module: imported(module) for module in FILES}
    # What imports nothing that is left cannot be in a circle: take it away until only circles are left.
    while free := [module for module, needs in edges.items() if not needs & edges.keys()]:
        for module in free:
            del edges[module]
    assert not edges


def test_the_jobs_names_lead_to_code() -> None:
    for module, _ in (*jobs.JOBS.values(), *jobs.LOOKS.values(), *jobs.TOOLS.values(), jobs.SERVE):
        assert module in FILES, module
    for place in jobs.SECTIONS.values():
        module, name = place.split(":")
        assert module in FILES and hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("package", "foreign"),
    [
        ("evaluation", ("ray.serve", "fastapi", "starlette", "uvicorn")),
        ("judging", ("ray", "torch", "fastapi", "httpx", "openai")),
        ("train", ("ray.serve", "fastapi")),
        ("retrieval", ("ray.serve", "fastapi")),
    ],
)
def test_what_a_package_does_not_know(package: str, foreign: tuple[str, ...]) -> None:
    for module, path in FILES.items():
        if not module.startswith(f"{package}."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not any(name == one or name.startswith(f"{one}.") for one in foreign), f"{module} imports {name}"


def test_the_tree_in_the_architecture_page_is_that_of_the_files() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert page == architecture.written(page), "run `python -m tests.architecture`"
    for module, path in FILES.items():
        assert len(architecture.first_sentence(path)) > 10, f"{module} does not say what it is for"


def test_the_files_that_the_docs_name_are_there() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(
            r"`((?:cluster|judging|train|retrieval|evaluation|serve|tests)/[\w/.]+\.(?:py|yaml|txt))`", text
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 50


def own_python_files() -> list[Path]:
    return [path for package in (*PACKAGES, "tests", "deploy") for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_file_is_longer_than_one_can_read_at_once() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in own_python_files()}
    assert not {str(path.relative_to(ROOT)): number for path, number in lengths.items() if number > MAX_FILE_LINES}


def test_a_long_function_has_its_reason_above_it() -> None:
    unexplained = []
    for path in own_python_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                is_long = (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
                if is_long and not lines[first - 2].lstrip().startswith("#"):
                    unexplained.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not unexplained


CODED = {"InputError", "UserError", "RowError", "BadRequest", "NotFound", "NotCertified", "JobFailed"}


def test_every_error_for_users_names_its_code() -> None:
    """The default is for unpickling alone: exceptions that cross Ray are rebuilt from their message."""
    nameless = []
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CODED:
                keywords = {keyword.arg for keyword in node.keywords}
                if "code" not in keywords and None not in keywords:
                    nameless.append(f"{module}:{node.lineno}")
    assert not nameless
