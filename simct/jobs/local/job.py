"""A run as a process of this machine: `accelerate launch -m simct.train run.yaml`, in its own process group.

The process outlives the browser and the studio. A small supervisor (supervise.py) leads the group and holds a lock on
the run folder for as long as it lives. The system releases the lock however the process ends, so it is always known
whether a run is alive. Everything about the run is read from its folder; `refresh` notices a process that ended without
saying so there. Tokens reach it through the environment only.

In status.json `group` is the process group, which signals go to, and `pid` the process to watch: the supervisor's until
the trainer has written its own.
"""

import contextlib
import dataclasses
import importlib.resources
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from simct import files
from simct.errors import RunError, SimCTError
from simct.hub.redact import KEY_VARIABLE, RUN_KEY_VARIABLE, redact
from simct.jobs.local import process
from simct.jobs.local.environment import is_visitors, visitors_environment
from simct.models.server_keys import key_of
from simct.runs.changes import accepted_changes
from simct.runs.checkpoints import CONFIG_FILE
from simct.runs.folder import PUBLISHING_LOCK, TRAINER_LOCK, RunFolder
from simct.runs.status import RunStatus

LOCK_FILE = ".process.lock"
# A process on another machine cannot be checked; after this many seconds without a heartbeat it counts as dead.
ELSEWHERE_SECONDS = 15 * 60.0
# A step may take long: a run is reported as silent after this time, or after ten usual steps.
SILENT_SECONDS = 5 * 60.0
# What the launchers of several processes end with.
LAUNCHERS = ("torch.distributed.elastic", "subprocess.CalledProcessError")
# How Accelerate starts one process per GPU, by training.parallel.
PRESETS = "presets/accelerate"


def training_command(run: RunFolder, resume: bool = False, gpus: int | None = None) -> list[str]:
    """The argument list that trains `run` on `gpus` GPUs (None: all there are).

    CPU machines get one process: a CPU-only launch with several processes needs torchrun, see docs/running.md.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    count = gpu_count() if gpus is None else gpus
    if count > 1:
        parallel = run.config().training.parallel
        preset = "multi_gpu" if parallel == "ddp" else parallel
        path = importlib.resources.files("simct") / PRESETS / f"{preset}.yaml"
        command += ["--config_file", str(path), "--num_processes", str(count)]
    else:
        # quiet: the launcher's own traceback would hide the reason that the trainer has logged
        command += ["--quiet", "--num_machines", "1", "--num_processes", "1"]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    if not count:
        threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
        command += ["--cpu", "--num_cpu_threads_per_process", threads]
    command += ["-m", "simct.train", str(run.path / "run.yaml")]
    return [*command, "--resume"] if resume else command


def gpu_count() -> int:
    """CUDA GPUs that this process may use."""
    # importing torch takes seconds, and listing runs does not need it
    import torch

    return torch.cuda.device_count()


def launch(
    run: RunFolder,
    resume: bool = False,
    token: str | bool | None = None,
    devices: list[str] | None = None,
    queue_devices: Sequence[str] = (),
) -> int:
    """Start (or resume) training in the background and return the process id.

    `devices` are the GPUs to use as CUDA_VISIBLE_DEVICES names them (or ["cpu"]); None leaves all to the run. `token`
    False keeps this machine's own token from the run. With `queue_devices`, all the devices that runs take turns on,
    the run must still be waiting, and it starts the next run when it ends; except if it got a visitor's token or the
    key of a server, which the next run would inherit. Raises RunError if the run is already active or the process
    cannot be started.
    """
    with _start_reported(run), _lock_to_start(run, queued=bool(queue_devices)) as lock:
        status = refresh(run, lock_is_ours=True)
        if status.started:
            raise RunError(f"Run {run.id} is already {status.state}.")
        if queue_devices and not status.waiting:
            raise RunError(f"Run {run.id} is {status.state} and no longer waiting.")
        gpus = None if devices is None else len([each for each in devices if each != "cpu"])
        key = given_key(run, status.owner)
        options = ["--from-queue"] if queue_devices and not (token or key) else []
        command = [sys.executable, "-m", "simct.jobs.local.supervise", *options, str(run.path), "--"]
        command += training_command(run, resume, gpus)
        # the supervisor removes `queued_at`, so that a run that fails to start here keeps waiting
        run.set_status(
            state="queued",
            message="Loading the models",
            error=None,
            pid=None,
            group=None,
            started_at=time.time(),
            finished_at=None,
            starts=status.starts + 1,
            devices=devices,
            host=socket.gethostname(),
        )
        environment = _environment(token, devices, lock, queue_devices, status.owner)
        if key:
            environment[RUN_KEY_VARIABLE] = key
        return _start_supervisor(run, command, environment, lock)


def given_key(run: RunFolder, owner: str | None) -> str | None:
    """The key that the run's owner gave this process for the teacher's server, if the run has one."""
    with contextlib.suppress(SimCTError):
        return key_of(owner, run.config().teacher.server)
    return None  # of a run.yaml that cannot be read


@contextlib.contextmanager
def _start_reported(run: RunFolder) -> Iterator[None]:
    """Raise a RunError if the run folder cannot be written, such as on a full disk."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot start run {run.id}: {error.strerror} ({str(run.path)!r}).") from error


@contextlib.contextmanager
def _lock_to_start(run: RunFolder, queued: bool) -> Iterator[int]:
    """Hold the run's process lock while a process is started, which keeps its own handle on the same lock."""
    lock = acquire(run)
    while lock is None and not queued and not run.status().active:
        time.sleep(0.05)  # it has ended, and its supervisor is about to exit
        lock = acquire(run)
    if lock is None:
        raise RunError(f"Run {run.id} is already {run.status().state}.")
    try:
        if is_training(run):
            raise RunError(f"Run {run.id} is already being trained by another process. Stop that one first.")
        yield lock
    finally:
        os.close(lock)


def _start_supervisor(run: RunFolder, command: list[str], environment: dict[str, str], lock: int) -> int:
    try:
        with open(run.log_path, "ab") as log:
            supervisor = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),
            )
    except OSError as error:
        message = f"Could not start the training process: {error.strerror}."
        run.set_status(state="failed", queued_at=None, error=message)
        raise RunError(message) from error
    process.reap(supervisor)
    return supervisor.pid


def _environment(
    token: str | bool | None,
    devices: list[str] | None,
    lock: int,
    queue_devices: Sequence[str],
    owner: str | None = None,
) -> dict[str, str]:
    """The environment of the run's processes. A visitor's run only gets the variables of a Space that it needs."""
    environment = visitors_environment() if is_visitors(owner) else dict(os.environ)
    if is_visitors(owner) and not token:
        environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    environment["SIMCT_PROCESS_LOCK"] = str(lock)
    if queue_devices:
        # the run only sees its own devices, but starts the next run on any of them
        environment["SIMCT_DEVICES"] = ",".join(queue_devices)
    environment.setdefault("PYTHONUNBUFFERED", "1")
    # log.txt is UTF-8 in every locale, and no character ends a run
    environment["PYTHONIOENCODING"] = "utf-8:replace"
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if devices is not None and "cpu" not in devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if token is False or os.environ.get("SPACE_ID"):
        # no run gets the Space's own key
        environment.pop(KEY_VARIABLE, None)
    environment.pop(RUN_KEY_VARIABLE, None)
    if token is False:
        environment.pop("HF_TOKEN", None)
        environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    elif token:
        environment["HF_TOKEN"] = str(token)
    return environment


def acquire(run: RunFolder) -> int | None:
    """A descriptor that holds the run's process lock, or None while a process holds it; the caller closes it."""
    try:
        return files.acquire_lock(run.path / LOCK_FILE)
    except OSError as error:
        raise RunError(f"Cannot write the run folder {str(run.path)!r}: {error.strerror}.") from error


def publishes(run: RunFolder) -> bool:
    """Whether a process on this machine is publishing the run, as its own does once it has finished."""
    record = run.publishing()
    return record.active and (_is_held(run, PUBLISHING_LOCK) or process.is_alive(record.pid, record.pid_started))


def is_locked(run: RunFolder) -> bool:
    """Whether a supervisor or a trainer of this run lives, on this machine."""
    return _is_held(run, LOCK_FILE) or is_training(run)


def is_training(run: RunFolder) -> bool:
    """Whether a training process of this run lives, on this machine, whoever started it."""
    return _is_held(run, TRAINER_LOCK)


def _is_held(run: RunFolder, name: str) -> bool:
    try:
        return files.is_locked(run.path / name)
    except OSError:
        return False  # a lock that cannot be opened, such as a folder of that name, is not held


def has_process(run: RunFolder, status: RunStatus) -> bool:
    """Whether any process of the run lives on this machine: its supervisor, its trainer, or one that is starting."""
    return is_alive(status) or is_locked(run) or bool(process.group_members(status.group))


def is_alive(status: RunStatus) -> bool:
    """Whether the process that `status` names still lives."""
    if status.host not in (None, socket.gethostname()):
        return time.time() - status.heartbeat < ELSEWHERE_SECONDS
    return process.is_alive(status.pid, status.pid_started)


def is_gone(run: RunFolder, status: RunStatus) -> bool:
    """Whether `status` belongs to a run that was started here and has no process left."""
    begun = status.started or status.started_at is not None
    if not status.active_here or status.waiting or not begun:
        return False
    return not has_process(run, status)


def refresh(run: RunFolder, lock_is_ours: bool = False) -> RunStatus:
    """The run's status, after marking as failed a run whose process is gone. Runs on Hugging Face Jobs are left."""
    status = run.status()
    for _ in range(2):  # checked twice: the process may have reported its end just after the first check
        if lock_is_ours:
            gone = status.active and status.pid is not None and not is_alive(status)
            gone = gone and not process.group_members(status.group)
        else:
            gone = is_gone(run, status)
        if not gone:
            return status
        status = run.status()
    return finalize(run, status)


def finalize(run: RunFolder, status: RunStatus) -> RunStatus:
    """Write the final status of a run whose process ended without writing it."""
    end: dict[str, Any] = {"state": "stopped", "message": "Stopped"}
    if status.state != "stopping":
        end = {"state": "failed", "message": "Failed", "error": _cause(run)}
    end |= {"pid": None, "queued_at": None}
    try:
        return run.set_status(**end)
    except OSError:
        # the disk is full or read-only; the status is shown anyway, and written once that is possible
        return dataclasses.replace(status, **end)


def last_error(run: RunFolder) -> str | None:
    """The last line of the log that looks like an error, without tokens and keys; not the launcher's own error, which
    only says that a process has ended.
    """
    lines = [line.strip() for line in run.log_tail(80).splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and not line.startswith(("File ", "raise ", *LAUNCHERS))]
    return redact(errors[-1], run.status().owner)[:500] if errors else None


def _cause(run: RunFolder) -> str:
    reason = last_error(run) or "The training process ended unexpectedly (killed, or out of memory)."
    return reason + (" Its last checkpoint can be resumed." if run.latest_checkpoint() else "")


def silence(run: RunFolder, status: RunStatus) -> float | None:
    """Seconds since the last heartbeat of a run that trains here, if it is unusually long ago; else None."""
    if status.state not in ("running", "stopping") or status.remote:
        return None
    quiet = time.time() - status.heartbeat
    if quiet < SILENT_SECONDS:
        return None
    usual = [record["seconds"] for record in run.metrics()[-20:] if isinstance(record.get("seconds"), int | float)]
    return quiet if quiet > 10 * max(usual, default=0.0) else None


def signal_group(status: RunStatus, number: int) -> None:
    """Send a signal to every process of the run."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        group = status.group or (os.getpgid(status.pid) if status.pid else None)
        if group:
            os.killpg(group, number)


def _started(run: RunFolder) -> RunStatus:
    """The status once it names the process group, which takes a moment after the start."""
    deadline = time.monotonic() + 5
    while not (status := run.status()).group and time.monotonic() < deadline and is_locked(run):
        time.sleep(0.02)
    return status


def _check_active(run: RunFolder, action: str) -> None:
    status = refresh(run)
    if not status.active:
        raise RunError(f"Run {run.id} is {status.state}; there is nothing to {action}.")


def stop(run: RunFolder) -> RunStatus:
    """Ask the run to write a checkpoint and stop; a waiting run is withdrawn. Raises RunError if it is not active."""
    _check_active(run, "stop")
    if withdraw(run):
        return run.status()
    training = _started(run).state == "running"
    status = run.set_status(state="stopping", message="Writing a checkpoint")
    if not status.active:
        return status  # it has ended in the meantime
    if training and status.pid and status.pid != status.group:
        # the launcher would kill the run's other processes before they finish the checkpoint
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(status.pid, signal.SIGTERM)
    else:
        signal_group(status, signal.SIGTERM)
    return status


def withdraw(run: RunFolder) -> bool:
    """Stop a run that no process has started yet, while nothing can start it; returns whether it was such a run."""
    lock = acquire(run)
    if lock is None:
        return False
    try:
        status = run.status()
        if status.state != "queued" or status.pid:
            return False
        run.set_status(state="stopped", queued_at=None, message="Stopped before it started")
        return True
    finally:
        os.close(lock)


def kill(run: RunFolder) -> RunStatus:
    """End the run's processes at once; its last checkpoint stays. Raises RunError if it is not active."""
    _check_active(run, "kill")
    if withdraw(run):
        return run.status()
    signal_group(_started(run), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (is_locked(run) or is_alive(run.status())) and time.monotonic() < deadline:
        time.sleep(0.02)
    status = run.status()
    if not status.active:
        return status  # it has ended in the meantime
    return run.set_status(state="stopped", pid=None, queued_at=None, message="Killed")


def check_resumable(run: RunFolder) -> list[str]:
    """The settings that have changed in run.yaml since the run trained, before it is resumed.

    Raises RunError or ConfigError if run.yaml cannot be read or now describes another run.
    """
    checkpoint, config = run.latest_checkpoint(), run.config()
    return accepted_changes(checkpoint / CONFIG_FILE, config) if checkpoint else []


def wait(run: RunFolder, poll_seconds: float = 0.5, timeout: float | None = None) -> RunStatus:
    """Block until the run has ended; returns its status. Raises RunError after `timeout` seconds."""
    start = time.monotonic()
    while (status := refresh(run)).active:
        if timeout is not None and time.monotonic() - start > timeout:
            raise RunError(f"Run {run.id} is still {status.state} after {timeout:.0f} s.")
        time.sleep(poll_seconds)
    return status
