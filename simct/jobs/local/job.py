"""A run as a process of this machine: `accelerate launch -m simct.train run.yaml`, in a process group of its own.

The process outlives the browser and the studio. A small supervisor (supervise.py) leads the group and holds a lock on
the run folder for as long as it lives; the kernel lets go of it however the process ends, so whether a run is alive is
never a guess, at whatever moment something was killed. What happens to the run is read from its folder; `refresh`
notices a process that died without saying so. Tokens reach it through the environment only.

In status.json `group` is the process group, which signals go to, and `pid` the process to watch: the supervisor's until
the trainer has written its own.
"""

import contextlib
import fcntl
import importlib.resources
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from simct.errors import RunError
from simct.runs.folder import ACTIVE_STATES, RunFolder

LOCK_FILE = ".process.lock"
# A process on another machine cannot be asked; after so long without a word it is taken for dead.
ELSEWHERE_SECONDS = 15 * 60.0
# A step may take long: silence is told after this, or after ten times a usual step.
SILENT_SECONDS = 5 * 60.0
# How Accelerate starts one process a GPU, by training.parallel.
PRESETS = "presets/accelerate"

_children: dict[int, subprocess.Popen] = {}


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
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes", "1"]
    if not count:
        threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
        command += ["--cpu", "--num_cpu_threads_per_process", threads]
    command += ["-m", "simct.train", str(run.path / "run.yaml")]
    return [*command, "--resume"] if resume else command


def gpu_count() -> int:
    """CUDA GPUs that this process may use."""
    # torch takes seconds to import, and looking at runs needs none of it
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

    `devices` are the GPUs to use as CUDA_VISIBLE_DEVICES names them (or ["cpu"]); None leaves all to it. `token` False
    keeps this machine's own token from the run. With `queue_devices`, all that runs take turns on, the run must still
    be waiting, and starts what waits behind it when it ends; but not one that was lent a token, which would inherit it.
    Raises RunError if the run is already active or the process cannot be started.
    """
    lock = take(run)
    while lock is None and not queue_devices and run.status().get("state") not in ACTIVE_STATES:
        time.sleep(0.05)  # it is over, and its supervisor is about to leave
        lock = take(run)
    if lock is None:
        raise RunError(f"Run {run.id} is already {run.status().get('state')}.")
    try:
        status = refresh(run, lock_is_ours=True)
        if status.get("state") in ("running", "stopping") or (status.get("state") == "queued" and status.get("pid")):
            raise RunError(f"Run {run.id} is already {status['state']}.")
        if queue_devices and not is_waiting(status):
            raise RunError(f"Run {run.id} is {status.get('state')} and waits no longer.")
        resume = resume and run.latest_checkpoint() is not None
        gpus = None if devices is None else len([each for each in devices if each != "cpu"])
        command = [
            sys.executable,
            "-m",
            "simct.jobs.local.supervise",
            *(["--from-queue"] if queue_devices and not token else []),
        ]
        command += [str(run.path), "--", *training_command(run, resume, gpus)]
        # `queued_at` stays until the supervisor takes it away: a run that we fail to start, however, still waits
        run.set_status(
            state="queued",
            message="Loading the models",
            error=None,
            pid=None,
            group=None,
            started_at=time.time(),
            finished_at=None,
            starts=status.get("starts", 0) + 1,
            devices=devices,
            host=socket.gethostname(),
        )
        try:
            with open(run.log_path, "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(token, devices, lock, queue_devices),
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        except OSError as error:
            told = f"Could not start the training process: {error.strerror}."
            run.set_status(state="failed", queued_at=None, error=told)
            raise RunError(told) from error
        _children[process.pid] = process
        return process.pid
    finally:
        # the supervisor keeps its own handle on the same lock
        os.close(lock)


def _environment(
    token: str | bool | None, devices: list[str] | None, lock: int, queue_devices: Sequence[str]
) -> dict[str, str]:
    environment = {**os.environ, "SIMCT_PROCESS_LOCK": str(lock)}
    if queue_devices:
        # which the run itself could not find out, as it sees its own only
        environment["SIMCT_DEVICES"] = ",".join(queue_devices)
    environment.setdefault("PYTHONUNBUFFERED", "1")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if devices is not None and "cpu" not in devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if token is False:
        environment.pop("HF_TOKEN", None)
        environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    elif token:
        environment["HF_TOKEN"] = str(token)
    return environment


def take(run: RunFolder, mode: int = fcntl.LOCK_EX) -> int | None:
    """A handle that holds the run's process lock, or None while a process holds it; the caller closes it."""
    try:
        handle = os.open(run.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"Cannot write the run folder {str(run.path)!r}: {error.strerror}.") from error
    for attempt in range(5):
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            # somebody may just be looking, which takes no time
            time.sleep(0.01 * (attempt > 0) * (mode == fcntl.LOCK_EX))
    os.close(handle)
    return None


def is_locked(run: RunFolder) -> bool:
    """Whether a supervisor of this run lives, on this machine."""
    if not (run.path / LOCK_FILE).exists():
        return False
    handle = take(run, fcntl.LOCK_SH)
    if handle is None:
        return True
    os.close(handle)
    return False


def process_start_time(pid: int) -> float | None:
    """When process `pid` began, in the kernel's ticks; tells a process from a later one with the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else float(fields[19])


def is_alive(status: dict) -> bool:
    """Whether the process that `status` names is still that process."""
    if status.get("host") not in (None, socket.gethostname()):
        return time.time() - status.get("heartbeat", 0) < ELSEWHERE_SECONDS
    pid = status.get("pid")
    if not pid:
        return False
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        _children.pop(pid, None)
        return False
    if Path("/proc").is_dir():
        started = process_start_time(pid)
        return started is not None and status.get("pid_started") in (None, started)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_waiting(status: dict) -> bool:
    """Whether `status` is of a run that waits for its turn on this machine."""
    return status.get("state") == "queued" and bool(status.get("queued_at")) and status.get("backend") != "hf"


def is_over(run: RunFolder, status: dict) -> bool:
    """Whether `status` is of a run that was started here and of which no process is left."""
    begun = status.get("state") in ("running", "stopping") or status.get("pid") or status.get("started_at")
    if status.get("state") not in ACTIVE_STATES or status.get("backend") == "hf" or not begun or is_waiting(status):
        return False
    return not is_alive(status) and not is_locked(run) and not living_members(status.get("group"))


def living_members(group: int | None) -> list[int]:
    """Processes of a process group, zombies left out; none where there is no /proc to tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat") if group else ():
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if fields[2] == str(group) and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def refresh(run: RunFolder, lock_is_ours: bool = False) -> dict:
    """The run's status, after marking as failed a run whose process is gone. Runs on Hugging Face Jobs are left."""
    status = run.status()
    for _ in range(2):  # looked at twice: the process may have written its end just after the first look
        if lock_is_ours:
            gone = status.get("state") in ACTIVE_STATES and bool(status.get("pid")) and not is_alive(status)
            gone = gone and not living_members(status.get("group"))
        else:
            gone = is_over(run, status)
        if not gone:
            return status
        status = run.status()
    return settle(run, status)


def settle(run: RunFolder, status: dict) -> dict:
    """Write down the end of a run that ended without saying how."""
    if status["state"] == "stopping":
        return run.set_status(state="stopped", pid=None, queued_at=None, message="Stopped")
    return run.set_status(state="failed", pid=None, queued_at=None, message="Failed", error=_cause(run))


def last_reason(run: RunFolder) -> str | None:
    """The last line of the log that reads as a reason."""
    lines = [line.strip() for line in run.log_tail(80).splitlines() if line.strip()]
    reasons = [line for line in lines if "Error" in line and not line.startswith(("File ", "raise "))]
    return reasons[-1][:500] if reasons else None


def _cause(run: RunFolder) -> str:
    reason = last_reason(run) or "The training process ended without a word (killed, or out of memory)."
    return reason + (" Its last checkpoint can be resumed." if run.latest_checkpoint() else "")


def silence(run: RunFolder, status: dict) -> float | None:
    """Seconds without a word from a run that should be at work here, once they are many; None while all is well."""
    if status.get("state") not in ("running", "stopping") or status.get("backend") == "hf":
        return None
    quiet = time.time() - status.get("heartbeat", 0)
    if quiet < SILENT_SECONDS:
        return None
    usual = [record["seconds"] for record in run.metrics()[-20:] if record.get("seconds")]
    return quiet if quiet > 10 * max(usual, default=0.0) else None


def _signal_group(status: dict, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group := status.get("group") or (status.get("pid") and os.getpgid(status["pid"])):
            os.killpg(group, number)


def _started(run: RunFolder) -> dict:
    """The status once it names the process group: for a moment after the start it does not."""
    deadline = time.monotonic() + 5
    while not (status := run.status()).get("group") and time.monotonic() < deadline and is_locked(run):
        time.sleep(0.02)
    return status


def stop(run: RunFolder) -> dict:
    """Ask the run to write a checkpoint and stop; one that waits is withdrawn. Raises RunError if it is not active."""
    status = refresh(run)
    if status.get("state") not in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status.get('state')}; there is nothing to stop.")
    if withdraw(run):
        return run.status()
    at_work = _started(run).get("state") == "running"
    status = run.set_status(state="stopping", message="Writing a checkpoint")
    if at_work and status.get("pid") and status["pid"] != status.get("group"):
        # its launcher would end the other processes of the run instead of letting them finish the checkpoint
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(status["pid"], signal.SIGTERM)
    else:
        _signal_group(status, signal.SIGTERM)
    return status


def withdraw(run: RunFolder) -> bool:
    """Take back a run of which no process has started; whether it was one. Nothing can start it meanwhile."""
    lock = take(run)
    if lock is None:
        return False
    try:
        status = run.status()
        if status.get("state") != "queued" or status.get("pid"):
            return False
        run.set_status(state="stopped", queued_at=None, message="Stopped before it started")
        return True
    finally:
        os.close(lock)


def kill(run: RunFolder) -> dict:
    """End the run's processes at once; its last checkpoint stays. Raises RunError if it is not active."""
    status = refresh(run)
    if status.get("state") not in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status.get('state')}; there is nothing to kill.")
    if withdraw(run):
        return run.status()
    _signal_group(_started(run), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (is_locked(run) or is_alive(run.status())) and time.monotonic() < deadline:
        time.sleep(0.02)
    if run.status().get("state") not in ACTIVE_STATES:
        return run.status()  # it ended by itself meanwhile
    return run.set_status(state="stopped", pid=None, queued_at=None, message="Killed")


def wait(run: RunFolder, poll_seconds: float = 0.5, timeout: float | None = None) -> dict:
    """Block until the run is over; returns its status. Raises RunError after `timeout` seconds."""
    start = time.monotonic()
    while (status := refresh(run)).get("state") in ACTIVE_STATES:
        if timeout is not None and time.monotonic() - start > timeout:
            raise RunError(f"Run {run.id} is still {status['state']} after {timeout:.0f} s.")
        time.sleep(poll_seconds)
    return status
