"""The only entry that trains: `accelerate launch -m simct.train run.yaml [--resume]`, local and remote alike.

Loads what run.yaml names, scores the student, trains it, saves model/ and scores it again; the run folder is written
as it goes. SIGTERM or SIGINT write a checkpoint and stop. Exit status: 0 finished or stopped, 2 for what a person can
mend, 1 for a defect (its traceback is in log.txt).
"""

import argparse
import errno
import math
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from simct import losses
from simct.config import RunConfig, config_to_dict
from simct.data.prompts import Prompt, load_prompts
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError, RunError, SimCTError, brief
from simct.estimate.memory import check_trained
from simct.evaluation.tasks import check_tasks, evaluate_loaded
from simct.hub.client import settle_clients
from simct.hub.model_files import check_model_files
from simct.inspection.coverage import inspect_pair
from simct.jobs.local.job import process_start_time
from simct.models.adapters import merged_student, trainable_student
from simct.models.loading import load_model
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import save_tokenizer
from simct.training.optimizer import build_optimizer
from simct.training.trainer import train
from simct.training.warmup import check_warmup, warm_up

INSPECTED_PROMPTS = 200


class StopFlag:
    """Set by SIGTERM or SIGINT; the trainer looks at it between steps."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, number, frame) -> None:
        self.requested = True


def check_run(config: RunConfig, token: str | None = None) -> None:
    """What can be known before a run starts: data, settings, both tokenizers, both templates on the first prompts.

    Downloads tokenizers, configs and prompts, no weights. Raises the SimCTError that the run would have ended with.
    """
    prompts = load_prompts(config.data, token)
    pair = None if config.kind == "warmup" else TokenizerPair.of_run(config, token)
    check_settings(config, prompts, pair, token)


def check_settings(
    config: RunConfig, prompts: list[Prompt], pair: TokenizerPair | None, token: str | bool | None = None
) -> None:
    """check_run for prompts and a pair that are there already; a warm-up has no pair. Raises a one-line SimCTError."""
    for model in (config.teacher, config.student):
        check_model_files(model.model, model.revision, token)
    check_tasks(config.evaluation)
    if config.kind == "warmup":
        check_warmup(config, prompts)
    if pair is not None:
        prepare_prompts(prompts[:100], pair, config, [])
        losses.check_options(config.method, pair, config.divergence, **config.method_options)
    if config.training.optimizer.partition(".")[0] != "bitsandbytes":
        # which may be there only where the run will be
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], config.training)
    check_trained(config, token)


def total_steps(config: RunConfig, n_prompts: int) -> int:
    """Optimizer steps of a run: as configured, or as many as its epochs take."""
    if config.training.epochs is None:
        return config.training.steps
    rollouts = config.training.epochs * n_prompts * config.rollout.samples_per_prompt
    return max(1, math.ceil(rollouts / config.training.batch_size))


def start(run: RunFolder, config: RunConfig) -> Accelerator:
    """This process's part in the run, which the run folder is told about."""
    accelerator = Accelerator(
        mixed_precision=config.training.mixed_precision, log_with=config.training.tracker, project_dir=run.path
    )
    if accelerator.is_main_process:
        run.set_status(
            state="running",
            pid=os.getpid(),
            pid_started=process_start_time(os.getpid()),
            message="Loading the models",
            error=None,
            device=str(accelerator.device),
            processes=accelerator.num_processes,
        )
    return accelerator


def run_training(run: RunFolder, resume: bool = False) -> str:
    """Carry out `run` in this process; returns its final state. Raises SimCTError for what a person can mend."""
    stop = StopFlag()
    config = run.config()
    accelerator = start(run, config)
    main = accelerator.is_main_process
    set_seed(config.training.seed)
    token = os.environ.get("HF_TOKEN")
    prompts = load_prompts(config.data, token)
    pair = TokenizerPair.of_run(config, token)
    check_settings(config, prompts, pair, token)
    # a teacher that will be split is too big for one device; it is moved there layer by layer
    teacher_device = None if config.teacher.sharded else accelerator.device
    teacher = load_model(config.teacher, teacher_device, token).eval()
    student = load_model(config.student, accelerator.device, token)
    contexts = [getattr(model.config, "max_position_embeddings", None) for model in (teacher, student)]
    prepared, too_long = prepare_prompts(prompts, pair, config, contexts)
    config.training.steps = total_steps(config, len(prepared))
    if main:
        run.set_status(total_steps=config.training.steps)
    _log(main, f"{len(prepared)} prompts ({too_long} too long), {pair.shared_tokens} shared tokens")
    if main and not run.inspection():
        texts = [f"{prompt.text} {prompt.answer or ''}".strip() for prompt in prompts[:INSPECTED_PROMPTS]]
        run.save_inspection(inspect_pair(pair, texts))
    checkpoint = run.latest_checkpoint() if resume else None
    if main and config.evaluation.tasks and "before" not in run.evaluation():
        run.set_status(message="Scoring the student and the teacher before training")
        before = evaluate_loaded(student, pair.student, config.evaluation, config.student.enable_thinking)
        scores = {"before": before}
        if not config.teacher.sharded:
            # a teacher to be split is still on the CPU, too slow there and too big for this process's device
            scores["teacher"] = evaluate_loaded(
                teacher, pair.teacher, config.evaluation, config.teacher.enable_thinking
            )
        run.save_evaluation(scores)
    accelerator.wait_for_everyone()
    student = trainable_student(student, config)
    start_tracker(accelerator, run, config)

    def on_step(record: dict, samples: list[dict]) -> None:
        run.append("metrics.jsonl", record)
        numbers = {name: value for name, value in record.items() if name not in ("excluded", "step")}
        accelerator.log(numbers, step=record["step"])
        for sample in samples:
            run.append("rollouts.jsonl", sample)
        run.set_status(step=record["step"], message=f"Training, step {record['step']} of {config.training.steps}")
        _log(
            True,
            f"step {record['step']}/{config.training.steps}  loss {record['loss']:.4f}  rows {record['rows']}  "
            f"length {record['response_length']:.1f}  ended {record['eos_rate']:.0%}  {record['seconds']:.2f} s",
        )

    step, done, trained = train(
        config,
        accelerator,
        teacher,
        student,
        pair,
        prepared,
        run.checkpoints_dir,
        on_step=on_step,
        stop_requested=lambda: stop.requested,
        resume_from=checkpoint,
        history=run.metrics() if checkpoint else (),
    )
    if main:
        student = merged_student(trained, config, token).to(accelerator.device)
        save_student(run, step, student, pair.student.tokenizer)
        if done and config.evaluation.tasks:
            run.set_status(message="Scoring the student after training")
            after = evaluate_loaded(student, pair.student, config.evaluation, config.student.enable_thinking)
            run.save_evaluation({**run.evaluation(), "after": after})
            for task, result in after.items():
                _log(True, f"{task}: {run.evaluation()['before'][task]['score']:.3f} -> {result['score']:.3f}")
        state = "finished" if done else "stopped"
        message = "Finished" if done else f"Stopped after step {step}; resume to go on"
        run.set_status(state=state, step=step, pid=None, message=message)
    accelerator.end_training()
    return "finished" if done else "stopped"


def run_warmup(run: RunFolder) -> str:
    """Carry out a warm-up in this process, going on where it was; returns its final state. Raises SimCTError."""
    stop = StopFlag()
    config = run.config()
    accelerator = start(run, config)
    set_seed(config.training.seed)
    start_tracker(accelerator, run, config)
    student, tokens, step, done = warm_up(run, accelerator, lambda: stop.requested, os.environ.get("HF_TOKEN"))
    if accelerator.is_main_process:
        if student is not None and tokens is not None:
            save_student(run, step, student, tokens.tokenizer)
            if done and config.evaluation.tasks:
                run.set_status(message="Scoring the student")
                after = evaluate_loaded(student, tokens, config.evaluation, config.student.enable_thinking)
                run.save_evaluation({**run.evaluation(), "after": after})
        state = "finished" if done else "stopped"
        message = "Finished" if done else f"Stopped after step {step}; resume to go on"
        run.set_status(state=state, step=step, pid=None, message=message)
    accelerator.end_training()
    return "finished" if done else "stopped"


def start_tracker(accelerator: Accelerator, run: RunFolder, config: RunConfig) -> None:
    """Open the experiment tracker that the run names. Raises ConfigError if its package is missing."""
    if config.training.tracker is None:
        return
    if not accelerator.log_with:
        raise ConfigError(f"training.tracker is {config.training.tracker!r}: install that package, or leave it empty.")
    settings = {name: str(value) for name, value in config_to_dict(config).items()}
    # the run's own name, under which a run that is resumed goes on
    named = {"trackio": {"name": run.id}, "wandb": {"name": run.id, "id": run.id}}.get(config.training.tracker)
    options = {config.training.tracker: named | {"resume": "allow"}} if named else {}
    accelerator.init_trackers("simct", config=settings | {"run": run.id}, init_kwargs=options)


def save_student(run: RunFolder, step: int, student, tokenizer) -> None:
    """Write model/ whole or not at all, in the usual Hugging Face layout; status.json tells the step it is from."""
    temporary = run.path / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    student.save_pretrained(temporary, safe_serialization=True)
    save_tokenizer(tokenizer, temporary)
    shutil.rmtree(run.model_dir, ignore_errors=True)
    os.replace(temporary, run.model_dir)
    run.set_status(model_step=step)


def explain_failure(error: BaseException) -> str | None:
    """The one line for an error a person can mend, or None for a defect."""
    if isinstance(error, SimCTError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "The GPU ran out of memory. Lower training.micro_batch_size or rollout.max_new_tokens, and resume."
    if isinstance(error, MemoryError):
        return "The machine ran out of memory. Lower training.micro_batch_size or rollout.max_new_tokens, and resume."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full. Free some space and resume; the last whole checkpoint is kept."
    if "No space left on device" in str(error):
        return "The disk is full. Free some space and resume; the last whole checkpoint is kept."
    return None


def _log(main: bool, line: str) -> None:
    if main:
        print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="simct.train", description="Train the run that a run.yaml describes.")
    parser.add_argument("run_yaml", type=Path, help="run.yaml inside its run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    options = parser.parse_args(arguments)
    settle_clients()
    run = RunFolder(options.run_yaml.resolve().parent)
    try:
        if not run.status():
            raise RunError(f"{str(run.path)!r} is not a run folder. Start runs with `simct distill --config FILE`.")
        if run.config().kind == "warmup":
            run_warmup(run)
        else:
            run_training(run, options.resume)
        return 0
    except BaseException as error:
        line = explain_failure(error)
        if line is None:
            traceback.print_exc()
        text = line or f"{type(error).__name__}: {brief(error)} (details in log.txt)"
        print(text, file=sys.stderr, flush=True)
        if run.status():
            run.set_status(state="failed", pid=None, error=text, message="Failed")
        return 2 if line else 1


if __name__ == "__main__":
    sys.exit(main())
