"""Limits on what the processes of a visitor's run can reach on this machine, by Landlock (Linux 5.19 or later).

Everything stays readable except the runs folder and visitors' uploads, of which the run can reach only its own folder
and its own account's uploads. It can write to its own folder, the caches of models and datasets, and devices. Landlock
can only allow, not forbid: every folder next to a hidden one is allowed separately, and a folder that is created there
later is out of reach. Processes outside the run can be neither read (/proc/PID/environ) nor signaled.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from simct.config import RunConfig
from simct.config.tasks import named_tasks
from simct.errors import SimCTError
from simct.evaluation.sandbox.child import (
    EXECUTE,
    FILE_RIGHTS,
    PR_SET_NO_NEW_PRIVS,
    READ_DIR,
    READ_FILE,
    drop_capabilities,
    landlock_version,
    make_ruleset,
    prctl,
    restrict_self,
)
from simct.files import cache_folder, expanded
from simct.jobs.local.environment import HIDDEN
from simct.runs.folder import RunFolder

# next to the runs; a name that no run has
UPLOADS = ".uploads"
# in the run folder: the temporary folder of its processes
TEMPORARY = ".temporary"
# earlier versions of Landlock refuse to move files between folders
LEAST_VERSION = 2
READ = EXECUTE | READ_FILE | READ_DIR
# without device commands (ioctl), which later versions support
ALL = FILE_RIGHTS[3]
MAKE_DEVICE, MAKE_LINK = 1 << 6, 1 << 12
# a link in the run folder would let a run read through the studio, which reads and publishes what is in that folder
OWN = ALL & ~MAKE_LINK
# a cache needs links. A folder moves only to where nothing more is allowed, so none moves from a cache to a run folder
CACHE = ALL & ~MAKE_DEVICE
# of root, as which some containers run: to read files by their number, load modules, reach disks and ports, trace
# processes, administer, make devices, observe (which reads /proc/PID/environ), load programs into the kernel, restore
CAPABILITIES = (2, 16, 17, 19, 21, 27, 38, 39, 40)
UNCONFINED = "This machine does not limit which files a run can read ({reason}). The run starts without that limit."


def account_folder(owner: str) -> str:
    """The name of the folder that the uploads of an account are kept in."""
    return hashlib.sha256(f"account {owner}".encode()).hexdigest()[:32]


def start(run: RunFolder, owner: str | None, command: list[str]) -> subprocess.Popen[bytes]:
    """Start the command of a run that belongs to `owner`, without access to anything of other visitors.

    If the system refuses such limits, the command starts without them, and one line on standard output says so.
    """
    environment = {**os.environ, **_own_folders(run)}
    ruleset, reason = None, "no Landlock"
    try:
        if landlock_version() >= LEAST_VERSION:
            ruleset = make_ruleset(ALL, list(rules(run, owner)))
            return _popen(command, environment, lambda: _enter(ruleset))
    except (OSError, subprocess.SubprocessError):
        reason = "Landlock is refused"
    finally:
        if ruleset is not None:
            os.close(ruleset)
    print(UNCONFINED.format(reason=reason), flush=True)
    return _popen(command, environment)


def _popen(
    command: list[str], environment: dict[str, str], enter: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, preexec_fn=enter)


def remove_temporary(run: RunFolder) -> None:
    """Remove the temporary files of a run that has ended."""
    shutil.rmtree(run.path / TEMPORARY, ignore_errors=True)


def rules(run: RunFolder, owner: str | None) -> Iterator[tuple[str, int]]:
    """Each path that the run's processes may access, with what they may do there and below."""
    root = run.path.resolve().parent
    hidden = [root, *(Path(each).resolve() for each in os.environ.get(HIDDEN, "").split(os.pathsep) if each)]
    for path in _around(Path("/"), hidden):
        yield str(path), READ
    for folder in dict.fromkeys(Path(each).resolve() for each in (os.getcwd(), *sys.path)):
        # Python finds modules in a folder by listing it
        if any(each.is_relative_to(folder) for each in hidden):
            yield str(folder), READ_DIR
    for folder, rights in ((Path("/dev"), ALL), *((folder, CACHE) for folder in _caches())):
        for path in _around(folder.resolve(), hidden):
            yield str(path), rights
    yield str(run.path), OWN
    for path in own_files(run, root, owner):
        yield str(path), READ


def own_files(run: RunFolder, root: Path, owner: str | None) -> Iterator[Path]:
    """Files and folders under the runs folder, other than the run's own, that belong to its account."""
    if owner is None:
        return
    yield root / UPLOADS / account_folder(owner)
    try:
        config = run.config()
    except SimCTError:
        return  # the trainer reports it
    for path in _named_files(config):
        parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
        # where earlier versions kept uploads
        if len(parts) == 2 and parts[0] == UPLOADS and path.is_file():
            yield path
        # inputs of another run of the same account
        if len(parts) > 2 and parts[1] == "inputs" and RunFolder(root / parts[0]).status().owner == owner:
            yield path


def _named_files(config: RunConfig) -> Iterator[Path]:
    scores = [model.scores for model in config.models]
    names = [config.data.prompts, config.data.held_out_prompts, *scores]
    for name in [*names, *named_tasks(config)]:
        with contextlib.suppress(OSError, ValueError):
            if name:
                yield Path(name).resolve()


def _around(folder: Path, hidden: list[Path]) -> Iterator[Path]:
    """The folder itself, or everything in it except hidden folders and links, because a link might lead to a hidden
    folder.
    """
    if folder in hidden:
        return
    if not any(each.is_relative_to(folder) for each in hidden):
        yield folder
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_symlink():
                yield from _around(Path(entry.path), hidden)


def _caches() -> list[Path]:
    """The folders with models, datasets and vocabularies for all runs; created now, because a run cannot create
    them.
    """
    home = os.environ.get("HF_HOME")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    hub = expanded(home) if home else Path(base) / "huggingface"
    folders = [hub / each for each in ("hub", "datasets", "xet", "assets", "evaluate")]
    folders += [Path(os.environ[each]) for each in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE")
                if os.environ.get(each)]  # fmt: skip
    folders.append(cache_folder(""))
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    return folders


def _own_folders(run: RunFolder) -> dict[str, str]:
    """Private folders of the run for temporary files, and for code that libraries compile."""
    remove_temporary(run)
    folder = run.path / TEMPORARY
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    compiled = {"TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda", "HF_MODULES_CACHE": "modules",
                "TORCHINDUCTOR_CACHE_DIR": "inductor", "MPLCONFIGDIR": "matplotlib"}  # fmt: skip
    return {"TMPDIR": str(folder)} | {name: str(folder / each) for name, each in compiled.items()}


def _enter(ruleset: int) -> None:
    """Runs between fork and exec: from here on the rules hold, also for all descendants."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    restrict_self(ruleset)
    drop_capabilities(CAPABILITIES)
