"""Sequences one after another in one row, so that a forward pass has no padding.

All parts of a decoder but attention treat each position by itself; attention runs over one sequence at a time.
Shapes: L tokens of all sequences together, H heads, D size of a head.
"""

import functools
import inspect
import weakref
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

PACKED = "simct_packed"
# up to here attention by plain products is fastest, and its probabilities are few
LONGEST_PRODUCT = 512
# scores that the cache of a core holds
CACHED_SCORES = 2**19
PROBE = [[1, 2, 3], [4, 5, 6, 7]]
# whether a decoder's hidden states were found to be those of the sequences read apart
_agreeing: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


def attends_to_all(model: Any, longest: int) -> bool:
    """Whether each layer reads all earlier tokens of a sequence of `longest` tokens, has no other memory of them, and
    knows places only by their position ids. `model` may be the whole model or its decoder."""
    config = model.config.get_text_config(decoder=True)
    if getattr(model, "_is_stateful", False) or getattr(config, "alibi", False):
        return False
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and longest <= layer.sliding_window)
        for layer in layers
    )


def needs_no_mask(decoder: Any, longest: int) -> bool:
    """Whether sequences that are padded on the right can be read without a mask: no position sees a later one."""
    config = decoder.config.get_text_config(decoder=True)
    return config._attn_implementation == "sdpa" and attends_to_all(decoder, longest)


def packs(decoder: Any, longest: int) -> bool:
    """Whether `packed_states` reads sequences of up to `longest` tokens as this decoder reads each alone.

    On a CPU, where a padded place costs what a token costs; not where gradient checkpointing runs a layer again later,
    or where layers are split over processes.
    """
    if next(decoder.parameters()).device.type != "cpu" or not getattr(decoder, "_supports_attention_backend", False):
        return False
    modules = list(decoder.modules())
    if any(isinstance(each, FSDPModule) or getattr(each, "gradient_checkpointing", False) for each in modules):
        return False
    if "position_ids" not in inspect.signature(type(decoder).forward).parameters or not needs_no_mask(decoder, longest):
        return False
    if decoder not in _agreeing:
        _agreeing[decoder] = _agrees(decoder)
    return _agreeing[decoder]


@torch.no_grad()
def _agrees(decoder: PreTrainedModel) -> bool:
    """Whether two short sequences have the same hidden states packed and apart: there are models of many kinds."""
    rows = getattr(decoder.get_input_embeddings(), "num_embeddings", 1)
    sequences = [[token % rows for token in sequence] for sequence in PROBE]
    was_training = decoder.training
    decoder.eval()
    try:
        packed_LH = packed_states(decoder, sequences)
        apart = [decoder(input_ids=torch.tensor([each]), use_cache=False).last_hidden_state[0] for each in sequences]
    except (TypeError, ValueError):
        return False  # it does not hand on what attention needs to know
    finally:
        decoder.train(was_training)
    apart_LH = torch.cat(apart).float()
    limit = max(1e-3, 4 * torch.finfo(packed_LH.dtype).eps) * float(apart_LH.abs().max())
    return torch.allclose(packed_LH.float(), apart_LH, rtol=0, atol=limit, equal_nan=True)


def packed_states(decoder: Any, sequences: list[list[int]]) -> torch.Tensor:
    """Last hidden states [L, hidden size] of the sequences, one after another."""
    config = decoder.config.get_text_config(decoder=True)
    lengths = list(map(len, sequences))
    ids_1L = torch.tensor([[token for sequence in sequences for token in sequence]])
    position_1L = torch.cat([torch.arange(length) for length in lengths])[None]
    own = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        output = decoder(input_ids=ids_1L, position_ids=position_1L, use_cache=False, packed_lengths=lengths)
    finally:
        config._attn_implementation = own
    return output.last_hidden_state[0]


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    packed_lengths: list[int],
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention on each sequence of queries, keys and values [1, H, L, D]; returns [1, L, H, D].

    transformers makes no mask for an attention of another name than its own.
    """
    own, dropped = AttentionInterface()["sdpa"], options.get("dropout", 0.0)
    outputs = []
    # split and not sliced: the gradient of all parts is then a single tensor
    for part in zip(*(each.split(packed_lengths, dim=2) for each in (query, key, value)), strict=True):
        if query.dtype == torch.bfloat16 and part[0].shape[2] <= LONGEST_PRODUCT and not dropped:
            scale = options.get("scaling") or query.shape[-1] ** -0.5
            outputs.append(_ProductAttention.apply(*part, scale).transpose(1, 2))
        else:
            outputs.append(own(module, *part, None, **options)[0])
    return torch.cat(outputs, dim=1), None


class _ProductAttention(torch.autograd.Function):
    """Causal attention of one sequence by plain matrix products: on CPUs, in bfloat16, up to twice as fast as torch's
    fused kernel. Like that it keeps no probabilities for the backward pass.

    Queries [1, H, L, D] of the heads that share keys and values [1, K, L, D] are one long query of G = H/K·L rows.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        query_KGD = (query * scale).reshape(key.shape[1], -1, key.shape[3])
        ctx.save_for_backward(query_KGD, key, value)
        ctx.scale = scale
        output_KGD = torch.empty_like(query_KGD)
        for heads in _head_groups(query_KGD, key.shape[2]):
            torch.bmm(_probabilities(query_KGD[heads], key[0, heads]), value[0, heads], out=output_KGD[heads])
        return output_KGD.view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_KGD, key, value = ctx.saved_tensors
        gradient_KGD = gradient.reshape(query_KGD.shape)
        found = [torch.empty_like(query_KGD), torch.empty_like(key[0]), torch.empty_like(value[0])]
        for heads in _head_groups(query_KGD, key.shape[2]):
            own_KGD, p_KGL = gradient_KGD[heads], _probabilities(query_KGD[heads], key[0, heads])
            of_p_KGL = torch.bmm(own_KGD, value[0, heads].transpose(1, 2))
            of_score_KGL = torch._softmax_backward_data(of_p_KGL, p_KGL, -1, p_KGL.dtype)
            found[0][heads] = torch.bmm(of_score_KGL, key[0, heads])
            found[1][heads] = torch.bmm(of_score_KGL.transpose(1, 2), query_KGD[heads])
            found[2][heads] = torch.bmm(p_KGL.transpose(1, 2), own_KGD)
        return found[0].mul_(ctx.scale).view(gradient.shape), found[1][None], found[2][None], None


def _head_groups(query_KGD: torch.Tensor, length: int) -> list[slice]:
    """Heads of keys whose scores stay in the cache together."""
    heads, queries, _ = query_KGD.shape
    size = max(CACHED_SCORES * torch.get_num_threads() // (queries * length), 1)
    return [slice(first, first + size) for first in range(0, heads, size)]


def _probabilities(query_KGD: torch.Tensor, key_KLD: torch.Tensor) -> torch.Tensor:
    """What each query reads of each position [K, G, L]."""
    length = key_KLD.shape[1]
    score_KGL = torch.bmm(query_KGD, key_KLD.transpose(1, 2))
    score_KGL.view(len(score_KGL), -1, length, length).add_(_later(score_KGL.dtype)[:length, :length])
    return torch.softmax(score_KGL, dim=-1)


@functools.cache
def _later(dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity for the positions that come later."""
    return torch.full((LONGEST_PRODUCT, LONGEST_PRODUCT), float("-inf"), dtype=dtype).triu_(1)


AttentionInterface.register(PACKED, packed_attention)
