"""The name, note, tags and star of a run: shown with the run, and changed by its owner."""

import time

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.server.handler import QUIET, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import SimCTError
from simct.runs.folder import RunFolder
from simct.runs.labels import LONGEST_NAME, LONGEST_NOTE, RunLabel, change_label, read_label, save_label

ONCE = {**QUIET, "trigger_mode": "once"}


class LabelEditor:
    """A star, and collapsed fields with the label of the chosen run."""

    def __init__(self, studio: Studio, chosen: gr.Radio) -> None:
        self.studio, self.chosen = studio, chosen
        with gr.Accordion("Name, tags and note", open=False, elem_id="run-label"):
            with gr.Row():
                self.name = gr.Textbox(label="Name", max_length=LONGEST_NAME, elem_id="run-name", min_width=180)
                self.tags = gr.Textbox(
                    label="Tags", placeholder="baseline, low-rate", max_length=400, elem_id="run-tags", min_width=180
                )
            self.note = gr.Textbox(label="Note", lines=3, max_lines=12, max_length=LONGEST_NOTE, elem_id="run-remark")
            self.save = gr.Button("Save", size="sm", elem_id="save-label")
            self.outcome = markup.panel(elem_id="run-label-note")

    @property
    def fields(self) -> list[gr.Textbox]:
        return [self.name, self.tags, self.note]

    def connect(self, star: gr.Button, star_note: gr.HTML, changed: gr.State) -> None:
        """Save on a click; a click on `star` adds or removes the run's star. `changed` follows either.

        An error about the star goes to `star_note`, because the fields may be collapsed.
        """
        self.changed, self.star_note = changed, star_note
        inputs = {"run_id": self.chosen, "name": self.name, "tags": self.tags, "note": self.note}
        Handler(self.studio, self._save, inputs, [self.outcome, changed], ONCE).on(self.save.click)
        Handler(self.studio, self._star, {"run_id": self.chosen}, [star_note, changed], ONCE).on(star.click)

    def shown(self, run: RunFolder | None) -> Updates:
        """The fields with the run's values."""
        label = read_label(run) if run else RunLabel()
        return {self.name: label.name, self.tags: ", ".join(label.tags), self.note: label.note}

    def _save(self, visitor: Visitor, run_id: str | None, name: str, tags: str, note: str) -> Updates:
        try:
            run = owned_run(self.studio, run_id, visitor)
            save_label(run, RunLabel(name, note, tuple(tags.replace(",", " ").split()), read_label(run).starred))
        except SimCTError as error:
            return {self.outcome: markup.note("error", one_line(error))}
        return {self.outcome: markup.note("ok", "Saved."), self.changed: time.monotonic_ns()}

    def _star(self, visitor: Visitor, run_id: str | None) -> Updates:
        try:
            run = owned_run(self.studio, run_id, visitor)
            change_label(run, starred=not read_label(run).starred)
        except SimCTError as error:
            return {self.star_note: markup.note("error", one_line(error))}
        return {self.star_note: "", self.changed: time.monotonic_ns()}


def star_text(run: RunFolder | None) -> str:
    """The text of the star button."""
    return "★ Starred" if run and read_label(run).starred else "☆ Star"
