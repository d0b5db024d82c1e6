"""The run folder: the truth about one run. The trainer writes it; the command, the studio and the Hub code read it.

run.yaml          the configuration, exactly as it runs
status.json       state, step, message, error, process id, heartbeat; replaced atomically
metrics.jsonl     one line an optimizer step
rollouts.jsonl    samples of what the student wrote
evaluation.json   scores before and after
inspect.json      what the two tokenizers share, on the prompts' text
publish.json      the state of publishing, apart from the run's own
log.txt           standard output and error of the training process
job_log.txt       what a Hugging Face Job printed, installation and all
checkpoints/      step-N folders, complete or absent
model/            the student, in the usual Hugging Face layout
"""

import fcntl
import json
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simct.config import RunConfig, load_config, save_config
from simct.errors import RunError
from simct.files import read_json, read_jsonl, tail, write_atomically

STATES = ("queued", "running", "stopping", "stopped", "failed", "finished")
ACTIVE_STATES = ("queued", "running", "stopping")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """A view of one run folder; holds nothing but its path."""

    path: Path

    @classmethod
    def create(cls, runs_dir: str | Path, config: RunConfig, owner: str | None = None, **status) -> "RunFolder":
        """Make a new folder for `config`, with an id of our own making, in state `queued`.

        `config.output`, when given, is the folder itself and must be absent or empty. `status` are further fields of
        status.json, there from the first moment on. Raises RunError if the folder is taken or the disk refuses.
        """
        if config.output:
            path = Path(config.output).expanduser().resolve()
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RunError(
                    f"The run folder {config.output!r} is not empty. Choose another, or resume it with --resume."
                )
        else:
            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.method}-{secrets.token_hex(3)}"
            path = Path(runs_dir).expanduser().resolve() / name
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            config.output = str(path)
            save_config(config, path / "run.yaml")
            first = {"state": "queued", "step": 0, "total_steps": config.training.steps, "created_at": time.time()}
            first |= {"owner": owner, "message": "Waiting to start", **title(config)}
            run.set_status(**first | status)
        except OSError as error:
            raise RunError(f"Cannot write the run folder {str(path)!r}: {error.strerror}.") from error
        return run

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def model_dir(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    def config(self) -> RunConfig:
        return load_config(self.path / "run.yaml")

    def status(self) -> dict:
        return read_json(self.path / "status.json")

    def set_status(self, **fields) -> dict:
        """Merge `fields` into status.json and stamp the heartbeat; the trainer and the studio may both be writing."""
        with open(self.path / ".status.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status = {**self.status(), **fields, "heartbeat": time.time()}
            if status.get("state") not in STATES:
                raise RunError(f"A run cannot be {status.get('state')!r}; states are {', '.join(STATES)}.")
            if status["state"] not in ACTIVE_STATES and "state" in fields:
                status["finished_at"] = status["heartbeat"]
            write_atomically(self.path / "status.json", json.dumps(status, indent=1))
        return status

    def append(self, name: str, record: dict) -> None:
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def metrics(self) -> list[dict]:
        """One record a step. After a resume the later record of a step replaces the earlier one."""
        by_step = {record["step"]: record for record in read_jsonl(self.path / "metrics.jsonl") if "step" in record}
        return [by_step[step] for step in sorted(by_step)]

    def rollouts(self, last: int = 20) -> list[dict]:
        return read_jsonl(self.path / "rollouts.jsonl")[-last:]

    def evaluation(self) -> dict:
        return read_json(self.path / "evaluation.json")

    def save_evaluation(self, evaluation: dict) -> None:
        write_atomically(self.path / "evaluation.json", json.dumps(evaluation, indent=1, ensure_ascii=False))

    def inspection(self) -> dict:
        return read_json(self.path / "inspect.json")

    def save_inspection(self, report: dict) -> None:
        write_atomically(self.path / "inspect.json", json.dumps(report, indent=1, ensure_ascii=False))

    def publishing(self) -> dict:
        return read_json(self.path / "publish.json") or {"state": "none"}

    def set_publishing(self, **fields) -> dict:
        record = {**self.publishing(), **fields, "updated_at": time.time()}
        write_atomically(self.path / "publish.json", json.dumps(record, indent=1))
        return record

    def log_tail(self, lines: int = 200) -> str:
        return tail(self.log_path, lines)

    def latest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint folder, or None."""
        found = [
            (int(folder.name.removeprefix("step-")), folder)
            for folder in self.checkpoints_dir.glob("step-*")
            if folder.name.removeprefix("step-").isdigit()
        ]
        return max(found)[1] if found else None

    def delete(self) -> None:
        """Remove the folder of a run that is over. Raises RunError while it is active."""
        state = self.status().get("state")
        if state in ACTIVE_STATES:
            raise RunError(f"Run {self.id} is {state}. Stop it before deleting it.")
        # what has no status.json is no run: a removal cut short leaves nothing that looks like one
        (self.path / "status.json").unlink(missing_ok=True)
        shutil.rmtree(self.path)


def title(config: RunConfig) -> dict[str, str]:
    """What a list of runs tells about one, kept in status.json so that listing reads no run.yaml."""
    names = {"method": config.method, "kind": config.kind}
    return names | {"teacher": config.teacher.model, "student": config.student.model}
