"""The repository in which a student is published: a name, checked or suggested from the run."""

import re

from huggingface_hub import get_token

from app.server.model_facts import display_name
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.config import RunConfig
from simct.hub.client import ask
from simct.runs.folder import RunFolder

LONGEST = 96


def suggested_repo_id(studio: Studio, run: RunFolder, visitor: Visitor) -> str:
    """A repository name for a run that was never published: the visitor's account, the student and the method."""
    name = visitor.owner or account(studio, visitor.token)
    if not name:
        return ""
    return f"{name}/{suggested_name(run.config())}"[:LONGEST]


def suggested_name(config: RunConfig) -> str:
    """A name for a repository of the run's student: the student and the method."""
    student = re.sub(r"[^\w.-]+", "-", display_name(config.student.model).split("@")[0].split("/")[-1])
    kind = "warm-start" if config.kind == "warmup" else config.method
    return f"{student.strip('-.')}-{kind}"[:LONGEST]


def account(studio: Studio, token: str | bool | None) -> str | None:
    """The account of the token; None if there is none, or if the Hub does not tell."""
    known = token if isinstance(token, str) else None if token is False else get_token()
    if not known:
        return None
    try:
        return studio.kept(_account_of, 64)(known)
    except Exception:  # the field then stays empty, and publishing reports what is wrong
        return None


def _account_of(token: str) -> str:
    return str(ask("/api/whoami-v2", {}, token)["name"])
