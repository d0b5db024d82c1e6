"""Publish: a finished student, its card, one click, and the link to what was made."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from app import markup, run_view
from app.runs_tab import owned_run, runs_of
from app.settings import Settings, one_line
from simct.errors import HubError, SimCTError
from simct.hub.publish import publishing_state

IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class PublishTab:
    """`refresh` fills the list of runs; `tell` then reads the fields as they stand and shows the card."""

    refresh: Callable
    tell: Callable
    run: gr.Dropdown
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings) -> PublishTab:
    """Run, destination and visibility on the left; the card as people will read it on the right."""
    markup.panel(
        '<h2>Publish</h2><p class="lead">The student goes to the Hub with a card that says how it was made.</p>'
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown([], label="Finished run", elem_id="publish-run", filterable=False)
            repo = gr.Textbox(
                label="Repository", placeholder="your-name/model-name", elem_id="publish-repo", max_lines=1
            )
            private = gr.Checkbox(False, label="Private: only you can see it", elem_id="publish-private")
            button = gr.Button("Publish", variant="primary", elem_id="publish")
            result = markup.panel(markup.note("quiet", ""), elem_id="publish-note")
        with gr.Column(scale=3, min_width=320):
            markup.panel("<h3>Card</h3>")
            card = gr.Markdown(elem_id="card", min_height=200)

    def options(owner: str | None) -> list[tuple[str, str]]:
        return [
            (run_view.label(found).replace("\n", " · "), found.id)
            for found in runs_of(settings, owner)
            if found.status().get("state") == "finished"
        ]

    def refresh(chosen: str | None, current: str | None, profile: gr.OAuthProfile | None = None) -> dict:
        """Finished runs, with the one chosen under Runs picked."""
        found = options(settings.owner(profile))
        ids = [run_id for _, run_id in found]
        picked = next((run_id for run_id in (chosen, current) if run_id in ids), next(iter(ids), None))
        return gr.Dropdown(choices=found, value=picked)

    def told(run_id: str | None, repo_id: str | None, profile: gr.OAuthProfile | None = None) -> tuple[str, str]:
        """(line under the button, card) of a run."""
        if not run_id:
            return markup.note("quiet", "No finished run yet."), "*The card appears when a run has finished.*"
        try:
            found = owned_run(settings, run_id, settings.owner(profile))
            return publishing_line(publishing_state(found)), preview(found, repo_id)
        except SimCTError as error:
            return markup.note("error", one_line(error)), ""

    def publish(
        run_id: str | None,
        repo_id: str | None,
        hidden: bool,
        visitor: gr.OAuthToken | None = None,
        profile: gr.OAuthProfile | None = None,
    ) -> str:
        """Upload, and tell where it is; one line if it could not be done."""
        try:
            if not run_id:
                raise HubError("Choose a finished run first.")
            found = owned_run(settings, run_id, settings.owner(profile))
            from simct.hub.publish import publish_run

            publish_run(found, checked_repo_id(repo_id), private=hidden, token=settings.token(visitor))
            return publishing_line(publishing_state(found))
        except SimCTError as error:
            return markup.note("error", one_line(error))

    gr.on(
        [run.input, repo.change],
        told,
        [run, repo],
        [result, card],
        trigger_mode="always_last",
        **settings.in_turn("card"),
    )
    button.click(lambda: markup.note("busy", "Publishing…"), outputs=result, **settings.quiet).then(
        publish, [run, repo, private], result, trigger_mode="once", **settings.quiet
    )
    return PublishTab(refresh, told, run, [run, repo], [result, card])


def checked_repo_id(repo_id: str | None) -> str:
    """`repo_id` trimmed. Raises HubError unless it reads as owner/name."""
    repo_id = (repo_id or "").strip()
    if not REPO_ID.fullmatch(repo_id) or len(repo_id) > 96:
        raise HubError(
            f"{repo_id!r} is not a repository. Write it as owner/name, with letters, digits, '-', '_' or '.'."
        )
    return repo_id


def preview(run, repo_id: str | None) -> str:
    """The card as it would be uploaded, its metadata as a block at the end."""
    from simct.hub.card import model_card

    text = model_card(run, (repo_id or "").strip() or "your-name/model-name")
    if not text.startswith("---\n"):
        return text
    _, front, body = text.split("---\n", 2)
    # its pictures are files of the run, which this page does not serve
    body = IMAGE.sub(r"*Picture: \1*", body)
    return f"{body.strip()}\n\n### Metadata\n\n```yaml\n{front.strip()}\n```"


def publishing_line(record: dict) -> str:
    """What publish.json says, as one line with the link."""
    state = record.get("state", "none")
    if state == "published":
        url, name = str(record.get("url") or ""), escape(str(record.get("repo_id") or ""))
        if not url.startswith(("https://", "http://")):
            return markup.note("ok", "Published: @").replace("@", name)
        link = f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{name}</a>'
        return markup.note("ok", "Published: @").replace("@", link)
    if state == "publishing":
        return markup.note("busy", f"Publishing to {record.get('repo_id', '')}…")
    if state == "failed":
        return markup.note("error", record.get("error") or "Publishing failed.")
    return markup.note("quiet", "")
