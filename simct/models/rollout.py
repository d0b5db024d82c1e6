"""The student writes: batched sampling with the ids kept exactly as sampled.

A draw depends only on (seed, step, sample index, position), never on the batch it is in or on the generator's past:
each sample has a row of uniforms of its own, and a token is picked by inverting the cumulative distribution after
repetition penalty, temperature, top-k, top-p and min-p, in transformers' order. The same rollouts therefore come out of
one process or several, fresh or resumed.

Shapes: B samples in a batch, R of them, V rows of the lm_head, K of them, L prompt length, M new tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
)

from simct.models.loading import check_ids, input_device, padding_id

# a draw is searched among this many tokens first, because sorting a whole vocabulary takes longer than the lm_head
MOST_LIKELY = 128


@dataclass(frozen=True)
class Rollout:
    """One completion. `completion_ids` end with an end-of-turn id exactly when `ended`."""

    prompt_ids: list[int]
    completion_ids: list[int]
    ended: bool


@dataclass(frozen=True)
class _Cut:
    """Which of the tokens, sorted by probability, may be drawn. `some`: those without probability may not."""

    top_p: float
    min_p: float = 0.0
    some: bool = False

    @property
    def whole(self) -> bool:
        """Whether every token may be drawn."""
        return self.top_p >= 1 and not self.min_p and not self.some

    def inside(self, sorted_BK: torch.Tensor, cumulative_BK: torch.Tensor) -> torch.Tensor:
        """bool [B, K]: the first of each row, never none of them."""
        inside_BK = cumulative_BK - sorted_BK < self.top_p
        if self.some:
            inside_BK &= sorted_BK > 0
        return inside_BK & (sorted_BK >= self.min_p * sorted_BK[:, :1]) if self.min_p else inside_BK


def uniforms(seed: int, step: int, sample_indices: list[int], length: int) -> torch.Tensor:
    """Uniform draws in [0, 1), float32 [B, length]; a row is a function of (seed, step, its sample index) only."""
    rows = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, index]))).random(length, np.float32)
        for index in sample_indices
    ]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, length)


def pick_tokens(
    logits_BV: torch.Tensor,
    uniform_B: torch.Tensor,
    temperature: float,
    top_p: float,
    top_k: int | None = None,
    min_p: float = 0.0,
) -> torch.Tensor:
    """One token a row by inverting the truncated distribution; int64 [B].

    The nucleus is the smallest set of the most likely tokens whose mass reaches `top_p`, of the `top_k` most likely
    ones where given, without those less likely than `min_p` times the most likely one; all as in transformers. Only
    rows whose draw is not among the MOST_LIKELY tokens have all of theirs sorted.
    """
    logits_BV = logits_BV.float() / temperature
    if top_k is not None:
        logits_BV = TopKLogitsWarper(top_k)(torch.empty(0, dtype=torch.long), logits_BV)
    cut = _Cut(top_p, min_p, top_k is not None)
    probabilities_BV = torch.softmax(logits_BV, dim=-1)
    uniform_B = uniform_B.to(probabilities_BV).contiguous()
    searched = min(MOST_LIKELY, probabilities_BV.shape[1])
    drawn_B, final_B = _invert(*probabilities_BV.topk(searched, dim=-1), uniform_B, cut)
    if searched < probabilities_BV.shape[1] and not final_B.all():
        rest_R = (~final_B).nonzero().squeeze(1)
        sorted_RV, ids_RV = probabilities_BV[rest_R].sort(dim=-1, descending=True)
        drawn_B[rest_R] = _invert(sorted_RV, ids_RV, uniform_B[rest_R], cut)[0]
    return drawn_B


def _invert(
    sorted_BK: torch.Tensor, ids_BK: torch.Tensor, uniform_B: torch.Tensor, cut: _Cut
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens drawn from the K most likely of each row, and whether no other token could be drawn, bool [B]."""
    cumulative_BK = sorted_BK.cumsum(dim=-1)
    if cut.whole:
        target_B1 = uniform_B[:, None]
        final_B = uniform_B < cumulative_BK[:, -1]
        last_B1 = torch.full_like(ids_BK[:, :1], ids_BK.shape[1] - 1)
    else:
        inside_BK = cut.inside(sorted_BK, cumulative_BK)
        last_B1 = inside_BK.sum(dim=-1, keepdim=True) - 1
        target_B1 = uniform_B[:, None] * cumulative_BK.gather(1, last_B1)
        # tokens are sorted, so that none is inside after one that is not
        final_B = (cumulative_BK[:, -1] >= cut.top_p) | ~inside_BK[:, -1]
    position_B1 = torch.searchsorted(cumulative_BK, target_B1, right=True)
    return ids_BK.gather(1, torch.minimum(position_B1, last_B1)).squeeze(1), final_B


class _SeededSampler(LogitsProcessor):
    """Leaves one finite logit a row, at the token that `pick` draws, so that greedy decoding returns the draw."""

    def __init__(
        self, uniforms_BM: torch.Tensor, prompt_length: int, pick: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        self.uniforms_BM, self.prompt_length, self.pick = uniforms_BM, prompt_length, pick

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        position = input_ids.shape[1] - self.prompt_length
        drawn_B = self.pick(scores, self.uniforms_BM[:, position])
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn_B[:, None], 0.0)


class _KnownIds(LogitsProcessor):
    """Rules out the rows of the lm_head beyond the tokenizer, which spell nothing."""

    def __init__(self, n_candidates: int) -> None:
        self.n_candidates = n_candidates

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, self.n_candidates :] = float("-inf")
        return scores


class _RepetitionPenalty(RepetitionPenaltyLogitsProcessor):
    """The penalty of transformers on what was read and written, without the padding, which depends on the batch."""

    def __init__(self, penalty: float, mask_BL: torch.Tensor) -> None:
        super().__init__(penalty)
        self.padded_BL = mask_BL == 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = self.padded_BL.shape[1]
        prompt_BL = input_ids[:, :length]
        # the last id of the prompt in the place of padding: it is penalized once, however often it is there
        prompt_BL = torch.where(self.padded_BL, prompt_BL[:, -1:], prompt_BL)
        return super().__call__(torch.cat([prompt_BL, input_ids[:, length:]], dim=1), scores)


def left_pad(sequences: list[list[int]], pad_id: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
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
    model: PreTrainedModel,
    prompts: list[list[int]],
    end_ids: tuple[int, ...],
    pad_id: int,
    n_candidates: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    uniforms_BM: torch.Tensor | None = None,
    *,
    top_k: int | None = None,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> list[Rollout]:
    """Complete each prompt (token ids) by sampling with `uniforms_BM`, or greedily when it is None.

    A completion is cut after its first end-of-turn id. `n_candidates` is the number of ids the tokenizer knows.
    """
    was_training = model.training
    model.eval()
    # transformers types `generate` for a protocol that no model meets
    write: Any = model.generate
    pad_id = padding_id(model, pad_id)
    ids_BL, mask_BL = left_pad(prompts, pad_id, torch.device("cpu"))
    check_ids(model, ids_BL)
    # of an offloaded model, only this says where its layers run
    device = input_device(model)
    ids_BL, mask_BL = ids_BL.to(device), mask_BL.to(device)
    processors = LogitsProcessorList([_KnownIds(n_candidates)])
    if repetition_penalty != 1.0:
        processors.append(_RepetitionPenalty(float(repetition_penalty), mask_BL))
    if uniforms_BM is not None:
        pick = partial(pick_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
        processors.append(_SeededSampler(uniforms_BM.to(device), ids_BL.shape[1], pick))
    # a new generation config, because the model's own may have penalties or a top-k that change the distribution
    own_config = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(end_ids) or None, pad_token_id=pad_id
    )
    try:
        # a model that is split over processes was made whole (training/sharding.py), so that none waits for the others
        output = write(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            logits_processor=processors,
            use_cache=True,
            synced_gpus=False,
        )
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
