"""The card of a run beside its Publish button: read as it will be read, edited in place, reset to the generated one."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.publish.card_view import card_preview
from app.runs.actions import owned_run
from app.server.settings import Settings
from simct.errors import SimCTError
from simct.publishing.card_edit import PLACEHOLDER, card_of, check_card, edited_card, reset_card, save_card
from simct.publishing.push import student_license
from simct.runs.folder import RunFolder

EMPTY = "*The card appears when a run has finished.*"
EDITED = "Edited by you, and kept with the run."


@dataclass(frozen=True)
class CardPanel:
    settings: Settings
    card: gr.Markdown
    note: gr.HTML
    editor: gr.Textbox
    edit: gr.Button
    done: gr.Button
    reset: gr.Button

    @property
    def outputs(self) -> Sequence[gr.components.Component]:
        return [self.card, self.note, self.editor, self.edit, self.reset]

    def show(self, run: RunFolder, repo_id: str, token: str | bool | None) -> list:
        """The card as it would be published in `repo_id`. Raises a one-line SimCTError."""
        license = student_license(run.config(), token)
        text = card_of(run, repo_id or PLACEHOLDER, license)
        edited = edited_card(run) is not None
        line = markup.note("quiet", EDITED if edited else "")
        if edited:
            try:
                check_card(text, license)
            except SimCTError as error:
                line = markup.note("error", one_line(error))
        return [card_preview(run, text), line, text, gr.Button(interactive=True), gr.Button(visible=edited)]

    def connect(self, run: gr.Dropdown, repo: gr.Textbox) -> None:
        """Edit, keep what was written when the field is left, and go back to the generated card."""
        settings = self.settings

        def changed(
            run_id: str | None,
            repo_id: str | None,
            text: str | None,
            visitor: gr.OAuthToken | None,
            profile: gr.OAuthProfile | None,
        ) -> list:
            """Keep `text` (None: forget what was edited), and show what is published now."""
            try:
                found = owned_run(settings, run_id, settings.owner(profile))
                named, token = (repo_id or "").strip(), settings.token(visitor)
                if text is None:
                    reset_card(found)
                elif (
                    text.strip() != card_of(found, named or PLACEHOLDER, student_license(found.config(), token)).strip()
                ):
                    save_card(found, text, named or PLACEHOLDER)
                return self.show(found, named, token)
            except SimCTError as error:
                return [gr.skip(), markup.note("error", one_line(error)), *[gr.skip()] * 3]

        def keep(
            run_id: str | None,
            repo_id: str | None,
            text: str,
            visitor: gr.OAuthToken | None = None,
            profile: gr.OAuthProfile | None = None,
        ) -> list:
            return changed(run_id, repo_id, text, visitor, profile)

        def forget(
            run_id: str | None,
            repo_id: str | None,
            visitor: gr.OAuthToken | None = None,
            profile: gr.OAuthProfile | None = None,
        ) -> list:
            return changed(run_id, repo_id, None, visitor, profile)

        def editing(on: bool) -> list:
            return [gr.Textbox(visible=on), gr.Button(visible=not on), gr.Button(visible=on)]

        whole = [run, repo, self.editor]
        modes = [self.editor, self.edit, self.done]
        self.edit.click(lambda: editing(True), outputs=modes, **settings.quiet)
        self.editor.blur(keep, whole, self.outputs, **settings.in_turn("card"))
        self.done.click(lambda: editing(False), outputs=modes, **settings.quiet).then(
            keep, whole, self.outputs, **settings.in_turn("card")
        )
        self.reset.click(forget, [run, repo], self.outputs, **settings.in_turn("card"))


def build(settings: Settings) -> CardPanel:
    """The card with its buttons above it, and its source between them while it is edited."""
    with gr.Row(elem_id="card-head"):
        markup.panel("<h3>Card</h3>")
        reset = gr.Button("Reset to generated", size="sm", visible=False, scale=0, min_width=150, elem_id="card-reset")
        edit = gr.Button("Edit", size="sm", interactive=False, scale=0, min_width=80, elem_id="card-edit")
        done = gr.Button("Done", size="sm", visible=False, scale=0, min_width=80, elem_id="card-done")
    note = markup.panel(elem_id="card-note")
    editor = gr.Textbox(
        label="Card source",
        info="Markdown. The metadata for the Hub stands first, between two lines of ---.",
        lines=18,
        max_lines=40,
        visible=False,
        elem_id="card-editor",
    )
    card = gr.Markdown(EMPTY, elem_id="card", min_height=200)
    return CardPanel(settings, card, note, editor, edit, done, reset)


def nothing() -> list:
    """What the panel shows without a run."""
    return [EMPTY, "", "", gr.Button(interactive=False), gr.Button(visible=False)]


def check(run: RunFolder, token: str | bool | None) -> None:
    """Raises a one-line HubError if an edited card could not be published as it is."""
    if edited_card(run) is not None:
        license = student_license(run.config(), token)
        check_card(card_of(run, PLACEHOLDER, license), license)
