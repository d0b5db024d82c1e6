"""Files of a run's repository, fetched into its folder here within limits: whoever owns the repository can put anything
there.
"""

import shutil
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi

from simct.errors import RunError
from simct.hub.errors import page_url
from simct.models.server_address import on_space
from simct.report.formats import human_size

# bytes of one download on a Space, whose visitors share its disk, and bytes that any download leaves free on the disk
MOST_BYTES, LEFT_FREE = 50_000_000_000, 1_000_000_000


def listed(api: HfApi, repo_id: str, revision: str | None = None) -> tuple[str, dict[str, int]]:
    """The commit of a repository, and the bytes of each of its files. Raises what the Hub's client raises."""
    info = api.model_info(repo_id, revision=revision, files_metadata=True)
    return str(info.sha), {each.rfilename: each.size or 0 for each in info.siblings or []}


def check_room(folder: Path, repo_id: str, wanted: int) -> None:
    """Raise RunError if `wanted` bytes of the repository are too many for a download into `folder`."""
    advice = f"The files are at {page_url(repo_id)}."
    if on_space() and wanted > MOST_BYTES:
        raise RunError(
            f"This download has {human_size(wanted)}; a public studio downloads at most {human_size(MOST_BYTES)}. "
            + advice
        )
    free = max(shutil.disk_usage(folder).free - LEFT_FREE, 0)
    if wanted > free:
        raise RunError(f"This download has {human_size(wanted)}; the disk has room for {human_size(free)}. {advice}")


def fetch(api: HfApi, repo_id: str, patterns: Collection[str], folder: Path) -> None:
    """Download the files that match `patterns` into `folder`. Raises RunError, and what the Hub's client raises."""
    commit, sizes = listed(api, repo_id)
    wanted = {name: size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    check_room(folder, repo_id, sum(wanted.values()))
    api.snapshot_download(repo_id, revision=commit, allow_patterns=list(patterns), local_dir=folder)
