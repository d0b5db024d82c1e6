"""Which tasks are scored here and which by lm-eval, by their names alone. Imports no model library.

A task is a name: `demo`, `livecodebench_v6`, or one that lm-eval registers. Besides names there are files: one with
prompts and answers is data, and one in YAML describes a task of lm-eval and may hold code
(simct.evaluation.task_files).
"""

import re
from pathlib import Path

from simct.config import local_path
from simct.errors import ConfigError
from simct.setting import quoted

OWN_NAMES = ("demo", "livecodebench_v6")
DATA_SUFFIXES = (".jsonl", ".json")
YAML_SUFFIXES = (".yaml", ".yml")
# as lm-eval names its own
TASK_NAME = re.compile(r"[A-Za-z0-9][\w.()-]{0,199}")


def is_own_task(task: str) -> bool:
    """Whether a task is scored here rather than by lm-eval."""
    return task in OWN_NAMES or (local_path(task) is not None and Path(task).suffix in DATA_SUFFIXES)


def is_task_name(task: str) -> bool:
    """Whether a task is named, rather than given as a file."""
    return bool(TASK_NAME.fullmatch(task)) and Path(task).suffix not in (*DATA_SUFFIXES, *YAML_SUFFIXES)


def check_task_names(tasks: list[str], where: str) -> None:
    """Raise ConfigError for a task given as a YAML file or another path `where` it may only be a name or data."""
    for task in tasks:
        if not is_task_name(task) and not is_own_task(task):
            raise ConfigError(
                f"evaluation.tasks names {quoted(task)}, and {where} tasks are given by name. Give the name of a task "
                "of lm-eval, such as gsm8k, or demo or livecodebench_v6."
            )
