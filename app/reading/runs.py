"""A run before it starts: its run.yaml, its estimate, and its preflight."""

from dataclasses import replace
from typing import Any

from app.reading.models import tokens_of
from app.reading.prompts import read_prompt_set
from app.reading.records import DataAt, Source
from simct.config import RunConfig, config_from_text, load_config
from simct.config.sections import DataConfig, ModelConfig
from simct.config.teachers import teacher_names
from simct.data.prompts import PromptSet
from simct.estimate.memory import load_shape_config
from simct.estimate.records import Estimate
from simct.estimate.time_and_cost import estimate_run
from simct.files import expanded
from simct.hub.model_config import context_of
from simct.hub.repo_ids import is_folder
from simct.jobs.hf.hardware import Offer, offers
from simct.preflight.checklist import run_checks
from simct.preflight.planned import Place, PlannedRun, Readers
from simct.preflight.records import Preflight
from simct.tokenization.token_bytes import TokenBytes
from simct.workers.child import Worker


def read_run_yaml(worker: Worker, text: str) -> dict[str, Any]:
    """The run that YAML describes, checked, as plain data. Raises ConfigError."""
    return config_from_text(text).model_dump()


def load_run_yaml(worker: Worker, path: str) -> dict[str, Any]:
    """The same for a file."""
    return load_config(path).model_dump()


def context_length(worker: Worker, source: Source) -> int | None:
    """How many tokens the model can read, by its config. Raises a one-line SimCTError."""
    worker.step(f"The config of {source.name!r}")
    config = load_shape_config(ModelConfig(model=source.model, revision=source.revision), source.token)
    return context_of(config)


def estimate(
    worker: Worker,
    config: RunConfig,
    token: str | bool | None,
    prompt_tokens: int,
    n_prompts: int | None,
    here: str | None,
) -> Estimate:
    """The estimate on every known machine, and on this one if it is given as `here`. Raises a one-line SimCTError."""
    configs = []
    for model in config.models:
        worker.step(f"The config of {model.model!r}")
        configs.append(load_shape_config(model, token))

    def on(machine: str | None) -> Estimate:
        worker.step(f"The estimate for {teacher_names(config)!r} and {config.student.model!r}")
        return estimate_run(
            config, machine, prompt_tokens=prompt_tokens, n_prompts=n_prompts, token=token, configs=configs
        )

    found = on(None)
    if here is None:
        return found
    local = on(here)
    return replace(found, here=replace(local.hardware[0], peak=local.peak))


def offered(worker: Worker, config: RunConfig, token: str | bool | None, n_prompts: int | None) -> list[Offer]:
    """Every machine of Hugging Face Jobs with the estimate of the run. Raises a one-line SimCTError."""
    return offers(config, token, n_prompts)


def preflight(
    worker: Worker, config: RunConfig, token: str | bool | None, place: Place, teacher_key: str | None = None
) -> Preflight:
    """All checks that are possible before the run starts at `place`. Only raises LimitError."""

    def tokens(model: ModelConfig, token: str | bool | None) -> TokenBytes:
        folder = is_folder(model.model)
        where = str(expanded(model.model)) if folder else model.model
        named = Source(model.model, where, model.revision, None if folder else token, model.chat_template)
        return tokens_of(worker, named)

    def prompts(data: DataConfig, token: str | bool | None) -> PromptSet:
        return read_prompt_set(worker, DataAt.of(data, token))

    def report(subject: str, done: int, total: int) -> None:
        worker.step(f"The check of this run ({subject})")
        worker.progress(done, total)

    return run_checks(PlannedRun(config, token, place, Readers(tokens, prompts), teacher_key), report)


def accept(worker: Worker, *sources: Source) -> None:
    """Read each model's tokenizer and config once, before the studio's own process does. Raises the errors of their
    readers.
    """
    for source in sources:
        tokens_of(worker, source)
        context_length(worker, source)
