"""Matrix products in float32 on AMD CPUs, by the library that uses their full vector units.

torch multiplies float32 matrices by MKL, which uses AVX-512 only on Intel CPUs. oneDNN, which torch uses for bfloat16,
takes half as long on AMD CPUs. Shapes: N rows, I inputs, O outputs.
"""

import functools
import pathlib
from typing import Any

import torch

# the number of multiplications above which oneDNN is faster, and above which it is faster even with its preparation,
# which it does once per shape
LEAST, LEAST_UNKNOWN = 2**21, 2**27
# products with fewer rows, or with a multiple of this number, recur often
KNOWN_ROWS = 32


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this machine has such a CPU. This is not decided by a measurement, so that a resumed run computes the
    same bits.
    """
    known = pathlib.Path("/proc/cpuinfo")
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and known.exists()
        and "AuthenticAMD" in known.read_text()
    )


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` of inputs [..., I] and a weight [O, I], differentiable."""
    if not suits(inputs, weight):
        return torch.nn.functional.linear(inputs, weight, bias)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (inputs, weight, bias)):
        return _Linear.apply(inputs, weight, bias)
    return _product(inputs, weight, bias)


def suits(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN is faster for this product."""
    work = inputs.numel() * len(weight)
    return (
        work >= LEAST
        and inputs.dtype == weight.dtype
        and (work >= LEAST_UNKNOWN or _is_known(inputs.numel() // weight.shape[1]))
        and uses_onednn(weight)
    )


def uses_onednn(weight: torch.Tensor) -> bool:
    """Whether oneDNN is used for large products with `weight` here; it prepares them once per shape."""
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and onednn_is_faster()
        and not torch.is_autocast_enabled("cpu")
    )


def _is_known(rows: int) -> bool:
    return rows <= KNOWN_ROWS or rows % KNOWN_ROWS == 0


def _product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        gradient_NO, inputs_NI = gradient.flatten(0, -2), inputs.flatten(0, -2)
        return (
            _product(gradient, weight.t()) if of_inputs else None,
            _product(gradient_NO.t(), inputs_NI.t()) if of_weight else None,
            gradient_NO.sum(0) if of_bias else None,
        )


class Linear(torch.nn.Linear):
    """torch's layer with the product above."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(input, self.weight, self.bias)


def multiply_faster(model: torch.nn.Module) -> None:
    """Let the plain layers of `model` multiply by `linear`, if that is faster on this machine."""
    if onednn_is_faster():
        for module in model.modules():
            if type(module) is torch.nn.Linear:
                module.__class__ = Linear
