"""Runs on Hugging Face Jobs as the Hub remembers them: found by their labels, and made into run folders again.

A studio on another machine, with an empty runs folder, so has the same history: run.yaml and the reports come from the
run's private repository, the rest from the Job itself.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from simct.config import load_config, save_config
from simct.errors import RunError, SimCTError
from simct.hub.client import hub_api
from simct.hub.errors import hub_error
from simct.hub.retry import patiently
from simct.jobs.hf.job import APP_LABEL, bring_home, place, stage_of, told_by
from simct.jobs.local import job as local_job
from simct.runs.folder import ACTIVE_STATES, RUN_ID, RunFolder, title
from simct.runs.listing import list_statuses

# A run that was to become a Job and of which the API knows none is given up after this.
STARTING_SECONDS = 120.0


def namespaces_of(token: str | bool | None = None) -> list[str]:
    """The account of `token` and its organizations, which Jobs can be charged to. Raises a one-line HubError."""
    try:
        account = patiently(lambda: hub_api(token).whoami())
    except Exception as error:
        raise hub_error(error, kind="job") from error
    return [account["name"], *(org["name"] for org in account.get("orgs") or [])]


def list_remote_runs(namespace: str, token: str | bool | None = None) -> list[dict]:
    """Every Job of ours in `namespace`, newest first, from the API alone: run id, Job id, stage, hardware, times."""
    try:
        jobs = patiently(lambda: list(hub_api(token).list_jobs(namespace=namespace, labels=APP_LABEL)))
    except Exception as error:
        raise hub_error(error, kind="job") from error
    told = []
    for job in jobs:
        labels = job.labels or {}
        told.append(
            {
                "run": labels.get("simct-run"),
                "method": labels.get("method"),
                "attempt": labels.get("simct-attempt") or (job.environment or {}).get("SIMCT_ATTEMPT"),
                "job_id": job.id,
                "stage": stage_of(job),
                "message": job.status.message,
                "flavor": str(job.flavor),
                "namespace": namespace,
                "created_at": job.created_at.timestamp() if job.created_at else None,
                "url": job.url,
                "run_repo": f"{namespace}/simct-run-{labels.get('simct-run')}",
            }
        )
    return sorted(told, key=lambda each: each["created_at"] or 0.0, reverse=True)


def rebuild(
    runs_dir: str | Path, namespaces: Iterable[str], token: str | bool | None = None, owner: str | None = None
) -> list[RunFolder]:
    """Make a run folder of every Job of ours in `namespaces` that has none here; returns the new ones.

    Folders that exist are told of a newer Job of theirs, such as one started elsewhere or just before a crash, and runs
    that never got one are given up. Folders of other owners are left alone. Raises a one-line HubError.
    """
    root = Path(runs_dir).expanduser().resolve()
    made, seen = [], set()
    for namespace in namespaces:
        for job in list_remote_runs(namespace, token):
            run_id = job["run"] or ""
            if run_id in seen or not RUN_ID.fullmatch(run_id):
                continue  # the newest Job of a run comes first
            seen.add(run_id)
            run = RunFolder(root / run_id)
            if (run.path / "status.json").exists():
                _tell_of(run, job, owner)
            elif _make(run, job, token, owner):
                made.append(run)
    _give_up(root, seen, owner)
    return made


def _make(run: RunFolder, job: dict, token: str | bool | None, owner: str | None) -> bool:
    """The run folder of `job`; whether its repository still had what it takes."""
    api = hub_api(token)
    try:
        source = patiently(lambda: api.hf_hub_download(job["run_repo"], "run.yaml"))
        config = load_config(source)
    except (RepositoryNotFoundError, EntryNotFoundError, SimCTError):
        return False  # deleted, or no run of ours
    except Exception as error:
        raise hub_error(error, job["run_repo"], kind="job") from error
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        config.output = str(run.path)
        save_config(config, run.path / "run.yaml")
    except OSError as error:
        raise RunError(f"Cannot write the run folder {str(run.path)!r}: {error.strerror}.") from error
    # put in place at once, whole: whoever looks sees the run with its Job or not at all
    run.set_status(
        state="queued",
        step=0,
        total_steps=config.training.steps,
        created_at=job["created_at"] or time.time(),
        started_at=job["created_at"],
        owner=owner,
        message=f"Waiting for {job['flavor']}",
        **title(config),
        **place(job["job_id"], job["url"], job["attempt"], job["namespace"], job["flavor"]),
    )
    try:
        patiently(lambda: bring_home(api, run, run.status()))
        told_by(run, job["stage"], job["message"])
    except Exception as error:
        shutil.rmtree(run.path, ignore_errors=True)  # made again the next time
        raise hub_error(error, job["run_repo"], kind="job") from error
    return True


def _tell_of(run: RunFolder, job: dict, owner: str | None) -> None:
    status = run.status()
    newer = (job["created_at"] or 0.0) > (status.get("started_at") or status.get("created_at") or 0.0) - 1.0
    unknown = status.get("job_id") is None and status.get("backend") == "hf"
    if status.get("owner") != owner or status.get("job_id") == job["job_id"] or not (unknown or newer):
        return
    if status.get("backend") != "hf" or local_job.is_locked(run):
        return
    run.set_status(
        state="queued",
        started_at=job["created_at"],
        finished_at=None,
        error=None,
        message=f"Waiting for {job['flavor']}",
        **place(job["job_id"], job["url"], job["attempt"], job["namespace"], job["flavor"]),
    )


def _give_up(root: Path, known: set[str], owner: str | None) -> None:
    """Mark runs that were cut off before their Job was started, which then nobody else will start."""
    for run, status in list_statuses(root):
        orphan = status.get("backend") == "hf" and status.get("state") in ACTIVE_STATES and not status.get("job_id")
        if not orphan or status.get("owner") != owner or run.id in known or local_job.is_locked(run):
            continue
        if time.time() - status.get("heartbeat", 0.0) > STARTING_SECONDS:
            run.set_status(state="failed", message="Failed", error="It was cut off before its Job started. Retry it.")
