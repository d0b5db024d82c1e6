"""A decoding step of plain decoders: what transformers computes for one new token of each sequence, in half as many
operations.

With small models, starting the operations takes longer than reading the weights. Shapes: B sequences, E hidden size, H
heads of queries, K heads of keys and values, D size of a head, L positions, V rows of the lm_head.
"""

from typing import Any

import torch
from torch.nn.functional import embedding, rms_norm
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from simct.losses.products import Linear, linear

PLAIN = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def is_plain(model: Any) -> bool:
    """Whether `PlainStep` computes the same as `model`: the model must be one of these architectures, as implemented in
    transformers, with nothing added (adapters, quantized or split weights, hooks).
    """
    if type(model).__name__ not in PLAIN or not type(model).__module__.startswith("transformers.models."):
        return False
    if model.config._attn_implementation != "sdpa" or torch.is_autocast_enabled(model.lm_head.weight.device.type):
        return False
    return not any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) or not _is_known(module)
        for module in model.modules()
    )


def _is_known(module: torch.nn.Module) -> bool:
    """Whether a module's class comes from torch or transformers itself, and not from a subclass that does more."""
    return type(module) is Linear or type(module).__module__.startswith(
        ("torch.nn.modules.", "transformers.models.", "transformers.activations")
    )


class PlainStep:
    """Reads one more token of each sequence with a model that `is_plain`. `attention`: the registered one to use."""

    def __init__(self, model: Any, attention: str) -> None:
        self.decoder, self.head = model.base_model, model.lm_head
        self.layers = self.decoder.layers[: self.decoder.config.num_hidden_layers]
        self.attend = AttentionInterface()[attention]

    def logits(
        self, cache: Cache, ids_B1: torch.Tensor, mask: torch.Tensor | None, position_B1: torch.Tensor
    ) -> torch.Tensor:
        """Of the next token [B, V]; the keys and values of this one are added to the cache. `mask` [B, 1, 1, L] as the
        attention takes it.
        """
        states_BE = embedding(ids_B1[:, 0], self.decoder.embed_tokens.weight)
        cos_B1D, sin_B1D = self.decoder.rotary_emb(states_BE, position_B1)
        first, second = sin_B1D.chunk(2, dim=-1)
        turn = cos_B1D, torch.cat((-first, second), dim=-1)
        for layer, read in zip(self.layers, cache.layers, strict=True):
            normed_BE = _normed(layer.input_layernorm, states_BE)
            states_BE = states_BE + self._attended(layer.self_attn, normed_BE, turn, read, mask)
            mlp, normed_BE = layer.mlp, _normed(layer.post_attention_layernorm, states_BE)
            inner = mlp.act_fn(_product(mlp.gate_proj, normed_BE)).mul_(_product(mlp.up_proj, normed_BE))
            states_BE = states_BE + _product(mlp.down_proj, inner)
        return _product(self.head, _normed(self.decoder.norm, states_BE))

    def _attended(
        self,
        module: Any,
        normed_BE: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        read: Any,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        batch, size = len(normed_BE), module.head_dim
        query_BHD, key_BKD, value_BKD = (
            _product(each, normed_BE).view(batch, -1, size) for each in (module.q_proj, module.k_proj, module.v_proj)
        )
        if hasattr(module, "q_norm"):
            query_BHD, key_BKD = _normed(module.q_norm, query_BHD), _normed(module.k_norm, key_BKD)
        cos_B1D, sin_B1D = turn
        both = torch.cat((query_BHD, key_BKD), dim=1)
        both = torch.addcmul(both * cos_B1D, both.roll(size // 2, dims=-1), sin_B1D)[:, :, None]
        query_BH1D, key_BK1D = both.split((query_BHD.shape[1], key_BKD.shape[1]), dim=1)
        keys, values = read.update(key_BK1D, value_BKD[:, :, None])
        output_B1HD, _ = self.attend(module, query_BH1D, keys, values, mask, scaling=module.scaling)
        return _product(module.o_proj, output_B1HD.reshape(batch, -1))


def _product(layer: Any, states_BE: torch.Tensor) -> torch.Tensor:
    return linear(states_BE, layer.weight, layer.bias)


def _normed(layer: Any, states: torch.Tensor) -> torch.Tensor:
    return rms_norm(states, (states.shape[-1],), layer.weight, layer.variance_epsilon)
