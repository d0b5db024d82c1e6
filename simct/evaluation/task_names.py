"""Which tasks are scored here and which by lm-eval, by their names alone. Imports no model library."""

from pathlib import Path

from simct.config import local_path


def is_own_task(task: str) -> bool:
    """Whether a task is scored here rather than by lm-eval."""
    return task == "demo" or (local_path(task) is not None and Path(task).suffix in (".jsonl", ".json"))
