"""A teacher's scores of the completions in the data, computed once, for runs that then need no teacher.

Shapes: R rows, K listed tokens.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from simct.config import RunConfig
from simct.data.held_out import split_prompts
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts, samples_of_dataset
from simct.errors import ConfigError, DataError
from simct.files import expanded
from simct.losses.teacher_rows import ListedRows, most_likely
from simct.models.loading import device_for_training
from simct.models.stored import ready_folder, text_key, write_scores
from simct.models.teachers import load_teacher
from simct.tokenization.pair import TokenizerPair

TEXTS_AT_A_TIME = 8


def teach(
    config: RunConfig,
    folder: Path,
    token: str | bool | None = None,
    on_notice: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score every completion of the run's data by its teacher; returns what about.json says of the folder.

    They are the texts that the run trains on with rollout.dataset_fraction 1. Raises one-line SimCTErrors.
    """
    if config.teacher.scores:
        raise ConfigError("teacher.scores is set, but `simct teach` makes scores. Remove it.")
    folder = expanded(folder)
    ready_folder(folder)
    pair = TokenizerPair.of_run(config, token)
    prompts = split_prompts(load_prompts(config.data, token), config.data, token).trained
    given = [prompt for prompt in prompts if prompt.completion is not None]
    if not given:
        raise DataError(f"{config.data.prompts!r} has no completions. Name their column with data.completion_column.")
    if len(given) < len(prompts):
        on_notice(f"{len(prompts) - len(given):,} of {len(prompts):,} prompts have no completion and are left out.")
    device = device_for_training()
    teacher = load_teacher(config.teacher, pair.teacher, device, token)
    prepared, _ = prepare_prompts(given, pair, config, [teacher.context_length], on_notice)
    excluded: Counter[str] = Counter()
    samples = samples_of_dataset(pair, prepared, config, excluded)
    for reason, count in excluded.items():
        on_notice(f"{count:,} left out: {reason}")

    def scored() -> Iterator[list[tuple[bytes, ListedRows]]]:
        for first in range(0, len(samples), TEXTS_AT_A_TIME):
            some = samples[first : first + TEXTS_AT_A_TIME]
            prompts = [sample.prompt.teacher_ids for sample in some]
            completions = [sample.teacher_ids for sample in some]
            rows = teacher.start(prompts, completions)()
            written_R = torch.tensor([token for ids in completions for token in ids])
            listed = most_likely(rows, written_R, config.teacher.top_logprobs, len(pair.teacher.bytes_of))
            sizes = [len(ids) for ids in completions]
            columns = (each.split(sizes) for each in (listed.ids_RK, listed.log_p_RK, listed.log_rest_R))
            keys = map(text_key, prompts, completions)
            yield [
                (key, ListedRows(ids_RK, log_p_RK, log_rest_R, listed.vocabulary))
                for key, ids_RK, log_p_RK, log_rest_R in zip(keys, *columns, strict=True)
            ]
            on_progress(first + len(some), len(samples))

    about = {
        "model": config.teacher.model,
        "revision": config.teacher.revision,
        "tokenizer": pair.teacher.fingerprint,
        "listed": config.teacher.top_logprobs,
        "context_length": teacher.context_length,
    }
    try:
        return write_scores(folder, about, scored())
    finally:
        teacher.close()
