"""Pair: which teacher, which student, and whether both can be read at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import hub_notes as hub_view
from app.page import markup
from app.page.markup import one_line
from app.pair import model_field
from app.pair.model_field import shown
from app.server import model_facts as models
from app.server.settings import Settings
from simct.errors import SimCTError

TASKS = [
    ("Text generation", "text-generation"),
    ("Image and text to text", "image-text-to-text"),
    ("Any task", ""),
]
BILLION = 10**9
SIZES = [
    ("Any size", ""),
    ("up to 1B", f"0-{BILLION}"),
    ("up to 4B", f"0-{4 * BILLION}"),
    ("4B to 16B", f"{4 * BILLION}-{16 * BILLION}"),
    ("16B to 80B", f"{16 * BILLION}-{80 * BILLION}"),
    ("over 80B", f"{80 * BILLION}-{10**15}"),
]
LICENCES = [("Any license", ""), *((name, name) for name in ("apache-2.0", "mit", "gemma", "llama3.1", "llama3.2"))]
ACCESS = [("Gated or not", ""), ("Open to everyone", "open"), ("Gated", "gated")]
SORTS = [("Most downloads", "downloads"), ("Most likes", "likes"), ("Trending", "trending")]


@dataclass(frozen=True)
class PairTab:
    teacher: gr.Dropdown
    student: gr.Dropdown
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.Dropdown]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings) -> PairTab:
    """Two fields, the line beside each, and what the pair has in common."""
    markup.panel(
        '<h2>Choose a pair</h2><p class="lead">The student writes; the teacher shows how it would have gone on.</p>'
    )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            teacher = model_field.build(settings, "Teacher", "teacher")
        with gr.Column(min_width=280):
            student = model_field.build(settings, "Student", "student")
    filters = _filters()
    summary = markup.panel(markup.empty("Reading both tokenizers…"), elem_id="pair-summary", min_height=220)
    next_step = gr.Button("Inspect this pair →", variant="primary", elem_classes="next")

    def refresh(teacher_id: str, student_id: str, visitor: gr.OAuthToken | None = None) -> tuple:
        """Check both fields; the pair's summary once both can be read."""
        token = settings.token(visitor)
        told, facts, asked = [], [], []
        for model in (teacher_id, student_id):
            try:
                found = models.facts(settings, model, token)
                facts.append(found)
                told.append(markup.note("ok", found.line()))
                asked.append("")
            except SimCTError as error:
                asked.append(gr.skip())  # a word that was searched for, and may be again with other filters
                told.append(hub_view.linked_note("error", one_line(error)))
        lists = [
            gr.Dropdown(choices=model_field.choices([model] if model and model not in models.EMBEDDED else []))
            for model in (teacher_id, student_id)
        ]
        body, ready = markup.empty("The comparison appears when both models can be read."), False
        if len(facts) == 2:
            try:
                body, ready = summary_of(settings, facts, teacher_id, student_id, token), True
            except SimCTError as error:
                body = markup.note("error", one_line(error))
        return *told, body, gr.Button(interactive=ready), *lists, *asked

    inputs = [teacher.field, student.field]
    outputs = [teacher.note, student.note, summary, next_step, *inputs, teacher.asked, student.asked]
    for side in (teacher, student):
        model_field.connect(settings, side, filters, _asking)
        side.field.input(refresh, inputs, outputs, **settings.in_turn("pair"))
        side.revision.input(
            lambda model, revision: shown(models.joined(models.split_revision(model)[0], revision)),
            [side.field, side.revision],
            side.field,
            **settings.in_turn("pair"),
        ).then(refresh, inputs, outputs, **settings.in_turn("pair"))
    return PairTab(teacher.field, student.field, next_step, refresh, inputs, outputs)


def _filters() -> list[gr.Dropdown]:
    """What narrows both searches, folded away: task, size, license, access, order."""
    with gr.Accordion("Filters", open=False, elem_id="pair-filters"), gr.Row():
        return [
            gr.Dropdown(TASKS, value=TASKS[0][1], label="Task", filterable=False, min_width=150),
            gr.Dropdown(SIZES, value="", label="Size", filterable=False, min_width=150),
            gr.Dropdown(LICENCES, value="", label="License", allow_custom_value=True, min_width=150),
            gr.Dropdown(ACCESS, value="", label="Access", filterable=False, min_width=150),
            gr.Dropdown(SORTS, value="downloads", label="Order", filterable=False, min_width=150),
        ]


def _asking(values: Sequence[str]) -> dict:
    """The filters as arguments of search_models."""
    task, size, license, access, order = values
    low, high = (int(part) for part in size.split("-")) if size else (None, None)
    return {
        "task": task or None,
        "license": (license or "").strip() or None,
        "gated": {"open": False, "gated": True}.get(access),
        "min_parameters": low or None,
        "max_parameters": high,
        "sort": order,
    }


def summary_of(
    settings: Settings, facts: list[models.Facts], teacher: str, student: str, token: str | bool | None
) -> str:
    """What both have in common, what each is, and what their licenses and origins mean for the student."""
    from simct.hub.licenses import license_compatibility, license_concerns
    from simct.hub.search import base_model_line

    pair = models.pair_of(settings, teacher, student, token)
    numbers = markup.tiles(
        [
            (f"{pair.shared_tokens:,}", "shared tokens", "Tokens of both vocabularies with exactly the same bytes"),
            (f"{pair.jaccard:.1%}", "vocabulary overlap", "Shared tokens over all tokens of both (Jaccard)"),
            (
                f"{pair.shared_tokens / max(1, facts[1].vocabulary):.1%}",
                "of the student's tokens",
                "Share of the student's vocabulary that the teacher also has",
            ),
        ]
    )
    rows = [
        ("Vocabulary", *(f"{model.vocabulary:,} tokens" for model in facts)),
        ("Architecture", *(model.family for model in facts)),
        ("Tokenizer", *(model.tokenizer for model in facts)),
        ("Weights", *(models.human_size(model.size) if model.size else "unknown" for model in facts)),
        ("License", *(model.license or "not stated" for model in facts)),
        ("Access", *("gated, granted" if model.gated else "open" for model in facts)),
        ("Revision", *((model.revision or "–")[:12] for model in facts)),
    ]
    concerns = license_concerns(*facts)
    lines = markup.note("warn" if concerns else "quiet", license_compatibility(*facts))
    hits = [model.hit for model in facts]
    origin = base_model_line(*hits) if all(hits) else None
    lines += markup.note("warn", origin or "")
    return f'{numbers}{markup.facts(rows, ("Teacher", "Student"))}<div class="pair-lines">{lines}</div>'
