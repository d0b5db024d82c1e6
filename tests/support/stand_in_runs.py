"""Runs whose training is stood in for by stand_in: real run folders, queue, supervisor, processes and signals."""

import hashlib
import json
import time
from pathlib import Path

from simct.config import RunConfig, config_from_dict
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses
from tests.support.waiting import until

STAND_IN = Path(__file__).parent / "stand_in"
# what a Job runs first, without installing anything
BOOTSTRAP = f"""
import os, sys, time
os.environ["SIMCT_STARTED"] = str(time.time())
os.environ["PYTHONPATH"] = {":".join((str(STAND_IN), str(STAND_IN.parents[2])))!r}
print("installing", flush=True)
os.execv(sys.executable, [sys.executable, "-m", "simct.jobs.hf.runner"])
"""


def settings(devices: str = "cpu") -> dict[str, str]:
    """The environment of a process whose runs are stood in for."""
    return {"PYTHONPATH": str(STAND_IN), "SIMCT_DEVICES": devices}


def use(monkeypatch, devices: str = "cpu") -> None:
    for name, value in settings(devices).items():
        monkeypatch.setenv(name, value)


def config(steps: int = 3, seconds: float = 0.02, **training) -> RunConfig:
    training = {"steps": steps, "learning_rate": seconds, "checkpoint_every": 2, **training}
    return config_from_dict({"teacher": "t", "student": "s", "data": {"prompts": "p"}, "training": training})


def new(runs_dir: Path, owner: str | None = None, **training) -> RunFolder:
    """A run in the queue, not yet submitted."""
    return RunFolder.create(runs_dir, config(**training), owner, queued_at=time.time())


def weights_after(steps: int, seed: int = 0) -> str:
    """What the stand-in's model/ holds after `steps`, however often it was interrupted."""
    weights = f"seed {seed}"
    for _ in range(steps):
        weights = hashlib.sha256(weights.encode()).hexdigest()
    return weights


def turns(runs_dir: Path | str, what: str = "began") -> list[dict]:
    lines = [line for path in Path(runs_dir).glob("*/.turns.jsonl") for line in path.read_text().splitlines()]
    return sorted((turn for turn in map(json.loads, lines) if turn["what"] == what), key=lambda turn: turn["at"])


def most_at_once(runs_dir: Path, device: str | None = None) -> int:
    """How many runs trained at the same moment at most, on one device or in all."""
    moments = [
        (turn["at"], change)
        for what, change in (("began", 1), ("ended", -1))
        for turn in turns(runs_dir, what)
        if device in (None, turn["visible"])
    ]
    running, most = 0, 0
    for _, change in sorted(moments):
        running += change
        assert running >= 0
        most = max(most, running)
    return most


def all_over(runs_dir: Path, seconds: float = 60.0) -> None:
    """Advance the queue until no run is active."""

    def over() -> bool:
        queue.advance(runs_dir)
        return not any(status.active for _, status in list_statuses(runs_dir))

    until(over, seconds)
