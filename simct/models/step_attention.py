"""Attention of a decoding step, in which one new token of each sequence reads the cache of its sequence.

Shapes: B sequences, H heads of queries, K heads of keys and values, L positions, D size of a head, R = H/K heads of
queries that share keys and values, N = B·K.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

STEP = "simct_step"
# in float32, torch's kernel is equally fast
FASTER_IN = torch.bfloat16
# options that torch's kernel supports for a few models and this attention does not
OTHER = ("position_bias", "softcap", "cache")


def suits_steps(model: PreTrainedModel) -> bool:
    """Whether `step_attention` reads the cache faster: on CPUs, in bfloat16, up to ten times as fast as torch's."""
    weight: Any = model.get_input_embeddings().weight
    return (
        weight.device.type == "cpu"
        and weight.dtype == FASTER_IN
        and bool(getattr(model, "_supports_attention_backend", False))
        and model.config.get_text_config(decoder=True)._attn_implementation == "sdpa"
    )


@contextmanager
def attending_by(config: Any, name: str) -> Iterator[None]:
    """In this context, a model of this config uses the attention registered under this name instead of its own."""
    own = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = own


def added_mask(reads: torch.Tensor) -> torch.Tensor:
    """The mask that `step_attention` takes, made from a mask of what is read."""
    return torch.zeros(reads.shape, dtype=FASTER_IN).masked_fill_(~reads, float("-inf"))


def step_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention of queries [B, H, 1, D] on keys and values [B, K, L, D] by plain matrix products.

    `attention_mask` [B, 1, 1, L] is added to the scores. Returns [B, 1, H, D] and, as torch's kernel, no probabilities.
    """
    if query.shape[2] != 1 or any(options.get(name) is not None for name in OTHER):
        return AttentionInterface()["sdpa"](module, query, key, value, attention_mask, scaling=scaling, **options)
    batch, heads, _, size = query.shape
    # not in bfloat16, because scores would be rounded and products prepared again for each number of positions
    exact = torch.promote_types(query.dtype, torch.float32)
    query_NRD = (query.to(exact) * (scaling or size**-0.5)).reshape(batch * key.shape[1], -1, size)
    score_NRL = torch.bmm(query_NRD, key.flatten(0, 1).to(exact).transpose(1, 2))
    if attention_mask is not None:
        score_NRL.unflatten(0, (batch, -1)).add_(attention_mask)
    output_NRD = torch.bmm(torch.softmax(score_NRL, dim=-1), value.flatten(0, 1).to(exact))
    return output_NRD.view(batch, 1, heads, -1).to(query.dtype), None


AttentionInterface.register(STEP, step_attention)
