"""Everything that a distillation run starts from: its prompts in the tokens of all models, its teachers, its
student."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.data.held_out import PromptSplit, split_of_run
from simct.data.prompts import Prompt, load_prompts
from simct.data.routing import prepare_for_teachers, scored_prompts, unused_routes
from simct.data.samples import PreparedPrompt
from simct.errors import DataError
from simct.estimate.time_and_cost import total_steps
from simct.hub.model_config import context_of
from simct.inspection.coverage import inspect_pair
from simct.losses.head import check_head
from simct.methods import METHODS
from simct.models.loading import load_model
from simct.models.stored import StoredTeacher
from simct.models.teachers import PairedTeacher, load_teachers
from simct.runs.folder import RunFolder
from simct.runs.progress import Reporter
from simct.tokenization.pair import TokenizerPair
from simct.training.downloads import fetch_models

INSPECTED_PROMPTS = 200


@dataclass
class Loaded:
    """The teachers with their pairs, the prompts that are trained on and those held out, and the student."""

    teachers: list[PairedTeacher]
    prompts: list[PreparedPrompt]
    held_out: list[PreparedPrompt]
    student: PreTrainedModel

    @property
    def pair(self) -> TokenizerPair:
        """The pair of the first teacher."""
        return self.teachers[0].pair


def load(
    run: RunFolder, config: RunConfig, accelerator: Accelerator, token: str | None, log: Callable[[str], None]
) -> Loaded:
    """Load everything that the run names; the run gets its number of steps, and inspect.json if there is none yet.

    Raises one-line SimCTErrors.
    """
    prompts = load_prompts(config.data, token)
    if unused := unused_routes(prompts, config):
        raise DataError(unused)
    split = split_of_run(run, config.data, prompts, token)
    trained, unscored = scored_prompts(split.trained, config)
    if unscored:
        log(unscored)
    progress = Reporter(run, accelerator.is_main_process)
    fetch_models(config, token, progress)
    progress.stage("Loading the teachers" if config.teachers else "Loading the teacher")
    teachers = load_teachers(config, accelerator.device, token)
    for each in teachers:
        _log_source(each, config, log)
    progress.stage("Loading the student")
    student = load_model(config.student, accelerator.device, token)
    check_head(student)
    context = context_of(student.config)
    prepared, too_long = prepare_for_teachers(trained, teachers, config, context, log)
    held_out = _prepare_held_out(split.held_out[: config.data.held_out], teachers, config, context)
    config.training.steps = total_steps(config, len(prepared))
    _log_prompts(Loaded(teachers, prepared, held_out, student), config, split, too_long, log)
    if accelerator.is_main_process:
        run.set_status(total_steps=config.training.steps)
        if not run.inspection():
            texts = [f"{prompt.text} {prompt.answer or ''}".strip() for prompt in prompts[:INSPECTED_PROMPTS]]
            reports = {each.name: inspect_pair(each.pair, texts).to_dict() for each in teachers}
            further = {"teachers": reports} if len(reports) > 1 else {}
            run.save_inspection(next(iter(reports.values())) | further)
    return Loaded(teachers, prepared, held_out, student)


def _prepare_held_out(
    prompts: list[Prompt], teachers: list[PairedTeacher], config: RunConfig, context: int | None
) -> list[PreparedPrompt]:
    """The held-out prompts that all models can read and that leave room for an answer; none are needed."""
    try:
        return prepare_for_teachers(prompts, teachers, config, context)[0] if prompts else []
    except DataError:
        return []


def _log_source(teacher: PairedTeacher, config: RunConfig, log: Callable[[str], None]) -> None:
    """Log that a teacher's listed scores come from elsewhere, and how the method uses them."""
    model, method = teacher.config.teacher, teacher.config.method
    if model.elsewhere:
        name = f"The scores of {teacher.name}" if config.teachers else "The teacher's scores"
        listed = teacher.teacher.listed if isinstance(teacher.teacher, StoredTeacher) else model.top_logprobs
        where = f"{model.scores or model.server}, {listed} tokens at each position"
        log(f"{name} come from {where}: {method} {METHODS[method].listed}.")


def _log_prompts(
    loaded: Loaded, config: RunConfig, split: PromptSplit, too_long: int, log: Callable[[str], None]
) -> None:
    """Log how many prompts there are, and who grades them."""
    if not config.teachers:
        log(f"{len(loaded.prompts)} prompts ({too_long} too long), {loaded.pair.shared_tokens} shared tokens")
    else:
        log(f"{len(loaded.prompts)} prompts ({too_long} too long)")
        for place, each in enumerate(loaded.teachers):
            count = sum(view.teacher == place for prompt in loaded.prompts for view in prompt.by_teacher)
            log(f"{each.name} grades {count}, weight {each.weight:g}; {each.pair.shared_tokens} shared tokens")
    if split.held_out:
        also = f", and {split.left_out} duplicates of them" if split.left_out else ""
        log(f"{len(split.held_out)} prompts held out{also}, {len(loaded.held_out)} of them measured")
