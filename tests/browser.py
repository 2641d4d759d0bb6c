"""A headless Chromium for the tests of the pages; they are skipped where there is none."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this computer")


@contextlib.contextmanager
def open_browser(expect: tuple[str, ...] | list[str] = (), **options) -> Iterator:
    """Yields a page of a fresh browser; an error in its console fails the test, unless it has one of `expect` in it."""
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.set_default_timeout(30_000)
        yield page
        browser.close()
    assert not [error for error in errors if not any(part in error for part in expect)]


def find_barriers(page) -> list[str]:
    """Returns what axe-core finds that keeps people from using a page: the rule and the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]} {each['help']}" for each in found]
