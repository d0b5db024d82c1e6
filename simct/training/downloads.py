"""The download of a run's models, with its bytes in the run's status."""

import contextlib

from simct.config import RunConfig, local_path
from simct.config.sections import ModelConfig
from simct.config.teachers import teachers_of, with_one_teacher
from simct.hub.downloads import fetch_weights
from simct.runs.progress import Reporter


def fetch_models(config: RunConfig, token: str | None, progress: Reporter) -> None:
    """Fetch the weights of all models that are on the Hub and read here."""
    for teacher in teachers_of(config):
        model = with_one_teacher(config, teacher).teacher
        if not model.elsewhere:
            fetch_model(f"teacher {teacher.name}" if config.teachers else "teacher", model, token, progress)
    fetch_model("student", config.student, token, progress)


def fetch_model(side: str, model: ModelConfig, token: str | None, progress: Reporter) -> None:
    """Fetch the weights of one side from the Hub. A failure is ignored here; loading the model reports it."""
    if local_path(model.model) is not None or not progress.writing:
        return
    begun = False

    def count(done: int, total: int | None) -> None:
        nonlocal begun
        if not begun:
            begun = True
            progress.stage(f"Downloading the {side}", total, "bytes")
        progress.update(done, total)

    with contextlib.suppress(Exception):
        fetch_weights(model.model, model.revision, token, count)
