"""Inspect, one position: the candidates as SimCT sees them there, and with weights both models' masses on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from app.inspect import document as inspect_document
from app.inspect import lanes, position_view
from app.inspect.document import Document
from app.page import markup, saving
from app.server import downloads, weights, work
from app.server.settings import Settings
from simct.inspection.records import Candidates

WORDS = "Load both models"
LEAD = (
    "At the start of a unit both models have read the same text. SimCT compares them on the tokens they share, and on "
    "the unit itself where it is several tokens on either side."
)


@dataclass(frozen=True)
class PositionView:
    """`show` draws the position; `inputs` and `outputs` are its own."""

    show: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, document: gr.State, at: gr.Number) -> PositionView:
    """The unit in its surroundings, then what is compared there."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    around = markup.panel(elem_id="position-lanes", min_height=90, js_on_load=lanes.SCRIPT)
    with gr.Row(elem_classes="tools"):
        before = gr.Button("← Unit", size="sm", min_width=70)
        after = gr.Button("Unit →", size="sm", min_width=70, elem_id="position-next")
        disagreement = gr.Button("Disagreement →", size="sm", min_width=120, elem_id="position-disagreement")
        load = gr.Button(WORDS, size="sm", min_width=170, elem_id="position-load")
        cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="position-cancel")
    note = markup.panel(elem_id="position-note")
    seen = markup.panel(elem_id="position-seen", min_height=120)
    with gr.Row(elem_classes="tools"):
        takes = {
            kind: gr.Button(told, size="sm", min_width=130, elem_id=f"position-{kind}")
            for kind, told in {"csv": "Candidates, CSV", "json": "Position, JSON"}.items()
        }
    found_state, task = gr.State(None), gr.State(None)
    inputs, outputs = [document, at], [around, note, seen, load, cancel, found_state, task]

    def run(found: Document | None, unit: float, token: str | bool | None, asked: bool) -> Iterator[tuple]:
        """Draw the position; with weights if they are in memory or are asked for now."""
        if found is None:
            told = markup.note("quiet", "Choose a text first: it stands under Text.")
            yield "", told, "", gr.skip(), gr.skip(), None, None
            return
        unit = found.clamp(unit)
        nearby = position_view.surroundings(found, unit)
        for now in work.follow(lambda work: _read(settings, found, unit, token, asked, work), weights=asked):
            if now.running:
                yield nearby, work.view(now), gr.skip(), gr.skip(), gr.Button(visible=True), gr.skip(), now
        told, refused = weights.label(settings, found.teacher, found.student, token, WORDS)
        button = gr.Button(told, interactive=not refused)
        if now.error:
            yield nearby, markup.note("error", now.error), gr.skip(), button, gr.Button(visible=False), None, None
            return
        line = markup.note("quiet", refused)
        html = position_view.draw(now.result)
        yield nearby, line, html, button, gr.Button(visible=False), now.result, None

    def show(found: Document | None, unit: float, visitor: gr.OAuthToken | None = None) -> Iterator[tuple]:
        token = settings.token(visitor)
        loaded = found is not None and weights.kept(found.teacher, found.student, token) is not None
        yield from run(found, unit, token, loaded)

    def ask(found: Document | None, unit: float, visitor: gr.OAuthToken | None = None) -> Iterator[tuple]:
        yield from run(found, unit, settings.token(visitor), True)

    load.click(ask, inputs, outputs, trigger_mode="once", concurrency_limit=None, **settings.quiet)
    cancel.click(work.stop, task, **settings.quiet)
    moves = {before: lambda found, unit: unit - 1, after: lambda found, unit: unit + 1, disagreement: _disagreement}
    for button, move in moves.items():
        button.click(_moved(move), inputs, at, **settings.in_turn("turn")).then(
            show, inputs, outputs, concurrency_limit=None, **settings.latest
        )
    around.select(inspect_document.chosen, document, at, **settings.latest).then(
        show, inputs, outputs, concurrency_limit=None, **settings.latest
    )
    for kind, button in takes.items():
        downloads.offer(settings, button, TAKES[kind], [found_state], note)
    return PositionView(show, inputs, outputs)


def _moved(move: Callable) -> Callable:
    def moved(found: Document | None, unit: float) -> int | dict:
        return found.clamp(move(found, found.clamp(unit))) if found is not None else gr.skip()

    return moved


def _disagreement(found: Document, unit: int) -> int:
    """The next one, from the start again after the last."""
    target = found.disagreement(unit, 1)
    return target if target is not None else found.disagreement(-1, 1) or unit


def _read(
    settings: Settings, found: Document, unit: int, token: str | bool | None, asked: bool, task: work.Work
) -> Candidates:
    from simct.inspection.candidates import candidates_at

    models = (None, None)
    if asked:
        loaded = weights.load(settings, found.teacher, found.student, token, task)
        models = (loaded.teacher, loaded.student)
        task.step("Reading the text up to here with both models…")
    return candidates_at(found.pair, *models, found.text, unit, position_view.TOP)


def _take_json(token: str | bool | None, found: Candidates | None) -> tuple[str, str]:
    return "position.json", saving.as_json(position_view.as_dict(position_view.given(found)))


def _take_csv(token: str | bool | None, found: Candidates | None) -> tuple[str, str]:
    return "candidates.csv", position_view.candidates_csv(position_view.given(found))


TAKES = {"csv": _take_csv, "json": _take_json}
