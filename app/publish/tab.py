"""Publish: a finished student, its card to read and to edit, one click, and the links to what was made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.publish import card as publish_card
from app.publish import view as publish_view
from app.publish.view import checked_repo_id
from app.runs import names as run_names
from app.runs.actions import owned_run
from app.runs.page import runs_of
from app.server.settings import Settings
from simct.errors import HubError, SimCTError
from simct.publishing.push import publishing_state
from simct.runs.status import PublishingStatus

EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class PublishTab:
    """`refresh` fills the list of runs; `tell` then reads the fields as they stand and shows state and card."""

    refresh: Callable
    tell: Callable
    run: gr.Dropdown
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings) -> PublishTab:
    """Run, destination and what goes along on the left; the card as people will read it on the right."""
    markup.panel(
        '<h2>Publish</h2><p class="lead">The student goes to the Hub with a card that says how it was made.</p>'
    )
    timer = gr.Timer(EVERY_SECONDS, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown([], label="Finished run", elem_id="publish-run", filterable=False)
            repo = gr.Textbox(
                label="Repository", placeholder="your-name/model-name", elem_id="publish-repo", max_lines=1
            )
            private = gr.Checkbox(False, label="Private: only you can see it", elem_id="publish-private")
            with gr.Group():
                rollouts = gr.Checkbox(False, label="Also its rollouts, as a dataset", elem_id="publish-rollouts")
                space = gr.Checkbox(False, label="Also a chat demo, as a Space", elem_id="publish-space")
            with gr.Row():
                button = gr.Button("Publish", variant="primary", elem_id="publish")
                stop = gr.Button("Stop", visible=False, elem_id="publish-stop", scale=0, min_width=90)
            result = markup.panel(markup.note("quiet", ""), elem_id="publish-note")
        with gr.Column(scale=3, min_width=320):
            card = publish_card.build(settings)

    controls = [result, button, stop, timer]

    def shown(status: PublishingStatus) -> list:
        """The line, the buttons and the timer for a state."""
        return [
            publish_view.publishing_line(status),
            gr.Button(publish_view.button_label(status), interactive=not status.active),
            gr.Button(visible=status.active),
            gr.Timer(active=status.active),
        ]

    def failed(error: SimCTError) -> list:
        return [markup.note("error", one_line(error)), gr.skip(), gr.skip(), gr.skip()]

    def refresh(chosen: str | None, current: str | None, profile: gr.OAuthProfile | None = None) -> dict:
        """Finished runs, with the one chosen under Runs picked."""
        found = [
            (run_names.label(each).replace("\n", " · "), each.id)
            for each in runs_of(settings, settings.owner(profile))
            if each.status().state == "finished"
        ]
        ids = [run_id for _, run_id in found]
        picked = next((run_id for run_id in (chosen, current) if run_id in ids), next(iter(ids), None))
        return gr.Dropdown(choices=found, value=picked)

    def tell(
        run_id: str | None,
        repo_id: str | None,
        visitor: gr.OAuthToken | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> list:
        """State and card of a run; where it was published, or would be, if nothing is named yet."""
        if not run_id:
            line = [markup.note("quiet", "No finished run yet."), *[gr.skip()] * 3]
            return [gr.skip(), *line, *publish_card.nothing()]
        try:
            found = owned_run(settings, run_id, settings.owner(profile))
            record = publishing_state(found)
            token, typed = settings.token(visitor), (repo_id or "").strip()
            named = typed or (record.repo_id or "") or publish_view.suggested(found, profile, token)
            # what is being typed is left alone
            return [gr.skip() if typed else named, *shown(record), *card.show(found, named, token)]
        except SimCTError as error:
            return [gr.skip(), *failed(error), *publish_card.nothing()]

    def publish(
        run_id: str | None,
        repo_id: str | None,
        hidden: bool,
        with_rollouts: bool,
        with_space: bool,
        visitor: gr.OAuthToken | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> list:
        """Begin to publish in the background; one line if that cannot even begin."""
        from simct.publishing.process import start_publishing

        try:
            if not run_id:
                raise HubError("Choose a finished run first.")
            found = owned_run(settings, run_id, settings.owner(profile))
            token = settings.token(visitor)
            publish_card.check(found, token)
            start_publishing(found, checked_repo_id(repo_id), hidden, token, with_rollouts, with_space)
            return shown(publishing_state(found))
        except SimCTError as error:
            return failed(error)

    def stop_it(run_id: str | None, profile: gr.OAuthProfile | None = None) -> list:
        from simct.publishing.process import stop_publishing

        try:
            found = owned_run(settings, run_id, settings.owner(profile))
            stop_publishing(found)
            return shown(publishing_state(found))
        except SimCTError as error:
            return failed(error)

    def watch(run_id: str | None, profile: gr.OAuthProfile | None = None) -> list:
        """How far it is, while it lasts."""
        try:
            return shown(publishing_state(owned_run(settings, run_id, settings.owner(profile))))
        except SimCTError as error:
            return [*failed(error)[:3], gr.Timer(active=False)]

    inputs, outputs = [run, repo], [repo, *controls, *card.outputs]
    run.input(lambda: "", outputs=repo, **settings.in_turn("card")).then(
        tell, inputs, outputs, **settings.in_turn("card")
    )
    # not `input`, which Gradio does not fire for what is pasted
    repo.change(tell, inputs, outputs, **settings.in_turn("card"))
    button.click(publish, [run, repo, private, rollouts, space], controls, trigger_mode="once", **settings.private)
    stop.click(stop_it, run, controls, trigger_mode="once", **settings.private)
    timer.tick(watch, run, controls, trigger_mode="once", concurrency_limit=8, **settings.quiet)
    card.connect(run, repo)
    return PublishTab(refresh, tell, run, inputs, outputs)
