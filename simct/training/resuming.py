"""Where a resumed run continues, and whether its run.yaml still describes it."""

from collections.abc import Callable
from pathlib import Path

from simct.config import RunConfig, dump_config
from simct.errors import RunError
from simct.files import write_atomically
from simct.runs.changes import accepted_changes
from simct.runs.checkpoints import CONFIG_FILE, newest_whole
from simct.runs.folder import RunFolder
from simct.training.warmup_answers import SAMPLED_WITH

# the run.yaml that the files below were made with, until there is a checkpoint
STARTED_WITH = ".started.yaml"
BEFORE_TRAINING = ("held_out.jsonl", "teacher.jsonl", "evaluations.jsonl", "evaluation.json", "inspect.json")


def checkpoint_to_resume(run: RunFolder, config: RunConfig, log: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint, or None for the start; `log` gets the skipped checkpoints and the changes in
    run.yaml.

    Raises RunError if run.yaml now describes another run, or ends before the checkpoint.
    """
    checkpoint, damaged = newest_whole(run.checkpoints_dir, thorough=True)
    step, training = int(checkpoint.name.removeprefix("step-")) if checkpoint else 0, config.training
    if config.kind == "distill" and training.epochs is None and training.steps < step:
        raise RunError(
            f"training.steps is {training.steps:,}, and the run has already taken {step:,}. Give more, or start a new "
            "run with `simct jobs duplicate`."
        )
    if damaged:
        instead = f"The run resumes from {checkpoint.name}" if checkpoint else "There is no other; the run starts over"
        log(f"{'; '.join(damaged)}. {instead}.")
    kept = checkpoint / CONFIG_FILE if checkpoint else run.path / SAMPLED_WITH
    changes = accepted_changes(kept, config)
    if changes:
        log(f"run.yaml has changed since: {', '.join(changes)}.")
    return checkpoint


def start_over(run: RunFolder, config: RunConfig, log: Callable[[str], None]) -> None:
    """Begin a distillation that has no checkpoint. What an earlier start measured before training is kept if run.yaml
    still describes it, and else removed, because it is of other models, prompts or answers.

    Raises OSError.
    """
    try:
        changed = any(
            change.startswith(("evaluation.", "rollout."))
            for change in accepted_changes(run.path / STARTED_WITH, config)
        )
    except RunError:
        changed = True
    if changed:
        for name in BEFORE_TRAINING:
            (run.path / name).unlink(missing_ok=True)
        log("run.yaml has changed since the first start, which left no checkpoint: the run starts over.")
    write_atomically(run.path / STARTED_WITH, dump_config(config))
