"""Scores of a model on tasks with checkable answers, by greedy decoding.

A task is `demo` (the embedded pair's held-out prompts) or the path of a JSONL file with a prompt and an answer column.
Scores are exact: the share of prompts whose completion holds the reference answer as `answer_matches` reads it.
"""

import re
from pathlib import Path

from simct.config import DataConfig, EvaluationConfig, ModelConfig, local_path
from simct.demo import EVAL
from simct.errors import ConfigError, DataError
from simct.models import device_for_training, load_model, pad_id_of
from simct.prompts import Prompt, load_prompts, prompt_ids
from simct.rollout import generate
from simct.token_bytes import TokenBytes, load_tokenizer, token_bytes

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
SHOWN = 8


def task_prompts(task: str) -> list[Prompt]:
    """The prompts of a task, each with an answer. Raises ConfigError for an unknown task, DataError for one without."""
    if task == "demo":
        source = str(EVAL)
    elif local_path(task) is not None and Path(task).suffix in (".jsonl", ".json"):
        source = task
    else:
        raise ConfigError(f"There is no task {task!r}. Use demo, or the path of a JSONL file with prompts and answers.")
    prompts = load_prompts(DataConfig(prompts=source))
    if any(prompt.answer is None for prompt in prompts):
        raise DataError(f"Task {task!r} needs an answer for every prompt. Add an 'answer' column to {source!r}.")
    return prompts


def answer_matches(completion: str, answer: str) -> bool:
    """Whether a completion gives `answer`: the same text, the same last number, or the answer as its last words."""
    said, wanted = " ".join(completion.split()).lower().rstrip(" ."), " ".join(answer.split()).lower().rstrip(" .")
    if said == wanted:
        return True
    if NUMBER.fullmatch(wanted):
        numbers = NUMBER.findall(said)
        return bool(numbers) and float(numbers[-1].replace(",", "")) == float(wanted.replace(",", ""))
    return bool(re.search(rf"(?<!\w){re.escape(wanted)}$", said)) if wanted else False


def evaluate_loaded(model, tokens: TokenBytes, settings: EvaluationConfig, enable_thinking: bool | None = None) -> dict:
    """Scores of a model in memory: {task: {"score" in 0..1, "n", "ended", "samples": [...]}}."""
    scores = {}
    for task in settings.tasks:
        prompts = task_prompts(task)[: settings.samples]
        ids = [prompt_ids(tokens.tokenizer, prompt.messages, enable_thinking) for prompt in prompts]
        # prompts of like length share a batch, so little is spent on padding
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        completions: dict[int, tuple[str, bool]] = {}
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            rollouts = generate(
                model,
                [ids[index] for index in batch],
                tokens.end_ids,
                pad_id_of(tokens.tokenizer, tokens.end_ids),
                n_candidates=len(tokens.bytes_of),
                max_new_tokens=settings.max_new_tokens,
            )
            for index, rollout in zip(batch, rollouts, strict=True):
                text = tokens.tokenizer.decode(rollout.completion_ids, skip_special_tokens=True)
                completions[index] = (text, rollout.ended)
        samples = [
            {
                "prompt": prompt.text,
                "answer": prompt.answer,
                "completion": completions[index][0],
                "correct": answer_matches(completions[index][0], prompt.answer),
            }
            for index, prompt in enumerate(prompts)
        ]
        scores[task] = {
            "score": sum(sample["correct"] for sample in samples) / len(samples),
            "n": len(samples),
            "ended": sum(ended for _, ended in completions.values()) / len(samples),
            "samples": samples[:SHOWN],
        }
    return scores


def evaluate_model(
    model: str,
    tasks: list[str],
    samples: int | None = None,
    max_new_tokens: int = 64,
    revision: str | None = None,
    dtype: str = "float32",
) -> dict:
    """Load `model` (Hub id or folder) and score it; see `evaluate_loaded`. Raises one-line SimCTErrors."""
    settings = EvaluationConfig(tasks=list(tasks), samples=samples, max_new_tokens=max_new_tokens)
    for task in tasks:
        task_prompts(task)
    tokens = token_bytes(load_tokenizer(model, revision))
    loaded = load_model(ModelConfig(model=model, revision=revision, dtype=dtype), device_for_training()).eval()
    return evaluate_loaded(loaded, tokens, settings)
