"""The file tree in docs/ARCHITECTURE.md, from each file's first sentence: `python -m tests.architecture` writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
PACKAGES = ("inverdict", "cluster", "judging", "train", "retrieval", "evaluation", "serve")
BEGIN, END = "<!-- tree: begin -->\n", "<!-- tree: end -->\n"


def first_sentence(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0].rstrip(".")


def tree() -> str:
    """One line a file, folder by folder."""
    lines = []
    for package in PACKAGES:
        files = [path for path in sorted((ROOT / package).rglob("*.py")) if path.name != "__init__.py"]
        width = max(len(str(path.relative_to(ROOT / package))) for path in files)
        lines.append(f"{package}/")
        # Files of the package itself first, then those of its folders.
        for path in sorted(files, key=lambda path: (len(path.relative_to(ROOT / package).parts), path)):
            name = str(path.relative_to(ROOT / package))
            lines.append(f"  {name:<{width}}  {first_sentence(path)}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def written(page: str) -> str:
    """The page with the tree as it is now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{tree()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
