"""The process that stands over a run here: `python -m simct.jobs.local.supervise [--from-queue] RUN -- COMMAND`.

It holds the run's process lock, starts the command, waits until nothing of its process group is left, writes down an
end that the trainer could not write itself, and starts what waits for the device. Signals to the group pass it by; only
SIGKILL ends it, and then whoever looks at the runs next does the rest.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import ACTIVE_STATES, RunFolder

# How long processes of a run that is over are waited for.
STRAY_SECONDS = 30.0


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    place = arguments.index("--")
    options, command = arguments[:place], arguments[place + 1 :]
    run = RunFolder(Path(options[-1]))
    # inherited, and held until this process ends or closes it; a descendant must not hold it longer
    lock = int(os.environ.pop("SIMCT_PROCESS_LOCK"))
    os.set_inheritable(lock, False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: asked.append(number))
    status = run.set_status(
        queued_at=None, group=os.getpgrp(), pid=os.getpid(), pid_started=local_job.process_start_time(os.getpid())
    )
    if status["state"] == "queued":
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if asked:  # it came before the command was there to hear it
            os.killpg(os.getpgrp(), asked[0])
        process.wait()
    ended = time.monotonic()
    while set(local_job.living_members(os.getpgrp())) - {os.getpid()}:
        if run.status().get("state") in ACTIVE_STATES:
            ended = time.monotonic()
        elif time.monotonic() - ended > STRAY_SECONDS:
            break  # such as a tracker's own server; it holds no device
        time.sleep(0.1)
    status = run.status()
    # unless it is in the queue again already
    if status.get("state") in ACTIVE_STATES and status.get("group") == os.getpgrp():
        local_job.settle(run, status)
    os.close(lock)
    if "--from-queue" in options:
        with contextlib.suppress(Exception):
            queue.advance(run.path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
