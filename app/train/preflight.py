"""The checks of the form's run. They all run in `run_preflight`, with the visitor's token, and read only what this
studio may read.
"""

from collections.abc import Callable

from app.data import prompt_source
from app.reading import runs
from app.reading.setup import explicit_token
from app.server import model_facts
from app.server.studio import Studio
from app.train.where import HERE
from app.train.where import Place as ChosenPlace
from simct.config import RunConfig, local_path
from simct.config.tasks import named_tasks
from simct.config.teachers import named_teachers
from simct.errors import SimCTError
from simct.preflight.checklist import CHECKS
from simct.preflight.planned import Place
from simct.preflight.records import Check, Preflight, from_error, problem

Token = str | bool | None
OnProgress = Callable[[str, int, int], None]


def run_preflight(
    studio: Studio,
    config: RunConfig,
    token: Token,
    place: Place,
    on_progress: OnProgress | None = None,
    teacher_key: str | None = None,
) -> Preflight:
    """All checks that are possible before `config` starts at `place`, with the key of its teacher's server, if any.

    Never raises, and does not change the config.
    """
    refused = _refused(studio, config)
    if refused:
        return Preflight(refused)
    planned = config.model_copy(deep=True)
    planned.output = None  # the studio chooses the folder

    def report_progress(done: int, total: int | None) -> None:
        if on_progress:
            on_progress(CHECKS[min(done, len(CHECKS) - 1)][0], done, len(CHECKS))

    asked = (planned, explicit_token(token), place, teacher_key)
    near = tuple(model.model for model in config.models)
    try:
        return studio.workers.run(
            runs.preflight, *asked, what="The check of this run", near=near, on_progress=report_progress
        )
    except SimCTError as error:
        return Preflight([from_error(error)])


def place_of(studio: Studio, chosen: ChosenPlace | None = None) -> Place:
    """The place of the run, in the form that the checks use."""
    if chosen is None or chosen.where == HERE:
        return Place(runs_dir=str(studio.runs_dir), public=studio.public)
    namespace = (chosen.namespace or "").strip() or None
    return Place(True, str(studio.runs_dir), flavor=chosen.flavor, namespace=namespace, public=studio.public)


def _refused(studio: Studio, config: RunConfig) -> list[Check]:
    """Problems with names that this studio never reads: in public, every folder of its machine."""
    found = []
    for side, model in (*named_teachers(config), ("student", config.student)):
        try:
            model_facts.allowed(studio, model.model)
        except SimCTError as error:
            found.append(from_error(error, f"{side}.model" if side in ("teacher", "student") else "teachers"))
    for name in filter(None, (config.data.prompts, config.data.held_out_prompts)):
        try:
            prompt_source.guard_prompts(studio, name)
        except SimCTError as error:
            found.append(from_error(error, "data.prompts"))
    tasks = named_tasks(config) if studio.public else []
    for task in tasks:
        if task != "demo" and local_path(task) is not None:
            line = f"A public studio scores tasks by their names only, and {task!r} is a file."
            found.append(problem(line, "Use demo or a task of lm-eval.", "evaluation.tasks"))
    return found
