"""A browser, for the pages of the examples."""

# Playwright may be missing: then its names are for type checkers alone.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.support import find_chromium, unavailable

if TYPE_CHECKING or find_spec("playwright"):
    from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 60_000  # milliseconds, for a machine that runs other tests, too


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if isinstance(chromium, str):
        unavailable(chromium)
    expect.set_options(timeout=PATIENCE)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium) as browser,
    ):
        yield browser


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Make a page in a context of its own; the test fails if a script of it does."""
    mistakes: list[str] = []
    with ExitStack() as contexts:

        def open_(base_url: str) -> Page:
            context = contexts.enter_context(browser.new_context(base_url=base_url))
            context.set_default_timeout(PATIENCE)
            context.on("weberror", lambda event: mistakes.append(str(event.error)))
            return context.new_page()

        yield open_
    assert mistakes == []
