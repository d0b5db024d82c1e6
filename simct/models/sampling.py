"""How a token is drawn: seeded uniforms, truncation of the distribution, and the repetition penalty.

A draw depends only on (seed, step, sample index, position), never on the batch it is in or on the generator's past:
each sample has its own row of uniforms, and a token is picked by inverting the cumulative distribution after
repetition penalty, temperature, top-k, top-p and min-p, in transformers' order. The same rollouts therefore come out of
one process or several, fresh or resumed.

Shapes: B samples in a batch, N of a call, R of them, V rows of the lm_head, K of them, M new tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import TopKLogitsWarper

# a token is first looked for among this many of the most likely tokens, then among more, because sorting a whole
# vocabulary takes longer than the lm_head
MOST_LIKELY = (16, 128)


@dataclass(frozen=True)
class Sampling:
    """How the tokens of N samples are picked: greedily if `uniforms_NM` is None, else by these random numbers.

    `n_candidates`: how many ids the tokenizer knows; rows of the lm_head beyond them spell nothing.
    """

    n_candidates: int
    uniforms_NM: torch.Tensor | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def pick(
        self, logits_BV: torch.Tensor, samples: list[int], positions: list[int], seen_BV: torch.Tensor | None
    ) -> torch.Tensor:
        """The next token of each of these samples at its position in the completion, int64 [B].

        `logits_BV` (float32) are changed. `seen_BV`: the tokens each has read or written, needed for the penalty only.
        """
        logits_BV[:, self.n_candidates :] = float("-inf")
        if seen_BV is not None:
            logits_BV = penalized(logits_BV, seen_BV, self.repetition_penalty)
        if self.uniforms_NM is None:
            return logits_BV.argmax(dim=-1)
        uniform_B = self.uniforms_NM[samples, positions].to(logits_BV.device)
        return pick_tokens(logits_BV, uniform_B, self.temperature, self.top_p, self.top_k, self.min_p)


def penalized(logits_BV: torch.Tensor, seen_BV: torch.Tensor, penalty: float) -> torch.Tensor:
    """Logits of tokens that were seen, moved away from being picked as transformers' repetition penalty does it."""
    return torch.where(seen_BV, torch.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty), logits_BV)


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
    """One token per row, by inverting the truncated distribution; int64 [B].

    The nucleus is the smallest set of the most likely tokens whose mass reaches `top_p`, of the `top_k` most likely
    ones where given, without those less likely than `min_p` times the most likely one; all as in transformers. Only
    rows whose draw is not among the MOST_LIKELY tokens have all of theirs sorted.
    """
    logits_BV = logits_BV.float()
    if temperature != 1:
        logits_BV = logits_BV / temperature
    if top_k is not None:
        logits_BV = TopKLogitsWarper(top_k)(torch.empty(0, dtype=torch.long), logits_BV)
    cut = _Cut(top_p, min_p, top_k is not None)
    probabilities_BV = torch.softmax(logits_BV, dim=-1)
    uniform_B = uniform_B.to(probabilities_BV).contiguous()
    columns = probabilities_BV.shape[1]
    first, *further = [*(most for most in MOST_LIKELY if most < columns), columns]
    drawn_B, final_B = _invert(*_sorted(probabilities_BV, first), uniform_B, cut)
    for most in further:
        if final_B.all():
            break
        rest_R = (~final_B).nonzero().squeeze(1)
        sorted_and_ids = _sorted(probabilities_BV[rest_R], most)
        drawn_B[rest_R], final_B[rest_R] = _invert(*sorted_and_ids, uniform_B[rest_R], cut)
    return drawn_B


def _sorted(probabilities_BV: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `most` most likely tokens of each row in the order of their probability, and their ids, both [B, K]."""
    if most > MOST_LIKELY[-1]:
        return probabilities_BV.sort(dim=-1, descending=True)
    return probabilities_BV.topk(most, dim=-1)


def _invert(
    sorted_BK: torch.Tensor, ids_BK: torch.Tensor, uniform_B: torch.Tensor, cut: _Cut
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens drawn from the K most likely of each row, and whether no other token could be drawn, bool [B]."""
    cumulative_BK = sorted_BK.cumsum(dim=-1)
    if cut.whole:
        target_B1 = uniform_B[:, None]
        final_B = uniform_B < cumulative_BK[:, -1]
        # where rounding leaves the whole mass below the draw, the last token that may be drawn
        last_B1 = (sorted_BK > 0).sum(dim=-1, keepdim=True) - 1
    else:
        inside_BK = cut.inside(sorted_BK, cumulative_BK)
        last_B1 = (inside_BK.sum(dim=-1, keepdim=True) - 1).clamp_min(0)
        target_B1 = uniform_B[:, None] * cumulative_BK.gather(1, last_B1)
        # tokens are sorted, so that none is inside after one that is not
        final_B = (cumulative_BK[:, -1] >= cut.top_p) | ~inside_BK[:, -1]
    position_B1 = torch.searchsorted(cumulative_BK, target_B1, right=True)
    # a row of NaN has no last token, and its loss will not be finite
    return ids_BK.gather(1, torch.minimum(position_B1, last_B1).clamp_min(0)).squeeze(1), final_B
