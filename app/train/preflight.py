"""The preflight of the form's run. All of it happens in `run_preflight`, with the visitor's token, and reads only what
this studio may read."""

from collections.abc import Callable

from app.data import prompt_source
from app.server import model_facts
from app.server.studio import Studio
from simct.config import RunConfig, local_path
from simct.config.sections import DataConfig, ModelConfig
from simct.data.prompts import PromptSet
from simct.errors import SimCTError
from simct.hub.repo_ids import is_folder
from simct.preflight.checklist import run_checks
from simct.preflight.planned import Place, PlannedRun, Readers
from simct.preflight.records import Check, Preflight, from_error, problem
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes

Token = str | bool | None
OnProgress = Callable[[str, int, int], None]


def run_preflight(
    studio: Studio, config: RunConfig, token: Token, place: Place, on_progress: OnProgress | None = None
) -> Preflight:
    """Everything that can be known before `config` starts at `place`. Raises nothing; the config stays as it is."""
    refused = _refused(studio, config)
    if refused:
        return Preflight(refused)
    readers = Readers(
        lambda model, token: _tokens(studio, model, token), lambda data, token: _prompts(studio, data, token)
    )
    planned = config.model_copy(deep=True)
    planned.output = None  # the studio names the folder
    return run_checks(PlannedRun(planned, token, place, readers), on_progress)


def _refused(studio: Studio, config: RunConfig) -> list[Check]:
    """What this studio reads for nobody: in public, any folder of its machine."""
    found = []
    for side in ("teacher", "student"):
        try:
            model_facts.allowed(studio, getattr(config, side).model)
        except SimCTError as error:
            found.append(from_error(error, f"{side}.model"))
    for name in filter(None, (config.data.prompts, config.data.held_out_prompts)):
        try:
            prompt_source.guard_prompts(studio, name)
        except SimCTError as error:
            found.append(from_error(error, "data.prompts"))
    tasks = config.evaluation.tasks if studio.public else []
    for task in tasks:
        if task != "demo" and local_path(task) is not None:
            line = f"A public studio scores tasks by their names only, and {task!r} is a file."
            found.append(problem(line, "Use demo or a task of lm-eval.", "evaluation.tasks"))
    return found


def _tokens(studio: Studio, model: ModelConfig, token: Token) -> TokenBytes:
    """A tokenizer as the Pair step has read it; with a template chosen by name, one of its own."""
    if model.chat_template is None:
        return model_facts.tokenizer_bytes(
            studio, model.model, model.revision, None if is_folder(model.model) else token
        )
    with studio.reading:
        return studio.kept(_with_template)(model.model, model.revision, token, model.chat_template)


def _with_template(model: str, revision: str | None, token: Token, chat_template: str) -> TokenBytes:
    return load_tokens(model_facts.location(model), revision, token, chat_template)


def _prompts(studio: Studio, data: DataConfig, token: Token) -> PromptSet:
    source = prompt_source.read(studio, data, token)
    return PromptSet(source.prompts, source.summary)
