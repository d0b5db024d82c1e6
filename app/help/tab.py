"""Help: the documentation, read from this machine's files, on the page of the studio that every step links to."""

import re
from pathlib import Path
from typing import Any

import gradio as gr

from app.page import markup, scripts
from app.server.handler import PRIVATE, Handler, Updates, each_in_turn, in_turn
from app.server.studio import Studio

FOLDER = Path(__file__).parents[2] / "docs"
PAGES = {
    "first-ten-minutes": "First ten minutes",
    "inspecting": "Inspecting a pair",
    "method": "The methods",
    "data": "Data",
    "check": "Checking a run",
    "running": "Running",
    "security": "Security",
    "reproduce": "Reproducing the paper",
    "glossary": "Glossary",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")


class HelpTab:
    """One page of the documentation at a time. `panel` is notified when a link to the documentation is followed."""

    def __init__(self, studio: Studio, tabs: gr.Tabs, panel: gr.HTML) -> None:
        markup.panel('<h2>Help</h2><p class="lead">The documentation of this studio.</p>')
        first = next(iter(PAGES))
        self.page = gr.Radio(
            [(title, name) for name, title in PAGES.items()], value=first, label="Page", elem_id="documentation-page"
        )
        self.text = gr.Markdown(text_of(first), elem_id="documentation")
        self.tabs = tabs
        Handler(studio, self._show, {"page": self.page}, [self.text], in_turn("help")).on(self.page.input)
        opened = Handler(studio, self._open, {}, [tabs, self.page, self.text], each_in_turn("help")).on(panel.select)
        opened.then(None, js=scripts.call("showSection"), **PRIVATE)

    def _show(self, page: str) -> Updates:
        return {self.text: text_of(page)}

    def _open(self, event: gr.EventData) -> Updates:
        """Show the page that a link names."""
        data: Any = event._data
        page = data.get("page") if isinstance(data, dict) else None
        if page not in PAGES:
            return {}
        return {self.tabs: gr.Tabs(selected="help"), self.page: page, self.text: text_of(page)}


def links() -> gr.HTML:
    """A hidden component that reports to the server which link to the documentation was followed."""
    return markup.panel(
        '<i class="links"></i>', elem_id="documentation-links", js_on_load=scripts.when_loaded("documentation")
    )


def text_of(page: str) -> str:
    """A page in Markdown. Links to other pages stay; images and links to files that are not shown become text."""
    try:
        text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    except OSError:
        return "The documentation is not part of this installation. It is in the folder docs of the source code."

    def shown(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        known = Path(target.split("#")[0]).stem in PAGES and not target.startswith(("http", ".."))
        return found[0] if not picture and (known or target.startswith(("http", "#"))) else words

    return LINK.sub(shown, text)
