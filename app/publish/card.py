"""The card of a run next to its Publish button: shown as people will see it, edited in place, reset to the generated
one.
"""

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.publish.card_view import card_preview
from app.server.handler import Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import SimCTError
from simct.publishing.card_edit import PLACEHOLDER, card_of, check_card, edited_card, reset_card, save_card
from simct.publishing.push import student_license
from simct.runs.folder import RunFolder

EMPTY = "*The card appears when a run has finished.*"
EDITED = "Edited by you, and kept with the run."


class CardPanel:
    """The card with its buttons above it; while it is edited, its source is in between."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(elem_id="card-head"):
            markup.panel("<h3>Card</h3>")
            self.reset = gr.Button(
                "Reset to generated", size="sm", visible=False, scale=0, min_width=150, elem_id="card-reset"
            )
            self.edit = gr.Button("Edit", size="sm", interactive=False, scale=0, min_width=80, elem_id="card-edit")
            self.done = gr.Button("Done", size="sm", visible=False, scale=0, min_width=80, elem_id="card-done")
        self.note = markup.panel(elem_id="card-note")
        self.editor = gr.Textbox(
            label="Card source",
            info="Markdown. The metadata for the Hub comes first, between two lines with ---.",
            lines=18,
            max_lines=40,
            visible=False,
            elem_id="card-editor",
        )
        self.card = gr.Markdown(EMPTY, elem_id="card", min_height=200)
        self.outputs = [self.card, self.note, self.editor, self.edit, self.done, self.reset]

    def connect(self, run: gr.Dropdown, repo: gr.Textbox, what: gr.Radio) -> None:
        """Connect editing, saving when the visitor leaves the field, and going back to the generated card."""
        turn, modes = in_turn("card"), [self.editor, self.edit, self.done]
        which = {"run_id": run, "repo_id": repo, "what": what}
        keep = Handler(self.studio, self._keep, {**which, "text": self.editor}, self.outputs, turn)
        Handler(self.studio, self._begin_editing, which, [*modes, self.note]).on(self.edit.click)
        keep.on(self.editor.blur)
        keep.on(Handler(self.studio, self._end_editing, {}, modes).on(self.done.click).then)
        Handler(self.studio, self._reset, which, self.outputs, turn).on(self.reset.click)

    def show(self, run: RunFolder, repo_id: str, visitor: Visitor, adapter: bool) -> Updates:
        """The card as it would be published in `repo_id`, of the adapter or the merged model. Raises SimCTError."""
        license = student_license(run.config(), visitor.token)
        text = card_of(run, repo_id or PLACEHOLDER, license, adapter)
        edited = edited_card(run) is not None
        line = markup.note("quiet", EDITED if edited else "")
        if edited:
            try:
                check_card(text, license, visitor.owner)
            except SimCTError as error:
                line = markup.note("error", one_line(error))
        return {
            self.card: card_preview(run, text),
            self.note: line,
            self.edit: gr.Button(interactive=True),
            self.reset: gr.Button(visible=edited),
        }

    def nothing(self) -> Updates:
        """What the panel shows without a run."""
        closed = {**self._editing(False), self.edit: gr.Button(interactive=False, visible=True)}
        return {self.card: EMPTY, self.note: "", **closed, self.reset: gr.Button(visible=False)}

    def _keep(self, visitor: Visitor, run_id: str | None, repo_id: str | None, what: str, text: str) -> Updates:
        """Save what was written, and show the card that would be published now."""
        try:
            run = owned_run(self.studio, run_id, visitor)
            repo = (repo_id or "").strip()
            license, adapter = student_license(run.config(), visitor.token), what == "adapter"
            generated = card_of(run, repo or PLACEHOLDER, license, adapter)
            if (text or "").strip() != generated.strip():
                save_card(run, text, repo or PLACEHOLDER)
            return self.show(run, repo, visitor, adapter)
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}

    def _reset(self, visitor: Visitor, run_id: str | None, repo_id: str | None, what: str) -> Updates:
        """Discard the edits, and show the generated card."""
        try:
            run = owned_run(self.studio, run_id, visitor)
            reset_card(run)
            repo, adapter = (repo_id or "").strip(), what == "adapter"
            return {**self.show(run, repo, visitor, adapter), self.editor: self._text(run, repo, visitor, adapter)}
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}

    def _begin_editing(self, visitor: Visitor, run_id: str | None, repo_id: str | None, what: str) -> Updates:
        """Open the source. Only this fills it in: a card that is shown later would replace what is being written."""
        try:
            run = owned_run(self.studio, run_id, visitor)
            text = self._text(run, (repo_id or "").strip(), visitor, what == "adapter")
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}
        return {**self._editing(True), self.editor: gr.Textbox(text, visible=True)}

    def _text(self, run: RunFolder, repo_id: str, visitor: Visitor, adapter: bool) -> str:
        return card_of(run, repo_id or PLACEHOLDER, student_license(run.config(), visitor.token), adapter)

    def _end_editing(self) -> Updates:
        return self._editing(False)

    def of_another_run(self) -> Updates:
        """Close the source, which is that of the run shown before."""
        return {**self._editing(False), self.edit: gr.Button(visible=True, interactive=True)}

    def _editing(self, now: bool) -> Updates:
        return {
            self.editor: gr.Textbox(visible=now),
            self.edit: gr.Button(visible=not now),
            self.done: gr.Button(visible=now),
        }


def check(run: RunFolder, token: str | bool | None) -> None:
    """Raises a one-line HubError if an edited card could not be published as it is."""
    if edited_card(run) is not None:
        license = student_license(run.config(), token)
        check_card(card_of(run, PLACEHOLDER, license), license, run.status().owner)
