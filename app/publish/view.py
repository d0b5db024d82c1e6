"""What publish.json says, as the page shows it: one line, how far an upload is, links to what was made."""

import re
from functools import lru_cache

import gradio as gr
from huggingface_hub import get_token

from app.page import hub_notes as hub_view
from app.page import markup
from app.server import model_facts as models
from simct.errors import HubError
from simct.hub.client import ask
from simct.runs.folder import RunFolder
from simct.runs.status import PublishingStatus

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WITH_IT = (("rollouts_url", "rollouts"), ("space_url", "chat demo"))


def checked_repo_id(repo_id: str | None) -> str:
    """`repo_id` trimmed. Raises HubError unless it reads as owner/name."""
    repo_id = (repo_id or "").strip()
    if not REPO_ID.fullmatch(repo_id) or len(repo_id) > 96:
        raise HubError(
            f"{repo_id!r} is not a repository. Write it as owner/name, with letters, digits, '-', '_' or '.'."
        )
    return repo_id


def suggested(run: RunFolder, profile: gr.OAuthProfile | None, token: str | bool | None) -> str:
    """A repository for a run that was never published: the visitor's account, the student and the method."""
    account = profile.username if profile else _account(token)
    if not account:
        return ""
    config = run.config()
    student = re.sub(r"[^\w.-]+", "-", models.display_name(config.student.model).split("@")[0].split("/")[-1])
    kind = "warm-start" if config.kind == "warmup" else config.method
    return f"{account}/{student}-{kind}"[:96]


def _account(token: str | bool | None) -> str | None:
    """Whose token it is; None if there is none, or the Hub does not say."""
    if token is False or not (token or get_token()):
        return None
    try:
        return _account_of(token or get_token())
    except Exception:  # the field then stays empty, and publishing tells what is wrong
        return None


@lru_cache(maxsize=64)
def _account_of(token: str) -> str:
    return str(ask("/api/whoami-v2", {}, token)["name"])


def publishing_line(status: PublishingStatus) -> str:
    """The state of publishing as HTML, with the links."""
    name = status.repo_id or ""
    if status.state == "published":
        return hub_view.note_with("ok", f"Published: {hub_view.link(status.url, name)}") + _made(status)
    if status.state == "publishing":
        line, bar = f"{status.stage or 'Publishing'}, for {name}.", ""
        if status.total:
            sent = status.sent or 0
            line += f" {models.human_size(sent)} of {models.human_size(status.total)}."
            bar = markup.progress(sent, status.total)
        return bar + markup.note("busy", f"{line} It continues when this page is closed.")
    if status.state == "failed":
        line = hub_view.linked_note("error", status.error or "Publishing failed.")
        before = f"Published before and still there: {hub_view.link(status.url, name)}" if status.url else ""
        return line + hub_view.note_with("quiet", before)
    return markup.note("quiet", "")


def button_label(status: PublishingStatus) -> str:
    """What the button does now."""
    labels = {"failed": "Try again", "published": "Publish again", "publishing": "Publishing…"}
    return labels.get(status.state, "Publish")


def _made(status: PublishingStatus) -> str:
    """Links to what was published with the model."""
    links = [hub_view.link(getattr(status, field), name) for field, name in WITH_IT if getattr(status, field)]
    return hub_view.note_with("quiet", f"With it: {', '.join(links)}." if links else "")
