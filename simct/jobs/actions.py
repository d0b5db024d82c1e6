"""The actions on a run, wherever it is: start, stop, kill, resume, retry, duplicate, delete.

The command and the studio only act through these. `token` only matters to runs on Hugging Face Jobs; modules that need
the Hub's client are imported when they are used.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from simct.config import RunConfig, set_option, validate
from simct.config.tasks import rename_tasks
from simct.errors import ConfigError, RunError
from simct.jobs.backend import Backend, Rental, Token
from simct.jobs.local import backend as this_machine
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus


def backend_of(run: RunFolder) -> Backend:
    """The functions for the place where the run is, or was last."""
    if not run.status().remote:
        return this_machine
    from simct.jobs.hf import backend as hugging_face_jobs

    return hugging_face_jobs


def publishes(run: RunFolder) -> bool:
    """Whether a process on this machine is publishing the run; it may be the run's own process after it has
    finished.
    """
    return local_job.publishes(run)


def start_here(
    runs_dir: str | Path,
    config: RunConfig,
    owner: str | None = None,
    gpus: int | None = None,
    token: str | None = None,
) -> RunFolder:
    """Create a run of `config` and start it on this machine, or queue it; returns the run. If this raises RunError, no
    run is left behind.
    """
    return this_machine.start(runs_dir, config, owner, gpus, token)


def start_on_jobs(
    runs_dir: str | Path, config: RunConfig, rental: Rental, token: str | None = None, owner: str | None = None
) -> RunFolder:
    """Make a run of `config` and start it on Hugging Face Jobs; returns the run. Raises HubError or RunError, and then
    leaves no run behind, unless its Job may have started nevertheless.
    """
    from simct.jobs.hf import backend as hugging_face_jobs

    return hugging_face_jobs.start(runs_dir, config, rental, token, owner)


def rental_of(run: RunFolder) -> Rental | None:
    """The machine of Jobs that the run was given last; None for a run of this machine."""
    status = run.status()
    if not status.remote:
        return None
    from simct.jobs.hf import backend as hugging_face_jobs

    return hugging_face_jobs.rental_of(status)


def refresh(run: RunFolder, token: Token = None) -> RunStatus:
    """The run's current status. Raises HubError if the status of a Job cannot be fetched."""
    return backend_of(run).refresh(run, token)


def known_status(run: RunFolder) -> RunStatus:
    """The run's current status on this machine, or the last known status of a Job; makes no request."""
    return local_job.refresh(run)


def stop(run: RunFolder, token: Token = None) -> str:
    """End the run after a checkpoint; returns a message. Raises RunError if it is not active, HubError."""
    _check_active(run, "stop")
    return backend_of(run).stop(run, token)


def kill(run: RunFolder, token: Token = None) -> str:
    """End the run at once; returns a message. Raises RunError if it is not active, HubError."""
    _check_active(run, "kill")
    return backend_of(run).kill(run, token)


def _check_active(run: RunFolder, action: str) -> None:
    status = run.status()
    if not status.active:
        raise RunError(f"Run {run.id} is {status.state}; there is nothing to {action}.")


def resume(run: RunFolder, token: str | None = None, rental: Rental | None = None) -> str:
    """Continue from the last checkpoint, where the run was; returns a message.

    `rental` is for runs on Jobs, by default the machine they had last. Raises RunError, ConfigError, HubError.
    """
    status = run.status()
    if status.active:
        raise RunError(f"Run {run.id} is already {status.state}.")
    if status.state == "unreadable":
        raise RunError(f"Run {run.id} cannot be resumed. {status.message}")
    if status.state == "finished":
        student = run.model_dir if run.model_dir.is_dir() else "MODEL"
        raise RunError(
            f"Run {run.id} is finished; there is nothing to resume. To train its student further, start a new run from "
            f"it: simct jobs duplicate {run.id} --set student.model={student}"
        )
    return backend_of(run).resume(run, token, rental)


def retry(
    run: RunFolder, token: str | None = None, rental: Rental | None = None, owner: str | None = None
) -> RunFolder:
    """The same run.yaml from the start, as a new run next to the old one, on the same kind of machine; returns it."""
    config = duplicate(run, token=token)
    config.publish = run.config().publish
    status = run.status()
    again = backend_of(run).retry(run, config, owner or status.owner, token, rental)
    if status.project:
        again.set_status(project=status.project)
    return again


def duplicate(run: RunFolder, changes: dict[str, str] | None = None, token: Token = None) -> RunConfig:
    """The run's configuration for a new run, with `changes` ({"training.steps": "50"}) made. Raises ConfigError.

    Files that a Job got from another machine are downloaded first, as the new run needs them.
    """
    backend_of(run).fetch_inputs(run, token)
    config = run.config()
    config.output = None
    config.publish.repo_id = None  # a run with changes must never replace what the first one published
    for model in config.models:
        model.model = _here(run, model.model)
        if model.scores:
            model.scores = _here(run, model.scores)
    config.data.prompts = _here(run, config.data.prompts)
    if config.data.held_out_prompts:
        config.data.held_out_prompts = _here(run, config.data.held_out_prompts)
    rename_tasks(config, lambda task: _here(run, task))
    for name, value in (changes or {}).items():
        set_option(config, name, value)
    return validate(config)


def _here(run: RunFolder, name: str) -> str:
    """The local path of a file that a Job was given; Hub ids, and paths of runs on this machine, stay the same."""
    if not name.startswith(f"inputs{os.sep}"):
        return name
    path = (run.path / name).resolve()
    if path.exists() and path.is_relative_to((run.path / "inputs").resolve()):
        return str(path)
    if run.status().remote:
        raise ConfigError(f"Run {run.id} was given {name!r} on another machine, and its repository has no such file.")
    return name


def fetch_model(run: RunFolder, token: Token = None) -> Path:
    """The folder of the run's student, downloaded from its Job's repository if it was trained there."""
    return backend_of(run).fetch_model(run, token)


def log(run: RunFolder, lines: int, token: Token = None) -> str:
    """The last lines that the run printed. Raises HubError."""
    return backend_of(run).log(run, lines, token)


def follow_log(run: RunFolder, token: Token, wanted: Callable[[], bool]) -> None:
    """Keep the output of a Job in the run folder while `wanted` says so, until the Job ends. Raises HubError."""
    backend_of(run).follow_log(run, token, wanted)


def delete(run: RunFolder, token: Token = None) -> str:
    """Remove a run that has ended, and its private repository on the Hub if it has one; returns a message.

    Raises RunError while it is active or being published, and HubError (nothing is removed then).
    """
    status = local_job.refresh(run)
    if status.active:
        raise RunError(f"Run {run.id} is {status.state}. Stop it before deleting it.")
    if publishes(run):
        raise RunError(f"Run {run.id} is being published. Stop that under Publish, or wait until it has ended.")
    backend_of(run).delete(run, token)
    return f"Deleted {run.id}."


def sync(
    runs_dir: str | Path, namespaces: Iterable[str] | None = None, token: Token = None, owner: str | None = None
) -> list[RunFolder]:
    """Make run folders of Jobs that were started elsewhere and update the others; returns the new runs.

    `namespaces` are by default the account of `token` and its organizations. Raises HubError.
    """
    from simct.jobs.hf import history

    return history.rebuild(runs_dir, history.namespaces_of(token) if namespaces is None else namespaces, token, owner)


def advance(runs_dir: str | Path) -> list[RunFolder]:
    """Start the waiting runs of this machine that are due; returns them."""
    return queue.advance(runs_dir)


def provide_token(run: RunFolder, token: str) -> None:
    """Give a waiting run its visitor's token again, which is lost when the studio restarts."""
    queue.provide_token(run, token)


def waiting_reason(run: RunFolder, status: RunStatus) -> str | None:
    """A waiting run's place in the queue and what it waits for; None for other runs."""
    return queue.waiting_reason(run, status)


def waiting_line(run: RunFolder) -> str:
    """The place in the queue as the end of a sentence; empty for a run that has a device."""
    return this_machine.waiting_line(run)


def silence(run: RunFolder, status: RunStatus) -> float | None:
    """Seconds since the last heartbeat of a run that trains here, if it is unusually long ago; else None."""
    return local_job.silence(run, status)
