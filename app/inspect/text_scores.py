"""Both models' scores of a text, unit by unit, once they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from app.inspect import lanes
from app.inspect.document import Document
from app.page import markup
from app.server import weights, work
from app.server.settings import Settings
from simct.inspection.records import UnitScore

WORDS = "Score with both models"
KINDS = "kind of unit"


@dataclass(frozen=True)
class Scores:
    """`reset` are the components that a new text sets back, to what `fresh(label)` returns.

    The label, `label(teacher, student, token)`, asks the Hub for sizes; None leaves the one that is there.
    """

    shade: gr.Radio
    reset: Sequence[gr.components.Component]
    label: Callable
    fresh: Callable


def build(settings: Settings, pair, document: gr.State, at: gr.Number, view: gr.HTML) -> Scores:
    """The button, its progress, and what the units are shaded by afterwards."""
    score = gr.Button(WORDS, size="sm", elem_id="inspect-score", min_width=180)
    cancel = gr.Button("Cancel", size="sm", visible=False, min_width=80, elem_id="inspect-score-cancel")
    shade = gr.Radio(
        [KINDS, *lanes.SHADES], value=KINDS, label="Color by", visible=False, elem_id="inspect-shade", min_width=260
    )
    note = markup.panel(elem_id="inspect-scoring")
    task = gr.State(None)

    def label(teacher: str, student: str, token: str | bool | None) -> tuple[str, str]:
        return weights.label(settings, teacher, student, token, WORDS)

    def fresh(known: tuple[str, str] | None) -> tuple:
        told, refused = known or ("", "")
        button = gr.Button(told, interactive=not refused) if known else gr.skip()
        return button, gr.Radio(visible=False, value=KINDS), markup.note("quiet", refused) if known else gr.skip()

    def scored(found: Document | None, unit: float, visitor: gr.OAuthToken | None = None) -> Iterator[tuple]:
        """Both models' scores of every unit, as far as was read before a cancel."""
        skip = gr.skip()
        if found is None:
            yield skip, markup.note("error", "There is no text to score."), skip, skip, skip, skip
            return
        token = settings.token(visitor)
        for now in work.follow(lambda work: _read(settings, found, token, work), weights=True):
            if now.running:
                yield skip, work.view(now), now, gr.Button(visible=True), skip, skip
        if now.error:
            yield skip, markup.note("error", now.error), None, gr.Button(visible=False), skip, skip
            return
        found.scores = now.result
        yield (
            found.page(found.clamp(unit), "KL"),
            markup.note("ok", f"Scored {len(found.scores):,} of {len(found):,} units in {now.seconds:.0f} s."),
            None,
            gr.Button(visible=False),
            gr.Radio(visible=True, value="KL"),
            gr.Button(weights.label(settings, found.teacher, found.student, token, WORDS)[0]),
        )

    score.click(
        scored, [document, at], [view, note, task, cancel, shade, score],
        trigger_mode="once", concurrency_limit=None, **settings.quiet,
    )  # fmt: skip
    cancel.click(work.stop, task, **settings.quiet)
    shade.input(
        lambda found, unit, by: found.page(found.clamp(unit), by) if found else gr.skip(),
        [document, at, shade],
        view,
        **settings.in_turn("turn"),
    )
    return Scores(shade, [score, shade, note], label, fresh)


def _read(settings: Settings, found: Document, token: str | bool | None, work: work.Work) -> list[UnitScore]:
    from simct.inspection.candidates import score_units

    loaded = weights.load(settings, found.teacher, found.student, token, work)
    work.step("Reading the text with both models, units:")
    return score_units(
        loaded.pair,
        loaded.teacher,
        loaded.student,
        found.text,
        on_progress=work.progress,
        should_stop=work.should_stop,
    )
