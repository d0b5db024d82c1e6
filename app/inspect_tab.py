"""Inspect: both segmentations over the visitor's own text, and what they cost on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app import lanes, markup, models
from app.settings import Settings, one_line
from simct.errors import DataError, SimCTError

MAX_CHARACTERS = 6_000
TOP = 12
DEFAULT_TEXT = (
    "Say it plainly: the adolescent should purchase documentation expeditiously.\n"
    "The 12 monkeys paid £1,250.75 on 2026-05-07.\n"
    "def area(radius):\n    return 3.14159 * radius ** 2\n"
    "Größe, naïve café, 東京 — 🙂🚀 done."
)


@dataclass(frozen=True)
class InspectTab:
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair) -> InspectTab:
    """A text field above, the two lanes and the numbers under it."""
    markup.panel(
        '<h2>Inspect</h2><p class="lead">Where the two tokenizers cut the same text in the same places, and where not. '
        "Only tokenizers are read, no weights.</p>"
    )
    text = gr.Textbox(DEFAULT_TEXT, label="Text", lines=4, max_lines=12, elem_id="inspect-text")
    line = markup.panel(markup.note("quiet", ""), elem_id="inspect-note")
    numbers = markup.panel(elem_id="inspect-numbers", min_height=84)
    view = markup.panel(elem_id="inspect-lanes", min_height=120, js_on_load=lanes.SCRIPT)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            disagreements = markup.panel(elem_id="inspect-table")
        with gr.Column(scale=2, min_width=260):
            shapes = markup.panel(elem_id="inspect-shapes")
    next_step = gr.Button("Set up training →", variant="primary", elem_classes="next")

    def refresh(teacher: str, student: str, content: str, visitor: gr.OAuthToken | None = None) -> tuple[str, ...]:
        """The lanes and numbers of `content` under the chosen pair; on error one line, and the rest empty."""
        try:
            report, units, told = inspect_text(settings, teacher, student, content, settings.token(visitor))
        except SimCTError as error:
            return markup.note("error", one_line(error)), "", "", "", ""
        return told, headline(report), lanes.lanes(units), _disagreements(report), _shapes(report)

    inputs, outputs = [pair.teacher, pair.student, text], [line, numbers, view, disagreements, shapes]
    gr.on(
        [text.change, text.submit],
        refresh,
        inputs,
        outputs,
        trigger_mode="always_last",
        **{**settings.in_turn("inspect"), "api_visibility": "public"},
        api_name="inspect",
        api_description="Tokenize a text with a teacher and a student and return the comparison as HTML.",
    )
    return InspectTab(next_step, refresh, inputs, outputs)


def inspect_text(settings: Settings, teacher: str, student: str, content: str, token: str | bool | None):
    """(report, units, note) of a text. Raises a one-line SimCTError for an empty text or a pair that cannot be read."""
    from simct.coverage import inspect_pair, segments

    if not (content or "").strip():
        raise DataError("There is no text to inspect. Type or paste some.")
    pair = models.pair_of(settings, teacher, student, token)
    shown = content[:MAX_CHARACTERS]
    told = ""
    if len(content) > MAX_CHARACTERS:
        told = f"Showing the first {MAX_CHARACTERS:,} of {len(content):,} characters; the numbers cover all of them."
    report = inspect_pair(pair, [content], top=TOP)
    if report["excluded"]:
        raise DataError(f"This text cannot be compared exactly: {next(iter(report['excluded']))}.")
    return report, [lanes.unit(pair, segment) for segment in segments(pair, shown)], markup.note("quiet", told)


def headline(report: dict) -> str:
    strict, recovered = report["student_strict_coverage"], report["student_recovered_coverage"]
    return markup.tiles(
        [
            (
                f"{report['shared_tokens']:,}",
                "shared tokens",
                "Tokens of both vocabularies with exactly the same bytes",
            ),
            (f"{report['jaccard']:.1%}", "vocabulary overlap", "Shared tokens over all tokens of both (Jaccard)"),
            (f"{strict:.1%}", "matched exactly", "Share of the student's tokens that the teacher cuts the same way"),
            (f"{recovered:.1%}", "recovered by SimCT", "Share of the student's tokens exact matching would lose"),
        ]
    )


def _disagreements(report: dict) -> str:
    if not report["top_disagreements"]:
        return "<h3>Where they disagree</h3>" + markup.empty("Nowhere: every token of this text is shared.")
    rows = [
        (
            markup.visible(row["text"]),
            *(markup.chips(map(markup.visible, row[f"{side}_tokens"])) for side in ("student", "teacher")),
            f"{row['count']:,}",
        )
        for row in report["top_disagreements"]
    ]
    table = markup.table(("Text", "Student", "Teacher", "Count"), rows, numeric=(3,), raw=(1, 2))
    return f"<h3>Where they disagree most</h3>{table}"


def _shapes(report: dict) -> str:
    return f"<h3>Unit shapes</h3>{markup.heat_map(report['unit_shapes'])}"
