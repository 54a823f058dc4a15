"""Headless Chromium for tests and benchmarks: the system's own, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: Debian's package `chromium` has it")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; one at a time."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """An empty page, and what goes wrong on it: errors of scripts and of the console, and requests to other machines.

    Args:
        browser: of `chromium`.
        scheme: the preferred colours, "light" or "dark".
    """
    problems: list[str] = []
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if _is_local(request.url) else problems.append(request.url))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    yield page, problems
    page.close()


def _is_local(url: str) -> bool:
    return url.startswith(("file://", "http://127.0.0.1:", "data:"))
