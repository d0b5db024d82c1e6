"""Run folders of tests."""

from pathlib import Path

from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses


def runs_in(runs_dir: str | Path) -> list[RunFolder]:
    """Every run under `runs_dir`, newest first."""
    return [run for run, _ in list_statuses(runs_dir)]
