"""A run as a process of this machine: `accelerate launch -m simct.train run.yaml`, in a process group of its own.

The process outlives the browser and the studio. What happens to it is read from its run folder; `refresh` notices a
process that died without saying so. Tokens reach it through the environment only.

In status.json `group` is the process group, which signals go to, and `pid` the process to watch: the launcher's until
the trainer has written its own.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from simct.errors import RunError
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder

_children: dict[int, subprocess.Popen] = {}


def training_command(run_yaml: str | Path, resume: bool = False) -> list[str]:
    """The argument list that trains `run_yaml`. CPU machines get one process: a CPU-only launch with several processes
    needs torchrun, see docs/running.md."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if not _has_gpu():
        threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)
        command += ["--cpu", "--num_processes", "1", "--num_cpu_threads_per_process", threads]
    command += ["-m", "simct.train", str(run_yaml)]
    return [*command, "--resume"] if resume else command


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def launch(run: RunFolder, resume: bool = False, token: str | None = None) -> int:
    """Start (or resume) training in the background and return the process id.

    Raises RunError if the run is already active or the process cannot be started.
    """
    status = refresh(run)
    if status.get("state") in ("running", "stopping") or (status.get("state") == "queued" and status.get("pid")):
        raise RunError(f"Run {run.id} is already {status['state']}.")
    if resume and run.latest_checkpoint() is None:
        resume = False
    environment = dict(os.environ)
    environment.setdefault("PYTHONUNBUFFERED", "1")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if token:
        environment["HF_TOKEN"] = token
    run.set_status(state="queued", message="Loading the models", error=None, pid=None)
    try:
        with open(run.log_path, "ab") as log:
            process = subprocess.Popen(
                training_command(run.path / "run.yaml", resume),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        run.set_status(state="failed", error=f"Could not start the training process: {error.strerror}.")
        raise RunError(f"Could not start the training process: {error.strerror}.") from error
    _children[process.pid] = process
    # the trainer needs seconds to import, so this cannot overwrite the process id it writes
    run.set_status(
        group=process.pid,
        pid=process.pid,
        pid_started=process_start_time(process.pid),
        host=socket.gethostname(),
    )
    return process.pid


def process_start_time(pid: int) -> float | None:
    """When process `pid` began, in the kernel's ticks; tells a process from a later one with the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else float(fields[19])


def is_alive(status: dict) -> bool:
    """Whether the process that `status` names is still that process."""
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


def refresh(run: RunFolder) -> dict:
    """The run's status, after marking as failed a run whose process is gone."""
    status = run.status()
    if status.get("state") not in ACTIVE_STATES or not status.get("pid") or is_alive(status):
        return status
    status = run.status()
    if status.get("state") not in ACTIVE_STATES or is_alive(status):
        return status
    if status["state"] == "stopping":
        return run.set_status(state="stopped", pid=None, message="Stopped")
    return run.set_status(state="failed", pid=None, error=_cause(run))


def _cause(run: RunFolder) -> str:
    """The last line of the log that reads as a reason."""
    lines = [line.strip() for line in run.log_tail(80).splitlines() if line.strip()]
    reasons = [line for line in lines if "Error" in line and not line.startswith(("File ", "raise "))]
    reason = reasons[-1] if reasons else "The training process ended without a word (killed, or out of memory)."
    resume = " Its last checkpoint can be resumed." if run.latest_checkpoint() else ""
    return reason[:500] + resume


def _signal_group(status: dict, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(status.get("group") or os.getpgid(status["pid"]), number)


def stop(run: RunFolder) -> dict:
    """Ask the run to write a checkpoint and stop. Raises RunError if it is not active."""
    status = refresh(run)
    if status.get("state") not in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status.get('state')}; there is nothing to stop.")
    if not status.get("pid"):
        return run.set_status(state="stopped", message="Stopped before it started")
    status = run.set_status(state="stopping", message="Writing a checkpoint")
    _signal_group(status, signal.SIGTERM)
    return status


def kill(run: RunFolder) -> dict:
    """End the run's processes at once; its last checkpoint stays. Raises RunError if it is not active."""
    status = refresh(run)
    if status.get("state") not in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {status.get('state')}; there is nothing to kill.")
    if status.get("pid"):
        _signal_group(status, signal.SIGKILL)
    return run.set_status(state="stopped", pid=None, message="Killed")


def wait(run: RunFolder, poll_seconds: float = 0.5, timeout: float | None = None) -> dict:
    """Block until the run is over; returns its status. Raises RunError after `timeout` seconds."""
    start = time.monotonic()
    while (status := refresh(run)).get("state") in ACTIVE_STATES:
        if timeout is not None and time.monotonic() - start > timeout:
            raise RunError(f"Run {run.id} is still {status['state']} after {timeout:.0f} s.")
        time.sleep(poll_seconds)
    return status
