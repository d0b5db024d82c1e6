"""Which settings of run.yaml may change before a run is resumed; any other change would make it a different run."""

import re
from pathlib import Path
from typing import Any

from simct.config import RunConfig, leaves, load_run_config
from simct.config.precision import AUTO
from simct.errors import ConfigError, RunError
from simct.setting import quoted

ENTRY = re.compile(r"^teachers\[\d+\]")
# Settings about how long and how fast it trains, its memory, what is kept and scored, and where it runs.
CHANGEABLE = (
    "output",
    "evaluation.",
    "teacher.device",
    "student.device",
    "rollout.max_new_tokens",
    "rollout.batch_size",
    "rollout.vllm_url",
    "rollout.vllm_memory",
    "training.steps",
    "training.epochs",
    "training.learning_rate",
    "training.micro_batch_size",
    "training.micro_batch_tokens",
    "training.mixed_precision",
    "training.gradient_checkpointing",
    "training.max_grad_norm",
    "training.stop_on_collapse",
    "training.tracker",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.keep",
    "training.samples_every",
    "warmup.epochs",
    "warmup.learning_rate",
    "warmup.generation_batch_size",
    "warmup.allow_code_execution",
)

PRECISION = ("teacher.dtype", "student.dtype", "training.mixed_precision")


def accepted_changes(kept: Path, config: RunConfig) -> list[str]:
    """The changes of `config` against the run.yaml in the file `kept`, such as "training.steps 100 -> 200".

    Empty if there is no such file. Raises RunError that names the first changed setting that must stay the same.
    """
    trained = _settings_in(kept)
    if trained is None:
        return []
    wanted = _settings_of(config)
    epochs = trained.get("training.epochs") is not None and wanted["training.epochs"] is not None
    changes = []
    for name in wanted | trained:
        before, value = trained.get(name), wanted.get(name)
        # if a run is given in epochs, its steps follow from its prompts
        if name == "output" or (name == "training.steps" and epochs):
            continue
        # the formats chosen for auto stay (simct.training.precision)
        if value == AUTO and ENTRY.sub("teacher", name) in PRECISION:
            continue
        if _inside_run(before, trained["output"]) == _inside_run(value, wanted["output"]):
            continue
        # for several teachers, the same settings may change as for one
        if not ENTRY.sub("teacher", name).startswith(CHANGEABLE):
            raise RunError(
                f"run.yaml has {name} = {quoted(value)}, but the run was trained with {quoted(before)}. Put it back to "
                "resume, or start a new run with `simct jobs duplicate`."
            )
        changes.append(f"{name} {quoted(before)} -> {quoted(value)}")
    return changes


def _settings_in(path: Path) -> dict[str, Any] | None:
    """The settings of a run.yaml by dotted names; None if there is none, or if this version cannot read it."""
    try:
        return _settings_of(load_run_config(path))
    except ConfigError:
        return None


def _settings_of(config: RunConfig) -> dict[str, Any]:
    """All settings by dotted names, those of several teachers as "teachers[0].model" and so on."""
    found = leaves(config.model_dump())
    for place, teacher in enumerate(found.pop("teachers")):
        found |= {f"teachers[{place}].{name}": value for name, value in teacher.items()}
    return found


def _inside_run(value: Any, output: str | None) -> Any:
    """A path in the run folder, relative to it: on Hugging Face Jobs the folder is different each time."""
    if isinstance(value, list):
        return [_inside_run(each, output) for each in value]
    return value.removeprefix(f"{output}/") if isinstance(value, str) and output else value
