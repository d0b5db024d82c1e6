"""What one studio may do, where its runs lie, and whose token it acts with."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from simct import demo

TEACHER_NAME = "Embedded teacher"
STUDENT_NAME = "Embedded student"
# a Space whose GPU is lent to one call at a time (zero_gpu.py)
ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


@dataclass(frozen=True)
class Settings:
    """`public` is a Space: visitors name no folders of the machine, and act with their own token only."""

    runs_dir: Path
    public: bool = field(default_factory=lambda: bool(os.environ.get("SPACE_ID")))

    @property
    def default_pair(self) -> dict[str, str]:
        return {"teacher": str(demo.TEACHER), "student": str(demo.STUDENT)}

    @property
    def trains_here(self) -> bool:
        """Whether runs may use this machine; a Space must be told so, as it would be every visitor's."""
        return not self.public or (os.environ.get("SIMCT_TRAIN_HERE") == "1" and not ZERO_GPU)

    @property
    def private(self) -> dict:
        """Event arguments of what is not part of the public API."""
        return {"api_visibility": "private"}

    @property
    def quiet(self) -> dict:
        """Event arguments of updates that come and go without a spinner."""
        return {"api_visibility": "private", "show_progress": "hidden"}

    @property
    def latest(self) -> dict:
        """Event arguments of what follows a person's hand: what they do meanwhile waits, so nothing they do is lost."""
        return {**self.quiet, "trigger_mode": "always_last"}

    def in_turn(self, name: str) -> dict:
        """Event arguments of updates to the same place: they end in the order they began, so the last one stays."""
        return {**self.latest, "concurrency_id": name, "concurrency_limit": 1}

    def token(self, visitor: gr.OAuthToken | None) -> str | bool | None:
        """The visitor's own token; off-Space None, which is the locally stored one; in public never the machine's."""
        if visitor is not None:
            return visitor.token
        return False if self.public else None

    def owner(self, visitor: gr.OAuthProfile | None) -> str | None:
        return visitor.username if visitor is not None else None
