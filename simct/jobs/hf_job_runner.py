"""What a Hugging Face Job executes: fetch the run's repository, train, and push what is made as it is made.

The repository is the only thing that outlives the Job. Every push is one commit; one that fails is tried again later,
after a growing wait, and training goes on meanwhile.
"""

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
from simct.hub.errors_from_hub import redact
from simct.hub.search import hub_api
from simct.jobs import local_job
from simct.jobs.hf_job import REPORT_FILES, STOP_FILE
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder

LONGEST_WAIT = 600.0


def main() -> int:
    repo_id, attempt, token = (os.environ[name] for name in ("SIMCT_RUN_REPO", "SIMCT_ATTEMPT", "HF_TOKEN"))
    wait = float(os.environ["SIMCT_PUSH_SECONDS"])
    api = hub_api(token)
    run, resume = fetch_run(api, repo_id, Path(tempfile.mkdtemp(prefix="simct-run-")))
    local_job.launch(run, resume, token)
    signal.signal(signal.SIGTERM, lambda *_: local_job.stop(run))
    sent: dict[str, int] = {}
    pause, next_push = wait, time.monotonic() + wait
    while local_job.refresh(run).get("state") in ACTIVE_STATES:
        time.sleep(min(1.0, wait))
        if time.monotonic() < next_push:
            continue
        try:
            push(api, run, repo_id, attempt, sent)
            if api.file_exists(repo_id, STOP_FILE) and run.status().get("state") == "running":
                local_job.stop(run)
            pause = wait
        except Exception as error:
            pause = min(2 * pause, LONGEST_WAIT)
            print(redact(f"Could not push ({error}); next try in {pause:.0f} s."), flush=True)
        next_push = time.monotonic() + pause
    push_for_certain(api, run, repo_id, attempt, sent)
    print(redact(run.log_tail(50)), flush=True)
    return 0 if run.status().get("state") in ("finished", "stopped") else 1


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
    told = {
        key: value for key, value in status.items() if key not in ("pid", "pid_started", "group", "host", "heartbeat")
    }
    content: dict[str, bytes | Path] = {"status.json": json.dumps({**told, "attempt": attempt}, indent=1).encode()}
    for name in REPORT_FILES[1:]:
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


def _files_of(run: RunFolder, folder: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(run.path).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def push_for_certain(api: HfApi, run: RunFolder, repo_id: str, attempt: str, sent: dict[str, int]) -> None:
    """The last push: tried until it succeeds, for the disk is lost afterwards."""
    pause = 5.0
    while True:
        try:
            return push(api, run, repo_id, attempt, sent)
        except Exception as error:
            print(redact(f"Could not push ({error}); next try in {pause:.0f} s."), flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)


if __name__ == "__main__":
    sys.exit(main())
