"""What the studio does for all runs while nobody looks: start what is due, and keep Jobs up to date.

One thread moves the local queue on. Each visitor's Jobs are asked about with that visitor's own token, which is kept in
memory for as long as the studio runs; requests that fail are made less and less often, and never hold up a page.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from app.page.markup import one_line
from app.server.settings import Settings
from simct.errors import SimCTError
from simct.hub.retry import BackOff
from simct.jobs import actions
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses

EVERY_SECONDS = 1.0
JOB_SECONDS = 5.0
HISTORY_SECONDS = 60.0
WORKERS = 8


@dataclass
class Background:
    """`tokens` by owner (None: whoever runs the studio on this machine); `trouble` what the Hub last said, by owner."""

    settings: Settings
    tokens: dict[str | None, str | None] = field(default_factory=dict)
    trouble: dict[str | None, str] = field(default_factory=dict)
    pace: dict[object, BackOff] = field(default_factory=dict)
    busy: set[object] = field(default_factory=set)
    following: set[str] = field(default_factory=set)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(WORKERS, "jobs"))

    def meet(self, owner: str | None, token: str | bool | None) -> None:
        """Note a visitor who is here: their Jobs are asked about from now on, and runs that wait get their token."""
        if self.settings.public and (owner is None or not token):
            return
        self.tokens[owner] = token or None
        if token:
            for run, status in list_statuses(self.settings.runs_dir):
                if status.lent and status.state == "queued" and status.owner == owner:
                    actions.provide_token(run, str(token))

    def turn(self) -> None:
        """One look at everything; requests go on behind it."""
        actions.advance(self.settings.runs_dir)
        for owner, token in list(self.tokens.items()):
            if token is None and not _signed_in():
                continue
            self._behind(("history", owner), HISTORY_SECONDS, self._history, owner, token)
            for run, status in list_statuses(self.settings.runs_dir):
                if status.remote and status.owner == owner and status.job_id and status.active:
                    self._behind(run.id, JOB_SECONDS, self._refresh, run, owner, token)

    def _behind(self, name: object, every: float, work, *arguments) -> None:
        """Do `work` in another thread if its time has come and it is not being done."""
        pace = self.pace.setdefault(name, BackOff(every))
        if name in self.busy or not pace.due():
            return
        self.busy.add(name)
        self.workers.submit(self._done, name, pace, work, arguments)

    def _done(self, name: object, pace: BackOff, work, arguments: tuple) -> None:
        owner = arguments[-2]
        try:
            work(*arguments)
            pace.succeeded()
            self.trouble.pop(owner, None)
        except Exception as error:
            pace.failed(error)
            self.trouble[owner] = f"{one_line(error)} Looking again in {pace.next - time.monotonic():.0f} s."
        finally:
            self.busy.discard(name)

    def _history(self, owner: str | None, token: str | None) -> None:
        actions.sync(self.settings.runs_dir, token=token, owner=owner)

    def _refresh(self, run: RunFolder, owner: str | None, token: str | None) -> None:
        if run.id not in self.following:
            self.following.add(run.id)
            threading.Thread(target=self._follow, args=(run, token), daemon=True).start()
        actions.refresh(run, token)

    def _follow(self, run: RunFolder, token: str | None) -> None:
        """Keep the Job's own output in the run folder; begun anew at the next look if it breaks off."""
        try:
            actions.follow_log(run, token, wanted=lambda: run.status().active)
        except SimCTError:
            time.sleep(JOB_SECONDS)  # the look that follows tells what is wrong
        finally:
            self.following.discard(run.id)


def _signed_in() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


_running: dict[Path, Background] = {}
_starting = threading.Lock()


def of(settings: Settings) -> Background:
    """The background of this studio, started the first time it is asked for."""
    with _starting:
        found = _running.get(settings.runs_dir)
        if found is None:
            found = _running[settings.runs_dir] = Background(settings)
            if not settings.public:
                found.tokens[None] = None
            threading.Thread(target=_go_on, args=(found,), daemon=True, name="background").start()
        return found


def _go_on(background: Background) -> None:
    while True:
        try:
            background.turn()
        except Exception as error:
            # such as a full disk; the next look may find it mended
            background.trouble[None] = one_line(error)
        time.sleep(EVERY_SECONDS)
