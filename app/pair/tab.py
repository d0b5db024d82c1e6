"""Pair: which teacher, which student, and whether both can be read at all."""

from typing import Any

import gradio as gr

from app.page import hub_notes, markup
from app.page.markup import one_line
from app.pair import view
from app.pair.model_field import ModelField, choices
from app.server import model_facts
from app.server.handler import Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
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
LICENSES = [("Any license", ""), *((name, name) for name in ("apache-2.0", "mit", "gemma", "llama3.1", "llama3.2"))]
ACCESS = [("Gated or not", ""), ("Open to everyone", "open"), ("Gated", "gated")]
SORTS = [("Most downloads", "downloads"), ("Most likes", "likes"), ("Trending", "trending")]


class PairTab:
    """Two fields, the line beside each, and what the pair has in common."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        markup.panel(
            "<h2>Choose a pair</h2>"
            '<p class="lead">The student writes; the teacher shows how it would have continued.</p>'
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                teacher = ModelField(studio, "Teacher", "teacher")
            with gr.Column(min_width=280):
                student = ModelField(studio, "Student", "student")
        filters = _filters()
        self.summary = markup.panel(markup.empty("Reading both tokenizers…"), elem_id="pair-summary", min_height=220)
        self.next = gr.Button("Inspect this pair →", variant="primary", elem_classes="next")
        self.sides = (teacher, student)
        self.teacher, self.student = teacher.field, student.field
        self.inputs = {"teacher": self.teacher, "student": self.student}
        outputs = [teacher.note, student.note, self.summary, self.next]
        outputs += [self.teacher, self.student, teacher.asked, student.asked]
        self.refresh = Handler(studio, self._refresh, self.inputs, outputs, in_turn("pair"))
        for side in self.sides:
            side.connect(filters, _search_arguments)
            self.refresh.on(side.field.input)
            self.refresh.on(side.revised.then)

    def _refresh(self, visitor: Visitor, teacher: str, student: str) -> Updates:
        """Check both fields; the pair's summary once both can be read."""
        updates: Updates = {}
        facts: list[model_facts.Facts] = []
        for side, model in zip(self.sides, (teacher, student), strict=True):
            known = [model] if model and model not in model_facts.EMBEDDED else []
            updates[side.field] = gr.Dropdown(choices=choices(known))
            try:
                found = model_facts.facts(self.studio, model, visitor.token)
            except SimCTError as error:
                # what was typed is left in `asked`: it may be searched again with other filters
                updates[side.note] = hub_notes.linked_note("error", one_line(error))
                continue
            facts.append(found)
            updates |= {side.note: markup.note("ok", found.line()), side.asked: ""}
        body, ready = markup.empty("The comparison appears when both models can be read."), False
        if len(facts) == 2:
            try:
                pair = model_facts.read_pair(self.studio, teacher, student, visitor.token)
                body, ready = view.summary(pair, *facts), True
            except SimCTError as error:
                body = markup.note("error", one_line(error))
        return {**updates, self.summary: body, self.next: gr.Button(interactive=ready)}


def _filters() -> dict[str, gr.Dropdown]:
    """What narrows both searches, folded away."""
    with gr.Accordion("Filters", open=False, elem_id="pair-filters"), gr.Row():
        return {
            "task": gr.Dropdown(TASKS, value=TASKS[0][1], label="Task", filterable=False, min_width=150),
            "size": gr.Dropdown(SIZES, value="", label="Size", filterable=False, min_width=150),
            "license": gr.Dropdown(LICENSES, value="", label="License", allow_custom_value=True, min_width=150),
            "access": gr.Dropdown(ACCESS, value="", label="Access", filterable=False, min_width=150),
            "order": gr.Dropdown(SORTS, value="downloads", label="Order", filterable=False, min_width=150),
        }


def _search_arguments(task: str, size: str, license: str, access: str, order: str) -> dict[str, Any]:
    """The filters as arguments of search_models."""
    low, high = (int(part) for part in size.split("-")) if size else (None, None)
    return {
        "task": task or None,
        "license": (license or "").strip() or None,
        "gated": {"open": False, "gated": True}.get(access),
        "min_parameters": low or None,
        "max_parameters": high,
        "sort": order,
    }
