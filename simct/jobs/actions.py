"""What can be asked of a run, wherever it runs: stop, kill, resume, retry, duplicate, delete. The command and the
studio both act through here. `token` matters to runs on Hugging Face Jobs only."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from simct.config import RunConfig, set_option, validate
from simct.errors import RunError, SimCTError
from simct.hub.retry import passing
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import ACTIVE_STATES, RunFolder


@dataclass(frozen=True)
class Rental:
    """A machine of Hugging Face Jobs for one run: `hours` until its Job is ended, `price` in US dollars an hour."""

    flavor: str
    hours: float
    price: float
    namespace: str | None = None

    @property
    def most(self) -> float:
        """US dollars that the Job can cost at the most."""
        return self.hours * self.price

    def line(self) -> str:
        from simct.report.formats import hours

        return f"{self.flavor} for at most {hours(self.hours)}, ${self.most:.2f}"


def on_jobs(run: RunFolder) -> bool:
    """Whether the run is, or was last, on Hugging Face Jobs."""
    return run.status().get("backend") == "hf"


def rental_of(run: RunFolder) -> Rental | None:
    """What a run on Jobs was given the last time, to be given again; None for runs of this machine."""
    status = run.status()
    if status.get("backend") != "hf" or not status.get("flavor"):
        return None
    return Rental(status["flavor"], status.get("hours") or 0.0, status.get("price") or 0.0, status.get("namespace"))


def _last_rental(run: RunFolder) -> Rental:
    rental = rental_of(run)
    if rental is None:
        raise RunError(f"No machine of Jobs is on record for run {run.id}: duplicate it, and choose one.")
    return rental


def start_here(runs_dir: str | Path, config: RunConfig, owner: str | None = None, gpus: int | None = None, token=None):
    """Make a run of `config` and start it on this machine, or let it wait its turn; returns the run. Raises RunError,
    and then leaves no run behind."""
    run = RunFolder.create(runs_dir, config, owner, queued_at=time.time(), gpus=gpus or 1, lent=bool(token))
    try:
        queue.submit(run, gpus=gpus, token=token)
    except SimCTError:
        if local_job.withdraw(run):
            run.delete()
        raise
    return run


def start_on_jobs(
    runs_dir: str | Path, config: RunConfig, rental: Rental, token: str | None = None, owner: str | None = None
) -> RunFolder:
    """Make a run of `config` and start it on Hugging Face Jobs; returns it. Raises HubError or RunError, and then
    leaves no run behind, unless its Job may have started all the same: that run stays, and finds out."""
    from simct.jobs.hf import job as hf_job

    run = RunFolder.create(runs_dir, config, owner, backend="hf", message="Sending it to Hugging Face Jobs")
    try:
        hf_job.launch(run, rental.flavor, rental.hours, token, rental.namespace, rental.price)
    except SimCTError as error:
        if error.__cause__ is not None and passing(error.__cause__):
            run.set_status(message="It is not known whether its Job has started; looking")
        else:
            shutil.rmtree(run.path)
        raise
    return run


def refresh(run: RunFolder, token: str | bool | None = None) -> dict:
    """The run's status as it is now. Raises HubError when a Job cannot be asked about."""
    if not on_jobs(run):
        return local_job.refresh(run)
    from simct.jobs.hf import job as hf_job

    return hf_job.refresh(run, token) if run.status().get("job_id") else run.status()


def stop(run: RunFolder, token: str | bool | None = None) -> str:
    """End the run after a checkpoint; returns what to tell. Raises RunError if it is not active, HubError."""
    status = _active(run, "stop")
    if on_jobs(run):
        from simct.jobs.hf import job as hf_job

        hf_job.stop(run, token)
        told = "Asked to stop: a checkpoint is written and pushed first."
        return told if run.status()["state"] == "stopping" else "Canceled before it started."
    waited = local_job.is_waiting(status)
    status = local_job.stop(run)
    queue.advance(run.path.parent)
    if waited and status["state"] == "stopped":
        return "Taken out of the queue."
    return "Asked to stop: it writes a checkpoint first."


def kill(run: RunFolder, token: str | bool | None = None) -> str:
    """End the run at once; returns what to tell. Raises RunError if it is not active, HubError."""
    _active(run, "kill")
    if on_jobs(run):
        from simct.jobs.hf import job as hf_job

        hf_job.cancel(run, token)
        return "The Job is canceled. What it pushed last can be resumed."
    local_job.kill(run)
    queue.advance(run.path.parent)
    return "Ended at once." + (" Its last checkpoint can be resumed." if run.latest_checkpoint() else "")


def _active(run: RunFolder, action: str) -> dict:
    status = run.status()
    if status.get("state") not in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status.get('state')}; there is nothing to {action}.")
    return status


def resume(run: RunFolder, token: str | None = None, rental: Rental | None = None) -> str:
    """Go on from the last checkpoint, where the run was; returns what to tell. Raises RunError, ConfigError, HubError.

    `rental` is for runs on Jobs, by default what they were given the last time.
    """
    state = run.status().get("state")
    if state in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is already {state}.")
    if state == "finished":
        raise RunError(f"Run {run.id} is finished; there is nothing to resume.")
    if on_jobs(run):
        from simct.jobs.hf import job as hf_job

        rental = rental or _last_rental(run)
        hf_job.launch(run, rental.flavor, rental.hours, token, rental.namespace, rental.price)
        return f"A Job takes it up on {rental.line()}."
    whence = "from its last checkpoint" if run.latest_checkpoint() else "from the start: there is no checkpoint"
    queue.submit(run, resume=True, token=token)
    return f"It goes on {whence}{waiting_line(run)}."


def waiting_line(run: RunFolder) -> str:
    """The place in the queue as the end of a sentence, or nothing for a run that has a device."""
    words = queue.waiting_words(run, run.status())
    return f" when its turn comes ({words[0].lower()}{words[1:]})" if words else ""


def retry(
    run: RunFolder, token: str | None = None, rental: Rental | None = None, owner: str | None = None
) -> RunFolder:
    """The same run.yaml from the start, as a new run beside the old one, on the same kind of machine; returns it."""
    config = duplicate(run, token=token)
    status = run.status()
    owner = owner or status.get("owner")
    if on_jobs(run):
        return start_on_jobs(run.path.parent, config, rental or _last_rental(run), token, owner)
    return start_here(run.path.parent, config, owner, status.get("gpus"), token)


def duplicate(run: RunFolder, changes: dict | None = None, token: str | bool | None = None) -> RunConfig:
    """The run's configuration for a new run, with `changes` ({"training.steps": 50}) made. Raises ConfigError.

    Files that a Job was given on another machine are brought here first, as the new run needs them.
    """
    if on_jobs(run) and run.status().get("job_id"):
        from simct.jobs.hf import job as hf_job

        hf_job.fetch_inputs(run, token)
    config = run.config()
    config.output = None
    for model in (config.teacher, config.student):
        model.model = _here(run, model.model)
    config.data.prompts = _here(run, config.data.prompts)
    config.evaluation.tasks = [_here(run, task) for task in config.evaluation.tasks]
    for name, value in (changes or {}).items():
        set_option(config, name, value)
    return validate(config)


def _here(run: RunFolder, name: str) -> str:
    path = run.path / name if name.startswith(f"inputs{os.sep}") else None
    return str(path) if path and path.exists() else name


def model_here(run: RunFolder, token: str | bool | None = None) -> Path:
    """The folder of the run's student, fetched from its Job's repository if it was trained there."""
    if on_jobs(run) and not (run.model_dir / "config.json").exists():
        from simct.jobs.hf import job as hf_job

        return hf_job.bring_model_home(run, token)
    return run.model_dir


def delete(run: RunFolder, token: str | bool | None = None) -> str:
    """Remove a run that is over, and its private repository on the Hub if it has one; returns what to tell.

    Raises RunError while it is active, and HubError (nothing is removed then).
    """
    status = local_job.refresh(run)
    if status.get("state") in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status['state']}. Stop it before deleting it.")
    if status.get("job_id"):
        from simct.jobs.hf import job as hf_job

        hf_job.delete_repo(run, token)
    run.delete()
    return f"Deleted {run.id}."
