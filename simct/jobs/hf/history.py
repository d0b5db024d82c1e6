"""The history of runs on Hugging Face Jobs: found on the Hub by their labels, and made into run folders again.

A studio on another machine, with an empty runs folder, therefore has the same history: run.yaml and the reports come
from the run's private repository, the rest from the Job itself.
"""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import JobInfo
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from simct.config import load_run_config, save_config
from simct.errors import RunError, SimCTError
from simct.files import expanded
from simct.hub.client import hub_api
from simct.hub.errors import hub_error
from simct.hub.retry import patiently
from simct.jobs.backend import Token
from simct.jobs.hf.fetching import listed
from simct.jobs.hf.inputs import as_data
from simct.jobs.hf.job import APP_LABEL, apply_report, download_reports, job_fields, stage_of
from simct.jobs.hf.reports import MOST_STATUS
from simct.jobs.local import job as local_job
from simct.runs.folder import RUN_ID, RunFolder, title
from simct.runs.listing import list_statuses

# Seconds after which a run counts as failed if neither it nor the API knows a Job.
STARTING_SECONDS = 120.0


def namespaces_of(token: Token = None) -> list[str]:
    """The account of `token` and its organizations, which Jobs can be charged to. Raises a one-line HubError."""
    try:
        account = patiently(lambda: hub_api(token).whoami())
    except Exception as error:
        raise hub_error(error, kind="job") from error
    return [account["name"], *(org["name"] for org in account.get("orgs") or [])]


@dataclass(frozen=True)
class RemoteJob:
    """One Job of ours as the API lists it; `run_id` comes from its label, which may be anything."""

    run_id: str
    method: str | None
    attempt: str | None
    job_id: str
    stage: str
    message: str | None
    flavor: str
    namespace: str
    created_at: float | None
    url: str

    @classmethod
    def of(cls, job: JobInfo, namespace: str) -> Self:
        labels = job.labels or {}
        return cls(
            run_id=labels.get("simct-run") or "",
            method=labels.get("method"),
            attempt=labels.get("simct-attempt") or (job.environment or {}).get("SIMCT_ATTEMPT"),
            job_id=job.id,
            stage=stage_of(job),
            message=job.status.message,
            flavor=str(job.flavor),
            namespace=namespace,
            created_at=job.created_at.timestamp() if job.created_at else None,
            url=job.url,
        )

    @property
    def run_repo(self) -> str:
        return f"{self.namespace}/simct-run-{self.run_id}"

    def fields(self) -> dict[str, str | None]:
        """The Job as fields of the run's status."""
        return job_fields(self.job_id, self.url, self.attempt, self.namespace, self.flavor)


def list_jobs(namespace: str, token: Token = None) -> list[RemoteJob]:
    """Every Job of ours in `namespace`, newest first, from the API alone. Raises a one-line HubError."""
    try:
        found = patiently(lambda: list(hub_api(token).list_jobs(namespace=namespace, labels=APP_LABEL)))
    except Exception as error:
        raise hub_error(error, kind="job") from error
    jobs = [RemoteJob.of(job, namespace) for job in found]
    return sorted(jobs, key=lambda each: each.created_at or 0.0, reverse=True)


def rebuild(
    runs_dir: str | Path, namespaces: Iterable[str], token: Token = None, owner: str | None = None
) -> list[RunFolder]:
    """Make a run folder of every Job of ours in `namespaces` that has none here; returns the new ones.

    Existing folders are updated to a newer Job, such as one started elsewhere or just before a crash, and runs that
    never got a Job are marked as failed. Folders of other owners are not touched. Raises a one-line HubError.
    """
    root = expanded(runs_dir).resolve()
    made, seen = [], set()
    for namespace in namespaces:
        for job in list_jobs(namespace, token):
            if job.run_id in seen or not RUN_ID.fullmatch(job.run_id):
                continue  # the newest Job of a run comes first
            seen.add(job.run_id)
            run = RunFolder(root / job.run_id)
            if run.exists:
                _update(run, job, owner)
            elif _make(run, job, token, owner):
                made.append(run)
    _fail_orphans(root, seen, owner)
    return made


def _make(run: RunFolder, job: RemoteJob, token: Token, owner: str | None) -> bool:
    """Make the run folder of `job`; returns whether its repository still had the files for that.

    Anyone who can start a Job in the namespace can write its run.yaml, so it is treated as data: paths in it are
    dropped.
    """
    api = hub_api(token)
    try:
        commit, sizes = patiently(lambda: listed(api, job.run_repo))
        if sizes.get("run.yaml", 0) > MOST_STATUS:
            return False
        source = patiently(lambda: api.hf_hub_download(job.run_repo, "run.yaml", revision=commit))
        config = as_data(load_run_config(source))
    except (RepositoryNotFoundError, EntryNotFoundError, SimCTError):
        return False  # deleted, or not one of our runs
    except Exception as error:
        raise hub_error(error, job.run_repo, kind="job") from error
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        config.output = str(run.path)
        save_config(config, run.path / "run.yaml")
    except OSError as error:
        raise RunError(f"Cannot write the run folder {str(run.path)!r}: {error.strerror}.") from error
    # written in one step, so that readers see the run with its Job or not at all
    run.set_status(
        state="queued",
        step=0,
        total_steps=config.training.steps,
        created_at=job.created_at or time.time(),
        started_at=job.created_at,
        owner=owner,
        message=f"Waiting for {job.flavor}",
        **title(config),
        **job.fields(),
    )
    try:
        patiently(lambda: download_reports(api, run, run.status()))
        apply_report(run, job.stage, job.message)
    except Exception as error:
        shutil.rmtree(run.path, ignore_errors=True)  # the next rebuild creates it again
        raise hub_error(error, job.run_repo, kind="job") from error
    return True


def _update(run: RunFolder, job: RemoteJob, owner: str | None) -> None:
    """Point a run at a Job that its status does not name yet."""
    status = run.status()
    elsewhere = status.namespace not in (None, job.namespace)
    if not status.remote or elsewhere or status.owner != owner or status.job_id == job.job_id:
        return
    newer = (job.created_at or 0.0) > (status.started_at or status.created_at or 0.0) - 1.0
    if (status.job_id and not newer) or local_job.is_locked(run):
        return
    run.set_status(
        state="queued",
        started_at=job.created_at,
        finished_at=None,
        error=None,
        message=f"Waiting for {job.flavor}",
        **job.fields(),
    )


def _fail_orphans(root: Path, known: set[str], owner: str | None) -> None:
    """Mark runs as failed that were interrupted before their Job was started: nothing else will start it."""
    for run, status in list_statuses(root):
        orphan = status.remote and status.active and not status.job_id
        if not orphan or status.owner != owner or run.id in known or local_job.is_locked(run):
            continue
        if time.time() - status.heartbeat > STARTING_SECONDS:
            run.set_status(
                state="failed", message="Failed", error="It was interrupted before its Job started. Retry it."
            )
