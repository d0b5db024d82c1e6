"""Gradients as lists of tensors, one per parameter: the parameters on which they are compared, and how similar they
are.

Shapes: G gradients, N numbers of a piece of each.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

GRADIENT_PARAMETERS = 200_000_000  # the most parameters that are compared, from the output backward
PIECE = 2**16

Gradient = list[torch.Tensor]


def last_parameters(student: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Trainable parameters from the model's end backward, at most GRADIENT_PARAMETERS of them and at least one
    tensor.
    """
    chosen: list[torch.nn.Parameter] = []
    count = 0
    for parameter in reversed([parameter for parameter in student.parameters() if parameter.requires_grad]):
        count += parameter.numel()
        if chosen and count > GRADIENT_PARAMETERS:
            break
        chosen.append(parameter)
    return chosen


@dataclass(frozen=True)
class Comparison:
    """Compares exact matches with recovered units, and the two halves of the exact matches with each other.

    None if one of the two is zero, for example if nothing is recovered. `ratio`: the norm of the recovered gradient
    over that of the exact one.
    """

    cosine: float | None
    ratio: float | None
    noise: float | None


def compare(first: Gradient, second: Gradient, recovered: Gradient) -> Comparison:
    """Compare the gradients of exact matches in either half of the answers, and of recovered units."""
    products_GG = inner_products([first, second, recovered]).tolist()
    (one, between, one_recovered), (_, two, two_recovered), (_, _, other) = products_GG
    exact, both = one + 2 * between + two, one_recovered + two_recovered
    return Comparison(
        cosine=_cosine(both, exact, other), ratio=(other / exact) ** 0.5 if exact > 0 else None,
        noise=_cosine(between, one, two),
    )  # fmt: skip


def inner_products(gradients: list[Gradient]) -> torch.Tensor:
    """The inner products of all pairs, float64 [G, G]. Each gradient is read once, in pieces that fit in the cache."""
    total_GG = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for parts in zip(*gradients, strict=True):
        for pieces in zip(*(part.flatten().split(PIECE) for part in parts), strict=True):
            piece_GN = in_float64(torch.stack(pieces))
            total_GG += (piece_GN @ piece_GN.T).cpu()
    return total_GG


def in_float64(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in float64, on the CPU if its device has none (Apple's)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _cosine(product: float, left: float, right: float) -> float | None:
    size = (left * right) ** 0.5
    return product / size if size > 0 else None
