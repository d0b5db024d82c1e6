"""Inspect, one position: the candidates as SimCT sees them there and, with weights, both models' masses on them."""

import time
from collections.abc import Callable, Iterator

import gradio as gr

from app.inspect import position_view
from app.inspect.document import Document, chosen_unit
from app.inspect.text import TextTab
from app.page import markup, saving, scripts
from app.server import downloads, model_facts, weights
from app.server.downloads import Download
from app.server.handler import LONG, Component, Handler, Updates, each_in_turn, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.inspection.records import Candidates

WORDS = "Load both models"
LEAD = (
    "At the start of a unit, both models have read the same text. SimCT compares them on the tokens they share, and on "
    "the unit itself if it is several tokens on either side."
)


class PositionTab:
    """The unit with its context, then what is compared there. `show` draws the position."""

    def __init__(self, studio: Studio, text: TextTab, server: Component) -> None:
        self.studio, self.at = studio, text.at
        markup.panel(f'<p class="lead">{LEAD}</p>')
        self.around = markup.panel(elem_id="position-lanes", min_height=90, js_on_load=scripts.when_loaded("lanes"))
        with gr.Row(elem_classes="tools"):
            before = gr.Button("← Unit", size="sm", min_width=70)
            after = gr.Button("Unit →", size="sm", min_width=70, elem_id="position-next")
            disagreement = gr.Button("Disagreement →", size="sm", min_width=120, elem_id="position-disagreement")
            self.load = gr.Button(WORDS, size="sm", min_width=170, elem_id="position-load")
            cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="position-cancel")
        self.note = markup.panel(elem_id="position-note")
        self.drawn = markup.panel(elem_id="position-seen", min_height=120)
        self.found = gr.State(None)
        with gr.Row(elem_classes="tools"):
            files = downloads.buttons(FILES, "position", 130)
            downloads.offer(studio, files, {"found": self.found}, self.note)
        self.work = LongWork(studio, self.note, cancel)
        self.inputs = {"document": text.document, "unit": text.at, "server": server}
        self.outputs = [self.around, *self.work.outputs, self.drawn, self.load, self.found]
        self.show = Handler(studio, self.redraw, self.inputs, self.outputs, in_turn("position"))
        # when the models were loaded; the position of that moment is then drawn, which may be another one
        self.loaded = gr.State(0)
        loading = {"document": text.document, "server": server}
        Handler(studio, self._load, loading, [*self.work.outputs, self.loaded], LONG).on(self.load.click)
        moves = {before: _previous, after: _next, disagreement: _next_disagreement}
        place = {"document": text.document, "unit": text.at}
        for button, move in moves.items():
            moved = Handler(studio, self._move(move), place, [self.at], in_turn("turn"))
            self.show.on(moved.on(button.click).then)
        choose = Handler(studio, self._choose, {"document": text.document}, [self.at], each_in_turn("turn"))
        self.show.on(choose.on(self.around.select).then)

    def redraw(
        self, visitor: Visitor, document: Document | None, unit: float, server: str | None = None
    ) -> Iterator[Updates]:
        """Draw the position, with the models' masses if their weights are in memory and the teacher is not on a
        `server`.
        """
        if document is None:
            line = markup.note("quiet", "Choose a text first, under Text.")
            yield {self.around: "", self.note: line, self.drawn: "", self.found: None}
            return
        loaded = self.studio.models.pair_of(document.teacher, document.student, visitor.token)
        with_weights = bool(loaded) and not server
        at = document.clamp(unit)
        around = {self.around: position_view.surroundings(document, at)}

        def ended(line: str) -> Updates:
            pair = document.teacher, document.student
            words, refused = (
                (WORDS, weights.served_line(self.studio))
                if server
                else weights.button(self.studio, *pair, visitor.token, WORDS)
            )
            button = gr.Button(words, interactive=not refused)
            return {**around, self.load: button, self.note: line or markup.note("quiet", refused)}

        def finished(work: Work) -> Updates:
            drawn = position_view.draw(work.result, bool(server))
            return {**ended(""), self.drawn: drawn, self.found: work.result}

        yield from self.work.run(
            lambda work: read_position(self.studio, document, at, visitor.token, with_weights, work),
            finished,
            weights=with_weights,
            running=lambda work: around,
            failed=lambda work: {**ended(markup.note("error", work.error)), self.found: None},
        )

    def _load(self, visitor: Visitor, document: Document | None, server: str | None) -> Iterator[Updates]:
        """Load both models."""
        if document is None or server:
            yield {}
            return
        asked = (self.studio, document.teacher, document.student, visitor.token)
        yield from self.work.run(
            lambda work: weights.load(*asked, work),
            lambda work: {self.note: "", self.loaded: time.monotonic_ns()},
            weights=True,
        )

    def _move(self, move: Callable[[Document, int], int]) -> Callable[..., Updates]:
        def moved(document: Document | None, unit: float) -> Updates:
            return {self.at: document.clamp(move(document, document.clamp(unit)))} if document is not None else {}

        return moved

    def _choose(self, document: Document | None, event: gr.EventData) -> Updates:
        unit = chosen_unit(event)
        return {self.at: document.clamp(unit)} if document is not None and unit is not None else {}


def _previous(document: Document, unit: int) -> int:
    return unit - 1


def _next(document: Document, unit: int) -> int:
    return unit + 1


def _next_disagreement(document: Document, unit: int) -> int:
    """The next disagreement; after the last one, the first."""
    target = document.disagreement(unit, 1)
    return target if target is not None else document.disagreement(-1, 1) or unit


def read_position(
    studio: Studio, document: Document, unit: int, token: str | bool | None, with_weights: bool, work: Work
) -> Candidates:
    """What simct.inspection.candidates finds at a unit, with both models' masses on request. Raises a SimCTError."""
    from app.reading import texts
    from simct.inspection.candidates import candidates_at

    if not with_weights:
        sides = tuple(model_facts.source(studio, model, token) for model in (document.teacher, document.student))
        asked = (*sides, document.text, unit, position_view.TOP)
        return studio.workers.run(texts.read_position, *asked, what="This position", near=sides)
    loaded = weights.load(studio, document.teacher, document.student, token, work)
    work.step("Reading the text up to here with both models…")
    return candidates_at(loaded.pair, loaded.teacher, loaded.student, document.text, unit, position_view.TOP)


def _json(found: Candidates | None) -> Download:
    return Download("position.json", saving.as_json(position_view.as_dict(position_view.given(found))))


def _csv(found: Candidates | None) -> Download:
    return Download("candidates.csv", position_view.candidates_csv(position_view.given(found)))


FILES: dict[str, tuple[str, Callable[..., Download]]] = {
    "csv": ("Candidates, CSV", _csv),
    "json": ("Position, JSON", _json),
}
