"""Scores of a model on tasks with checkable answers, by greedy decoding.

A task is `demo` (the embedded pair's held-out prompts), the path of a JSONL file with a prompt and an answer column,
`livecodebench_v6`, or a task of lm-eval: its name, or the path of its YAML file, which may hold code only where
`allow_task_code` says so. The first three are scored here: the share of prompts whose completion gives the reference
answer as `answer_matches` reads it, or a program that passes all tests. Standard errors are those of a mean over
prompts.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

from transformers import PreTrainedModel

from simct.config.evaluation import EvaluationConfig
from simct.config.precision import AUTO
from simct.config.sections import DataConfig, ModelConfig
from simct.data.conversations import with_system
from simct.data.prompts import Prompt, load_prompts
from simct.data.templates import prompt_ids
from simct.demo import EVAL
from simct.errors import DataError
from simct.evaluation import livecodebench
from simct.evaluation import lm_eval as lm_eval_tasks
from simct.evaluation.answers.check import answer_matches
from simct.evaluation.answers.statements import has_reasoning, opened_reasoning
from simct.evaluation.task_names import is_own_task
from simct.models.loading import device_for_training, load_model, pad_id_of
from simct.models.rollout import Rollout, generate
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes

SHOWN = 8


def check_tasks(settings: EvaluationConfig, allow_task_code: bool = False) -> None:
    """Refuse tasks that cannot be scored: unknown tasks, tasks without answers, and tasks that contain or run code
    without permission.

    Raises ConfigError or DataError, before a model is loaded.
    """
    for task in dict.fromkeys([*settings.tasks, *settings.tracked_tasks]):
        if task == livecodebench.TASK:
            livecodebench.check_livecodebench(settings.allow_code_execution)
        elif is_own_task(task):
            task_prompts(task)
        else:
            lm_eval_tasks.check_task(task, settings.allow_code_execution, allow_task_code)


def task_prompts(task: str) -> list[Prompt]:
    """The prompts of a task of ours, each with an answer. Raises DataError for a file without."""
    source = str(EVAL) if task == "demo" else task
    prompts = load_prompts(DataConfig(prompts=source))
    if any(prompt.answer is None for prompt in prompts):
        raise DataError(f"Task {task!r} needs an answer for every prompt. Add an 'answer' column to {source!r}.")
    return prompts


def standard_error(score: float, n: int) -> float | None:
    """Of a share of n prompts: the sample's standard deviation over √n; None for a single prompt."""
    return math.sqrt(score * (1 - score) / (n - 1)) if n > 1 else None


def evaluate_loaded(
    model: PreTrainedModel,
    tokens: TokenBytes,
    settings: EvaluationConfig,
    enable_thinking: bool | None = None,
    system: str | None = None,
    allow_task_code: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Scores of a model in memory: {task: {"score" in 0..1, "stderr", "n", "seed", "samples": [...], ...}}.

    "outcomes" are the scores of the prompts in order, for paired comparisons, where they are known. Tasks scored here
    also have "ended", the share of completions that ended by themselves. system: a system text that
    the model reads before that of a task. on_progress(prompts answered, prompts in all) is called along each task
    that is scored here.
    """
    scores = {}
    for task in settings.tasks:
        if not is_own_task(task):
            scores[task] = lm_eval_tasks.evaluate_task(model, tokens, task, settings, system, allow_task_code)
            continue
        prompts, checkers = _prompts_and_checkers(task, settings)
        rollouts = _completions(model, tokens, settings, prompts, enable_thinking, system, on_progress)
        samples: list[dict] = [
            {
                "prompt": prompt.text,
                "answer": prompt.answer,
                # the ids of one answer, not of several, make one text
                "completion": cast(str, tokens.tokenizer.decode(rollout.completion_ids, skip_special_tokens=True)),
                "correct": is_right(spoken_text(tokens, rollout)),
            }
            for prompt, rollout, is_right in zip(prompts, rollouts, checkers, strict=True)
        ]
        score = sum(sample["correct"] for sample in samples) / len(samples)
        scores[task] = {
            "score": score,
            "stderr": standard_error(score, len(samples)),
            "n": len(samples),
            "seed": settings.seed,
            "ended": sum(rollout.ended for rollout in rollouts) / len(samples),
            "outcomes": [int(sample["correct"]) for sample in samples],
            "samples": samples[:SHOWN],
        }
    return scores


def _prompts_and_checkers(task: str, settings: EvaluationConfig) -> tuple[list[Prompt], list[Callable[[str], bool]]]:
    """The prompts of a task of ours, and for each whether a completion of it is right."""
    if task == livecodebench.TASK:
        livecodebench.check_livecodebench(settings.allow_code_execution)
        problems = livecodebench.load_problems(settings.samples)
        return [problem.prompt for problem in problems], [problem.solved_by for problem in problems]
    prompts = task_prompts(task)[: settings.samples]
    return prompts, [partial(answer_matches, reference=prompt.answer or "") for prompt in prompts]


def _completions(
    model: PreTrainedModel,
    tokens: TokenBytes,
    settings: EvaluationConfig,
    prompts: list[Prompt],
    enable_thinking: bool | None,
    system: str | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """A greedy completion of each prompt, in order."""
    ids = [prompt_ids(tokens.tokenizer, with_system(prompt.messages, system), enable_thinking) for prompt in prompts]
    return generate(
        model,
        ids,
        tokens.end_ids,
        pad_id_of(tokens.tokenizer, tokens.end_ids),
        n_candidates=len(tokens.bytes_of),
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        on_progress=on_progress and (lambda done: on_progress(done, len(ids))),
    )


def spoken_text(tokens: TokenBytes, rollout: Rollout) -> str:
    """A completion as a checker reads it: with the marks around its reasoning, even one that the prompt opened."""
    decode = tokens.tokenizer.decode
    whole = cast(str, decode(rollout.completion_ids, skip_special_tokens=False))
    opening = opened_reasoning(cast(str, decode(rollout.prompt_ids[-8:], skip_special_tokens=False)))
    if opening or has_reasoning(whole):
        return opening + whole
    return cast(str, decode(rollout.completion_ids, skip_special_tokens=True))


def evaluate_model(
    model: str,
    tasks: list[str],
    samples: int | None = None,
    max_new_tokens: int = 64,
    revision: str | None = None,
    dtype: str = AUTO,
    seed: int = 0,
    allow_code_execution: bool = False,
    allow_task_code: bool = False,
) -> dict:
    """Load `model` (Hub id or folder) and score it; see `evaluate_loaded`. Raises one-line SimCTErrors."""
    settings = EvaluationConfig(
        tasks=list(tasks),
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        allow_code_execution=allow_code_execution,
    )
    check_tasks(settings, allow_task_code)
    tokens = load_tokens(model, revision)
    loaded = load_model(ModelConfig(model=model, revision=revision, dtype=dtype), device_for_training()).eval()
    return evaluate_loaded(loaded, tokens, settings, allow_task_code=allow_task_code)
