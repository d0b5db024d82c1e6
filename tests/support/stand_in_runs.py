"""Runs whose training is stood in for by stand_in: real run folders, queue, supervisor, processes and signals."""

import hashlib
import json
import time
from pathlib import Path

from simct.config import config_from_dict
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses

STAND_IN = Path(__file__).parent / "stand_in"


def settings(devices: str = "cpu") -> dict[str, str]:
    """Environment for a process whose runs are to be stood in for."""
    return {"PYTHONPATH": str(STAND_IN), "SIMCT_DEVICES": devices}


def use(monkeypatch, devices: str = "cpu") -> None:
    for name, value in settings(devices).items():
        monkeypatch.setenv(name, value)


def config(steps: int = 3, seconds: float = 0.02, **training):
    training = {"steps": steps, "learning_rate": seconds, "checkpoint_every": 2, **training}
    return config_from_dict({"teacher": "t", "student": "s", "data": {"prompts": "p"}, "training": training})


def new(runs_dir, owner: str | None = None, **training) -> RunFolder:
    """A run in the queue, not yet submitted."""
    return RunFolder.create(runs_dir, config(**training), owner, queued_at=time.time())


def weights_after(steps: int, seed: int = 0) -> str:
    """What the stand-in's model/ holds after so many steps, however often it was interrupted."""
    weights = f"seed {seed}"
    for _ in range(steps):
        weights = hashlib.sha256(weights.encode()).hexdigest()
    return weights


def turns(runs_dir, what: str = "began") -> list[dict]:
    path = Path(runs_dir) / ".turns.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [told for told in map(json.loads, lines) if told["what"] == what]


def until(condition, seconds: float = 60.0, every: float = 0.03):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(every)
    return value


def all_over(runs_dir, seconds: float = 60.0) -> None:
    """Look at the queue, as anybody might, until nothing is active."""

    def over() -> bool:
        queue.advance(runs_dir)
        return not any(told.active for _, told in list_statuses(runs_dir))

    until(over, seconds)
