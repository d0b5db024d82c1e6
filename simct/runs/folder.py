"""The run folder: the truth about one run. The trainer writes it; the command, the studio and the Hub code read it.

run.yaml          the configuration, exactly as it runs
status.json       state, step, message, error, process id, heartbeat; replaced atomically
metrics.jsonl     one line an optimiser step
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
import os
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simct.config import RunConfig, load_config, save_config
from simct.errors import RunError

STATES = ("queued", "running", "stopping", "stopped", "failed", "finished")
ACTIVE_STATES = ("queued", "running", "stopping")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` as a whole: a reader or a crash sees the old text or the new, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """What a JSON file holds; empty when it is absent or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_jsonl(path: Path) -> list[dict]:
    """Every whole line; a line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def tail(path: Path, lines: int) -> str:
    """The last `lines` of a file, as far as they are of usual length; nothing of one that is absent."""
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 200 * lines))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


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


def open_run(runs_dir: str | Path, run_id: str) -> RunFolder:
    """The run `run_id` under `runs_dir`. Raises RunError when the id is malformed or no such run exists."""
    if not RUN_ID.fullmatch(run_id or ""):
        raise RunError(f"{run_id!r} is not a run id. See `simct jobs` for the list.")
    root = Path(runs_dir).expanduser().resolve()
    path = (root / run_id).resolve()
    if path.parent != root or not (path / "status.json").is_file():
        raise RunError(f"There is no run {run_id!r} in {str(root)!r}. See `simct jobs` for the list.")
    return RunFolder(path)


def list_runs(runs_dir: str | Path) -> list[RunFolder]:
    """Every run under `runs_dir`, newest first by creation time."""
    return [run for run, _ in list_statuses(runs_dir)]


_statuses: dict[str, tuple[tuple, dict]] = {}
_statuses_lock = threading.Lock()


def list_statuses(runs_dir: str | Path) -> list[tuple[RunFolder, dict]]:
    """Every run under `runs_dir` with its status, newest first. Each status.json is read once for each time it is
    replaced, so that a long history costs one `stat` a run. The dicts are shared: copy before changing one."""
    root = Path(runs_dir).expanduser().resolve()
    found = []
    try:
        entries = [entry.path for entry in os.scandir(root) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    with _statuses_lock:
        for path in entries:
            try:
                told = os.stat(os.path.join(path, "status.json"))
            except OSError:
                continue
            stamp = (told.st_ino, told.st_mtime_ns, told.st_size)
            known = _statuses.get(path)
            if known is None or known[0] != stamp:
                status = read_json(Path(path) / "status.json")
                known = _statuses[path] = (stamp, status)
            found.append((RunFolder(Path(path)), known[1]))
        if len(_statuses) > 2 * len(found) + 1000:
            _statuses.clear()
    return sorted(found, key=lambda each: each[1].get("created_at") or 0, reverse=True)
