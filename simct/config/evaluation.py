"""The section of a run about evaluating its student."""

from simct.config.sections import LARGEST_SEED, MOST_AT_ONCE, MOST_STEPS, MOST_TOKENS, NAME_CHARACTERS
from simct.setting import Section, setting

# The default number of evaluations, and the longest answer that is measured, in tokens.
USUAL_EVALUATIONS, LONGEST_ANSWER = 10, 128


class EvaluationConfig(Section):
    """How good the student is: scores before and after training, and evaluations along the way."""

    tasks: list[str] = setting(
        "Evaluation tasks",
        [],
        "Scored before and after training: demo, JSONL files with answers, livecodebench_v6, lm-eval's such as gsm8k.",
        max_length=1000,
    )
    every: int | None = setting(
        "Evaluate every",
        None,
        "Steps between evaluations: the distance to the teacher, tracked tasks, answers to fixed prompts. 0: none.",
        empty="about ten evaluations in a run",
        ge=0,
        le=MOST_STEPS,
    )
    tracked_tasks: list[str] = setting(
        "Tracked tasks",
        [],
        "Scored at every evaluation along the way: demo, JSONL files with answers, tasks of lm-eval.",
        max_length=1000,
    )
    tracked_samples: int = setting(
        "Tracked samples", 64, "Prompts of each tracked task. Usual: 50 to 200.", ge=1, le=1_000_000_000
    )
    time_share: float = setting(
        "Evaluation time",
        0.1,
        "The share of the run's time that evaluations may take; they become fewer or smaller to stay within it. "
        "Usual: 0.1.",
        gt=0,
        lt=1,
    )
    best_by: str = setting(
        "Best by",
        "distance",
        "Which checkpoint is the best: the one with the smallest distance to the teacher (distance), the lowest loss "
        "(loss), or the highest score in a tracked task (its name). Without evaluations, the loss decides.",
        allowed="distance, loss, or one of evaluation.tracked_tasks",
        required=True,
        max_length=NAME_CHARACTERS,
    )
    patience: int | None = setting(
        "Patience",
        None,
        "End the run after this many evaluations without improvement. Usual: 3 to 5.",
        empty="never end early",
        ge=1,
        le=MOST_STEPS,
    )
    samples: int | None = setting(
        "Samples per task",
        None,
        "Score only this many prompts of each task, the first ones. Usual: 100 to 500.",
        empty="all",
        ge=1,
        le=1_000_000_000,
    )
    max_new_tokens: int = setting(
        "Max new tokens",
        64,
        "Longest scored answer, in tokens. Raise it for tasks that reason before they answer.",
        ge=1,
        le=MOST_TOKENS,
    )
    batch_size: int = setting(
        "Answers at once", 50, "Answers written at once. Lower it when memory is short.", ge=1, le=MOST_AT_ONCE
    )
    seed: int = setting("Seed", 0, "Decides which few-shot examples lm-eval uses.", ge=0, le=LARGEST_SEED)
    allow_code_execution: bool = setting(
        "Run written code", False, "Let tasks such as humaneval run code that the model wrote, in a sandbox."
    )
