"""The training program: `accelerate launch -m simct.train run.yaml [--resume]`, on this machine and on Jobs alike.

Loads what run.yaml names, scores the student, trains it, saves model/ and scores it again, and keeps the run folder up
to date. On SIGTERM or SIGINT it writes a checkpoint and stops. Exit status: 0 finished or stopped, 2 for an error
that a person can fix, 1 for a defect (its traceback is in log.txt).
"""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, set_seed
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.config.precision import Precision, precision_text
from simct.config.sections import ModelConfig
from simct.errors import ConfigError, RunError, SimCTError, brief
from simct.evaluation.health import HealthWatch
from simct.evaluation.tasks import evaluate_loaded
from simct.hub.client import prepare_clients
from simct.jobs.local.process import start_time
from simct.jobs.local.webhook import notify
from simct.models.adapters import merged_student, trainable_student
from simct.models.loading import device_for_training
from simct.models.teachers import LocalTeacher, writes
from simct.preflight.checklist import FIRST, run_checks
from simct.preflight.planned import Place, PlannedRun
from simct.publishing.when_finished import announce_publishing, publish_when_finished
from simct.runs.folder import RunFolder
from simct.runs.progress import Reporter
from simct.tokenization.token_bytes import TokenBytes
from simct.training.evaluation import Evaluator
from simct.training.failures import explain_failure
from simct.training.loaded import Loaded, load
from simct.training.metrics import write_record
from simct.training.precision import with_precision
from simct.training.resuming import checkpoint_to_resume, start_over
from simct.training.saved_student import keep_adapter, save_student
from simct.training.sharding import LONGEST_WAIT
from simct.training.trainer import Trained, Trainer
from simct.training.usage import keep_freed_memory
from simct.training.warmup import warm_up


class StopFlag:
    """Set by SIGTERM or SIGINT; the training loop reads it between steps."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


@dataclass
class Process:
    """This process's part in a run, with everything that every phase needs."""

    run: RunFolder
    config: RunConfig
    accelerator: Accelerator
    stop: StopFlag
    token: str | None
    progress: Reporter

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def status(self, **fields: Any) -> None:
        if self.is_main:
            self.run.set_status(**fields)

    def log(self, line: str) -> None:
        if self.is_main:
            print(line, flush=True)


def train_run(run: RunFolder, resume: bool = False) -> str:
    """Train `run` in this process; returns its final state. Raises SimCTError for errors that a person can fix.

    Distillation resumes from its last checkpoint only with `resume`; a warm-up always continues where it was.
    """
    process = setup(run, resume)
    planned = PlannedRun(process.config, process.token, Place(gpus=process.accelerator.num_processes))
    run_checks(planned, checks=FIRST).refuse()
    if process.config.kind == "warmup":
        checkpoint = resume_point(process, resume=True)
        start_tracker(process)
        config, accelerator = process.config, process.accelerator
        trained, tokens = warm_up(run, config, accelerator, lambda: process.stop.requested, process.token, checkpoint)
    else:
        checkpoint = resume_point(process, resume)
        loaded = load(run, process.config, process.accelerator, process.token, process.log)
        score_before(process, loaded)
        trained, tokens = distill(process, loaded, checkpoint), loaded.pair.student
    return finish(process, trained, tokens)


def setup(run: RunFolder, resume: bool = False) -> Process:
    """Join the run: signals, number formats, Accelerate, the status, the seed."""
    stop, config, token = StopFlag(), run.config(), os.environ.get("HF_TOKEN")
    config = with_precision(run, config, resume or config.kind == "warmup", token)
    accelerator = Accelerator(
        mixed_precision=config.training.mixed_precision,
        log_with=config.training.tracker,
        project_dir=run.path,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    progress = Reporter(run, accelerator.is_main_process)
    process = Process(run, config, accelerator, stop, token, progress)
    if process.is_main:
        run.remove_leftovers()
    process.status(
        state="running",
        pid=os.getpid(),
        pid_started=start_time(os.getpid()),
        message="Loading the models",
        progress=None,
        error=None,
        device=str(accelerator.device),
        processes=accelerator.num_processes,
        precision=Precision.of(config).to_dict(),
    )
    process.log(f"Precision: {precision_text(config)}")
    set_seed(config.training.seed)
    return process


def resume_point(process: Process, resume: bool) -> Path | None:
    """The checkpoint to continue from (the newest whole one, the same on all processes), or None for the start.

    Metrics and samples of the steps that will be repeated are removed. Raises RunError if run.yaml now describes
    another run.
    """
    run = process.run
    chosen: list[Any] = [None, None]
    if process.is_main:
        try:
            chosen[0] = checkpoint_to_resume(run, process.config, process.log) if resume else None
            if chosen[0] is None and process.config.kind == "distill":
                start_over(run, process.config, process.log)
            run.forget_after(int(chosen[0].name.removeprefix("step-")) if chosen[0] else 0)
        except (SimCTError, OSError) as error:
            chosen[1] = explain_failure(error) or str(error)
    broadcast_object_list(chosen)
    if chosen[1] is not None:
        raise RunError(chosen[1])
    return chosen[0]


def score_before(process: Process, loaded: Loaded) -> None:
    """Score the student and the teacher on the run's tasks, unless a resumed run has done so already."""
    run, config, pair = process.run, process.config, loaded.pair
    if process.is_main and config.evaluation.tasks and "before" not in run.evaluation():
        process.progress.stage("Scoring the student before training", unit="prompts")
        scores = {"before": _scores(process, loaded.student, pair.student, config.student)}
        of_teachers = {}
        for each in loaded.teachers:
            model = each.config.teacher
            if isinstance(each.teacher, LocalTeacher) and not (model.sharded or model.offload):
                # a teacher that will be sharded is still on the CPU, where it is too slow, and too large for this
                # process's device
                process.progress.stage("Scoring the teacher", unit="prompts")
                of_teachers[each.name] = _scores(process, each.teacher.model, each.pair.teacher, model)
        if of_teachers:
            scores |= {"teachers": of_teachers} if config.teachers else {"teacher": next(iter(of_teachers.values()))}
        run.save_evaluation(scores)
    process.accelerator.wait_for_everyone()


def distill(process: Process, loaded: Loaded, checkpoint: Path | None) -> Trained:
    """Train the student, from `checkpoint` if there is one, and write metrics.jsonl and rollouts.jsonl."""
    run, config = process.run, process.config
    evaluator = evaluator_of(process, loaded)
    student = trainable_student(loaded.student, config)
    start_tracker(process)
    history = run.metrics() if checkpoint else []
    health = HealthWatch(history)

    def on_step(record: dict[str, Any], samples: list[dict]) -> None:
        write_record(run, process.accelerator, record, config.training.steps, "Training")
        for sample in samples:
            run.append("rollouts.jsonl", sample)
        length, ended = (record.get(name) for name in ("response_length", "eos_rate"))
        answers = "" if length is None else f"length {length:.1f}  ended {ended:.0%}  "
        process.log(
            f"step {record['step']}/{config.training.steps}  loss {record['loss']:.4f}  rows {record['rows']}  "
            f"{answers}{record['seconds']:.2f} s"
        )
        unhealthy = health.add(record)
        if warning := record.get("warning") or unhealthy:
            process.log(f"warning: {warning}")
        if unhealthy and (trouble := notify(run, "unhealthy", unhealthy)):
            process.log(trouble)

    return Trainer(
        config,
        process.accelerator,
        loaded.teachers,
        student,
        loaded.pair,
        loaded.prompts,
        run.checkpoints_dir,
        on_step=on_step,
        stop_requested=lambda: process.stop.requested,
        resume_from=checkpoint,
        history=history,
        evaluator=evaluator,
    ).train()


def evaluator_of(process: Process, loaded: Loaded) -> Evaluator | None:
    """The evaluator of the student during training; None if there is nothing to evaluate."""
    evaluation, held_out = process.config.evaluation, loaded.held_out
    silent = {place: each for place, each in enumerate(loaded.teachers) if not writes(each.teacher)}
    if held_out and silent:
        held_out = [only for prompt in held_out if (only := prompt.without(silent))]
        names = f" {', '.join(each.name for each in silent.values())}" if process.config.teachers else ""
        process.log(
            f"The distance to the teacher{names} is not measured: stored scores are of the data's completions only, "
            "and the distance needs a teacher that writes its own answers and reads the student's."
        )
    if evaluation.every == 0 or not (held_out or evaluation.tracked_tasks):
        return None
    return Evaluator(
        process.run,
        process.config,
        process.accelerator,
        loaded.pair,
        held_out,
        process.log,
        lambda: process.stop.requested,
    )


def finish(process: Process, trained: Trained, tokens: TokenBytes) -> str:
    """Save the student as model/, score it if all steps were taken, and set the final state; returns that state."""
    run, config = process.run, process.config
    state = "finished" if trained.done else "stopped"
    if process.is_main:
        if trained.student is not None:
            keep_adapter(run, trained.student, config.student)
            student = merged_student(trained.student, config, process.token).to(process.accelerator.device)
            model_step = trained.step if trained.model_step is None else trained.model_step
            save_student(run, model_step, student, tokens.tokenizer)
            if trained.done and config.evaluation.tasks:
                score_after(process, student, tokens)
        if trained.done:
            announce_publishing(run)
        run.set_status(state=state, step=trained.step, pid=None, progress=None, message=final_message(trained))
    process.accelerator.end_training()
    if process.is_main and trained.done and (line := publish_when_finished(run, process.token)):
        process.log(line)
    return state


def final_message(trained: Trained) -> str:
    """How the run ended, and which student was saved if it is not the last one."""
    if not trained.done:
        return f"Stopped after step {trained.step}. Resume the run to continue."
    ended = "Finished"
    if trained.ended_early:
        ended = f"Finished early, after step {trained.step:,}: the student no longer improved"
    kept = trained.model_step is not None and trained.model_step != trained.step
    return f"{ended}. The kept student is the best one, from step {trained.model_step:,}." if kept else ended


def score_after(process: Process, student: PreTrainedModel, tokens: TokenBytes) -> None:
    """Score the student on the run's tasks and log the changes."""
    run, config = process.run, process.config
    process.progress.stage("Scoring the student after training", unit="prompts")
    after = _scores(process, student, tokens, config.student)
    scores = run.evaluation() | {"after": after}
    run.save_evaluation(scores)
    for task, result in after.items():
        earlier = f"{scores['before'][task]['score']:.3f} -> " if task in scores.get("before", {}) else ""
        process.log(f"{task}: {earlier}{result['score']:.3f}")


def _scores(process: Process, model: PreTrainedModel, tokens: TokenBytes, side: ModelConfig) -> dict:
    evaluation, report = process.config.evaluation, process.progress.update
    return evaluate_loaded(model, tokens, evaluation, side.enable_thinking, side.system, on_progress=report)


def start_tracker(process: Process) -> None:
    """Open the experiment tracker that the run names. Raises ConfigError if its package is missing."""
    run, config, accelerator = process.run, process.config, process.accelerator
    if config.training.tracker is None:
        return
    if not accelerator.log_with:
        raise ConfigError(f"training.tracker is {config.training.tracker!r}: install that package, or leave it empty.")
    settings = {name: str(value) for name, value in config.model_dump().items()}
    # the run's own name, under which a resumed run continues
    named = {"trackio": {"name": run.id}, "wandb": {"name": run.id, "id": run.id}}.get(config.training.tracker)
    options = {config.training.tracker: named | {"resume": "allow"}} if named else {}
    accelerator.init_trackers("simct", config=settings | {"run": run.id}, init_kwargs=options)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="simct.train", description="Train the run that a run.yaml describes.")
    parser.add_argument("run_yaml", type=Path, help="run.yaml inside its run folder")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    options = parser.parse_args(arguments)
    prepare_clients()
    run = RunFolder(options.run_yaml.resolve().parent)
    try:
        if not run.exists:
            raise RunError(f"{str(run.path)!r} is not a run folder. Start runs with `simct distill --config FILE`.")
        # of several processes, the first holds the lock for all
        held = run.acquire_for_training() if os.environ.get("RANK", "0") == "0" else -1
        if held is None:
            raise RunError(f"Run {run.id} is already being trained by another process. Stop that one first.")
    except SimCTError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    try:
        train_run(run, options.resume)
        return 0
    except BaseException as error:
        return report_failure(run, error)
    finally:
        if held >= 0:
            os.close(held)


def report_failure(run: RunFolder, error: BaseException) -> int:
    """Write why a run ended to its status and its log; returns the exit status."""
    line = explain_failure(error)
    text = line or f"{type(error).__name__}: {brief(error)} (details in log.txt)"
    with contextlib.suppress(OSError, SimCTError):
        run.set_status(state="failed", pid=None, error=text, message="Failed")
    # the log may be on the full disk
    with contextlib.suppress(OSError):
        if line is None:
            traceback.print_exception(error)
        print(text, file=sys.stderr, flush=True)
    return 2 if line else 1


if __name__ == "__main__":
    if device_for_training().type == "cpu":
        keep_freed_memory()
    sys.exit(main())
