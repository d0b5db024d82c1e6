"""Whether the run's evaluation tasks are known, have answers, and have the permission that they need."""

from simct.config.tasks import named_tasks
from simct.errors import SimCTError
from simct.evaluation import lm_eval
from simct.evaluation.task_names import check_task_names, is_own_task
from simct.evaluation.tasks import check_tasks
from simct.preflight.planned import PlannedRun
from simct.preflight.records import Check, from_error, ok, warning

TASKS = "evaluation.tasks"


def check_evaluation(planned: PlannedRun) -> list[Check]:
    """Check every task by itself, so that an unknown one does not hide the next."""
    settings, found = planned.config.evaluation, []
    known: list[str] = []
    for task in named_tasks(planned.config):
        if planned.place.on_jobs and not is_own_task(task) and not lm_eval.is_installed():
            line = f"Task {task!r} cannot be looked up, as lm-eval is not installed on this machine."
            found.append(warning(line, "The Job installs it; check the spelling.", TASKS))
            continue
        try:
            if planned.place.on_jobs:
                check_task_names([task], "on Hugging Face Jobs")
            check_tasks(settings.model_copy(update={"tasks": [task], "tracked_tasks": []}))
        except SimCTError as error:
            found.append(from_error(error, TASKS))
        else:
            known.append(task)
    return [*found, ok(f"Tasks: {', '.join(known)}.")] if known else found
