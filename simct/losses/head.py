"""The lm_head of any Hugging Face causal language model as plain tensors, to compute logits a few rows at a time.

Shapes: V vocabulary rows of the head (padding rows included), H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from transformers import PretrainedConfig, PreTrainedModel

from simct.errors import ModelError
from simct.losses.products import linear

# the settings of a model's config that cap its logits
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


@dataclass(eq=False)
class Head:
    """An lm_head: logits = cap·tanh(scale·(hidden @ weightᵀ + bias) / cap), without the tanh if `softcap` is None.

    Gradients reach `weight` [V, H] and `bias` [V] and whatever they were computed from (LoRA factors, shards).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    _gathered: tuple | None = field(default=None, repr=False)

    def columns(self, ids_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Detached rows [C, H] of the weight and [C] of the bias; kept from step to step while the head is frozen."""
        frozen = not self.weight.requires_grad
        key = (self.weight.data_ptr(), self.weight._version, len(ids_C), frozen)
        if self._gathered is None or self._gathered[0] != key or not torch.equal(self._gathered[1], ids_C):
            bias_C = None if self.bias is None else self.bias.detach().index_select(0, ids_C)
            gathered = (self.weight.detach().index_select(0, ids_C), bias_C)
            if not frozen:
                return gathered
            self._gathered = (key, ids_C, gathered)
        return self._gathered[2]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Head":
        """The head of `model`, to be applied to its last hidden state (after the final norm).

        Knows tied weights, biases, logit scaling (Granite, Cohere, Falcon-H1, HyperCLOVA), soft-capping (Gemma,
        xLSTM), LoRA and fully saved heads of peft, and heads sharded by FSDP2. Raises ModelError for heads that it
        cannot read.
        """
        layer = model.get_output_embeddings()
        if layer is None:
            raise ModelError(f"{type(model).__name__} has no lm_head: choose a causal language model.")
        config = model.config.get_text_config()
        weight, bias = _weight_and_bias(layer)
        softcap = next((cap for name in SOFTCAPS if (cap := getattr(config, name, None))), None)
        return cls(whole(weight), None if bias is None else whole(bias), _scale(config), softcap)

    def logits(self, hidden_NH: torch.Tensor) -> torch.Tensor:
        """All logits [N, V] of some rows, as the model itself computes them."""
        logits_NV = linear(hidden_NH, self.weight, self.bias) * self.scale
        return logits_NV if self.softcap is None else self.softcap * torch.tanh(logits_NV / self.softcap)


def _scale(config: PretrainedConfig) -> float:
    scale = 1.0
    if getattr(config, "logits_scaling", None):
        multiplies = str(getattr(config, "model_type", "")).startswith("hyperclovax")
        scale *= float(config.logits_scaling) if multiplies else 1.0 / float(config.logits_scaling)
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        if getattr(config, name, None):
            scale *= float(getattr(config, name))
    return scale


def _weight_and_bias(layer: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    if hasattr(layer, "modules_to_save"):  # peft trains a copy of the whole head
        layer = layer.modules_to_save[layer.active_adapters[0]] if layer.active_adapters else layer.original_module
    adapters: list[str] = []
    base = layer
    if hasattr(layer, "base_layer"):
        base = layer.get_base_layer()
        if not (layer.disable_adapters or layer.merged):
            adapters = [name for name in layer.active_adapters if name in getattr(layer, "lora_A", {})]
    weight, bias = getattr(base, "weight", None), getattr(base, "bias", None)
    if weight is None or weight.dim() != 2 or not weight.is_floating_point():
        raise ModelError(
            f"The lm_head ({type(base).__name__}) is quantized or flattened and cannot be read: keep it in bfloat16, "
            "and use FSDP2 rather than FSDP1."
        )
    for name in adapters:
        if getattr(layer, "lora_variant", {}).get(name) is not None:
            raise ModelError(f"The adapter {name!r} on the lm_head is not plain LoRA: leave lm_head out of it.")
        # Merged on the fly and differentiable; dropout on the head's input is not applied.
        weight = weight + layer.get_delta_weight(name).to(weight.dtype)
        if layer.lora_bias.get(name):
            extra = layer.lora_B[name].bias * layer.scaling[name]
            bias = extra if bias is None else bias + extra
    return weight, bias


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a sharded (DTensor) tensor; its gradient is averaged over the processes, as FSDP averages gradients."""
    if not hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, Partial

    # Each process has different text, so the gradients differ: sum them, and average over the shards' processes.
    sharded = cast(DTensor, tensor)
    gathered = sharded.full_tensor(grad_placements=[Partial()] * sharded.device_mesh.ndim)
    return _ScaleGradient.apply(gathered, 1.0 / sharded.device_mesh.size())


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.factor, None


def decoder_of(model: PreTrainedModel) -> torch.nn.Module:
    """The part of `model` whose last hidden states its lm_head reads; the base model's under peft's adapters."""
    base: Any = model
    return (base.get_base_model() if hasattr(base, "get_base_model") else base).base_model


@torch.no_grad()
def check_head(model: PreTrainedModel, ids: Sequence[int] | None = None) -> None:
    """Compare Head.of(model), on the decoder's hidden states, with the model's own logits.

    Call it right after loading, on any device and in any precision, before the model is sharded: two short passes over
    `ids`, by default six from all over the vocabulary. The largest difference may be 0.1 % of the largest logit, or 4
    epsilons of the head's dtype where that is more (0.4 % for float16, 3.1 % for bfloat16): rounding stays below it,
    but a missing scale or bias does not, nor does missing soft-capping of logits as large as those of trained models. A
    model quantized to 8 or 4 bits keeps its lm_head in one of these dtypes and computes the same hidden states in both
    passes, so the same holds for it. Raises ModelError if the model computes its logits in a way that `Head` does not.
    """
    head = Head.of(model)
    readable = getattr(model.get_input_embeddings(), "num_embeddings", head.weight.shape[0])
    probe = [readable * place // 7 for place in range(1, 7)] if ids is None else list(ids)
    ids_1N = torch.tensor([probe], device=head.weight.device)
    theirs_NV = model(input_ids=ids_1N, use_cache=False).logits[0].float()
    hidden_1NH = getattr(decoder_of(model)(input_ids=ids_1N, use_cache=False), "last_hidden_state", None)
    if hidden_1NH is not None:
        ours_NV = head.logits(hidden_1NH[0].to(head.weight)).float()
        tolerance = max(1e-3, 4 * torch.finfo(head.weight.dtype).eps)
        limit = tolerance * float(theirs_NV.nan_to_num(0.0, 0.0, 0.0).abs().max())
        if ours_NV.shape == theirs_NV.shape and torch.allclose(ours_NV, theirs_NV, rtol=0, atol=limit, equal_nan=True):
            return
    raise ModelError(
        f"{type(model).__name__} turns hidden states into logits in a way that is not known here: this model cannot be "
        "distilled until its lm_head is supported."
    )
