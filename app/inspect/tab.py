"""Inspect: where two tokenizers disagree, what SimCT recovers, and whether to trust it. Five views of one pair."""

from collections.abc import Callable, Iterator, Mapping

import gradio as gr

from app.inspect import link
from app.inspect.corpus import CorpusTab
from app.inspect.document import Document
from app.inspect.other_pairs import OtherPairsTab
from app.inspect.position import PositionTab
from app.inspect.reliability import ReliabilityTab
from app.inspect.text import TextTab
from app.page import markup, scripts
from app.page.kept import Kept
from app.page.page_fields import PageFields
from app.pair.tab import PairTab
from app.server.handler import LATEST, PRIVATE, Component, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor


class InspectTab:
    """The views as tabs; the text and the position in it belong to all of them.

    `served` are the fields of the teacher's server: its address, `server`, and how many tokens it lists, `listed`;
    `page` are the fields of all steps.
    `part` is the name of the view that is shown, one of link.PARTS; `next` continues with the data.
    """

    def __init__(
        self,
        studio: Studio,
        pair: PairTab,
        kept: Kept,
        served: Mapping[str, Component],
        page: PageFields,
    ) -> None:
        self.studio = studio
        with gr.Row(elem_classes="head"):
            markup.panel(markup.heading("Inspect", docs="method#what-is-measured-about-a-pair"))
            self.copy = gr.Button("Copy link", size="sm", scale=0, min_width=110, elem_id="inspect-link")
        self.copied = markup.panel(elem_id="inspect-linked")
        self.part = gr.Textbox(link.PARTS[0], visible=False)
        tabs: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="inspect-parts") as self.views:
            with gr.Tab("Text", id="text") as tabs["text"]:
                self.text = TextTab(studio, pair, kept.verdict, served["server"], self.copied)
            with gr.Tab("Position", id="position") as tabs["position"]:
                self.position = PositionTab(studio, self.text, served["server"])
            with gr.Tab("Corpus", id="corpus") as tabs["corpus"]:
                CorpusTab(studio, pair)
            with gr.Tab("Reliability", id="reliability") as tabs["reliability"]:
                self.reliability = ReliabilityTab(studio, pair, kept, served, page)
            with gr.Tab("Other pairs", id="other_pairs") as tabs["other_pairs"]:
                OtherPairsTab(studio, pair)
        self.next = gr.Button("Choose the data →", variant="primary", elem_classes="next")
        self.refresh, self.train = self.text.refresh, self.reliability.train
        self.place = [self.views, self.part, self.text.at]
        self._wire(pair, tabs)

    def _wire(self, pair: PairTab, tabs: Mapping[str, gr.Tab]) -> None:
        for name, tab in tabs.items():
            Handler(self.studio, self._showing(name), {}, [self.part], LATEST).on(tab.select)
        self.position.show.on(tabs["position"].select, self.position.loaded.change)
        self.reliability.show.on(tabs["reliability"].select)
        Handler(self.studio, self._look, {}, [self.views]).on(self.text.look.click)
        # a page that is restored at a position has no text yet when the view is first drawn
        inputs = {"part": self.part, **self.position.inputs}
        read = Handler(self.studio, self._position_of_new_text, inputs, self.position.outputs, self.position.show.how)
        read.on(self.text.document.change)
        place = [self.part, self.text.at]
        for component in (self.part, self.text.at):
            component.change(None, place, js=scripts.call("rememberPlace"), **PRIVATE)
        self.text.text.change(None, self.text.text, js=scripts.call("rememberText"), **PRIVATE)
        shared = [pair.teacher, pair.student, *place, self.text.text]
        self.copy.click(None, shared, self.copied, js=scripts.call("copyLink"), **PRIVATE)

    def restored(self, query: Mapping[str, str]) -> Updates:
        """The view and the unit that an address names; the text comes from its fragment, in the browser."""
        part, unit = link.place(query)
        return {self.views: gr.Tabs(selected=part), self.part: part, self.text.at: unit}

    def _showing(self, name: str) -> Callable[[], Updates]:
        return lambda: {self.part: name}

    def _look(self) -> Updates:
        return {self.views: gr.Tabs(selected="position")}

    def _position_of_new_text(
        self, visitor: Visitor, part: str, document: Document | None, unit: float, server: str | None
    ) -> Iterator[Updates]:
        if part == "position":
            yield from self.position.redraw(visitor, document, unit, server)
        else:
            yield {}
