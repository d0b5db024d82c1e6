"""The tasks that a run names: scored before and after training, or tracked during training."""

from collections.abc import Callable

from simct.config import RunConfig


def named_tasks(config: RunConfig) -> list[str]:
    """All tasks that the run scores, without duplicates."""
    return list(dict.fromkeys([*config.evaluation.tasks, *config.evaluation.tracked_tasks]))


def rename_tasks(config: RunConfig, rename: Callable[[str], str]) -> None:
    """Rename tasks wherever the run names them."""
    evaluation = config.evaluation
    names = {task: rename(task) for task in named_tasks(config)}
    evaluation.tasks = [names[task] for task in evaluation.tasks]
    evaluation.tracked_tasks = [names[task] for task in evaluation.tracked_tasks]
    evaluation.best_by = names.get(evaluation.best_by, evaluation.best_by)
