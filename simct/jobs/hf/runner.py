"""The program of a Hugging Face Job: fetch the run's repository, train, and push the results while training.

Only the repository outlives the Job. Every push is one commit; a failed push is repeated later, after a growing wait,
while training continues. Shortly before the Job's time limit the run is stopped normally, so that the last checkpoint
is pushed and no paid time is lost.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from simct.config import load_run_config, local_path, save_config
from simct.config.tasks import rename_tasks
from simct.errors import RunError
from simct.hub.client import hub_api
from simct.hub.redact import redact
from simct.hub.retry import passing
from simct.jobs.hf.job import STOP_FILE
from simct.jobs.hf.reports import DATA_FILE, REPORT_FILES
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

MAX_WAIT = 600.0
# Seconds between two checks for a stop request.
LOOK_SECONDS = 10.0
# Time reserved at the end of a Job for the last checkpoint and its upload; a fifth of a short Job.
LAST_SECONDS = 300.0
# Permanent failures are not retried forever, because the Job costs money.
MAX_REFUSALS = 4
# Fields of status.json that only have a meaning on this machine.
PRIVATE = ("extra", "pid", "pid_started", "group", "host", "heartbeat", "devices", "starts")


class Pusher:
    """Pushes the run to its repository; `sent` keeps the hash of each report pushed before, so that what has not
    changed makes no commit.
    """

    def __init__(self, api: HfApi, run: RunFolder, repo_id: str, attempt: str, every: float):
        self.api, self.run, self.repo_id, self.attempt, self.every = api, run, repo_id, attempt, every
        self.sent: dict[str, int] = {}
        self.pause = every
        self.next = time.monotonic() + every

    def push_if_due(self) -> None:
        """Push if it is time; after a failure the next try comes later each time."""
        if time.monotonic() < self.next:
            return
        try:
            self.push()
            self.pause = self.every
        except Exception as error:
            self.pause = min(2 * self.pause, MAX_WAIT)
            print(redact(f"Could not push ({error}); next try in {self.pause:.0f} s."), flush=True)
        self.next = time.monotonic() + self.pause

    def push_to_the_end(self) -> None:
        """The last push: tried until it succeeds, because the disk is lost afterward; a lasting refusal is raised."""
        pause, refusals = 5.0, 0
        while True:
            try:
                return self.push()
            except Exception as error:
                refusals += not passing(error)
                if refusals == MAX_REFUSALS:
                    raise
                print(redact(f"Could not push ({error}); next try in {pause:.0f} s."), flush=True)
                time.sleep(pause)
                pause = min(2 * pause, MAX_WAIT)

    def push(self) -> None:
        """One commit: the reports as they are, the newest checkpoint in place of older ones, or at the end the model.

        Raises whatever the Hub's client raises.
        """
        run, status = self.run, self.run.status()
        publishes = status.state == "finished" and local_job.publishes(run)
        reported = dataclasses.replace(status, state="running", message="Publishing") if publishes else status
        content: dict[str, bytes | Path] = {"status.json": report_of(reported, self.attempt)}
        for name in [*REPORT_FILES[1:], *data_files(run)]:
            path = run.path / name
            # no one else can see its process, so only the end of publishing is reported
            if path.exists() and not (name == "publish.json" and run.publishing().active):
                content[name] = redact(path.read_text(encoding="utf-8", errors="replace")).encode()
        remote = self.api.list_repo_files(self.repo_id)
        newest, finished = run.latest_checkpoint(), status.state == "finished"
        stale = [name for name in remote if name.startswith("checkpoints/")] if finished or newest else []
        if publishes:
            # the run does not count as finished yet, so that it can still be resumed if the Job ends now
            content, stale = content | _student_files(run), []
        elif finished:
            content |= _student_files(run)
        elif newest is not None:
            prefix = newest.relative_to(run.path).as_posix() + "/"
            if not any(name.startswith(prefix) for name in remote):  # else all of it is there: a commit is whole
                content |= _files_of(run, newest)
            stale = [name for name in stale if not name.startswith(prefix)]
        hashes = {name: hash(data) for name, data in content.items() if isinstance(data, bytes)}
        changed = [name for name in content if name not in hashes or self.sent.get(name) != hashes[name]]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, content[name]) for name in changed),
            *(CommitOperationDelete(name) for name in stale),
        ]
        if operations:
            self.api.create_commit(self.repo_id, operations, commit_message=f"Step {status.step}")
            self.sent.update(hashes)


def main() -> int:
    repo_id, attempt, token = (os.environ[name] for name in ("SIMCT_RUN_REPO", "SIMCT_ATTEMPT", "HF_TOKEN"))
    every, ends = float(os.environ["SIMCT_PUSH_SECONDS"]), stop_time()
    api = hub_api(token)
    run, resume = fetch_run(api, repo_id, Path(tempfile.mkdtemp(prefix="simct-run-")) / "run")
    local_job.launch(run, resume, token)
    signal.signal(signal.SIGTERM, lambda *_: stop(run))
    pusher = Pusher(api, run, repo_id, attempt, every)
    next_look, timed_out = 0.0, False
    while (status := local_job.refresh(run)).active or local_job.publishes(run):
        time.sleep(min(1.0, every))
        if status.state == "running" and not timed_out and time.time() > ends:
            timed_out = True
            stop(run)
        if status.state == "running" and time.monotonic() >= next_look:
            next_look = time.monotonic() + min(LOOK_SECONDS, every)
            stop_if_requested(api, run, repo_id)
        pusher.push_if_due()
    if timed_out and status.state == "stopped":
        run.set_status(message=f"The Job reached its time limit after step {status.step}. Resume to continue.")
    pusher.push_to_the_end()
    print(redact(run.log_tail(50)), flush=True)
    return 0 if status.state in ("finished", "stopped") else 1


def stop_time() -> float:
    """When the run must be stopped so that its checkpoint is pushed before the Job ends; in seconds since the epoch."""
    seconds = float(os.environ.get("SIMCT_HOURS", "inf")) * 3600
    return float(os.environ.get("SIMCT_STARTED", time.time())) + seconds - min(LAST_SECONDS, seconds / 5)


def stop(run: RunFolder) -> None:
    with contextlib.suppress(RunError):  # it has just ended by itself
        local_job.stop(run)


def stop_if_requested(api: HfApi, run: RunFolder, repo_id: str) -> None:
    try:
        requested = api.file_exists(repo_id, STOP_FILE)
    except Exception as error:
        print(redact(f"Could not check for a stop request ({error})."), flush=True)
        return
    if requested:
        stop(run)


def fetch_run(api: HfApi, repo_id: str, folder: Path) -> tuple[RunFolder, bool]:
    """The run as a folder here, and whether it resumes from a checkpoint that an earlier Job pushed."""
    api.snapshot_download(repo_id, local_dir=folder, ignore_patterns=[STOP_FILE, "*.zip", "status.json"])
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    run = RunFolder(folder)
    config = load_run_config(folder / "run.yaml")
    named = [(model, name) for model in config.models for name in ("model", "scores")]
    for owner, name in (*named, (config.data, "prompts"), (config.data, "held_out_prompts")):
        if str(getattr(owner, name)).startswith("inputs/"):
            setattr(owner, name, str(folder / getattr(owner, name)))
    rename_tasks(config, lambda task: str(folder / task) if local_path(str(folder / task)) else task)
    config.output = str(folder)
    save_config(config, folder / "run.yaml")
    resume = run.latest_checkpoint() is not None
    run.set_status(
        state="queued",
        step=0,
        total_steps=config.training.steps,
        message="Loading the models",
        created_at=time.time(),
    )
    return run, resume


def report_of(status: RunStatus, attempt: str) -> bytes:
    """The run's status.json for its repository."""
    fields = dataclasses.asdict(status) | {"attempt": attempt}
    kept = {name: value for name, value in fields.items() if name not in PRIVATE and value is not None}
    return json.dumps(kept, indent=1).encode()


def data_files(run: RunFolder) -> list[str]:
    """What a warm-up has sampled and kept so far, by name within the run."""
    found = [
        path.relative_to(run.path).as_posix() for folder in ("data", "samples") for path in run.path.glob(f"{folder}/*")
    ]
    return sorted(name for name in found if DATA_FILE.fullmatch(name))


def _student_files(run: RunFolder) -> dict[str, bytes | Path]:
    return _files_of(run, run.model_dir) | _files_of(run, run.adapter_dir)


def _files_of(run: RunFolder, folder: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(run.path).as_posix(): path for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
