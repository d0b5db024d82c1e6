"""A run on Hugging Face Jobs: the same run.yaml, trained by runner.py on rented hardware.

A Job's disk is lost when it ends, so the run is kept in a private repository, <namespace>/simct-run-<id>: its inputs
are uploaded before the Job starts, and the Job pushes status, metrics, log and checkpoints while it trains. `refresh`
downloads them; a Job that reached its time limit resumes from the last checkpoint pushed. Labels say which Job belongs
to which run, so that history can be rebuilt from the API alone (history.py). The token is passed as a secret of
the Job, everything else in the repository.
"""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, JobInfo, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from simct.config import dump_config
from simct.config.tasks import named_tasks
from simct.errors import ConfigError, HubError, RunError
from simct.files import parse_json
from simct.hub.client import hub_api
from simct.hub.errors import hub_error, page_url
from simct.hub.redact import redact
from simct.hub.retry import passing, patiently
from simct.jobs.backend import Token
from simct.jobs.hf.bootstrap import BOOTSTRAP
from simct.jobs.hf.fetching import fetch
from simct.jobs.hf.inputs import package_source, pinned_packages, portable_config, teacher_key
from simct.jobs.hf.reports import fetch_reports
from simct.jobs.hf.spending import MAX_HOURS
from simct.jobs.local import job as local_job
from simct.runs.folder import RUN_ID, RunFolder
from simct.runs.status import RunStatus

IMAGE = "python:3.12"
SOURCE_FILE = "simct-src.zip"
STOP_FILE = "stop"
JOB_LOG = "job_log.txt"
APP_LABEL = {"app": "simct-studio"}
# Seconds between two pushes of a Job: the Hub allows about a hundred commits an hour.
PUSH_SECONDS = float(os.environ.get("SIMCT_PUSH_SECONDS", "60"))
# Files of a finished run that `fetch_model` downloads.
STUDENT_FILES = ["model/*", "adapter/*"]
# Job stages to states of a run, for a Job that ended without reporting a state.
ENDED = {
    "CANCELED": ("stopped", "The Job was canceled"),
    "DELETED": ("stopped", "The Job was deleted"),
    "COMPLETED": ("failed", "The Job ended without a result"),
    "ERROR": ("failed", "The Job failed"),
}


def launch(
    run: RunFolder,
    flavor: str,
    hours: float,
    token: str | None = None,
    namespace: str | None = None,
    price: float | None = None,
) -> str:
    """Start (or resume) `run` as a Job on `flavor` that ends after `hours` at the latest; returns the Job's id.

    `namespace` (a user or organization that pays) defaults to the token's own; `price` in US dollars per hour is kept
    for display. Raises a one-line HubError or RunError; launching again afterward uses the files that are already
    uploaded.
    """
    if not RUN_ID.fullmatch(run.id):
        raise RunError(f"The run folder's name {run.id!r} cannot be a Job's label. Use letters, digits, '.', '_', '-'.")
    if not 0 < hours <= MAX_HOURS:
        raise ConfigError(f"hours is {hours}; it must be above 0 and at most {MAX_HOURS}.")
    lock = local_job.acquire(run)
    if lock is None:
        raise RunError(f"Run {run.id} is being started by another process. Look again in a moment.")
    try:
        return _launch(run, flavor, hours, token or get_token(), namespace, price)
    finally:
        os.close(lock)


def _launch(
    run: RunFolder, flavor: str, hours: float, token: str | None, namespace: str | None, price: float | None
) -> str:
    status = run.status()
    if status.job_id and status.active:
        raise RunError(f"Run {run.id} is already on Jobs. Stop it first, or wait.")
    if status.started:
        raise RunError(f"Run {run.id} is {status.state} on this machine. Stop it first, or wait.")
    api = hub_api(token)
    repo_id, attempt = None, secrets.token_hex(8)
    try:
        namespace = namespace or patiently(api.whoami)["name"]
        repo_id = f"{namespace}/simct-run-{run.id}"
        patiently(lambda: api.create_repo(repo_id, private=True, exist_ok=True))
        if not patiently(lambda: api.repo_info(repo_id)).private:
            raise HubError(f"{repo_id} exists and is public; a run's working files stay private. Delete or rename it.")
        patiently(lambda: _upload_inputs(api, run, repo_id))
        job = _start_job(api, run, repo_id, namespace, flavor, hours, attempt, token)
    except Exception as error:
        raise hub_error(error, repo_id, kind="job", writing=True) from error
    run.set_status(
        state="queued",
        **job_fields(job.id, job.url, attempt, namespace, flavor),
        hours=hours,
        price=price,
        started_at=time.time(),
        finished_at=None,
        message=f"Waiting for {flavor}",
        error=None,
        pid=None,
        queued_at=None,
    )
    (run.path / JOB_LOG).unlink(missing_ok=True)
    return job.id


def job_fields(job_id: str, url: str | None, attempt: str | None, namespace: str, flavor: str) -> dict[str, str | None]:
    """Which Job a run is, as fields of its status."""
    fields = {"backend": "hf", "job_id": job_id, "job_url": url, "attempt": attempt, "namespace": namespace}
    return fields | {"flavor": flavor, "remote_commit": None}


def run_repo(run: RunFolder, status: RunStatus) -> str:
    return status.run_repo or f"{status.namespace}/simct-run-{run.id}"


def _start_job(
    api: HfApi,
    run: RunFolder,
    repo_id: str,
    namespace: str,
    flavor: str,
    hours: float,
    attempt: str,
    token: str | None,
) -> JobInfo:
    """Start the Job exactly once: if a failure leaves open whether it was started, look for it before trying again."""
    environment = {
        "SIMCT_RUN_REPO": repo_id,
        "SIMCT_ATTEMPT": attempt,
        "SIMCT_PACKAGES": " ".join(pinned_packages(run.config())),
        "SIMCT_PUSH_SECONDS": str(PUSH_SECONDS),
        "SIMCT_HOURS": str(hours),
    }
    labels = {**APP_LABEL, "simct-run": run.id, "simct-attempt": attempt, "method": run.config().method}
    requested = False

    def start() -> JobInfo:
        nonlocal requested
        if requested:
            for job in api.list_jobs(namespace=namespace, labels={"simct-attempt": attempt}):
                return job
        requested = True
        return api.run_job(
            image=IMAGE,
            command=["python", "-c", BOOTSTRAP],
            env=environment,
            secrets={"HF_TOKEN": token, **teacher_key(run.config(), run.status().owner)},
            flavor=flavor,
            timeout=int(hours * 3600),
            labels=labels,
            namespace=namespace,
        )

    return patiently(start)


def refresh(run: RunFolder, token: Token = None) -> RunStatus:
    """Download what the Job has pushed and return the run's status. An unreachable Hub raises and changes nothing."""
    status = job_status(run)
    if not status.active:
        return status
    api = hub_api(token)
    try:
        job = inspect_job(api, status)
        download_reports(api, run, status)
    except Exception as error:
        raise hub_error(error, run_repo(run, status), kind="job") from error
    return apply_report(run, stage_of(job), job.status.message)


def inspect_job(api: HfApi, status: RunStatus) -> JobInfo:
    return api.inspect_job(job_id=str(status.job_id), namespace=status.namespace)


def stage_of(job: JobInfo) -> str:
    return str(getattr(job.status.stage, "value", job.status.stage))


def apply_report(run: RunFolder, stage: str, message: str | None = None) -> RunStatus:
    """The run's status from its Job's report and the API's stage; written if it has changed."""
    status = run.status()
    report = RunStatus.from_dict(status.reported)
    if report.attempt != status.attempt:
        report = RunStatus()  # from an earlier Job
    fields = _reported_fields(report)
    if report.state == "unreadable" or report.active:
        if stage in ENDED:
            fields |= _ended_fields(status, stage, message)
        elif status.state == "stopping":
            fields = {}
    elif report.finished_at:
        fields["finished_at"] = report.finished_at
    if all(getattr(status, name) == value for name, value in fields.items()):
        return status
    return run.set_status(**fields)


def _reported_fields(report: RunStatus) -> dict[str, Any]:
    if report.state == "unreadable":
        return {}
    names = ("state", "step", "total_steps", "message", "error", "distance", "progress", "usage")
    fields = {name: getattr(report, name) for name in names}
    return {name: value for name, value in fields.items() if value is not None or name in ("error", "progress")}


def _ended_fields(status: RunStatus, stage: str, message: str | None) -> dict[str, Any]:
    state, ended = ENDED[stage]
    detail = f"{ended}: {message}." if message else f"{ended}."
    if status.remote_checkpoint:
        detail += f" It can be resumed from {status.remote_checkpoint.replace('-', ' ')}."
    return {"state": state, "message": ended, "error": detail if state == "failed" else None}


def download_reports(api: HfApi, run: RunFolder, status: RunStatus) -> None:
    """Copy the pushed reports into the run folder, if anything was pushed since the last time."""
    repo_id = run_repo(run, status)
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError as error:
        raise HubError(f"The run's repository {page_url(repo_id)} is gone, and its checkpoints with it.") from error
    if info.sha == status.remote_commit:
        return
    content = fetch_reports(api, repo_id, str(info.sha), run.path)
    reported = status.reported if content is None else parse_json(content)
    pushed = [each.rfilename for each in info.siblings or []]
    steps = [int(found[1]) for name in pushed if (found := re.match(r"checkpoints/step-(\d+)/", name))]
    newest = f"step-{max(steps)}" if steps else None
    run.set_status(remote_commit=info.sha, reported=reported, remote_checkpoint=newest)


def fetch_model(run: RunFolder, token: Token = None) -> Path:
    """Download the finished student into the run's model/; returns the folder."""
    status = job_status(run)
    repo_id = run_repo(run, status)
    try:
        patiently(lambda: fetch(hub_api(token), repo_id, STUDENT_FILES, run.path))
    except Exception as error:
        raise hub_error(error, repo_id) from error
    if not (run.model_dir / "config.json").exists():
        raise RunError(f"The Job of run {run.id} has pushed no model yet. Wait until it has finished.")
    return run.model_dir


def fetch_inputs(run: RunFolder, token: Token = None) -> None:
    """Download the files of another machine that the run was given, so that it can be restarted from here."""
    config = run.config()
    own = [config.data.held_out_prompts] if config.data.held_out_prompts else []
    models = [name for model in config.models for name in (model.model, model.scores)]
    named = [*models, config.data.prompts, *own, *named_tasks(config)]
    if not any(str(name).startswith("inputs/") for name in named) or (run.path / "inputs").is_dir():
        return
    repo_id = run_repo(run, job_status(run))
    try:
        patiently(lambda: fetch(hub_api(token), repo_id, ["inputs/*"], run.path))
    except Exception as error:
        raise hub_error(error, repo_id) from error


def stop(run: RunFolder, token: Token = None) -> None:
    """Ask the Job to write a checkpoint and end, which takes some seconds; a waiting Job is canceled."""
    status = job_status(run)
    repo_id, api = run_repo(run, status), hub_api(token)
    try:
        job = patiently(lambda: inspect_job(api, status))
        if stage_of(job) == "RUNNING":
            patiently(
                lambda: api.upload_file(
                    path_or_fileobj=str(status.job_id).encode(),
                    path_in_repo=STOP_FILE,
                    repo_id=repo_id,
                    commit_message="Stop the run",
                )
            )
    except Exception as error:
        raise hub_error(error, repo_id, writing=True) from error
    if stage_of(job) == "RUNNING":
        run.set_status(state="stopping", message="Stopping; a checkpoint is written first")
    else:
        cancel(run, token)


def cancel(run: RunFolder, token: Token = None) -> None:
    """End the Job at once. What it pushed so far is kept and can be resumed."""
    status = job_status(run)
    api = hub_api(token)
    try:
        job = patiently(lambda: inspect_job(api, status))
        if stage_of(job) not in ENDED:
            patiently(lambda: api.cancel_job(job_id=str(status.job_id), namespace=status.namespace))
    except Exception as error:
        raise hub_error(error, run_repo(run, status), kind="job", writing=True) from error
    refresh_patiently(run, token)


def refresh_patiently(run: RunFolder, token: Token = None) -> RunStatus:
    """`refresh` for a single call by a person: temporary failures are retried."""

    def call() -> RunStatus:
        try:
            return refresh(run, token)
        except HubError as error:
            raise (error.__cause__ if error.__cause__ and passing(error.__cause__) else error) from None

    try:
        return patiently(call)
    except Exception as error:
        raise hub_error(error, kind="job") from error


def delete_repo(run: RunFolder, token: Token = None) -> None:
    """Remove the run's private repository, where the Job kept checkpoints and the model. It may already be deleted."""
    repo_id = run_repo(run, job_status(run))
    try:
        patiently(lambda: hub_api(token).delete_repo(repo_id, missing_ok=True))
    except Exception as error:
        raise hub_error(error, repo_id, writing=True) from error


def log_lines(run: RunFolder, token: Token = None, follow: bool = False) -> Iterator[str]:
    """The Job's own output, including the installation, line by line; with `follow`, until it ends."""
    status = job_status(run)
    api = hub_api(token)
    try:
        lines = api.fetch_job_logs(job_id=str(status.job_id), namespace=status.namespace, follow=follow)
        for line in lines:
            yield redact(line, status.owner)
    except Exception as error:
        raise hub_error(error, kind="job") from error


def follow_log(run: RunFolder, token: Token, wanted: Callable[[], bool]) -> None:
    """Keep job_log.txt up to date until the Job ends or `wanted()` is false. Raises a one-line HubError.

    The API sends all lines each time; known lines are skipped.
    """
    path = run.path / JOB_LOG
    job_id = run.status().job_id
    known = sum(1 for _ in path.open(encoding="utf-8")) if path.exists() else 0
    for number, line in enumerate(log_lines(run, token, follow=True)):
        if not wanted() or run.status().job_id != job_id:
            return
        if number >= known:
            with open(path, "a", encoding="utf-8") as file:
                file.write(" ".join(line.splitlines()) + "\n")


def job_status(run: RunFolder) -> RunStatus:
    """The status of a run that has a Job. Raises RunError if it never had one."""
    status = run.status()
    if not status.job_id:
        raise RunError(f"Run {run.id} has never been on Hugging Face Jobs.")
    return status


def _upload_inputs(api: HfApi, run: RunFolder, repo_id: str) -> None:
    """One commit with run.yaml, the local files it names and this package, without an earlier Job's stop request."""
    config, inputs = portable_config(run.config())
    operations: list = [
        CommitOperationAdd("run.yaml", dump_config(config).encode()),
        CommitOperationAdd(SOURCE_FILE, package_source()),
        *(CommitOperationAdd(name, path) for name, path in inputs.items()),
    ]
    if api.file_exists(repo_id, STOP_FILE):
        operations.append(CommitOperationDelete(STOP_FILE))
    api.create_commit(repo_id, operations, commit_message=f"Inputs of run {run.id}")
