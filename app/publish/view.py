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


def publishing_line(record: dict) -> str:
    """What publish.json says, as HTML with the links."""
    state, name = record.get("state", "none"), str(record.get("repo_id") or "")
    if state == "published":
        return hub_view.note_with("ok", f"Published: {hub_view.link(record.get('url'), name)}") + _made(record)
    if state == "publishing":
        stage, sent, total = (record.get(key) for key in ("stage", "sent", "total"))
        told = f"{stage or 'Publishing'}, for {name}."
        if total:
            told += f" {models.human_size(sent or 0)} of {models.human_size(total)}."
        bar = markup.progress(int(sent or 0), int(total)) if total else ""
        return bar + markup.note("busy", f"{told} It goes on when this page is closed.")
    if state == "failed":
        line = hub_view.linked_note("error", str(record.get("error") or "Publishing failed."))
        before = f"Published before and still there: {hub_view.link(record['url'], name)}" if record.get("url") else ""
        return line + hub_view.note_with("quiet", before)
    return markup.note("quiet", "")


def button_label(record: dict) -> str:
    """What the one click does now."""
    return {"failed": "Try again", "published": "Publish again", "publishing": "Publishing…"}.get(
        record.get("state", "none"), "Publish"
    )


def _made(record: dict) -> str:
    """Links to what went along with the model."""
    links = [hub_view.link(record[key], name) for key, name in WITH_IT if record.get(key)]
    return hub_view.note_with("quiet", f"With it: {', '.join(links)}." if links else "")
