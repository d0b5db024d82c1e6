"""Runs on this machine: the functions of simct.jobs.backend.Backend, by means of the queue and the run's processes."""

import time
from collections.abc import Callable
from pathlib import Path

from simct.config import RunConfig
from simct.errors import RunError, SimCTError
from simct.jobs.backend import Rental, Token
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.models.server_keys import key_of
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus


def start(
    runs_dir: str | Path,
    config: RunConfig,
    owner: str | None = None,
    gpus: int | None = None,
    token: str | None = None,
) -> RunFolder:
    """Create a run of `config` and start it, or let it wait for its turn; returns the run. If this raises RunError, no
    run is left behind.
    """
    lent = bool(token or key_of(owner, config.teacher.server))
    run = RunFolder.create(runs_dir, config, owner, queued_at=time.time(), gpus=gpus or 1, lent=lent)
    try:
        queue.submit(run, gpus=gpus, token=token)
    except SimCTError:
        if local_job.withdraw(run):
            run.delete()
        raise
    return run


def refresh(run: RunFolder, token: Token = None) -> RunStatus:
    return local_job.refresh(run)


def stop(run: RunFolder, token: Token = None) -> str:
    waited = run.status().waiting
    status = local_job.stop(run)
    queue.advance(run.path.parent)
    if waited and status.state == "stopped":
        return "Removed from the queue."
    if not status.active:
        return f"The run has just ended: it is {status.state}."
    return "Stopping: the run writes a checkpoint first."


def kill(run: RunFolder, token: Token = None) -> str:
    local_job.kill(run)
    queue.advance(run.path.parent)
    return "Ended immediately." + (" Its last checkpoint can be resumed." if run.latest_checkpoint() else "")


def resume(run: RunFolder, token: str | None = None, rental: Rental | None = None) -> str:
    changes = local_job.check_resumable(run)
    whence = "from its last checkpoint" if run.latest_checkpoint() else "from the start: there is no checkpoint"
    queue.submit(run, resume=True, token=token)
    changed = f" run.yaml has changed: {', '.join(changes)}." if changes else ""
    return f"Resumes {whence}{waiting_line(run)}.{changed}"


def waiting_line(run: RunFolder) -> str:
    """The place in the queue as the end of a sentence; empty for a run that has a device."""
    reason = queue.waiting_reason(run, run.status())
    return f" when its turn comes ({reason[0].lower()}{reason[1:]})" if reason else ""


def retry(
    run: RunFolder,
    config: RunConfig,
    owner: str | None = None,
    token: str | None = None,
    rental: Rental | None = None,
) -> RunFolder:
    return start(run.path.parent, config, owner, run.status().gpus, token)


def log(run: RunFolder, lines: int, token: Token = None) -> str:
    return run.log_tail(lines)


def follow_log(run: RunFolder, token: Token, wanted: Callable[[], bool]) -> None:
    """Nothing to do: the run itself writes its log into the run folder."""


def fetch_inputs(run: RunFolder, token: Token = None) -> None:
    """Nothing to do: the run reads its files where they are."""


def fetch_model(run: RunFolder, token: Token = None) -> Path:
    return run.model_dir


def delete(run: RunFolder, token: Token = None) -> None:
    status = local_job.refresh(run)
    if status.state == "unreadable" and local_job.is_locked(run):
        raise RunError(f"Run {run.id} is still training, although its status.json is damaged. End its process first.")
    run.delete()
