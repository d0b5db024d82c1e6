"""docs/first-ten-minutes.md, done as it says: the commands in a fresh checkout, then every numbered step in a browser.

A step is sentences; those with something in bold are done (see DEEDS), and nothing may be in bold that is not.
"""

import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from simct.runs.folder import RunFolder
from tests.support.hub_server import TOKEN, HubServer
from tests.support.run_folders import runs_in
from tests.support.servers import free_port, serving

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

expect = playwright.expect
in_browser = pytest.mark.skipif(
    studio_page.CHROMIUM is None or shutil.which("make") is None, reason="no Chromium or no make on this machine"
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-ten-minutes.md").read_text(encoding="utf-8")
# what a fresh checkout has of use here
CHECKED_OUT = ("app", "simct", "docs", "Makefile", "requirements.txt", "pyproject.toml", "README.md")
ADDRESS, NAME, OWN_TOKEN = "http://127.0.0.1:7860", "your-name", "hf_your_token"
LONGEST_WAIT = 240 * studio_page.SECONDS
TEN_MINUTES = 600

DEEDS = {
    "open": re.compile(r"Open `(?P<text>[^`]+)` in a browser"),
    "hold": re.compile(r"\*\*(?P<field>[^*]+)\*\* and \*\*(?P<other>[^*]+)\*\* hold"),
    "wait": re.compile(r"Wait for \*\*(?P<text>[^*]+)\*\*"),
    "line": re.compile(r"Wait for a line with \*\*(?P<text>[^*]+)\*\*"),
    "press": re.compile(r"Press \*\*(?P<name>[^*]+)\*\*"),
    "type": re.compile(r"Type `(?P<text>[^`]+)` into \*\*(?P<field>[^*]+)\*\*"),
}


def commands() -> list[str]:
    """The lines of the page's terminal."""
    [block] = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.S)
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


def steps() -> list[str]:
    """The numbered steps, each in one line, in their order."""
    part = PAGE.split("## From a pair to a published student")[1].split("\n## ")[0]
    found = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", part, flags=re.S | re.M)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [" ".join(text.split()) for _, text in found]


def deeds(step: str) -> list[tuple[str, dict[str, str]]]:
    """What a step says to do, in its order."""
    found = [(match.start(), name, match) for name, deed in DEEDS.items() for match in deed.finditer(step)]
    bold = sum(match[0].count("**") for _, _, match in found)
    assert bold == step.count("**"), f"something in bold is not done: {step}"
    return [(name, match.groupdict()) for _, name, match in sorted(found, key=lambda each: each[0])]


def own(text: str) -> str:
    """What a reader has in place of the page's placeholders."""
    return text.replace(NAME, "tester").replace(OWN_TOKEN, TOKEN)


def do(studio: studio_page.Studio, deed: str, what: dict[str, str]) -> None:
    """What a reader does, by what they see."""
    page = studio.page
    if deed == "open":
        assert what["text"] == ADDRESS
        studio.open()
    elif deed == "hold":
        for label in what.values():
            expect(page.get_by_label(label, exact=True)).to_have_value(re.compile("Embedded"))
    elif deed in ("wait", "line"):
        words = page.get_by_text(own(what["text"]), exact=deed == "wait").locator("visible=true").first
        expect(words).to_be_visible(timeout=LONGEST_WAIT)
    elif deed == "press":
        button = page.get_by_role("button", name=what["name"], exact=True).locator("visible=true")
        expect(button).to_be_enabled(timeout=LONGEST_WAIT)
        button.click()
    else:
        # what a field means may be read out after its label
        name = what["field"]
        named = page.get_by_label(name, exact=True).or_(page.get_by_label(re.compile(rf"^\s*{re.escape(name)}\s")))
        field = named.locator("visible=true").first
        field.fill(own(what["text"]))
        field.press("Tab")


def test_the_page_can_be_followed():
    assert [line.split()[0] for line in commands()] == ["git", "cd", "make"] and commands()[-1] == "make app"
    done = [deed for step in steps() for deed, _ in deeds(step)]
    assert all(deeds(step) for step in steps()) and set(done) == set(DEEDS)
    with pytest.raises(AssertionError, match="in bold"):
        deeds("Push **Publish**.")


def checkout(folder: Path) -> Path:
    """The files of a fresh checkout, with what `make app` would install already there."""
    for name in CHECKED_OUT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".app-ready").touch()
    return folder


def improved(run: RunFolder) -> bool:
    before, after = (run.evaluation()[when]["demo"]["score"] for when in ("before", "after"))
    return after > before + 0.2


@pytest.mark.long
@in_browser
def test_ten_minutes_lead_to_an_improved_student_on_the_hub(tmp_path):
    folder, port = checkout(tmp_path / "simct-studio"), free_port()
    command = [*commands()[-1].split(), f"PORT={port}"]
    with HubServer() as hub, studio_page.browser() as opened:
        environment = hub.env(token=None, PYTHONPATH=str(folder))
        with serving(command, port, environment, folder) as (url, _):
            started = time.monotonic()
            studio = studio_page.visitor(opened, url.rstrip("/"))
            for step in steps():
                for deed, what in deeds(step):
                    do(studio, deed, what)
            assert time.monotonic() - started < TEN_MINUTES
            studio.shot("first-ten-minutes")
            studio.close()
        [run] = runs_in(folder / "runs")
        assert run.config().training.steps == 60 and improved(run)
        published = hub.repos["tester/plain-words"]
        assert published.private
        assert published.files["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()
        assert "tester/plain-words" in published.files["README.md"].decode()
