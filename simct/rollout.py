"""The student writes: batched sampling with the ids kept exactly as sampled.

A draw depends only on (seed, step, sample index, position), never on the batch it is in or on the generator's past:
each sample has a row of uniforms of its own, and a token is picked by inverting the cumulative distribution after
temperature and top-p. The same rollouts therefore come out of one process or several, fresh or resumed.

Shapes: B samples in a batch, V rows of the lm_head, L prompt length, M new tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList


@dataclass(frozen=True)
class Rollout:
    """One completion. `completion_ids` end with an end-of-turn id exactly when `ended`."""

    prompt_ids: list[int]
    completion_ids: list[int]
    ended: bool


def uniforms(seed: int, step: int, sample_indices: list[int], length: int) -> torch.Tensor:
    """Uniform draws in [0, 1), float32 [B, length]; a row is a function of (seed, step, its sample index) only."""
    rows = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, index]))).random(length, np.float32)
        for index in sample_indices
    ]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, length)


def pick_tokens(logits_BV: torch.Tensor, uniform_B: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """One token a row by inverting the distribution truncated to its top-p nucleus; int64 [B].

    The nucleus is the smallest set of the likeliest tokens whose mass reaches `top_p`, as in transformers.
    """
    probabilities_BV, ids_BV = torch.softmax(logits_BV.float() / temperature, dim=-1).sort(dim=-1, descending=True)
    cumulative_BV = probabilities_BV.cumsum(dim=-1)
    outside_BV = cumulative_BV - probabilities_BV >= top_p
    kept_BV = cumulative_BV.masked_fill(outside_BV, 0).amax(dim=-1, keepdim=True)
    target_B1 = uniform_B[:, None].to(kept_BV) * kept_BV
    position_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
    position_B1 = torch.minimum(position_B1, (~outside_BV).sum(dim=-1, keepdim=True) - 1)
    return ids_BV.gather(1, position_B1).squeeze(1)


class _SeededSampler(LogitsProcessor):
    """Leaves one finite logit a row, at the token drawn, so that greedy decoding returns the draw."""

    def __init__(self, uniforms_BM, temperature: float, top_p: float, prompt_length: int):
        self.uniforms_BM, self.prompt_length = uniforms_BM, prompt_length
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids, scores):
        position = input_ids.shape[1] - self.prompt_length
        drawn_B = pick_tokens(scores, self.uniforms_BM[:, position], self.temperature, self.top_p)
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn_B[:, None], 0.0)


class _KnownIds(LogitsProcessor):
    """Rules out the rows of the lm_head beyond the tokenizer, which spell nothing."""

    def __init__(self, n_candidates: int):
        self.n_candidates = n_candidates

    def __call__(self, input_ids, scores):
        scores[:, self.n_candidates :] = float("-inf")
        return scores


def left_pad(sequences: list[list[int]], pad_id: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and attention mask, int64 [B, L], padded on the left as generation needs."""
    length = max(map(len, sequences))
    ids = torch.full((len(sequences), length), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, length - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        mask[row, length - len(sequence) :] = 1
    return ids.to(device), mask.to(device)


@torch.no_grad()
def generate(
    model,
    prompts: list[list[int]],
    end_ids: tuple[int, ...],
    pad_id: int,
    n_candidates: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    uniforms_BM: torch.Tensor | None = None,
) -> list[Rollout]:
    """Complete each prompt (token ids) by sampling with `uniforms_BM`, or greedily when it is None.

    A completion is cut after its first end-of-turn id. `n_candidates` is the number of ids the tokenizer knows.
    """
    was_training = model.training
    model.eval()
    ids_BL, mask_BL = left_pad(prompts, pad_id, model.device)
    processors = LogitsProcessorList([_KnownIds(n_candidates)])
    if uniforms_BM is not None:
        uniforms_BM = uniforms_BM.to(model.device)
        processors.append(_SeededSampler(uniforms_BM, temperature, top_p, ids_BL.shape[1]))
    # a generation config of our own: the model's may carry penalties or a top-k that would change the distribution
    own_config = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(end_ids) or None, pad_token_id=pad_id
    )
    try:
        output = model.generate(input_ids=ids_BL, attention_mask=mask_BL, logits_processor=processors, use_cache=True)
    finally:
        model.generation_config = own_config
        model.train(was_training)
    ends = set(end_ids)
    rollouts = []
    for prompt, row in zip(prompts, output[:, ids_BL.shape[1] :].tolist(), strict=True):
        stop = next((position for position, token in enumerate(row) if token in ends), None)
        completion = row if stop is None else row[: stop + 1]
        rollouts.append(Rollout(prompt, completion, stop is not None))
    return rollouts
