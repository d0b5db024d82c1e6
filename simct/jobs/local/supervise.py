"""The process that supervises a run here: `python -m simct.jobs.local.supervise [--from-queue] RUN -- COMMAND`.

It holds the run's process lock, starts the command, waits until no process of its group is left, writes the final
status if the trainer could not, and starts the next run that waits for the device. It ignores signals to the group;
only SIGKILL ends it, and then the next process that looks at the runs does the rest.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from simct.jobs.local import confinement, process, queue
from simct.jobs.local import job as local_job
from simct.jobs.local.environment import is_visitors
from simct.jobs.local.webhook import notify
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

# Seconds to wait for the processes of an ended run.
STRAY_SECONDS = 30.0


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    run = RunFolder(Path(options[-1]))
    # inherited, and held until this process ends or closes it; no descendant may hold it longer
    lock = int(os.environ.pop("SIMCT_PROCESS_LOCK"))
    os.set_inheritable(lock, False)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: signals.append(number))
    status = run.set_status(
        queued_at=None, group=os.getpgrp(), pid=os.getpid(), pid_started=process.start_time(os.getpid())
    )
    if status.state == "queued":
        trainer = start_trainer(run, status.owner, command)
        if signals:  # the signal came before the command was running
            os.killpg(os.getpgrp(), signals[0])
        trainer.wait()
    wait_for_group(run)
    confinement.remove_temporary(run)
    status = run.status()
    # unless it is already in the queue again, or is being trained by hand
    if status.active and status.group == os.getpgrp() and not local_job.is_training(run):
        local_job.finalize(run, status)
    status = run.status()
    end_log(run, status)
    os.close(lock)
    ended = status.state
    if ended in ("finished", "stopped", "failed") and (trouble := notify(run, ended)):
        print(trouble, flush=True)
    if "--from-queue" in options:
        with contextlib.suppress(Exception):
            queue.advance(run.path.parent)
    return 0


def start_trainer(run: RunFolder, owner: str | None, command: list[str]) -> subprocess.Popen[bytes]:
    """Start the run's command; a visitor's run is confined."""
    if is_visitors(owner):
        return confinement.start(run, owner, command)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def end_log(run: RunFolder, status: RunStatus) -> None:
    """Print why the run failed, if the log does not end with it: a launcher prints a traceback of its own."""
    if status.state == "failed" and status.error and run.log_tail(1).strip() != status.error:
        print(status.error, flush=True)


def wait_for_group(run: RunFolder) -> None:
    """Wait until this process is the last one of its group, but not forever once the run has ended."""
    ended = time.monotonic()
    while set(process.group_members(os.getpgrp())) - {os.getpid()}:
        if run.status().active or local_job.publishes(run):
            ended = time.monotonic()
        elif time.monotonic() - ended > STRAY_SECONDS:
            break  # for example a tracker's server, which uses no device
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
