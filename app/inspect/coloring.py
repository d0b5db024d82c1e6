"""The colors of the text: by the kind of each unit, or by both models' scores once they have been requested."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.inspect import lanes
from app.inspect.document import Document
from app.page import markup
from app.server import weights
from app.server.handler import LATEST, LONG, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.inspection.records import UnitScore

WORDS = "Score with both models"
KINDS = "kind of unit"


class TextScores:
    """The button, its progress, and the choice of what shades the units afterward.

    `outputs` are the components that a new text resets, with `fresh`.
    """

    def __init__(self, studio: Studio, document: gr.State, at: gr.Number, lanes_panel: gr.HTML, server: Any) -> None:
        self.studio, self.lanes = studio, lanes_panel
        self.score = gr.Button(WORDS, size="sm", elem_id="inspect-score", min_width=180)
        cancel = gr.Button("Cancel", size="sm", visible=False, min_width=80, elem_id="inspect-score-cancel")
        self.shade = gr.Radio(
            [KINDS, *lanes.SHADES], value=KINDS, label="Color by", visible=False, elem_id="inspect-shade", min_width=260
        )
        self.note = markup.panel(elem_id="inspect-scoring")
        self.work = LongWork(studio, self.note, cancel)
        self.outputs = [self.score, self.shade, self.note]
        inputs = {"document": document, "unit": at}
        outputs = [self.lanes, *self.work.outputs, self.shade, self.score]
        scoring = {**inputs, "server": server}
        Handler(studio, self._score, scoring, outputs, LONG).on(self.score.click)
        offer = Handler(studio, self._offer, {"document": document, "server": server}, [self.score, self.note], LATEST)
        offer.on(server.change)
        shading = Handler(studio, self._color, {**inputs, "shade": self.shade}, [self.lanes], in_turn("turn"))
        shading.on(self.shade.input)

    def button(self, document: Document, visitor: Visitor, server: str | None) -> tuple[str, str]:
        """The button's label, and the reason if it is disabled. This asks the Hub for sizes."""
        if server:
            return WORDS, weights.served_line(self.studio)
        return weights.button(self.studio, document.teacher, document.student, visitor.token, WORDS)

    def fresh(self, button: tuple[str, str] | None) -> Updates:
        """Nothing scored yet. Without `button`, the present button stays."""
        updates: Updates = {self.shade: gr.Radio(visible=False, value=KINDS)}
        if button is None:
            return updates
        return {**updates, **self._offered(*button)}

    def _offered(self, words: str, refused: str) -> Updates:
        return {self.score: gr.Button(words, interactive=not refused), self.note: markup.note("quiet", refused)}

    def _offer(self, visitor: Visitor, document: Document | None, server: str | None) -> Updates:
        """Offer scoring or not, after the teacher's server was chosen or left."""
        return self._offered(*self.button(document, visitor, server)) if document else {}

    def _score(self, visitor: Visitor, document: Document | None, unit: float, server: str | None) -> Iterator[Updates]:
        """Both models' scores of every unit, or of the units read before a cancel."""
        if document is None or server:
            refused = weights.served_line(self.studio) if server else "There is no text to score."
            yield {self.note: markup.note("error", refused)}
            return

        def finished(work: Work) -> Updates:
            document.scores = work.result
            scored = f"Scored {len(document.scores):,} of {len(document):,} units in {work.seconds:.0f} s."
            return {
                self.lanes: document.page(document.clamp(unit), "KL"),
                self.note: markup.note("ok", scored),
                self.shade: gr.Radio(visible=True, value="KL"),
                self.score: gr.Button(self.button(document, visitor, server)[0]),
            }

        yield from self.work.run(
            lambda work: score_document(self.studio, document, visitor.token, work), finished, weights=True
        )

    def _color(self, document: Document | None, unit: float, shade: str) -> Updates:
        return {self.lanes: document.page(document.clamp(unit), shade)} if document else {}


def score_document(studio: Studio, document: Document, token: str | bool | None, work: Work) -> list[UnitScore]:
    """Both models' scores of the units, in order. Raises a one-line SimCTError."""
    from simct.inspection.candidates import score_units

    loaded = weights.load(studio, document.teacher, document.student, token, work)
    work.step("Reading the text with both models, units:")
    return score_units(
        loaded.pair,
        loaded.teacher,
        loaded.student,
        document.text,
        on_progress=work.progress,
        should_stop=work.should_stop,
    )
