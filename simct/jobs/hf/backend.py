"""Runs on Hugging Face Jobs: the functions of simct.jobs.backend.Backend, for a Job and its private repository."""

import shutil
from collections.abc import Callable
from pathlib import Path

from simct.config import RunConfig
from simct.errors import RunError, SimCTError
from simct.hub.retry import passing
from simct.jobs.backend import Rental, Token
from simct.jobs.hf import job as hf_job
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus


def start(
    runs_dir: str | Path, config: RunConfig, rental: Rental, token: str | None = None, owner: str | None = None
) -> RunFolder:
    """Make a run of `config` and start its Job; returns the run. Raises HubError or RunError, and then leaves no run
    behind, unless its Job may have started nevertheless: that run stays, and its Job is looked for later."""
    run = RunFolder.create(runs_dir, config, owner, backend="hf", message="Starting a Hugging Face Job")
    try:
        hf_job.launch(run, rental.flavor, rental.hours, token, rental.namespace, rental.price)
    except SimCTError as error:
        if error.__cause__ is not None and passing(error.__cause__):
            run.set_status(message="Checking whether its Job has started: the Hub did not confirm it")
        else:
            shutil.rmtree(run.path)
        raise
    return run


def rental_of(status: RunStatus) -> Rental | None:
    """The machine that the run was given last; None if its status does not say."""
    if not status.flavor:
        return None
    return Rental(status.flavor, status.hours or 0.0, status.price or 0.0, status.namespace)


def _last_rental(run: RunFolder) -> Rental:
    rental = rental_of(run.status())
    if rental is None:
        raise RunError(f"Run {run.id} does not say which machine on Jobs it had. Duplicate it and choose one.")
    return rental


def refresh(run: RunFolder, token: Token = None) -> RunStatus:
    status = run.status()
    return hf_job.refresh(run, token) if status.job_id else status


def stop(run: RunFolder, token: Token = None) -> str:
    hf_job.stop(run, token)
    state = run.status().state
    if state == "stopping":
        return "Stopping: the Job writes and pushes a checkpoint first."
    return "Canceled before it started." if state == "stopped" else f"The run has just ended: it is {state}."


def kill(run: RunFolder, token: Token = None) -> str:
    hf_job.cancel(run, token)
    return "The Job is canceled. The run can be resumed from its last push."


def resume(run: RunFolder, token: str | None = None, rental: Rental | None = None) -> str:
    rental = rental or _last_rental(run)
    hf_job.launch(run, rental.flavor, rental.hours, token, rental.namespace, rental.price)
    return f"Resumes in a new Job on {rental.line()}."


def retry(
    run: RunFolder,
    config: RunConfig,
    owner: str | None = None,
    token: str | None = None,
    rental: Rental | None = None,
) -> RunFolder:
    return start(run.path.parent, config, rental or _last_rental(run), token, owner)


def log(run: RunFolder, lines: int, token: Token = None) -> str:
    """The trainer's log, or the Job's own output until there is one."""
    text = run.log_tail(lines)
    if not text and run.status().job_id:
        text = "\n".join(list(hf_job.log_lines(run, token))[-lines:])
    return text


def follow_log(run: RunFolder, token: Token, wanted: Callable[[], bool]) -> None:
    hf_job.follow_log(run, token, wanted)


def fetch_inputs(run: RunFolder, token: Token = None) -> None:
    if run.status().job_id:
        hf_job.fetch_inputs(run, token)


def fetch_model(run: RunFolder, token: Token = None) -> Path:
    return run.model_dir if (run.model_dir / "config.json").exists() else hf_job.fetch_model(run, token)


def delete(run: RunFolder, token: Token = None) -> None:
    if run.status().job_id:
        hf_job.delete_repo(run, token)
    run.delete()
