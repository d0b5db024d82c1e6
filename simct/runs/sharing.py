"""Read-only links to a run: its id and a key, which share.json of its folder holds until the link is withdrawn."""

import contextlib
import json
import re
import secrets
from pathlib import Path

from simct.errors import RunError
from simct.files import read_json, write_atomically
from simct.runs.folder import RUN_ID, RunFolder
from simct.runs.listing import open_run

SHARE_FILE = "share.json"
KEY_BYTES = 24
KEY = re.compile(r"[A-Za-z0-9_-]{32}")
NOTHING = "This link shows no run: it was withdrawn, or the run was deleted. Ask for a new one."


def link_of(run: RunFolder) -> str | None:
    """The link, with which anyone can see the run, such as "20260101-120000-simct-a1b2c3:KEY"; None without a link."""
    key = read_json(run.path / SHARE_FILE).get("key")
    return f"{run.id}:{key}" if isinstance(key, str) and KEY.fullmatch(key) else None


def make_link(run: RunFolder) -> str:
    """The link of the run, a new one if there is none. Raises RunError if it cannot be written."""
    found = link_of(run)
    if found:
        return found
    key = secrets.token_urlsafe(KEY_BYTES)
    try:
        write_atomically(run.path / SHARE_FILE, json.dumps({"key": key}))
        (run.path / SHARE_FILE).chmod(0o600)
    except OSError as error:
        raise RunError(f"Cannot write the link of run {run.id}: {error.strerror}.") from error
    return f"{run.id}:{key}"


def withdraw_link(run: RunFolder) -> None:
    """Withdraw the link, so that it no longer shows anything. Raises RunError if its file cannot be removed."""
    try:
        (run.path / SHARE_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"Cannot withdraw the link of run {run.id}: {error.strerror}.") from error


def linked_run(runs_dir: str | Path, link: str) -> RunFolder:
    """The run that a link opens. Raises RunError, the same for every link that opens none."""
    run_id, _, _ = link.partition(":")
    with contextlib.suppress(RunError):
        if RUN_ID.fullmatch(run_id):
            run = open_run(runs_dir, run_id)
            known = link_of(run)
            if known and secrets.compare_digest(known.encode(), link.encode("utf-8", "replace")):
                return run
    raise RunError(NOTHING)
