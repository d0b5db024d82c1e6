"""Scores on tasks of lm-eval by name (gsm8k, minerva_math500, mbpp, humaneval …) or from a task's YAML file.

A file is treated as data. A file that contains code is refused, unless its owner allows it by a flag of the command.
lm-eval's own runner is used on the model in memory. Its code tasks download a metric that runs what the model wrote.
Here that metric is replaced by ours, which runs the code in the sandbox, and a task that would run code in another way
is refused.
"""

import contextlib
import functools
import importlib.util
import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from simct.config import local_path
from simct.config.evaluation import EvaluationConfig
from simct.errors import ConfigError, DataError, SimCTError
from simct.evaluation.sandbox.program import check_can_confine, needs_permission, run_program
from simct.evaluation.task_files import read_task_file, task_name
from simct.evaluation.task_names import YAML_SUFFIXES
from simct.hub.errors import hub_error
from simct.tokenization.token_bytes import TokenBytes

SHOWN = 8


def is_installed() -> bool:
    return importlib.util.find_spec("lm_eval") is not None


def check_task(task: str, allow_code_execution: bool = False, allow_task_code: bool = False) -> None:
    """Raise ConfigError unless `task` is registered by lm-eval or is a task's YAML file, and may be run.

    `allow_task_code` lets a file contain Python code; only the local command may set it.
    """
    if not is_installed():
        raise ConfigError(
            f"Task {task!r} is neither demo nor a JSONL file. It may be a task of lm-eval, which is not installed. "
            "Install it: pip install lm_eval."
        )
    if _is_file(task):
        if not allow_task_code:
            read_task_file(task)
        return
    manager = _known_tasks()
    if task not in {*manager.all_tasks, *manager.all_groups, *manager.all_tags}:
        raise ConfigError(
            f"There is no task {task!r}. Use demo, the path of a JSONL or lm-eval YAML file, or the name of an lm-eval "
            "task (`lm-eval ls tasks` lists them)."
        )


def evaluate_task(
    model: torch.nn.Module,
    tokens: TokenBytes,
    task: str,
    settings: EvaluationConfig,
    system: str | None = None,
    allow_task_code: bool = False,
) -> dict:
    """Score a model in memory on one task: {"score" in 0..1, "metric", "stderr", "n", "seed", "metrics", "samples"}.

    `metrics` holds everything lm-eval reports; `score` is the first of them. Raises ConfigError for an unknown task and
    for one that holds or runs code without permission, DataError or HubError when its data cannot be loaded.
    """
    check_task(task, settings.allow_code_execution, allow_task_code)
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager, wanted, name = _manager_for(task, allow_task_code)
    language_model = HFLM(pretrained=model, tokenizer=tokens.tokenizer, batch_size=settings.batch_size)
    with sandboxed_code_metric():
        try:
            results = lm_eval.simple_evaluate(
                model=language_model,
                tasks=[wanted],
                task_manager=_Guarded(manager, settings.allow_code_execution),
                limit=settings.samples,
                apply_chat_template=bool(tokens.tokenizer.chat_template),
                system_instruction=system,
                random_seed=settings.seed,
                numpy_random_seed=settings.seed,
                torch_random_seed=settings.seed,
                fewshot_random_seed=settings.seed,
                confirm_run_unsafe_code=settings.allow_code_execution,
                bootstrap_iters=1000,
            )
        except SimCTError:
            raise
        except (ImportError, ModuleNotFoundError) as error:
            raise ConfigError(f"Task {task!r} needs a package: {error}. Install it and try again.") from error
        except Exception as error:
            # datasets come from the Hub, and lm-eval passes on its errors unchanged
            reason = hub_error(error, task, kind="dataset")
            raise DataError(f"Task {task!r} could not be scored: {reason}") from error
    return _summary(results, name, settings.seed)


class SandboxedCodeMetric:
    """Replaces the code_eval metric of the evaluate package: the same arguments and results, run in the sandbox."""

    def compute(
        self, references: list[str], predictions: list[list[str]], k: Sequence[int] = (1,), **options: object
    ) -> tuple[dict[str, float], dict[int, list]]:
        """pass@k over problems: each reference is the tests, each prediction a list of candidate programs."""
        passed, details = [], {}
        for problem, (tests, candidates) in enumerate(zip(references, predictions, strict=True)):
            outcomes = [run_program(f"{candidate}\n\n{tests}\n") for candidate in candidates]
            passed.append([outcome.passed for outcome in outcomes])
            details[problem] = [
                (place, {"task_id": problem, "passed": outcome.passed, "result": outcome.reason or "passed"})
                for place, outcome in enumerate(outcomes)
            ]
        scores = {
            f"pass@{size}": sum(pass_at_k(len(each), sum(each), size) for each in passed) / len(passed)
            for size in k
            if all(len(each) >= size for each in passed)
        }
        return scores, details


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k programs drawn from n, of which `correct` are right, is right (Chen et al. 2021)."""
    wrong, chance = n - correct, 1.0
    for drawn in range(k):
        chance *= max(0, wrong - drawn) / (n - drawn)
    return 1.0 - chance


@contextlib.contextmanager
def sandboxed_code_metric() -> Iterator[None]:
    """In this context, `evaluate.load("code_eval")` returns our metric, so that lm-eval's code tasks run in the
    sandbox.

    Any other metric is a program that would be downloaded and run, and is refused.
    """
    import evaluate

    load = evaluate.load

    def load_sandboxed(path: str, *arguments: Any, **options: Any) -> SandboxedCodeMetric:
        if str(path).rstrip("/").rsplit("/", 1)[-1] == "code_eval":
            return SandboxedCodeMetric()
        raise ConfigError(f"A task asks for the metric {str(path)!r}, whose code comes from the Hub. Leave it out.")

    evaluate.load = load_sandboxed
    try:
        yield
    finally:
        evaluate.load = load


class _Guarded:
    """A task manager that lets no task run generated code without permission, or outside the sandbox, and none whose
    score is better when it is lower: scores are compared, and the best one kept, as shares of right answers.
    """

    def __init__(self, manager: Any, allowed: bool) -> None:
        self._manager, self._allowed = manager, allowed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def load(self, *arguments: Any, **options: Any) -> dict:
        loaded = self._manager.load(*arguments, **options)
        for name, task in loaded["tasks"].items():
            metric, higher_is_better = next(iter(task.higher_is_better().items()), ("", True))
            if not higher_is_better:
                raise ConfigError(
                    f"Task {name!r} is scored by {metric}, which is better when it is lower. Choose a task that counts "
                    "right answers."
                )
            if not getattr(task, "UNSAFE_CODE", False):
                continue
            if not self._allowed:
                raise needs_permission(name)
            if not _uses_sandbox(task):
                raise ConfigError(
                    f"Task {name!r} runs what the model wrote in its own way, outside the sandbox. Leave it out."
                )
            check_can_confine(name)
        return loaded


def _uses_sandbox(task: Any) -> bool:
    """Whether the functions that score a task come from a module that holds our metric."""
    functions = [*task._metric_fn_list.values(), getattr(task.config, "process_results", None)]
    # lm-eval keeps a function's __call__, which belongs to the function
    functions = [getattr(function, "__self__", function) for function in functions]
    return any(
        isinstance(value, SandboxedCodeMetric)
        for function in functions
        for value in getattr(inspect.unwrap(function) if callable(function) else None, "__globals__", {}).values()
    )


def _is_file(task: str) -> bool:
    path = local_path(task)
    return path is not None and path.suffix in YAML_SUFFIXES


def _manager_for(task: str, allow_task_code: bool) -> tuple[Any, str | dict[str, Any], str]:
    """lm-eval's task manager, the task to load, and its name; the checked task is exactly the one that is loaded."""
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    path = local_path(task)
    if path is None or not _is_file(task):
        return _known_tasks(), task, task
    if allow_task_code:
        name = task_name(task)
        return TaskManager(include_path=str(path.resolve().parent), include_defaults=False), name, name
    settings = read_task_file(task)
    return TaskManager(include_defaults=False), settings, str(settings["task"])


@functools.cache
def _known_tasks() -> Any:
    """lm-eval's own tasks; listing them takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _summary(results: dict, name: str, seed: int) -> dict:
    """lm-eval's results in our form. The score of a group is lm-eval's mean for it."""
    scores = results["results"].get(name) or results.get("groups", {}).get(name) or {}
    metrics = {key: value for key, value in scores.items() if isinstance(value, int | float) and "," in key}
    named = [key for key in metrics if not key.split(",")[0].endswith("_stderr")]
    if not named:
        raise DataError(f"lm-eval reported no score for {name!r}.")
    metric, filtering = named[0].split(",", 1)
    members = results.get("group_subtasks", {}).get(name) or [name]
    counts = results["n-samples"]
    samples = [sample for member in members for sample in results.get("samples", {}).get(member, [])]
    samples = [sample for sample in samples if sample.get("filter") in (None, filtering)]
    outcomes = [sample[metric] for sample in samples if isinstance(sample.get(metric), int | float)]
    found: dict[str, Any] = {
        "score": float(metrics[named[0]]),
        "metric": named[0],
        "stderr": metrics.get(f"{metric}_stderr,{filtering}"),
        "n": sum(counts[member]["effective"] for member in members if member in counts),
        "seed": seed,
        "metrics": metrics,
        "samples": [_shown(sample, metric) for sample in samples[:SHOWN]],
    }
    # the score of a group, or of a metric over all prompts, is not the mean of the single scores
    if outcomes and math.isclose(sum(outcomes) / len(outcomes), found["score"], abs_tol=1e-6):
        found["outcomes"] = [float(each) for each in outcomes]
    return found


def _shown(sample: dict, metric: str) -> dict:
    arguments = sample.get("arguments")
    first = next(iter(arguments.values()), {}) if isinstance(arguments, dict) else (arguments or [[""]])[0]
    prompt = next(iter(first.values()), "") if isinstance(first, dict) else first[0]
    answers = sample.get("resps") or [[""]]
    value = sample.get(metric)
    return {
        "prompt": str(prompt),
        "answer": str(sample.get("target", "")),
        "completion": str(answers[0][0] if isinstance(answers[0], list) else answers[0]),
        "correct": bool(value) if isinstance(value, int | float) else None,
    }
