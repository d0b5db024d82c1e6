"""A studio's background work for all runs: starting runs that are due, and keeping Jobs up to date.

One thread advances the local queue. Each visitor's Jobs are queried with that visitor's own token, which is forgotten
when it is no longer needed. Failing requests are retried less and less often, and never block a page.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.page.markup import one_line
from app.server.uploads import Uploads
from app.server.visitor import Visitor
from simct.errors import SimCTError
from simct.hub.retry import BackOff
from simct.jobs import actions
from simct.jobs.local.confinement import UPLOADS
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses

EVERY_SECONDS = 1.0
JOB_SECONDS = 5.0
HISTORY_SECONDS = 60.0
UPLOAD_SECONDS = 3600.0
WORKERS = 8
# how long a visitor's token is kept after their last visit: without a Job that runs, and with one, which is as long as
# a sign-in on a Space is valid
PRESENT_SECONDS, TOKEN_SECONDS = 600.0, 8 * 3600.0


@dataclass
class Background:
    """`tokens` by owner (None: the person who runs the studio here); `met`: when each visitor was last here; `trouble`:
    the Hub's last error, by owner.
    """

    runs_dir: Path
    public: bool
    tokens: dict[str | None, str | None] = field(default_factory=dict)
    met: dict[str | None, float] = field(default_factory=dict)
    trouble: dict[str | None, str] = field(default_factory=dict)
    pace: dict[object, BackOff] = field(default_factory=dict)
    busy: set[object] = field(default_factory=set)
    following: set[str] = field(default_factory=set)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(WORKERS, "jobs"))
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the background work in a separate thread."""
        if not self.public:
            self.tokens[None] = None
        self.thread = threading.Thread(target=self._run, daemon=True, name="background")
        self.thread.start()

    def meet(self, visitor: Visitor) -> None:
        """Register a visitor. From now on their Jobs are queried, and their waiting runs get their token."""
        owner, token = visitor.owner, visitor.own_token
        if self.public and (owner is None or token is None):
            return
        self.tokens[owner] = token
        if owner is not None:
            self.met[owner] = time.monotonic()
        if token is not None:
            for run, status in list_statuses(self.runs_dir):
                if status.lent and status.state == "queued" and status.owner == owner:
                    actions.provide_token(run, token)

    def turn(self) -> None:
        """Do one round of work; requests continue in the background."""
        actions.advance(self.runs_dir)
        self._behind("uploads", UPLOAD_SECONDS, self._forget_uploads, None, None)
        jobs = [each for each in list_statuses(self.runs_dir) if each[1].remote and each[1].job_id and each[1].active]
        self._forget_tokens({status.owner for _, status in jobs})
        for owner, token in list(self.tokens.items()):
            if token is None and not _signed_in():
                continue
            self._behind(("history", owner), HISTORY_SECONDS, self._history, owner, token)
            for run, status in jobs:
                if status.owner == owner:
                    self._behind(run.id, JOB_SECONDS, self._refresh, run, owner, token)

    def _forget_tokens(self, with_jobs: set[str | None]) -> None:
        """Forget the tokens of visitors who have left, at the latest when their sign-in is no longer valid."""
        now = time.monotonic()
        for owner, met in list(self.met.items()):
            if now - met > (TOKEN_SECONDS if owner in with_jobs else PRESENT_SECONDS):
                for known in (self.met, self.tokens, self.trouble):
                    known.pop(owner, None)

    def _behind(self, name: object, every: float, work: Callable[..., None], *arguments: Any) -> None:
        """Run `work` in another thread if it is due and not already running."""
        pace = self.pace.setdefault(name, BackOff(every))
        if name in self.busy or not pace.due():
            return
        self.busy.add(name)
        self.workers.submit(self._done, name, pace, work, arguments)

    def _done(self, name: object, pace: BackOff, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        owner = arguments[-2]
        try:
            work(*arguments)
            pace.succeeded()
            self.trouble.pop(owner, None)
        except Exception as error:
            pace.failed(error)
            self.trouble[owner] = f"{one_line(error)} Trying again in {pace.next - time.monotonic():.0f} s."
        finally:
            self.busy.discard(name)

    def _forget_uploads(self, owner: None, token: None) -> None:
        Uploads(self.runs_dir / UPLOADS).forget_old(self.runs_dir)

    def _history(self, owner: str | None, token: str | None) -> None:
        actions.sync(self.runs_dir, token=token, owner=owner)

    def _refresh(self, run: RunFolder, owner: str | None, token: str | None) -> None:
        if run.id not in self.following:
            self.following.add(run.id)
            threading.Thread(target=self._follow, args=(run, token), daemon=True).start()
        actions.refresh(run, token)

    def _follow(self, run: RunFolder, token: str | None) -> None:
        """Save the Job's output in the run folder. If this is interrupted, the next round starts it again."""
        try:
            actions.follow_log(run, token, wanted=lambda: run.status().active)
        except SimCTError:
            time.sleep(JOB_SECONDS)  # the next round reports the error
        finally:
            self.following.discard(run.id)

    def _run(self) -> None:
        while True:
            try:
                self.turn()
            except Exception as error:
                # for example a full disk, which may have space in the next round
                self.trouble[None] = one_line(error)
            time.sleep(EVERY_SECONDS)


def _signed_in() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
