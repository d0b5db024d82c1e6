"""A studio in a process of its own and a browser that drives it, for the browser tests and the screenshots."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.servers import free_port, serving

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 1000
PATIENCE = 40 * SECONDS
# what Gradio's own client says when a reload cuts its open requests short
CUT_SHORT = ("AbortError", "Connection errored out")
# what a page that is being left says when it still asks, having closed its session before the next page is there
LEAVING = ("Unexpected error 404", "ERR_INCOMPLETE_CHUNKED_ENCODING", "network error")
expect.set_options(timeout=PATIENCE)


class NoHub:
    """Stands for the Hub of a file whose tests need none."""

    def env(self) -> dict[str, str]:
        return {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}


@contextmanager
def running_studio(runs_dir: Path, environment: dict[str, str] | None = None, port: int | None = None) -> Iterator[str]:
    """`python -m app` over `runs_dir`; gives its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "app", "--port", str(port), "--runs", str(runs_dir)]
    with serving(command, port, environment) as (url, _):
        yield url


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium; each of its contexts is a visitor with their own profile."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield opened
        opened.close()


def visitor(opened: Browser, url: str, width: int = 1280, height: int = 900, scheme: str = "light") -> "Studio":
    """A page of a new visitor, not yet opened."""
    context = opened.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    return Studio(context.new_page(), url)


class Studio:
    """The page as a person uses it, by what they see; records what must never happen.

    `opened` are all pages since they were checked last (tests/app/conftest.py does after every test).
    """

    opened: ClassVar[list["Studio"]] = []

    def __init__(self, page: Page, url: str):
        self.page, self.url = page, url
        self.opened.append(self)
        self.strays: list[str] = []
        self.complaints: list[str] = []
        self.leaving = False
        page.on("request", self._watch)
        page.on("domcontentloaded", self._arrive)
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on("console", lambda message: self._complain(message.text) if message.type == "error" else None)

    def _complain(self, text: str) -> None:
        if not any(expected in text for expected in (*CUT_SHORT, *(LEAVING if self.leaving else ()))):
            self.complaints.append(text)

    def _arrive(self, page) -> None:
        self.leaving = False

    def _watch(self, request) -> None:
        self.leaving = self.leaving or request.is_navigation_request()
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.strays.append(request.url)

    def open(self, query: str = "") -> "Studio":
        self.page.goto(self.url + query)
        expect(self.page.get_by_role("heading", name="SimCT Studio")).to_be_visible()
        self.page.wait_for_function("window.studioRestored === true")
        return self

    def close(self) -> None:
        """Leave; nothing may have been asked of another machine, and no script may have failed."""
        self.page.context.close()
        self.check()

    def check(self) -> None:
        assert self.strays == [], f"the page asked another machine: {self.strays}"
        assert self.complaints == [], f"the page has errors: {self.complaints}"

    @classmethod
    def check_opened(cls) -> None:
        """Every page that was opened since the last check, closed or not."""
        pages = list(cls.opened)
        cls.opened.clear()
        for page in pages:
            page.check()

    def step(self, name: str) -> None:
        """Open a step by its tab, or from the menu that holds the tabs a narrow screen has no room for."""
        tab = self.at("#steps > .tab-wrapper [role=tab]").filter(has_text=name).locator("visible=true").first
        if not tab.count():
            self.at("#steps > .tab-wrapper .overflow-menu > button").click()
            tab = self.at("#steps > .tab-wrapper .overflow-dropdown button").filter(has_text=name)
        tab.click()

    def pick(self, selector: str, option: str) -> None:
        """Choose what holds `option` from a list that opens."""
        self.at(f"{selector} input").click()
        self.page.get_by_role("option").filter(has_text=option).first.click()

    def at(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def search(self, side: str, typed: str, pick: str) -> None:
        """Type into the field of a side and click one of what the Hub offers."""
        field = self.at(f"#{side} input")
        field.click()
        field.fill("")
        field.press_sequentially(typed, delay=25)
        # below the id is what the Hub says about it
        self.page.get_by_role("option").filter(has_text=pick).first.click()

    def name_model(self, side: str, model: str) -> None:
        field = self.at(f"#{side} input")
        field.click()
        field.fill(model)
        field.press("Enter")

    def set(self, label: str, value: str) -> None:
        field = self.page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Tab")

    def shot(self, name: str, full: bool = True) -> Path:
        path = ARTIFACTS / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        self.page.screenshot(path=path, full_page=full)
        return path
