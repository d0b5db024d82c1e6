"""Publish: a finished student, its card to read and edit, one click, and links to what was created."""

from typing import Any

import gradio as gr

from app.page import markup, scripts
from app.page.markup import one_line
from app.page.publishing import publishing_line
from app.publish import card, view
from app.publish.card import CardPanel
from app.publish.usage import UsagePanel
from app.runs.listing import one_line_options, visible
from app.runs.tab import RunsTab
from app.server.handler import PRIVATE, Handler, Updates, in_turn, new_value
from app.server.repository import account, suggested_repo_id
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import HubError, SimCTError
from simct.hub.model_files import ADAPTER_CONFIG
from simct.hub.repo_ids import checked_repo_id
from simct.publishing.push import publishing_state
from simct.runs.folder import RunFolder
from simct.runs.status import PublishingStatus, RunStatus

EVERY_SECONDS = 1.0
GONE = "The chosen run is no longer here. Choose another one."
WEIGHTS = [("Merged model", "merged"), ("Adapter alone", "adapter"), ("Both", "both")]
ABOUT_WEIGHTS = (
    "The run trained a LoRA adapter. Merged: a whole model, which any program can load. Adapter: a small file for "
    "people who have the student already. Both: the adapter goes to its own repository, NAME-adapter."
)


class PublishTab:
    """Run, destination and options on the left; the card as people will see it on the right.

    `refresh` fills the list of runs; `show` then reads the fields and shows the state and the card.
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
                self.usage = UsagePanel()
            with gr.Column(scale=3, min_width=320):
                self.card = CardPanel(studio)
        which, turn = {"run_id": self.run, "repo_id": self.repo, "what": self.what}, in_turn("card")
        controls = [self.note, self.publish, self.stop, self.timer]
        picked = {"chosen": runs.chosen, "current": self.run}
        self.refresh = Handler(studio, self._refresh, picked, [self.run, self.repo], turn)
        shown = [self.suggested, self.shown, self.what, *controls, *self.card.outputs, *self.usage.outputs]
        self.show = Handler(studio, self._show, {**which, "was_shown": self.shown}, shown, turn)
        other = Handler(studio, self._other_run, {"run_id": self.run, "shown": self.shown}, [self.repo], turn)
        self.show_after(other.on(self.run.input).then)
        self._suggest(self.repo.blur)
        # not `input`, which Gradio does not fire for pasted text
        self.show.on(self.repo.change)
        self.show.on(self.what.input)
        once = {**PRIVATE, "trigger_mode": "once"}
        fields = {
            **which,
            "typed_token": self.token,
            "private": self.private,
            "rollouts": self.rollouts,
            "space": self.space,
        }
        self.account_line = Handler(
            studio, self._show_account, {"typed_token": self.token}, [self.account], in_turn("account")
        )
        self.account_line.on(self.token.blur, self.token.submit)
        # in turn, so that a card that was just edited has been kept
        Handler(studio, self._publish, fields, controls, {**turn, **once}).on(self.publish.click)
        Handler(studio, self._stop, {"run_id": self.run}, controls, once).on(self.stop.click)
        # in turn, so that it never shows the run that was chosen before
        watching = {**turn, "trigger_mode": "once"}
        Handler(studio, self._watch, {"run_id": self.run}, controls, watching).on(self.timer.tick)
        self.card.connect(self.run, self.repo, self.what)

    def _build_fields(self) -> None:
        self.run = gr.Dropdown([], label="Finished run", elem_id="publish-run", filterable=False)
        self.repo = gr.Textbox(
            label="Repository", placeholder="your-name/model-name", elem_id="publish-repo", max_lines=1
        )
        # the name suggested for the run that is shown, and that run
        self.suggested, self.shown = markup.held(), markup.held()
        self.private = gr.Checkbox(True, label="Private: only you can see it", elem_id="publish-now-private")
        self.what = gr.Radio(
            WEIGHTS, value="merged", label="Weights", info=ABOUT_WEIGHTS, visible=False, elem_id="publish-now-what"
        )
        with gr.Group():
            self.rollouts = gr.Checkbox(False, label="Also its rollouts, as a dataset", elem_id="publish-now-rollouts")
            self.space = gr.Checkbox(False, label="Also a chat demo, as a Space", elem_id="publish-now-space")
        self.account = markup.panel(elem_id="publish-account")
        # only on this machine; in a Space, people sign in with their account
        self.token = gr.Textbox(
            label="Access token",
            info="Kept in this page only. Empty: the account stored on this machine.",
            type="password",
            max_lines=1,
            visible=not self.studio.public,
            elem_id="publish-token",
        )
        with gr.Row():
            self.publish = gr.Button("Publish", variant="primary", elem_id="publish")
            self.stop = gr.Button("Stop", visible=False, elem_id="publish-stop", scale=0, min_width=90)
        self.note = markup.panel(markup.note("quiet", ""), elem_id="publish-note")

    def show_after(self, trigger: Any) -> None:
        """The state and the card after an event, and the suggested repository name, unless one was typed in the
        meantime.
        """
        self._suggest(self.show.on(trigger).then)

    def _suggest(self, trigger: Any) -> None:
        """Put the suggested name into the field after an event, if it is empty and the visitor is not typing there."""
        names, keep = [self.suggested, self.repo], scripts.call("keepTyped", "publish-repo")
        trigger(None, names, self.repo, js=keep, **PRIVATE)

    def _state(self, status: PublishingStatus) -> Updates:
        """The line, the buttons and the timer for a state."""
        return {
            self.note: publishing_line(status),
            self.publish: gr.Button(view.button_label(status), interactive=not status.active),
            self.stop: gr.Button(visible=status.active),
            self.timer: gr.Timer(active=status.active),
        }

    def _refresh(self, visitor: Visitor, chosen: str | None, current: str | None) -> Updates:
        """Finished runs, with the one chosen under Runs selected; none if the chosen one was deleted. The name of the
        repository is emptied if it was meant for another run.
        """
        options = one_line_options(self._finished(visitor))
        ids = [run_id for _, run_id in options]
        first = None if current else next(iter(ids), None)
        picked = next((run_id for run_id in (chosen, current) if run_id in ids), first)
        emptied = self._empty_repo() if current and picked != current else {}
        return {self.run: gr.Dropdown(choices=options, **new_value(picked, current)), **emptied}

    def _finished(self, visitor: Visitor) -> list[tuple[RunFolder, RunStatus]]:
        return [each for each in visible(self.studio, visitor) if each[1].state == "finished"]

    def _show(
        self, visitor: Visitor, run_id: str | None, repo_id: str | None, what: str, was_shown: str = ""
    ) -> Updates:
        """The state and the card of a run. If no repository is named yet, the one where the run was or would be
        published.
        """
        if not run_id:
            gone = bool(self._finished(visitor))
            line = markup.note("warn", GONE) if gone else markup.note("quiet", "No finished run yet.")
            return {self.suggested: "", self.note: line, **self.card.nothing()}
        try:
            run = owned_run(self.studio, run_id, visitor)
            status = publishing_state(run)
            suggested = status.repo_id or suggested_repo_id(self.studio, run, visitor)
            repo = (repo_id or "").strip() or suggested
            has_adapter = (run.adapter_dir / ADAPTER_CONFIG).is_file()
            weights = gr.Radio(visible=has_adapter) if has_adapter else gr.Radio(visible=False, value="merged")
            alone = has_adapter and what == "adapter"
            shown = {**self.card.show(run, repo, visitor, alone), **self.usage.show(run, repo, alone)}
            shown |= self.card.of_another_run() if was_shown not in ("", run_id) else {}
            state = self._state(status)
            if not status.active:
                # publishing may have begun since the status was read; a timer that runs finds that out at its next tick
                del state[self.timer]
            return {self.suggested: suggested, self.shown: run_id, self.what: weights, **state, **shown}
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), **self.card.nothing()}

    def _empty_repo(self) -> Updates:
        return {self.repo: ""}

    def _other_run(self, run_id: str | None, shown: str) -> Updates:
        """Empty the name of the repository if another run was chosen; Gradio also reports a list that was only left."""
        return self._empty_repo() if run_id != shown else {}

    def _show_account(self, visitor: Visitor, typed_token: str | None) -> Updates:
        """Who publishes, or how to sign in."""
        name = visitor.owner or account(self.studio, self._token(visitor, typed_token))
        return {self.account: view.account_line(name, self.studio.public, bool((typed_token or "").strip()))}

    def _token(self, visitor: Visitor, typed: str | None) -> str | bool | None:
        """The token typed into the page, if this is the visitor's own machine; else the visitor's."""
        typed = (typed or "").strip()
        return typed if typed and not self.studio.public else visitor.token

    def _publish(
        self,
        visitor: Visitor,
        run_id: str | None,
        repo_id: str | None,
        what: str,
        typed_token: str | None,
        private: bool,
        rollouts: bool,
        space: bool,
    ) -> Updates:
        """Start publishing in the background; one line if it cannot start."""
        from simct.publishing.process import start_publishing

        try:
            if not run_id:
                raise HubError("Choose a finished run first.")
            run = owned_run(self.studio, run_id, visitor)
            token = self._token(visitor, typed_token)
            card.check(run, token)
            start_publishing(run, checked_repo_id(repo_id), private, token, rollouts, space, what)
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
        """Show the progress while publishing is under way."""
        try:
            return self._state(publishing_state(owned_run(self.studio, run_id, visitor)))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), self.timer: gr.Timer(active=False)}
