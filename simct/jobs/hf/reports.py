"""The reports of a Job, as its repository has them: which are fetched, and how.

Whoever owns the repository can put anything there, so a report has a limit on its size, and no earlier version stays in
the cache: a Job pushes a new one every minute.
"""

import os
import re
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError

from simct.jobs.hf.fetching import check_room, listed

# Files that the runner pushes while it trains, and that are fetched.
REPORT_FILES = (
    "status.json", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "inspect.json", "log.txt", "held_out.jsonl",
    "publish.json", "evaluations.jsonl", "teacher.jsonl",
)  # fmt: skip
# More files of a warm-up: the teacher's answers, and the dataset of the kept ones.
DATA_FILE = re.compile(r"(data|samples)/[A-Za-z0-9][\w.-]*")
# bytes of status.json, of another report, which pages read whole, and of a file of a warm-up; a larger file is not
# fetched
MOST_STATUS, MOST_REPORT, MOST_DATA = 500_000, 100_000_000, 1_000_000_000
# bytes of all of them together; files beyond it are not fetched
MOST_IN_ALL = 5_000_000_000


def fetch_reports(api: HfApi, repo_id: str, revision: str, folder: Path) -> bytes | None:
    """Copy the reports of a commit into `folder`, except status.json, whose content is returned (None: none).

    Raises what the Hub's client raises, OSError, and RunError if the disk has no room.
    """
    wanted = _within_limits(listed(api, repo_id, revision)[1])
    check_room(folder, repo_id, sum(wanted.values()))
    status = None
    with tempfile.TemporaryDirectory(prefix=".reports-", dir=folder, ignore_cleanup_errors=True) as temporary:
        for name in wanted:
            try:
                path = Path(api.hf_hub_download(repo_id, name, revision=revision, local_dir=temporary))
            except EntryNotFoundError:
                continue
            if name == "status.json":
                status = path.read_bytes()
            else:
                (folder / name).parent.mkdir(exist_ok=True)
                _replace(path, folder / name)
    return status


def _within_limits(sizes: dict[str, int]) -> dict[str, int]:
    """The reports among the files of a repository that are small enough, with their bytes; data of a warm-up last."""
    wanted: dict[str, int] = {}
    for name in sorted(filter(_is_fetched, sizes), key=lambda name: name not in REPORT_FILES):
        if sizes[name] <= min(_most(name), MOST_IN_ALL - sum(wanted.values())):
            wanted[name] = sizes[name]
    return wanted


def _is_fetched(name: str) -> bool:
    return name in REPORT_FILES or bool(DATA_FILE.fullmatch(name))


def _most(name: str) -> int:
    if name == "status.json":
        return MOST_STATUS
    return MOST_REPORT if name in REPORT_FILES else MOST_DATA


def _replace(source: Path, target: Path) -> None:
    """Move `source` to `target` on the same disk: a crash leaves the old content or the new."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)
