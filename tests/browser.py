"""A headless Chromium for tests, and what it says of a page: messages, requests, and its access."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
AXE = Path(__file__).parent / "reports/page/axe/axe.min.js"


@dataclasses.dataclass
class Visit:
    """A page in the browser.

    Attributes:
        page: it, as Playwright has it.
        messages: what it printed to the console, and its errors.
        requests: addresses that it asked for, without its own and without data inside it.
    """

    page: Any
    messages: list[str]
    requests: list[str]

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page, with the first element of each kind."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        return [f"{its['id']}: {its['nodes'][0]['html'][:200]}" for its in found]


@contextlib.contextmanager
def visited(address: str, width: int = 1280, **options: Any) -> Iterator[Visit]:
    """Open a page, and skip the test where there is no Chromium.

    Args:
        address: of the page.
        width: of the window, pixels.
        options: of Playwright's contexts, such as `color_scheme`.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        # A container gives Chromium no namespaces for its sandbox.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        size = {"width": width, "height": 900}
        # axe-core is a script that the policy of a page does not know.
        page = chromium.new_context(**{"viewport": size, "bypass_csp": True} | options).new_page()
        visit = Visit(page, [], [])
        page.on("console", lambda message: visit.messages.append(message.text))
        page.on("pageerror", lambda error: visit.messages.append(str(error)))
        page.on("request", lambda request: visit.requests.append(request.url))
        try:
            page.goto(address)
            visit.requests = [
                url for url in visit.requests if url != address and not url.startswith("data:")
            ]
            yield visit
        finally:
            chromium.close()
