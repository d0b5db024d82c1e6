"""The warm-up: the teacher answers prompts, checked answers are kept, and the student is fine-tuned on them.

The teacher reads each prompt in its own template. The text of its answers is checked (warmup_answers.py) and stored as
chat messages under data/ in the run folder (warmup_data.py), a dataset that `datasets.load_dataset` reads and that can
be pushed. The student then learns them in its own template: cross-entropy on the completion and its end of turn only.
Answers are on disk after every batch, so a stopped or killed warm-up continues where it was; fine-tuning resumes
from checkpoints as distillation does. Only one of the two models is in memory at a time.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.data.held_out import split_of_run
from simct.data.prompts import Prompt, load_prompts
from simct.errors import ConfigError
from simct.evaluation.sandbox.program import why_unavailable
from simct.hub.model_config import context_of
from simct.losses.head import check_head
from simct.models.adapters import trainable_student
from simct.models.loading import load_model
from simct.runs.folder import RunFolder
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes
from simct.training.fine_tuning import fine_tune
from simct.training.metrics import write_record
from simct.training.precision import config_of
from simct.training.trainer import Trained
from simct.training.warmup_answers import checker_of, sample_answers
from simct.training.warmup_data import DATA_FILE, in_brackets, load_examples


def check_warmup(config: RunConfig, prompts: list[Prompt]) -> None:
    """Raise ConfigError for what would otherwise fail only after sampling."""
    warmup = config.warmup
    for prompt in prompts:
        checker = checker_of(config, prompt)
        if checker != "none" and prompt.answer is None:
            raise ConfigError(
                f"The checker {checker!r} needs a reference answer for every prompt of {config.data.prompts!r}. "
                "Name its column with data.answer_column, or set warmup.checker to none."
            )
    if any(checker_of(config, prompt) == "code" for prompt in prompts):
        if not warmup.allow_code_execution:
            raise ConfigError(
                "The checker 'code' runs what the teacher wrote, in a sandbox. Allow it with --allow-code-execution "
                "(warmup.allow_code_execution in run.yaml)."
            )
        if why_unavailable():
            raise ConfigError(f"The checker 'code' cannot be used: {why_unavailable()}.")


def warm_up(
    run: RunFolder,
    config: RunConfig,
    accelerator: Accelerator,
    stop_requested: Callable[[], bool],
    token: str | None = None,
    checkpoint: Path | None = None,
) -> tuple[Trained, TokenBytes]:
    """Carry out the warm-up of `run` as `config` says, its fine-tuning from `checkpoint` if there is one.

    Returns what was trained and the student's tokens.

    The student is None if the run was stopped while the teacher was still answering. Raises SimCTErrors for what a
    person can fix.
    """
    # prompts that are held out here are also held out of a distillation on the same data
    prompts = split_of_run(run, config.data, load_prompts(config.data, token), token).trained
    check_warmup(config, prompts)
    tokens = load_tokens(config.student.model, config.student.revision, token, config.student.chat_template)
    data = run.path / "data"
    if not (data / DATA_FILE).is_file():
        # refuse a student that cannot be trained before the teacher spends hours on answers
        _load_student(config, accelerator, token)
        gc.collect()
        if not sample_answers(run, config, accelerator, prompts, stop_requested, token):
            return Trained(0, False, None), tokens
    context = context_of(config_of(config.student, token))
    examples, left_out = load_examples(data, tokens, config, context)
    if accelerator.is_main_process:
        print(f"{len(examples)} answers to learn from{in_brackets(left_out)}", flush=True)
    student = trainable_student(_load_student(config, accelerator, token), config)

    def on_step(record: dict[str, Any], total: int) -> None:
        write_record(run, accelerator, record, total, "Warming up")
        print(f"step {record['step']}/{total}  loss {record['loss']:.4f}  rows {record['rows']}", flush=True)

    step, done = fine_tune(
        config,
        accelerator,
        student,
        tokens,
        examples,
        run.checkpoints_dir,
        on_step,
        stop_requested,
        checkpoint,
    )
    return Trained(step, done, student), tokens


def _load_student(config: RunConfig, accelerator: Accelerator, token: str | None) -> PreTrainedModel:
    student = load_model(config.student, accelerator.device, token)
    check_head(student)
    return student
