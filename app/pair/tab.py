"""Pair: the teacher, the student, and whether both can be read."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.pair import view
from app.pair.model_field import ModelField, Reading, is_address, read_or_keep
from app.server import model_facts
from app.server.handler import Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import Work, follow
from simct.errors import SimCTError
from simct.hub.repo_ids import quoted, split_revision

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
    """Two fields, a line next to each, and what the pair has in common; `below` is the place for the verdict."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        markup.panel(
            markup.heading(
                "Choose a pair",
                "The student writes; the teacher shows how it would have continued.",
                "inspecting",
            )
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                teacher = ModelField(studio, "Teacher", "teacher")
                self.below_teacher = gr.Column()
            with gr.Column(min_width=280):
                student = ModelField(studio, "Student", "student")
        filters = _filters()
        self.below = gr.Column()
        pair = studio.default_pair
        default = model_facts.read_pair(studio, pair["teacher"], pair["student"], studio.nobody.token)
        self.summary = markup.panel(
            view.summary(default, teacher.default, student.default), elem_id="pair-summary", min_height=220
        )
        self.next = gr.Button("Inspect this pair →", variant="primary", elem_classes="next")
        # the address of a server that was typed into the teacher's field
        self.address = gr.Textbox("", visible="hidden", elem_id="typed-server")
        self.sides = (teacher, student)
        self.teacher, self.student = teacher.field, student.field
        self.inputs = {"teacher": self.teacher, "student": self.student}
        outputs = [teacher.note, student.note, self.summary, self.next, self.address]
        outputs += [each for side in self.sides for each in (side.field, side.asked, side.offered, side.read)]
        inputs = {**self.inputs, "teacher_read": teacher.read, "student_read": student.read}
        self.refresh = Handler(studio, self._refresh, inputs, outputs, in_turn("pair"))
        self.refresh.on(teacher.field.input, student.field.input)
        for side in self.sides:
            side.connect(filters, _search_arguments)
            self.refresh.on(side.revised.then)

    def _refresh(self, visitor: Visitor, **values: str) -> Iterator[Updates]:
        """Read both models, with a note in the meantime; then show a line next to each field and the pair's summary."""
        models = tuple(values[side.side] for side in self.sides)
        chosen = tuple(values[f"{side.side}_read"] for side in self.sides)
        found: list[Reading] = []

        def read(work: Work) -> None:
            for side, model, before in zip(self.sides, models, chosen, strict=True):
                found.append(read_or_keep(self.studio, side.side, model, before, visitor))

        for work in follow(read):
            if work.running:
                waiting = list(zip(self.sides, models, strict=True))[len(found) :]
                lines = {side.note: markup.note("busy", _reading(model, work.seconds)) for side, model in waiting}
                yield {**lines, self.next: gr.Button(interactive=False)}
        if work.error:
            yield {self.summary: markup.note("error", work.error), self.next: gr.Button(interactive=False)}
            return
        updates: Updates = {}
        for side, model, reading in zip(self.sides, models, found, strict=True):
            updates |= side.shows(model, reading)
        if is_address(models[0]):
            updates[self.address] = models[0].strip()
        yield updates
        yield self._summary(visitor, found)

    def _summary(self, visitor: Visitor, found: Sequence[Reading]) -> Updates:
        """What both models have in common, once both can be read."""
        facts = [reading.facts for reading in found if reading.facts]
        body, ready = markup.empty("The comparison appears when both models can be read."), False
        if len(facts) == 2:
            try:
                teacher, student = (reading.model for reading in found)
                pair = model_facts.read_pair(self.studio, teacher, student, visitor.token)
                body, ready = view.summary(pair, facts[0], facts[1], _same(teacher, student)), True
            except SimCTError as error:
                body = markup.note("error", one_line(error))
        return {self.summary: body, self.next: gr.Button(interactive=ready)}


def reading() -> str:
    """The placeholder for the summary until a pair is read for the first time."""
    return markup.empty("Reading both tokenizers…")


def _reading(model: str, seconds: float) -> str:
    return f"Reading {quoted(model_facts.display_name(model or ''))[1:-1]}… {seconds:.0f} s"


def _same(teacher: str, student: str) -> bool:
    """Whether both sides are the same model at the same revision."""
    one, other = ((model_facts.location(model), split_revision(model)[1]) for model in (teacher, student))
    return one == other


def _filters() -> dict[str, gr.Dropdown]:
    """The filters of both searches, folded."""
    with gr.Accordion("Filters", open=False, elem_id="pair-filters"), gr.Row():
        return {
            "task": gr.Dropdown(TASKS, value=TASKS[0][1], label="Task", filterable=False, min_width=150),
            "size": gr.Dropdown(SIZES, value="", label="Size", filterable=False, min_width=150),
            "license": gr.Dropdown(
                LICENSES, value="", label="License", allow_custom_value=True, elem_classes="takes-text", min_width=150
            ),
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
