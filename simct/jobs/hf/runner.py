"""What a Hugging Face Job executes: fetch the run's repository, train, and push what is made as it is made.

The repository is the only thing that outlives the Job. Every push is one commit; one that fails is tried again later,
after a growing wait, and training goes on meanwhile. Shortly before the Job's time is up the run is stopped as a person
would stop it, so that the last checkpoint is pushed and nothing paid for is lost.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from simct.config import load_config, local_path, save_config
from simct.errors import RunError
from simct.hub.client import hub_api
from simct.hub.redact import redact
from simct.hub.retry import passing
from simct.jobs.hf.job import DATA_FILE, REPORT_FILES, STOP_FILE
from simct.jobs.local import job as local_job
from simct.runs.folder import ACTIVE_STATES, RunFolder

LONGEST_WAIT = 600.0
# Between two looks at whether the run is asked to stop.
LOOK_SECONDS = 10.0
# Kept at the end of the Job's time for the last checkpoint and its upload; of short Jobs a fifth.
LAST_SECONDS = 300.0
# Refusals that waiting does not mend are given up on, as the Job costs money meanwhile.
HOPELESS_TRIES = 4
# Of status.json, what is this process's own affair.
PRIVATE = ("pid", "pid_started", "group", "host", "heartbeat", "devices", "starts")


def main() -> int:
    repo_id, attempt, token = (os.environ[name] for name in ("SIMCT_RUN_REPO", "SIMCT_ATTEMPT", "HF_TOKEN"))
    wait, ends = float(os.environ["SIMCT_PUSH_SECONDS"]), time_is_up()
    api = hub_api(token)
    run, resume = fetch_run(api, repo_id, Path(tempfile.mkdtemp(prefix="simct-run-")) / "run")
    local_job.launch(run, resume, token)
    signal.signal(signal.SIGTERM, lambda *_: stop(run))
    sent: dict[str, int] = {}
    pause, next_push, next_look, late = wait, time.monotonic() + wait, 0.0, False
    while (status := local_job.refresh(run)).get("state") in ACTIVE_STATES:
        time.sleep(min(1.0, wait))
        now = time.monotonic()
        if status["state"] == "running" and not late and time.time() > ends:
            late = True
            stop(run)
        if now >= next_look and status["state"] == "running":
            next_look = now + min(LOOK_SECONDS, wait)
            stop_if_asked(api, run, repo_id)
        if now < next_push:
            continue
        try:
            push(api, run, repo_id, attempt, sent)
            pause = wait
        except Exception as error:
            pause = min(2 * pause, LONGEST_WAIT)
            print(redact(f"Could not push ({error}); next try in {pause:.0f} s."), flush=True)
        next_push = time.monotonic() + pause
    if late and status.get("state") == "stopped":
        run.set_status(message=f"The Job's time was up after step {status.get('step', 0)}; resume to go on")
    push_for_certain(api, run, repo_id, attempt, sent)
    print(redact(run.log_tail(50)), flush=True)
    return 0 if run.status().get("state") in ("finished", "stopped") else 1


def time_is_up() -> float:
    """When the run has to be stopped, so that its checkpoint is pushed before the Job ends; in seconds of the clock."""
    seconds = float(os.environ.get("SIMCT_HOURS", "inf")) * 3600
    return float(os.environ.get("SIMCT_STARTED", time.time())) + seconds - min(LAST_SECONDS, seconds / 5)


def stop(run: RunFolder) -> None:
    with contextlib.suppress(RunError):  # it has just ended by itself
        local_job.stop(run)


def stop_if_asked(api: HfApi, run: RunFolder, repo_id: str) -> None:
    try:
        asked = api.file_exists(repo_id, STOP_FILE)
    except Exception as error:
        print(redact(f"Could not look whether to stop ({error})."), flush=True)
        return
    if asked:
        stop(run)


def fetch_run(api: HfApi, repo_id: str, folder: Path) -> tuple[RunFolder, bool]:
    """The run as a folder here, and whether it goes on from a checkpoint that an earlier Job pushed."""
    api.snapshot_download(repo_id, local_dir=folder, ignore_patterns=[STOP_FILE, "*.zip", "status.json"])
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    run = RunFolder(folder)
    config = load_config(folder / "run.yaml")
    for owner, name in ((config.teacher, "model"), (config.student, "model"), (config.data, "prompts")):
        if str(getattr(owner, name)).startswith("inputs/"):
            setattr(owner, name, str(folder / getattr(owner, name)))
    config.evaluation.tasks = [
        str(folder / task) if local_path(str(folder / task)) else task for task in config.evaluation.tasks
    ]
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


def push(api: HfApi, run: RunFolder, repo_id: str, attempt: str, sent: dict[str, int]) -> None:
    """One commit: the reports as they are, the newest checkpoint in place of older ones, or at the end the model.

    `sent` keeps the hash of each report pushed before, so that what has not changed makes no commit; it is updated.
    """
    status = run.status()
    finished = status.get("state") == "finished"
    told = {key: value for key, value in status.items() if key not in PRIVATE}
    content: dict[str, bytes | Path] = {"status.json": json.dumps({**told, "attempt": attempt}, indent=1).encode()}
    for name in [*REPORT_FILES[1:], *data_files(run)]:
        path = run.path / name
        if path.exists():
            content[name] = redact(path.read_text(encoding="utf-8", errors="replace")).encode()
    held = api.list_repo_files(repo_id)
    newest = run.latest_checkpoint()
    stale = [name for name in held if name.startswith("checkpoints/")] if finished or newest else []
    if finished:
        content |= _files_of(run, run.model_dir)
    elif newest is not None:
        prefix = newest.relative_to(run.path).as_posix() + "/"
        if not any(name.startswith(prefix) for name in held):  # else it is there, for a commit is whole
            content |= _files_of(run, newest)
        stale = [name for name in stale if not name.startswith(prefix)]
    hashes = {name: hash(data) for name, data in content.items() if isinstance(data, bytes)}
    changed = [name for name in content if name not in hashes or sent.get(name) != hashes[name]]
    operations: list = [CommitOperationAdd(name, content[name]) for name in changed]
    operations += [CommitOperationDelete(name) for name in stale]
    if operations:
        api.create_commit(repo_id, operations, commit_message=f"Step {status.get('step', 0)}")
        sent.update(hashes)


def data_files(run: RunFolder) -> list[str]:
    """What a warm-up has sampled and kept so far, by name within the run."""
    found = [
        path.relative_to(run.path).as_posix() for folder in ("data", "samples") for path in run.path.glob(f"{folder}/*")
    ]
    return sorted(name for name in found if DATA_FILE.fullmatch(name))


def _files_of(run: RunFolder, folder: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(run.path).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def push_for_certain(api: HfApi, run: RunFolder, repo_id: str, attempt: str, sent: dict[str, int]) -> None:
    """The last push: tried until it succeeds, for the disk is lost afterwards; a refusal for good ends it."""
    pause, hopeless = 5.0, 0
    while True:
        try:
            return push(api, run, repo_id, attempt, sent)
        except Exception as error:
            hopeless += not passing(error)
            if hopeless == HOPELESS_TRIES:
                raise
            print(redact(f"Could not push ({error}); next try in {pause:.0f} s."), flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)


if __name__ == "__main__":
    sys.exit(main())
