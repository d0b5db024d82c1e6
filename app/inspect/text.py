"""Inspect, the text: both segmentations over the visitor's own text, and what they cost on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import gradio as gr

from app.inspect import document as inspect_document
from app.inspect import lanes, text_scores
from app.inspect import numbers as inspect_numbers
from app.inspect import reliability_view as verdict_view
from app.inspect import source as inspect_source
from app.inspect.document import Document
from app.page import markup, saving
from app.server import downloads, work
from app.server.settings import Settings
from simct.inspection.records import PairReport

DEFAULT_TEXT = (
    "Say it plainly: the adolescent should purchase documentation expeditiously.\n"
    "The 12 monkeys paid £1,250.75 on 2026-05-07.\n"
    "def area(radius):\n    return 3.14159 * radius ** 2\n"
    "Größe, naïve café, 東京 — 🙂🚀 done."
)
LEAD = "Where the two tokenizers cut the same text in the same places, and where not. No weights are read for this."


@dataclass(frozen=True)
class TextView:
    """`document` holds the text as it was last read (a Document), `at` the index of the unit in hand."""

    text: gr.Textbox
    document: gr.State
    at: gr.Number
    look: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, verdict: gr.components.Component) -> TextView:
    """A text field above, the two lanes and the numbers under it."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    text = gr.Textbox(DEFAULT_TEXT, label="Text", lines=4, max_lines=12, elem_id="inspect-text")
    with gr.Accordion("Take the text from a file or a dataset", open=False):
        source = inspect_source.row_form()
    line = markup.panel(markup.note("quiet", ""), elem_id="inspect-note")
    numbers = markup.panel(elem_id="inspect-numbers", min_height=84)
    with gr.Row(elem_id="inspect-pager", elem_classes="tools"):
        place = markup.panel(elem_id="inspect-place")
        turns = {
            ("page", -1): gr.Button("← Page", size="sm", min_width=70, visible=False),
            ("page", 1): gr.Button("Page →", size="sm", min_width=70, visible=False, elem_id="inspect-next-page"),
            ("disagreement", -1): gr.Button("← Disagreement", size="sm", min_width=120),
            ("disagreement", 1): gr.Button("Disagreement →", size="sm", min_width=120, elem_id="inspect-next"),
        }
    view = markup.panel(elem_id="inspect-lanes", min_height=120, js_on_load=lanes.SCRIPT)
    document, at = gr.State(None), gr.Number(0, precision=0, visible=False)
    with gr.Row(elem_classes="tools"):
        look = gr.Button("Look at this position →", size="sm", elem_id="inspect-look", min_width=170)
        scores = text_scores.build(settings, pair, document, at, view)
    turned = markup.panel(elem_id="inspect-turned")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            disagreements = markup.panel(elem_id="inspect-table")
        with gr.Column(scale=2, min_width=260):
            shapes = markup.panel(elem_id="inspect-shapes")
            kinds = markup.panel(elem_id="inspect-kinds")
    with gr.Row(elem_classes="tools"):
        takes = {
            kind: gr.Button(told, size="sm", min_width=110, elem_id=f"inspect-{kind}")
            for kind, told in {"csv": "Units, CSV", "json": "Report, JSON", "html": "Report, HTML"}.items()
        }

    inputs = [pair.teacher, pair.student, text, document, at]
    outputs = [line, numbers, view, place, disagreements, shapes, kinds, document]
    pages = [turns["page", -1], turns["page", 1]]
    outputs += [*pages, *scores.reset]

    def refresh(
        teacher: str,
        student: str,
        content: str,
        before: Document | None,
        unit: float,
        visitor: gr.OAuthToken | None = None,
    ) -> Iterator[tuple]:
        """The lanes and numbers of `content` under the chosen pair; on error one line, and the rest empty."""
        if before is not None and (before.teacher, before.student, before.text) == (teacher, student, content):
            yield (gr.skip(),) * len(outputs)
            return
        token = settings.token(visitor)
        same = before is not None and (before.teacher, before.student) == (teacher, student)

        def read(task: work.Work) -> tuple[Document, tuple[str, str] | None]:
            found = inspect_document.read(settings, teacher, student, content, token, task.step)
            return found, None if same else scores.label(teacher, student, token)

        for now in work.follow(read):
            if now.running:
                yield markup.note("busy", now.doing), *[gr.skip()] * (len(outputs) - 1)
        if now.error:
            yield markup.note("error", now.error), *[""] * 6, None, *[gr.skip()] * 2, *scores.fresh(None)
            return
        found, label = now.result
        unit, report = found.clamp(unit), found.report
        yield (
            "",
            inspect_numbers.headline(report),
            found.page(unit),
            found.place(unit),
            inspect_numbers.disagreements(report),
            inspect_numbers.shapes(report),
            inspect_numbers.kinds(report),
            found,
            *[gr.Button(visible=found.pages > 1)] * 2,
            *scores.fresh(label),
        )

    gr.on([text.change, text.submit], refresh, inputs, outputs, **settings.in_turn("inspect"))
    for (way, step), button in turns.items():
        button.click(
            turn(way, step),
            [document, at, scores.shade],
            [view, place, at, turned],
            **settings.in_turn("turn"),
        )
    view.select(inspect_document.chosen, document, at, **settings.latest)
    inspect_source.wire(settings, source, text)
    for kind, button in takes.items():
        downloads.offer(settings, button, TAKES[kind], [document, verdict], turned)
    return TextView(text, document, at, look, refresh, inputs, outputs)


def turn(way: str, step: int) -> Callable:
    """What a button of the pager does: to the next or previous page or disagreement."""

    def turned(found: Document | None, unit: float, shade: str) -> tuple:
        if found is None:
            return (gr.skip(),) * 4
        unit = found.clamp(unit)
        target = found.turned(unit, step) if way == "page" else found.disagreement(unit, step)
        if target is None:
            which = "next" if step > 0 else "previous"
            return gr.skip(), gr.skip(), gr.skip(), markup.note("quiet", f"There is no {which} {way}.")
        return found.page(target, shade), found.place(target), target, ""

    return turned


Take = tuple[str, ...]


def _units_csv(token: str | bool | None, found: Document | None, known: dict | None) -> Take:
    return "units.csv", inspect_document.units_csv(inspect_document.given(found))


def _report_json(token: str | bool | None, found: Document | None, known: dict | None) -> Take:
    return "report.json", saving.as_json(_report(inspect_document.given(found), known).to_dict())


def _report_html(token: str | bool | None, found: Document | None, known: dict | None) -> Take:
    from simct.report.html import html_report

    found = inspect_document.given(found)
    shown = min(len(found), inspect_document.REPORTED)
    told = f"The report shows the first {shown:,} of {len(found):,} units; its numbers cover all."
    html = html_report(_report(found, known), found.segments(0, shown), found.scores[:shown])
    return "report.html", html, told if shown < len(found) else ""


def _report(found: Document, known: dict | None) -> PairReport:
    """The numbers with the pair's names and, where it was measured, its reliability."""
    measured = verdict_view.kept(known, found.teacher, found.student)
    report = inspect_numbers.named(found.report, found.teacher, found.student)
    return replace(report, reliability=measured) if measured else report


TAKES = {"csv": _units_csv, "json": _report_json, "html": _report_html}
