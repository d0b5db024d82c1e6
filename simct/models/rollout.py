"""Writing completions: batched sampling, with the ids kept exactly as sampled.

Models with a plain key-value cache are decoded by our own loop (decoding.py), all others by transformers'
`generate`. In both, the draw of a token depends only on seed, step, sample index and position (sampling.py).

Shapes: B samples in a batch, N of a call, V rows of the lm_head, L prompt length, M new tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from simct.models.decoding import DecodeLoop, can_decode, left_pad
from simct.models.loading import check_ids, input_device, padding_id
from simct.models.sampling import Sampling


@dataclass(frozen=True)
class Rollout:
    """One completion. `completion_ids` end with an end-of-turn id exactly when `ended`."""

    prompt_ids: list[int]
    completion_ids: list[int]
    ended: bool


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    end_ids: tuple[int, ...],
    pad_id: int,
    n_candidates: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    uniforms_NM: torch.Tensor | None = None,
    *,
    top_k: int | None = None,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Rollout]:
    """Complete each prompt (token ids) by sampling with `uniforms_NM`, or greedily when it is None.

    A completion is cut after its first end-of-turn id. `n_candidates` is the number of ids the tokenizer knows. At most
    `batch_size` are written at a time, by default all. `on_progress(completions finished)`.
    """
    check_ids(model, max(map(max, prompts), default=0))
    pad_id = padding_id(model, pad_id)
    sampling = Sampling(
        n_candidates, uniforms_NM, temperature, top_p, top_k=top_k, min_p=min_p, repetition_penalty=repetition_penalty
    )
    size = batch_size or max(1, len(prompts))
    longest = max(map(len, prompts), default=0) + max_new_tokens
    was_training = model.training
    model.eval()
    found: dict[int, list[int]] = {}
    try:
        if can_decode(model, longest):
            written = DecodeLoop(model, end_ids, pad_id, max_new_tokens, sampling).write(prompts, size)
        else:
            written = _by_transformers(model, prompts, end_ids, pad_id, max_new_tokens, sampling, size)
        for index, completion in written:
            found[index] = completion
            if on_progress:
                on_progress(len(found))
    finally:
        model.train(was_training)
    ends = set(end_ids)
    return [Rollout(prompt, found[index], found[index][-1] in ends) for index, prompt in enumerate(prompts)]


def _by_transformers(
    model: Any,
    prompts: list[list[int]],
    end_ids: tuple[int, ...],
    pad_id: int,
    max_new_tokens: int,
    sampling: Sampling,
    size: int,
) -> Iterator[tuple[int, list[int]]]:
    """(prompt index, completion ids), `size` at a time, by the model's own `generate`."""
    # prompts of similar length share a batch, so little time is spent on padding
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    ends, device = set(end_ids), input_device(model)
    for first in range(0, len(order), size):
        some = order[first : first + size]
        ids_BL, mask_BL = left_pad([prompts[index] for index in some], pad_id, device)
        # a new generation config, because the model's own may have penalties or a top-k that change the distribution
        own_config = model.generation_config
        model.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(end_ids) or None, pad_token_id=pad_id
        )
        try:
            # a model that is split over processes was made whole (training/sharding.py): no process waits for the
            # others
            output_BL = model.generate(
                input_ids=ids_BL,
                attention_mask=mask_BL,
                logits_processor=LogitsProcessorList([_Picked(sampling, some, mask_BL)]),
                use_cache=True,
                synced_gpus=False,
            )
        finally:
            model.generation_config = own_config
        for index, row in zip(some, output_BL[:, ids_BL.shape[1] :].tolist(), strict=True):
            stop = next((position for position, token in enumerate(row) if token in ends), len(row))
            yield index, row[: stop + 1]


class _Picked(LogitsProcessor):
    """Leaves one finite logit per row, at the token that `sampling` picks, so that greedy decoding returns it."""

    def __init__(self, sampling: Sampling, samples: list[int], mask_BL: torch.Tensor) -> None:
        self.sampling, self.samples, self.read_BL = sampling, samples, mask_BL == 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = self.read_BL.shape[1]
        seen_BV = None
        if self.sampling.repetition_penalty != 1:
            # the padding, which depends on the batch, is replaced by the last id of the prompt
            prompt_BL = torch.where(self.read_BL, input_ids[:, :length], input_ids[:, length - 1 : length])
            seen_BV = torch.zeros_like(scores, dtype=torch.bool)
            seen_BV.scatter_(1, torch.cat([prompt_BL, input_ids[:, length:]], dim=1), True)
        positions = [input_ids.shape[1] - length] * len(self.samples)
        picked_B = self.sampling.pick(scores, self.samples, positions, seen_BV)
        return torch.full_like(scores, float("-inf")).scatter_(1, picked_B[:, None], 0.0)
