"""Publish: a finished student, its card to read and to edit, one click, and the links to what was made."""

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.publish import card, view
from app.publish.card import CardPanel
from app.publish.repository import suggested_repo_id
from app.runs.listing import one_line_options, visible
from app.runs.tab import RunsTab
from app.server.handler import PRIVATE, QUIET, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import HubError, SimCTError
from simct.hub.repo_ids import checked_repo_id
from simct.publishing.push import publishing_state
from simct.runs.status import PublishingStatus

EVERY_SECONDS = 1.0


class PublishTab:
    """Run, destination and what goes along on the left; the card as people will read it on the right.

    `refresh` fills the list of runs; `show` then reads the fields as they stand and shows state and card.
    """

    def __init__(self, studio: Studio, runs: RunsTab) -> None:
        self.studio = studio
        markup.panel(
            markup.heading(
                "Publish",
                "The student goes to the Hub with a card that says how it was made.",
                "running#publishing-when-finished",
            )
        )
        self.timer = gr.Timer(EVERY_SECONDS, active=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._build_fields()
            with gr.Column(scale=3, min_width=320):
                self.card = CardPanel(studio)
        which, turn = {"run_id": self.run, "repo_id": self.repo}, in_turn("card")
        controls = [self.note, self.publish, self.stop, self.timer]
        picked = {"chosen": runs.chosen, "current": self.run}
        self.refresh = Handler(studio, self._refresh, picked, [self.run], turn)
        self.show = Handler(studio, self._show, which, [self.repo, *controls, *self.card.outputs], turn)
        self.show.on(Handler(studio, self._empty_repo, {}, [self.repo], turn).on(self.run.input).then)
        # not `input`, which Gradio does not fire for what is pasted
        self.show.on(self.repo.change)
        once = {**PRIVATE, "trigger_mode": "once"}
        fields = {**which, "private": self.private, "rollouts": self.rollouts, "space": self.space}
        Handler(studio, self._publish, fields, controls, once).on(self.publish.click)
        Handler(studio, self._stop, {"run_id": self.run}, controls, once).on(self.stop.click)
        watching = {**QUIET, "trigger_mode": "once", "concurrency_limit": 8}
        Handler(studio, self._watch, {"run_id": self.run}, controls, watching).on(self.timer.tick)
        self.card.connect(self.run, self.repo)

    def _build_fields(self) -> None:
        self.run = gr.Dropdown([], label="Finished run", elem_id="publish-run", filterable=False)
        self.repo = gr.Textbox(
            label="Repository", placeholder="your-name/model-name", elem_id="publish-repo", max_lines=1
        )
        self.private = gr.Checkbox(False, label="Private: only you can see it", elem_id="publish-now-private")
        with gr.Group():
            self.rollouts = gr.Checkbox(False, label="Also its rollouts, as a dataset", elem_id="publish-now-rollouts")
            self.space = gr.Checkbox(False, label="Also a chat demo, as a Space", elem_id="publish-now-space")
        with gr.Row():
            self.publish = gr.Button("Publish", variant="primary", elem_id="publish")
            self.stop = gr.Button("Stop", visible=False, elem_id="publish-stop", scale=0, min_width=90)
        self.note = markup.panel(markup.note("quiet", ""), elem_id="publish-note")

    def _state(self, status: PublishingStatus) -> Updates:
        """The line, the buttons and the timer for a state."""
        return {
            self.note: view.publishing_line(status),
            self.publish: gr.Button(view.button_label(status), interactive=not status.active),
            self.stop: gr.Button(visible=status.active),
            self.timer: gr.Timer(active=status.active),
        }

    def _refresh(self, visitor: Visitor, chosen: str | None, current: str | None) -> Updates:
        """Finished runs, with the one chosen under Runs picked."""
        finished = [each for each in visible(self.studio, visitor) if each[1].state == "finished"]
        options = one_line_options(finished)
        ids = [run_id for _, run_id in options]
        picked = next((run_id for run_id in (chosen, current) if run_id in ids), next(iter(ids), None))
        return {self.run: gr.Dropdown(choices=options, value=picked)}

    def _show(self, visitor: Visitor, run_id: str | None, repo_id: str | None) -> Updates:
        """State and card of a run; where it was published, or would be, if nothing is named yet."""
        if not run_id:
            return {self.note: markup.note("quiet", "No finished run yet."), **self.card.nothing()}
        try:
            run = owned_run(self.studio, run_id, visitor)
            status = publishing_state(run)
            typed = (repo_id or "").strip()
            repo = typed or status.repo_id or suggested_repo_id(self.studio, run, visitor)
            shown = {**self._state(status), **self.card.show(run, repo, visitor)}
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), **self.card.nothing()}
        # what is being typed is left alone
        return shown if typed else {self.repo: repo, **shown}

    def _empty_repo(self) -> Updates:
        return {self.repo: ""}

    def _publish(
        self, visitor: Visitor, run_id: str | None, repo_id: str | None, private: bool, rollouts: bool, space: bool
    ) -> Updates:
        """Begin to publish in the background; one line if that cannot even begin."""
        from simct.publishing.process import start_publishing

        try:
            if not run_id:
                raise HubError("Choose a finished run first.")
            run = owned_run(self.studio, run_id, visitor)
            card.check(run, visitor.token)
            start_publishing(run, checked_repo_id(repo_id), private, visitor.token, rollouts, space)
            return self._state(publishing_state(run))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}

    def _stop(self, visitor: Visitor, run_id: str | None) -> Updates:
        from simct.publishing.process import stop_publishing

        try:
            run = owned_run(self.studio, run_id, visitor)
            stop_publishing(run)
            return self._state(publishing_state(run))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}

    def _watch(self, visitor: Visitor, run_id: str | None) -> Updates:
        """How far it is, while it lasts."""
        try:
            return self._state(publishing_state(owned_run(self.studio, run_id, visitor)))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), self.timer: gr.Timer(active=False)}
