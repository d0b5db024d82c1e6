"""Inspect, the text: both segmentations of the visitor's own text, and its coverage."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from app.inspect import numbers, reliability_view
from app.inspect.coloring import TextScores
from app.inspect.document import REPORTED, Document, chosen_unit, given, read_document, units_csv
from app.inspect.text_source import OneText
from app.page import markup, saving, scripts
from app.pair.tab import PairTab
from app.server import downloads
from app.server.downloads import Download
from app.server.handler import Handler, Updates, each_in_turn, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.inspection.records import PairReport
from simct.report.formats import plural

DEFAULT_TEXT = (
    "Say it plainly: the adolescent should purchase documentation expeditiously.\n"
    "The 12 monkeys paid £1,250.75 on 2026-05-07.\n"
    "def area(radius):\n    return 3.14159 * radius ** 2\n"
    "Größe, naïve café, 東京 — 🙂🚀 done."
)
LEAD = (
    "See where the two tokenizers split the same text in the same places and where they do not. This needs no weights."
)


class TextTab:
    """A text field above, the two lanes and the numbers under it.

    `document` holds the text as it was last read (a Document), `at` the index of the chosen unit. `above` is the line
    above all views of Inspect.
    """

    def __init__(self, studio: Studio, pair: PairTab, verdict: gr.JSON, server: Any, above: gr.HTML) -> None:
        self.studio, self.above = studio, above
        markup.panel(f'<p class="lead">{LEAD}</p>')
        self.text = gr.Textbox(DEFAULT_TEXT, label="Text", lines=4, max_lines=12, elem_id="inspect-text")
        with gr.Accordion("Take the text from a file or a dataset", open=False):
            OneText(studio, self.text)
        self.note = markup.panel(markup.note("quiet", ""), elem_id="inspect-note")
        self.work = LongWork(studio, self.note)
        self.numbers = markup.panel(elem_id="inspect-numbers", min_height=84)
        self._build_pager()
        self.lanes = markup.panel(elem_id="inspect-lanes", min_height=120, js_on_load=scripts.when_loaded("lanes"))
        self.document, self.at = gr.State(None), gr.Number(0, precision=0, visible=False)
        with gr.Row(elem_classes="tools"):
            self.look = gr.Button("Look at this position →", size="sm", elem_id="inspect-look", min_width=170)
            self.scores = TextScores(studio, self.document, self.at, self.lanes, server)
        self.turned = markup.panel(elem_id="inspect-turned")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                self.disagreements = markup.panel(elem_id="inspect-table")
            with gr.Column(scale=2, min_width=260):
                self.shapes = markup.panel(elem_id="inspect-shapes")
                self.kinds = markup.panel(elem_id="inspect-kinds")
        with gr.Row(elem_classes="tools"):
            files = downloads.buttons(FILES, "inspect", 110)
            downloads.offer(studio, files, {"document": self.document, "verdict": verdict}, self.turned)
        self._wire(pair, server)

    def _build_pager(self) -> None:
        with gr.Row(elem_id="inspect-pager", elem_classes="tools"):
            self.place = markup.panel(elem_id="inspect-place")
            self.turns = {
                ("page", -1): gr.Button("← Page", size="sm", min_width=70, visible=False),
                ("page", 1): gr.Button("Page →", size="sm", min_width=70, visible=False, elem_id="inspect-next-page"),
                ("disagreement", -1): gr.Button("← Disagreement", size="sm", min_width=120),
                ("disagreement", 1): gr.Button("Disagreement →", size="sm", min_width=120, elem_id="inspect-next"),
            }

    def _wire(self, pair: PairTab, server: Any) -> None:
        inputs = {**pair.inputs, "text": self.text, "document": self.document, "unit": self.at, "server": server}
        pages = [self.turns["page", -1], self.turns["page", 1]]
        outputs = [*self.work.outputs, self.numbers, self.lanes, self.place, self.disagreements, self.shapes]
        outputs += [self.kinds, self.document, self.at, self.above, *pages, *self.scores.outputs]
        self.refresh = Handler(self.studio, self._refresh, inputs, outputs, in_turn("inspect"))
        self.refresh.on(self.text.change, self.text.submit)
        place = {"document": self.document, "unit": self.at, "shade": self.scores.shade}
        moved = [self.lanes, self.place, self.at, self.turned]
        for (what, step), button in self.turns.items():
            Handler(self.studio, self._turn(what, step), place, moved, in_turn("turn")).on(button.click)
        choose = Handler(self.studio, self._choose, {"document": self.document}, [self.at], each_in_turn("turn"))
        choose.on(self.lanes.select)

    def _refresh(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        text: str,
        document: Document | None,
        unit: float,
        server: str | None = None,
    ) -> Iterator[Updates]:
        """The lanes and numbers of `text` under the chosen pair; on an error, one line and nothing else."""
        before = document
        same_pair = before is not None and (before.teacher, before.student) == (teacher, student)
        if before is not None and same_pair and before.text == text:
            yield {}
            return

        def read(work: Work) -> tuple[Document, tuple[str, str] | None]:
            found = read_document(self.studio, teacher, student, text, visitor.token, work.step)
            return found, None if same_pair else self.scores.button(found, visitor, server)

        def finished(work: Work) -> Updates:
            found, button = work.result
            at = found.clamp(unit)
            # later, the visitor has shortened the text
            asked = before is None and at < int(unit or 0)
            updates: Updates = {self.note: "", self.at: at}
            if asked:
                units = plural(len(found), "unit")
                said = f"The text has {units}, and none at position {unit:,.0f}. This is its last one."
                updates[self.above] = markup.until_next(said)
            return {**updates, **self._drawn(found, at), **self.scores.fresh(button)}

        def failed(work: Work) -> Updates:
            start = {} if (text or "").strip() else {self.at: 0}
            return {**self._empty(), **self.scores.fresh(None), **start}

        yield from self.work.run(read, finished, failed=failed)

    def _drawn(self, found: Document, unit: int) -> Updates:
        several = gr.Button(visible=found.pages > 1)
        return {
            self.document: found,
            self.numbers: numbers.headline(found.report),
            self.lanes: found.page(unit),
            self.place: found.place(unit),
            self.disagreements: numbers.disagreements(found.report),
            self.shapes: numbers.shapes(found.report),
            self.kinds: numbers.kinds(found.report),
            self.turns["page", -1]: several,
            self.turns["page", 1]: several,
        }

    def _empty(self) -> Updates:
        panels = (self.numbers, self.lanes, self.place, self.disagreements, self.shapes, self.kinds)
        return {self.document: None, **dict.fromkeys(panels, "")}

    def _turn(self, what: str, step: int) -> Callable[..., Updates]:
        """Go to the next or previous page or disagreement."""

        def turn(document: Document | None, unit: float, shade: str) -> Updates:
            if document is None:
                return {self.turned: markup.note("error", "There is no text to go through. Type or paste some.")}
            at = document.clamp(unit)
            target = document.turned(at, step) if what == "page" else document.disagreement(at, step)
            if target is None:
                which = "next" if step > 0 else "previous"
                return {self.turned: markup.note("quiet", f"There is no {which} {what}.")}
            return {
                self.lanes: document.page(target, shade),
                self.place: document.place(target),
                self.at: target,
                self.turned: "",
            }

        return turn

    def _choose(self, document: Document | None, event: gr.EventData) -> Updates:
        unit = chosen_unit(event)
        return {self.at: document.clamp(unit)} if document is not None and unit is not None else {}


def _units_csv(document: Document | None, verdict: dict[str, Any] | None) -> Download:
    return Download("units.csv", units_csv(given(document)))


def _report_json(document: Document | None, verdict: dict[str, Any] | None) -> Download:
    return Download("report.json", saving.as_json(_report(given(document), verdict).to_dict()))


def _report_html(document: Document | None, verdict: dict[str, Any] | None) -> Download:
    from simct.report.html import html_report

    found = given(document)
    shown = min(len(found), REPORTED)
    remark = f"The report shows the first {shown:,} of {len(found):,} units; its numbers cover all."
    html = html_report(_report(found, verdict), found.segments(0, shown), found.scores[:shown])
    return Download("report.html", html, remark if shown < len(found) else "")


def _report(found: Document, verdict: dict[str, Any] | None) -> PairReport:
    """The numbers with the pair's names and, if it was measured, its reliability."""
    measured = reliability_view.kept(verdict, found.teacher, found.student)
    report = numbers.named(found.report, found.teacher, found.student)
    return replace(report, reliability=measured) if measured else report


FILES: dict[str, tuple[str, Callable[..., Download]]] = {
    "csv": ("Units, CSV", _units_csv),
    "json": ("Report, JSON", _report_json),
    "html": ("Report, HTML", _report_html),
}
