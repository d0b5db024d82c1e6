"""Publishing in its own process, which neither a closed tab nor a restarted studio interrupts.

The process is the command itself, `simct publish`; its progress is read from publish.json. The token reaches it through
the environment only.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

from simct.errors import HubError
from simct.hub.errors import SIGN_IN
from simct.jobs.local.environment import is_visitors, visitors_environment
from simct.jobs.local.process import is_alive, reap, start_time
from simct.publishing.push import begin, being_published, check_files, fail
from simct.runs.folder import RunFolder

ENDING_SECONDS = 10.0
STOPPED = "Publishing was stopped. You can publish again: what is already on the Hub is kept."


def start_publishing(
    run: RunFolder,
    repo_id: str,
    private: bool = False,
    token: str | bool | None = None,
    rollouts: bool = False,
    space: bool = False,
    what: str = "merged",
) -> None:
    """Publish in the background, as publish_run does in the foreground.

    `token`: a token, or None for the one stored on this machine. Raises a one-line HubError or RunError if it cannot
    begin: there is no token or no whole model, or it is already being published.
    """
    if token is False:
        raise HubError(f"You are not signed in to the Hub: {SIGN_IN}, then try again.")
    if being_published(run):
        raise HubError(f"Run {run.id} is already being published. Wait until that has ended.")
    check_files(run, what, token)
    command = [sys.executable, "-m", "simct.cli.main", "publish", str(run.path), "--repo-id", repo_id, "--what", what]
    flags = {"--private": private, "--rollouts": rollouts, "--space": space}
    command += [flag for flag, chosen in flags.items() if chosen]
    # a visitor's run may have written the files that the process reads, so it gets no secret of a Space
    environment = visitors_environment() if is_visitors(run.status().owner) else dict(os.environ)
    # the client counts bytes for its progress bars, and does not if they are switched off
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"
    if isinstance(token, str):
        # the process acts as the visitor alone, even where the studio itself may use no stored token
        environment |= {"HF_TOKEN": token, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise HubError(f"Could not start the publishing process: {error.strerror}.") from error
    begin(run, repo_id, private, pid=process.pid, pid_started=start_time(process.pid))
    reap(process)


def stop_publishing(run: RunFolder) -> None:
    """End a publishing process; its one commit is made as a whole or not at all. Raises HubError if there is none."""
    status = run.publishing()
    if not status.active or status.pid is None or not is_alive(status.pid, status.pid_started):
        raise HubError(f"Run {run.id} is not being published by a studio; there is nothing to stop.")
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(status.pid, signal.SIGKILL)
    fail(run, str(status.repo_id), STOPPED)
    # a killed process holds its lock for a moment more, in which publishing again would be refused
    deadline = time.monotonic() + ENDING_SECONDS
    while being_published(run) and time.monotonic() < deadline:
        time.sleep(0.02)
