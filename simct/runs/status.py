"""The status of a run (status.json) and of its publishing (publish.json), as typed records.

Files of any age and in any condition load: unknown keys are kept for the next write, and a file that is not a JSON
object or has a value of the wrong type gives a status that says so (`unreadable`) instead of an error.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from simct.errors import RunError
from simct.files import FULL, locked, overwrite, parse_json, read_file, write_atomically

# `unreadable` is only shown, never written
State = Literal["queued", "running", "stopping", "stopped", "failed", "finished", "unreadable"]
STATES = tuple(state for state in get_args(State) if state != "unreadable")
ACTIVE_STATES = ("queued", "running", "stopping")
ENDED_STATES = ("stopped", "failed", "finished")
PublishingState = Literal["none", "publishing", "published", "failed"]

# larger than any status; a larger file is not read
MAX_BYTES = 1_000_000
MAX_DEPTH = 20


def _printable(value: Any) -> Any:
    """A lone surrogate, which no terminal and no page can show, as a question mark."""
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_printable)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Pid = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
# seconds since the epoch up to the year 5138, hours, US dollars
Number = Annotated[float, Field(strict=True, ge=0, lt=1e11, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The content of status.json. Times are seconds since the epoch; `extra` holds unknown keys."""

    state: State = "unreadable"
    step: Count = 0
    total_steps: Count | None = None
    message: Text | None = None
    error: Text | None = None
    # for lists of runs, so that listing reads no run.yaml
    owner: Text | None = None
    # the studio's project that it was launched in
    project: Text | None = None
    method: Text | None = None
    kind: Text | None = None
    teacher: Text | None = None
    student: Text | None = None
    created_at: Number | None = None
    started_at: Number | None = None
    finished_at: Number | None = None
    heartbeat: Number = 0.0
    # the step that model/ was saved at
    model_step: Count | None = None
    # distance to the teacher in bits per byte: before training, now (at `step`), and at the best checkpoint
    distance: dict[str, Any] | None = None
    # how far a stage other than training is (progress.py), and what the training process uses (see training/usage.py)
    progress: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    # on this machine: the process to watch, the process group that signals go to, and the devices it was given
    host: Text | None = None
    pid: Pid | None = None
    pid_started: Number | None = None
    group: Pid | None = None
    devices: list[Text] | None = None
    device: Text | None = None
    # the number formats it trains in (simct.config.precision)
    precision: dict[str, Any] | None = None
    processes: Count | None = None
    # in the queue of this machine; `lent` if the run needs the token of the visitor who started it, or a key
    queued_at: Number | None = None
    gpus: Count | None = None
    lent: Flag = False
    resume: Flag = False
    starts: Count = 0
    # on Hugging Face Jobs: `attempt` tells apart the reports of the run's Jobs
    backend: Text | None = None
    job_id: Text | None = None
    job_url: Text | None = None
    attempt: Text | None = None
    namespace: Text | None = None
    flavor: Text | None = None
    hours: Number | None = None
    price: Number | None = None
    run_repo: Text | None = None
    remote_commit: Text | None = None
    remote_checkpoint: Text | None = None
    reported: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: object) -> Self:
        """The status in a parsed status.json; never raises. If something is wrong with it, the message says what."""
        if not isinstance(raw, dict):
            return cls(message="status.json is damaged: it is not a JSON object.")
        known, extra, problems = _parse(cls, raw)
        if known.get("state") not in STATES:
            problems.setdefault("state", known.get("state"))
        if problems:
            name, value = next(iter(problems.items()))
            reason = "it has no state" if name == "state" and value is None else f"{name} is {_shown(value)}"
            known |= {"state": "unreadable", "message": f"status.json is damaged: {reason}.", "error": None}
        return cls(**known, extra=extra)

    @property
    def active(self) -> bool:
        """Whether the run waits or runs, here or elsewhere."""
        return self.state in ACTIVE_STATES

    @property
    def remote(self) -> bool:
        """Whether the run is on Hugging Face Jobs, or was there last."""
        return self.backend == "hf"

    @property
    def active_here(self) -> bool:
        return self.active and not self.remote

    @property
    def waiting(self) -> bool:
        """Whether the run waits in the queue of this machine."""
        return self.state == "queued" and bool(self.queued_at) and not self.remote

    @property
    def started(self) -> bool:
        """Whether the run is active and a process or a Job works on it."""
        return self.state in ("running", "stopping") or (self.state == "queued" and self.pid is not None)

    @property
    def machine(self) -> str:
        """The rented machine in one word; empty for this machine."""
        return (self.flavor or "Jobs") if self.remote else ""


@dataclass(frozen=True, slots=True)
class PublishingStatus:
    """The content of publish.json: where the student was published, and the progress (`sent` of `total` bytes)."""

    state: PublishingState = "none"
    error: Text | None = None
    repo_id: Text | None = None
    private: Flag = False
    url: Text | None = None
    commit: Text | None = None
    adapter_url: Text | None = None
    rollouts_url: Text | None = None
    space_url: Text | None = None
    # which weights: merged, adapter or both
    what: Text | None = None
    # the step of the student that was published
    model_step: Count | None = None
    stage: Text | None = None
    sent: Count | None = None
    total: Count | None = None
    pid: Pid | None = None
    pid_started: Number | None = None
    updated_at: Number | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: object) -> Self:
        """The record in a parsed publish.json; never raises. A damaged one counts as failed."""
        known, extra, problems = _parse(cls, raw if isinstance(raw, dict) else {})
        if problems or not isinstance(raw, dict):
            known |= {"state": "failed", "error": "publish.json is damaged. Publish again."}
        return cls(**known, extra=extra)

    @property
    def active(self) -> bool:
        return self.state == "publishing"


def read_status(path: Path) -> RunStatus:
    """The status in the file `path`; `unreadable`, with the reason as its message, if there is none. Never raises."""
    try:
        return RunStatus.from_dict(_read(path))
    except FileNotFoundError:
        return RunStatus(message="There is no status.json.")
    except OSError as error:
        return RunStatus(message=f"status.json cannot be read: {error.strerror}.")


def update_status(path: Path, **fields: Any) -> RunStatus:
    """Merge `fields` into the status file `path`, stamp the heartbeat, and return the new status.

    Damaged values in the file are dropped. An ended run does not become `stopping`: nothing is written then, and
    its status is returned. Raises RunError for an unknown field, a value that the field cannot have, and a run without
    a state.
    """
    if "state" in fields and fields["state"] not in STATES:
        raise RunError(f"A run cannot be {fields['state']!r}; its states are {', '.join(STATES)}.")
    with locked(path.with_name(".status.lock")):
        if fields.get("state") == "stopping" and (found := read_status(path)).state in ENDED_STATES:
            return found
        now = time.time()
        record = _merged(path, RunStatus, {**fields, "heartbeat": now})
        if record.get("state") not in STATES:
            raise RunError(f"{str(path)!r} does not say which state the run is in. Delete the run or repair the file.")
        if "state" in fields and fields["state"] not in ACTIVE_STATES and "finished_at" not in fields:
            record["finished_at"] = now
        status = RunStatus.from_dict(record)
        content = json.dumps(record, indent=1)
        try:
            write_atomically(path, content)
        except OSError as error:
            if error.errno not in FULL:
                raise
            # even on a full disk, a run that has ended must not stay "running"
            overwrite(path, content)
    return status


def read_publishing(path: Path) -> PublishingStatus:
    """The record in the file `path`; state `none` if there is no such file. Never raises."""
    try:
        return PublishingStatus.from_dict(_read(path))
    except FileNotFoundError:
        return PublishingStatus()
    except OSError:
        return PublishingStatus.from_dict(None)


def update_publishing(path: Path, **fields: Any) -> PublishingStatus:
    """Merge `fields` into the file `path` and return the new record. Raises RunError as update_status does."""
    with locked(path.with_name(".status.lock")):
        record = {"state": "none"} | _merged(path, PublishingStatus, {**fields, "updated_at": time.time()})
        write_atomically(path, json.dumps(record, indent=1))
    return PublishingStatus.from_dict(record)


def _read(path: Path) -> object:
    data = read_file(path, MAX_BYTES + 1)
    return parse_json(data) if len(data) <= MAX_BYTES else None


@lru_cache
def _adapter(record: type) -> TypeAdapter[Any]:
    return TypeAdapter(record)


def _parse(record: type, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(the valid fields of `raw`, the unknown keys, the damaged fields); null stands for a field's default."""
    names = {each.name for each in dataclasses.fields(record)} - {"extra"}
    known = {name: value for name, value in raw.items() if name in names and value is not None}
    extra = {name: value for name, value in raw.items() if name not in names}
    problems = {name: value for name, value in raw.items() if _too_deep(value)}
    known = {name: value for name, value in known.items() if name not in problems}
    try:
        checked = _adapter(record).validate_python(known)
    except ValidationError as error:
        wrong = {str(each["loc"][0]) for each in error.errors(include_url=False, include_context=False)}
        problems |= {name: known.pop(name) for name in wrong}
        checked = _adapter(record).validate_python(known)
    known = {name: getattr(checked, name) for name in known}
    return known, {name: value for name, value in extra.items() if name not in problems}, problems


def _merged(path: Path, record: type, fields: dict[str, Any]) -> dict[str, Any]:
    """The content of the file `path` without damaged values, updated with `fields`."""
    _, extra, problems = _parse(record, fields)
    for name, value in (problems | extra).items():
        raise RunError(f"{path.name} has no place for {name} = {_shown(value)}.")
    try:
        raw = _read(path)
    except FileNotFoundError:
        raw = None
    raw = raw if isinstance(raw, dict) else {}
    damaged = _parse(record, raw)[2]
    return {name: value for name, value in raw.items() if name not in damaged} | fields


def _too_deep(value: object, depth: int = MAX_DEPTH) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_too_deep(each, depth - 1) for each in inner)


def _shown(value: object) -> str:
    """The first characters of a damaged value."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(_printable(value))
    return text if len(text) <= 40 else f"{text[:40]}…"
