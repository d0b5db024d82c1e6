"""The process that supervises a run here: `python -m simct.jobs.local.supervise [--from-queue] RUN -- COMMAND`.

It holds the run's process lock, starts the command, waits until no process of its group is left, writes an end that
the trainer could not write itself, and starts the next run that waits for the device. It ignores signals to the group;
only SIGKILL ends it, and then whoever looks at the runs next does the rest.
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

# How long processes of a run that has ended are waited for.
STRAY_SECONDS = 30.0


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    run = RunFolder(Path(options[-1]))
    # inherited, and held until this process ends or closes it; a descendant must not hold it longer
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
        if signals:  # it came before the command was there to receive it
            os.killpg(os.getpgrp(), signals[0])
        trainer.wait()
    wait_for_group(run)
    confinement.remove_temporary(run)
    status = run.status()
    # unless it is in the queue again already, or somebody trains it by hand
    if status.active and status.group == os.getpgrp() and not local_job.is_training(run):
        local_job.finalize(run, status)
    os.close(lock)
    ended = run.status().state
    if ended in ("finished", "stopped", "failed") and (trouble := notify(run, ended)):
        print(trouble, flush=True)
    if "--from-queue" in options:
        with contextlib.suppress(Exception):
            queue.advance(run.path.parent)
    return 0


def start_trainer(run: RunFolder, owner: str | None, command: list[str]) -> subprocess.Popen[bytes]:
    """Start the run's command; that of a visitor with limits on what it can reach."""
    if is_visitors(owner):
        return confinement.start(run, owner, command)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def wait_for_group(run: RunFolder) -> None:
    """Wait until this process is the last one of its group; not forever once the run has ended."""
    ended = time.monotonic()
    while set(process.group_members(os.getpgrp())) - {os.getpid()}:
        if run.status().active or local_job.publishes(run):
            ended = time.monotonic()
        elif time.monotonic() - ended > STRAY_SECONDS:
            break  # such as a tracker's own server; it holds no device
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
