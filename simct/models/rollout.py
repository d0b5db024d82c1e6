"""The student writes: batched sampling with the ids kept exactly as sampled.

A draw depends only on (seed, step, sample index, position), never on the batch it is in or on the generator's past:
each sample has a row of uniforms of its own, and a token is picked by inverting the cumulative distribution after
temperature and top-p. The same rollouts therefore come out of one process or several, fresh or resumed.

Shapes: B samples in a batch, R of them, V rows of the lm_head, K of them, L prompt length, M new tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from simct.models.loading import check_ids, padding_id

# tokens that a draw is looked for among first: to sort a whole vocabulary takes longer than the lm_head
LIKELIEST = 128


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

    The nucleus is the smallest set of the likeliest tokens whose mass reaches `top_p`, as in transformers. Only rows
    whose draw is not among the LIKELIEST tokens have all of theirs sorted.
    """
    probabilities_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    uniform_B = uniform_B.to(probabilities_BV).contiguous()
    likeliest = min(LIKELIEST, probabilities_BV.shape[1])
    drawn_B, settled_B = _invert(*probabilities_BV.topk(likeliest, dim=-1), uniform_B, top_p)
    if likeliest < probabilities_BV.shape[1] and not settled_B.all():
        rest_R = (~settled_B).nonzero().squeeze(1)
        sorted_RV, ids_RV = probabilities_BV[rest_R].sort(dim=-1, descending=True)
        drawn_B[rest_R] = _invert(sorted_RV, ids_RV, uniform_B[rest_R], top_p)[0]
    return drawn_B


def _invert(sorted_BK, ids_BK, uniform_B, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens drawn from the K likeliest of each row, and whether less likely ones could not have been, bool [B]."""
    cumulative_BK = sorted_BK.cumsum(dim=-1)
    if top_p >= 1:
        target_B1 = uniform_B[:, None]
        settled_B = uniform_B < cumulative_BK[:, -1]
        last_B1 = torch.full_like(ids_BK[:, :1], ids_BK.shape[1] - 1)
    else:
        inside_BK = cumulative_BK - sorted_BK < top_p
        last_B1 = inside_BK.sum(dim=-1, keepdim=True) - 1
        target_B1 = uniform_B[:, None] * cumulative_BK.gather(1, last_B1)
        settled_B = cumulative_BK[:, -1] >= top_p
    position_B1 = torch.searchsorted(cumulative_BK, target_B1, right=True)
    return ids_BK.gather(1, torch.minimum(position_B1, last_B1)).squeeze(1), settled_B


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
    pad_id = padding_id(model, pad_id)
    ids_BL, mask_BL = left_pad(prompts, pad_id, torch.device("cpu"))
    check_ids(model, ids_BL)
    ids_BL, mask_BL = ids_BL.to(model.device), mask_BL.to(model.device)
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
