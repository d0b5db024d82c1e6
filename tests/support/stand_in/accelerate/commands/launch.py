"""Stands in for Accelerate's launcher and the trainer behind it, for tests that are about runs and not about training.

A child process with this folder first in PYTHONPATH is started, supervised, signalled and read like a real run; what
it "trains" is a number, hashed once a step, kept in checkpoints and in model/. Fields of run.yaml it obeys:
training.steps, training.checkpoint_every, training.seed, and training.learning_rate as the seconds of a step.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from simct.files import write_atomically
from simct.jobs.local.process import start_time
from simct.runs.checkpoints import seal
from simct.runs.folder import RunFolder


def main() -> None:
    time.sleep(float(os.environ.get("SIMCT_STAND_IN_LOADS", 0)))
    place = sys.argv.index("simct.train")
    run = RunFolder(Path(sys.argv[place + 1]).parent)
    training = run.config().training
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    note(run, "began")
    run.set_status(state="running", pid=os.getpid(), pid_started=start_time(os.getpid()), message="Training")
    newest = run.latest_checkpoint() if "--resume" in sys.argv else None
    step, weights = 0, f"seed {training.seed}"
    if newest is not None:
        step, weights = int(newest.name.removeprefix("step-")), (newest / "weights").read_text()
    print(f"from step {step}, {run.status().owner}", flush=True)
    done = True
    while step < training.steps:
        if asked:
            done = False
            save(run, step, weights)
            break
        time.sleep(training.learning_rate)
        step, weights = step + 1, hashlib.sha256(weights.encode()).hexdigest()
        run.append("metrics.jsonl", {"step": step, "loss": 1 / step, "seconds": training.learning_rate})
        run.append("rollouts.jsonl", {"step": step, "prompt": run.id, "completion": weights[:12], "ended": True})
        run.set_status(step=step, message=f"Training, step {step} of {training.steps}")
        print(f"step {step}/{training.steps}", flush=True)
        if step % training.checkpoint_every == 0:
            save(run, step, weights)
    run.model_dir.mkdir(exist_ok=True)
    write_atomically(run.model_dir / "weights", weights)
    note(run, "ended")
    state = "finished" if done else "stopped"
    run.set_status(state=state, step=step, pid=None, message="Finished" if done else f"Stopped after step {step}")


def note(run: RunFolder, what: str) -> None:
    """Which process had which device when: what the tests look at."""
    got = {"run": run.id, "owner": run.status().owner, "what": what, "pid": os.getpid(), "at": time.time()}
    got |= {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "token": os.environ.get("HF_TOKEN")}
    with open(run.path / ".turns.jsonl", "a") as turns:
        turns.write(json.dumps(got) + "\n")


def save(run: RunFolder, step: int, weights: str) -> None:
    half = run.checkpoints_dir / ".half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    (half / "weights").write_text(weights)
    seal(half)
    whole = run.checkpoints_dir / f"step-{step}"
    if not whole.exists():
        os.replace(half, whole)


main()
