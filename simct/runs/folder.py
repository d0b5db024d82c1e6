"""The run folder, which is the truth about one run. The trainer writes it; the command and the studio read it.

run.yaml          the configuration, exactly as it runs
status.json       state, step, message, error, process id, heartbeat; replaced atomically
metrics.jsonl     one line per optimizer step
rollouts.jsonl    samples of what the student wrote
held_out.jsonl    prompts that are not trained on
evaluation.json   scores before and after
evaluations.jsonl one line per evaluation along the run: distance to the teacher, scores, answers to fixed prompts
teacher.jsonl     the teacher's answers to the held-out prompts, which every evaluation uses
.started.yaml     the run.yaml of its last start without a checkpoint
inspect.json      what the two tokenizers share, on the prompts' text
votes.jsonl       what a person preferred in blind tests, one line per vote
publish.json      the state of publishing, separate from the run's own
label.json        the name, note, tags and star that people gave it
log.txt           standard output and error of the training process
job_log.txt       everything that a Hugging Face Job printed, including the installation
checkpoints/      step-N folders, complete or absent
model/            the student, in the usual Hugging Face layout
adapter/          the student's LoRA weights by themselves, if it was trained by LoRA
"""

import contextlib
import json
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from simct.config import RunConfig, load_run_config, local_path, save_config
from simct.config.precision import Precision
from simct.config.tasks import rename_tasks
from simct.config.teachers import teacher_names
from simct.errors import ConfigError, RunError
from simct.files import (
    acquire_lock,
    append_jsonl,
    expanded,
    keep_jsonl,
    locked,
    read_json,
    read_jsonl,
    tail,
    write_atomically,
)
from simct.runs.checkpoints import newest_whole
from simct.runs.status import (
    PublishingStatus,
    RunStatus,
    read_publishing,
    read_status,
    update_publishing,
    update_status,
)

# held by the training process for as long as it lives
TRAINER_LOCK = ".trainer.lock"
# held by the process that publishes the run
PUBLISHING_LOCK = ".publish.lock"
# files that only the training process replaces, and files that other processes also replace
OWN_FILES = ("evaluation.json", "inspect.json", "metrics.jsonl", "rollouts.jsonl")
SHARED_FILES = ("status.json", "publish.json")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """One run folder, by its path."""

    path: Path

    @classmethod
    def create(cls, runs_dir: str | Path, config: RunConfig, owner: str | None = None, **fields: Any) -> Self:
        """Make a new folder for `config`, with a new id, in state `queued`.

        `config.output`, if given, is the folder itself, which must be empty or not exist. `fields` are further fields
        of the first status.json. Raises RunError if the folder is not empty or cannot be written.
        """
        if config.output:
            path = expanded(config.output).resolve()
            if not path.name.isprintable():
                raise RunError(f"The run folder {config.output!r} has a name that cannot be printed. Choose another.")
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RunError(
                    f"The run folder {config.output!r} is not empty. Choose another, or resume it with --resume."
                )
        else:
            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.method}-{secrets.token_hex(3)}"
            path = expanded(runs_dir).resolve() / name
        run, is_new = cls(path), not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            if owner is not None:
                path.chmod(0o700)  # a visitor's folder is private to the studio's own user
            config.output = str(path)
            make_paths_absolute(config)
            save_config(config, path / "run.yaml")
            first = {"state": "queued", "step": 0, "total_steps": config.training.steps, "created_at": time.time()}
            first |= {"owner": owner, "message": "Waiting to start", **title(config)}
            run.set_status(**first | fields)
        except OSError as error:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise RunError(f"Cannot write the run folder {str(path)!r}: {error.strerror}.") from error
        return run

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def model_dir(self) -> Path:
        return self.path / "model"

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    def config(self) -> RunConfig:
        """The configuration in run.yaml. Raises ConfigError if it cannot be read."""
        path = self.path / "run.yaml"
        if path.exists() and not path.is_file():
            raise ConfigError(f"{str(path)!r} is not a file. Put the run's configuration there, or delete the run.")
        return load_run_config(path)

    def trained_config(self) -> RunConfig:
        """The same, with auto replaced by the number formats that the run trained in, once they are known."""
        config, found = self.config(), Precision.from_dict(self.status().precision)
        return found.filled(config) if found else config

    @property
    def exists(self) -> bool:
        """Whether this is the folder of a run, even a damaged one."""
        return (self.path / "status.json").is_file()

    def status(self) -> RunStatus:
        return read_status(self.path / "status.json")

    def set_status(self, **fields: Any) -> RunStatus:
        """Merge `fields` of RunStatus into status.json; the trainer and the studio may both be writing.

        Returns the new status. Raises RunError for a field or a value that a status cannot have.
        """
        return update_status(self.path / "status.json", **fields)

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add a line to one of the run's JSON-lines files."""
        append_jsonl(self.path / name, [record])

    def metrics(self) -> list[dict[str, Any]]:
        """One record per step. If a step was repeated after a resume, the later record counts."""
        return _by_step(read_jsonl(self.path / "metrics.jsonl"))

    def evaluations(self) -> list[dict[str, Any]]:
        """One record per evaluation along the run, by step; step 0 is before training."""
        return _by_step(read_jsonl(self.path / "evaluations.jsonl"))

    def teacher_answers(self) -> list[dict[str, Any]]:
        """The teacher's answers to the held-out prompts, in their order."""
        return read_jsonl(self.path / "teacher.jsonl")

    def save_teacher_answers(self, records: list[dict[str, Any]]) -> None:
        self._save_lines("teacher.jsonl", records)

    def forget_after(self, step: int) -> None:
        """Remove the metrics, rollouts and evaluations of steps after `step`, which a resumed run repeats.

        Raises OSError.
        """

        def is_kept(record: dict[str, Any]) -> bool:
            return type(record.get("step")) is int and record["step"] <= step

        for name in ("metrics.jsonl", "rollouts.jsonl", "evaluations.jsonl"):
            keep_jsonl(self.path / name, is_kept)

    def rollouts(self, last: int = 20) -> list[dict[str, Any]]:
        return read_jsonl(self.path / "rollouts.jsonl")[-last:]

    def held_out(self) -> list[dict[str, Any]] | None:
        """The prompts that the run does not train on; None before it began, and if they cannot be read completely."""
        path = self.path / "held_out.jsonl"
        if not path.is_file():
            return None
        records = read_jsonl(path)
        lines = len([line for line in path.read_bytes().split(b"\n") if line])
        whole = len(records) == lines and all(isinstance(record.get("messages"), list) for record in records)
        return records if whole else None

    def save_held_out(self, records: list[dict[str, Any]]) -> None:
        self._save_lines("held_out.jsonl", records)

    def _save_lines(self, name: str, records: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_atomically(self.path / name, lines.encode("utf-8", errors="replace"))

    def evaluation(self) -> dict[str, Any]:
        return read_json(self.path / "evaluation.json")

    def save_evaluation(self, evaluation: dict[str, Any]) -> None:
        write_atomically(self.path / "evaluation.json", json.dumps(evaluation, indent=1, ensure_ascii=False))

    def inspection(self) -> dict[str, Any]:
        return read_json(self.path / "inspect.json")

    def save_inspection(self, report: dict[str, Any]) -> None:
        write_atomically(self.path / "inspect.json", json.dumps(report, indent=1, ensure_ascii=False))

    def publishing(self) -> PublishingStatus:
        return read_publishing(self.path / "publish.json")

    def set_publishing(self, **fields: Any) -> PublishingStatus:
        """Merge `fields` of PublishingStatus into publish.json; returns the new record."""
        return update_publishing(self.path / "publish.json", **fields)

    def log_tail(self, lines: int = 200) -> str:
        return tail(self.log_path, lines)

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint without a missing or shortened file, or None; checksums are not compared."""
        return newest_whole(self.checkpoints_dir)[0]

    def acquire_for_training(self) -> int | None:
        """A descriptor that holds the run for the one process that trains it, or None while another process holds it.

        Raises RunError if the run folder cannot be written.
        """
        try:
            return acquire_lock(self.path / TRAINER_LOCK)
        except OSError as error:
            raise RunError(f"Cannot write the run folder {str(self.path)!r}: {error.strerror}.") from error

    def remove_leftovers(self) -> None:
        """Remove files that a killed process left half written. Call it only in the process that holds the run."""
        half_written = [
            *self.checkpoints_dir.glob(".step-*"),
            *self.checkpoints_dir.glob(".best.json.*"),
            *(path for name in OWN_FILES for path in self.path.glob(f".{name}.*")),
            self.path / ".model",
            self.path / ".adapter",
        ]
        # other processes write these two as well, but only under their lock
        with contextlib.suppress(OSError), locked(self.path / ".status.lock"):
            half_written += [path for name in SHARED_FILES for path in self.path.glob(f".{name}.*")]
            for path in half_written:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove the folder of a run that has ended. Raises RunError while it is active, or if it cannot be removed."""
        status = self.status()
        if status.active:
            raise RunError(f"Run {self.id} is {status.state}. Stop it before deleting it.")
        # without status.json it is not a run, so an interrupted removal leaves nothing that looks like a run
        try:
            (self.path / "status.json").unlink(missing_ok=True)
            shutil.rmtree(self.path)
        except OSError as error:
            raise RunError(f"Cannot remove the run folder {str(self.path)!r}: {error.strerror}.") from error


def make_paths_absolute(config: RunConfig) -> None:
    """Make the paths in `config` absolute, so that the run resumes from any working directory."""
    named = [(model, name) for model in config.models for name in ("model", "scores")]
    for owner, name in (*named, (config.data, "prompts"), (config.data, "held_out_prompts")):
        if getattr(owner, name):
            setattr(owner, name, _absolute(getattr(owner, name)))
    # a folder with the name of a task is not a task file
    rename_tasks(config, lambda task: _absolute(task) if (path := local_path(task)) and path.is_file() else task)


def _absolute(name: str) -> str:
    path = local_path(name)
    return str(path.absolute()) if path is not None else name


def _by_step(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each step."""
    by_step = {record["step"]: record for record in records if type(record.get("step")) is int}
    return [by_step[step] for step in sorted(by_step)]


def title(config: RunConfig) -> dict[str, str]:
    """The fields that a list of runs shows, kept in status.json so that listing reads no run.yaml."""
    names = {"method": config.method, "kind": config.kind}
    return names | {"teacher": teacher_names(config), "student": config.student.model}
