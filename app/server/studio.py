"""One studio: its permissions, its runs folder, and everything that it keeps in memory.

Two studios in one process share nothing: each has its own caches.
"""

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from app.reading.setup import reading_workers
from app.server.background import Background
from app.server.memory import Models
from app.server.uploads import Uploads
from app.server.visitor import Visitor, present_caller
from simct import demo
from simct.jobs.local.confinement import UPLOADS

TEACHER_NAME = "Embedded teacher"
STUDENT_NAME = "Embedded student"
# a Space that lends its GPU to one call at a time (zero_gpu.py)
ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Studio:
    """`public`: the studio is a Space, where visitors cannot name folders of the machine and act only with their own
    token.

    `workers` read files from visitors and the Hub in separate processes; `models` are the weights in memory;
    `background` manages the runs; `uploads` are visitors' files; `imported` is set once the libraries that take seconds
    to import have been imported.
    """

    def __init__(self, runs_dir: Path, public: bool | None = None) -> None:
        self.runs_dir = runs_dir
        self.public = bool(os.environ.get("SPACE_ID")) if public is None else public
        # on a personal machine all of them may work for the one person there
        self.workers = reading_workers(present_caller) if self.public else reading_workers()
        self.models = Models()
        self.uploads = Uploads(runs_dir / UPLOADS)
        self.background = Background(self.runs_dir, self.public)
        self.imported = threading.Event()
        self.imported.set()
        # held while a tokenizer that a worker has accepted is loaded, so that two threads do not both load it
        self.reading = threading.Lock()
        self._kept: dict[Callable[..., Any], Callable[..., Any]] = {}

    @property
    def default_pair(self) -> dict[str, str]:
        return {"teacher": str(demo.TEACHER), "student": str(demo.STUDENT)}

    @property
    def trains_here(self) -> bool:
        """Whether runs may use this machine. The owner of a Space must allow it, because all visitors share its
        hardware.
        """
        return not self.public or (os.environ.get("SIMCT_TRAIN_HERE") == "1" and not ZERO_GPU)

    def visitor(self, token: gr.OAuthToken | None, profile: gr.OAuthProfile | None) -> Visitor:
        """The visitor who sent a request. Without a token, the one stored on this machine is used; in public, none."""
        nobody = False if self.public else None
        return Visitor(token.token if token else nobody, profile.username if profile else None)

    @property
    def nobody(self) -> Visitor:
        """A visitor who has not signed in."""
        return self.visitor(None, None)

    def kept(self, function: Callable[Arguments, Result], size: int = 8) -> Callable[Arguments, Result]:
        """`function` with its `size` latest results cached by its arguments. A token among the arguments separates
        visitors.
        """
        found = self._kept.get(function)
        if found is None:
            found = self._kept.setdefault(function, lru_cache(maxsize=size)(function))
        return found
