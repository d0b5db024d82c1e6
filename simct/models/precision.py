"""The number formats of a model on a device if a run leaves the choice open (`dtype: auto`, `mixed_precision: auto`).

A model that is only read keeps the 16 bits of its checkpoint if the device computes in them; otherwise it is float32.
Weights that are trained are float32, because 16 bits round small updates away. Their arithmetic is bfloat16 on GPUs
and, if the checkpoint is in 16 bits, on CPUs that are faster in bfloat16.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PretrainedConfig

from simct.config import RunConfig
from simct.config.precision import AUTO, Precision
from simct.config.sections import DTYPES, ModelConfig
from simct.losses.products import linear

# the shapes to measure, for a decoding step of a few sequences and for a training pass: rows, and sizes of the weight
PROBED = ((4, 2048, 2048), (256, 1024, 1024))
PROBE_SECONDS = 0.5


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Whether this machine's CPU multiplies faster in bfloat16 than in float32, from one measurement of half a second.

    With AMX or AVX512-BF16 it does; without, bfloat16 is several times slower.
    """
    gain = 1.0
    for rows, inner, outer in PROBED:
        left, right = torch.ones(rows, inner), torch.ones(outer, inner)
        short = left.bfloat16(), right.bfloat16()
        once = {"float32": float("inf"), "bfloat16": float("inf")}
        ends = time.perf_counter() + PROBE_SECONDS / len(PROBED)
        # alternating, and the fastest of each counts, because other work on the machine slows both
        while time.perf_counter() < ends or float("inf") in once.values():
            for name, (inputs, weight) in {"float32": (left, right), "bfloat16": short}.items():
                once[name] = min(once[name], _seconds(inputs, weight))
        gain *= once["float32"] / once["bfloat16"]
    return gain > 1


def _seconds(inputs: torch.Tensor, weight: torch.Tensor) -> float:
    started = time.perf_counter()
    linear(inputs, weight)
    return time.perf_counter() - started


def computes_bfloat16(device: torch.device | str) -> bool:
    """Whether `device` computes in bfloat16, and no slower than in float32."""
    device = torch.device(device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return True  # for GPUs that are not here: all but the oldest do
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_prefers_bfloat16()


@contextmanager
def _replaced(
    modules: Iterable[torch.nn.Module], rounded: Callable[[torch.nn.Parameter], torch.Tensor]
) -> Iterator[None]:
    """Replace the modules' float32 weights with the results of `rounded`; a shared weight stays shared.

    The parameters themselves stay unchanged, as in torch.func.functional_call, because DDP's hooks are on them and
    changing the dtype would drop the hooks.
    """
    named = [(module, name, each) for module in modules for name, each in module._parameters.items()]
    own = [(module, name, each) for module, name, each in named if each is not None and each.dtype == torch.float32]
    made: dict[int, Any] = {}
    try:
        for module, name, weight in own:
            if id(weight) not in made:
                made[id(weight)] = rounded(weight)
            module._parameters[name] = made[id(weight)]
        yield
    finally:
        for module, name, weight in own:
            module._parameters[name] = weight


@contextmanager
def weights_in(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """In this context, `model` has its float32 weights rounded to `dtype`; afterward it has its own again, bit for bit.

    This is for decoding, where every token reads all weights; autocast would cast them again for each token.
    """

    def rounded(weight: torch.nn.Parameter) -> torch.Tensor:
        return torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)

    with _replaced(model.modules(), rounded):
        yield


@contextmanager
def computing_in(decoder: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """In this context, `decoder` computes with its float32 weights rounded to `dtype`; gradients reach its own weights.

    For training passes, forward and backward. Each weight is rounded once, and hidden states are in `dtype` from layer
    to layer; autocast would round the weights in every pass and keep norms and residuals in float32. Embeddings are not
    rounded, so that the gradient of a frequent token is summed in float32; only the vectors read from them are rounded.
    """
    kept = set(getattr(decoder, "_keep_in_fp32_modules_strict", None) or ())
    modules, hooks = [], []
    for path, module in decoder.named_modules():
        if isinstance(module, torch.nn.Embedding):
            hooks.append(module.register_forward_hook(lambda module, inputs, output: output.to(dtype)))
        elif not kept.intersection(path.split(".")):
            modules.append(module)
    try:
        with _replaced(modules, lambda weight: weight.to(dtype)):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def stored_dtype(config: PretrainedConfig) -> str:
    """The number format that a model's config.json names for its weights; float32 if it names none that is known
    here.
    """
    for each in (config, config.get_text_config()):
        name = str(getattr(each, "dtype", None) or "").removeprefix("torch.")
        if name in DTYPES and name != AUTO:
            return name
    return "float32"


def read_dtype(stored: str, kind: str, bfloat16: Callable[[], bool]) -> str:
    """The format of a model that is only read on a device of that kind ("cuda", "cpu", …)."""
    if stored == "bfloat16" and bfloat16():
        return stored
    return stored if stored == "float16" and kind == "cuda" else "float32"


def dtype_of(model: ModelConfig, config: PretrainedConfig, device: torch.device | str) -> str:
    """The format in which `model` is loaded to be read on `device`."""
    if model.dtype != AUTO:
        return model.dtype
    device = torch.device(device)
    return read_dtype(stored_dtype(config), device.type, functools.partial(computes_bfloat16, device))


def precision_of(
    run: RunConfig,
    configs: Sequence[PretrainedConfig | None],
    kind: str,
    bfloat16: bool | None = None,
) -> Precision:
    """The number formats of `run` on a device of that kind. `configs` are of the teachers in order, then the student,
    None where they are not known; `bfloat16` says whether the device computes in it, None asks the one here.
    """
    open_, stored = Precision.of(run), [stored_dtype(each) if each else "float32" for each in configs]

    def on(place: str) -> bool:
        return computes_bfloat16(place) if bfloat16 is None else bfloat16

    def read(model: ModelConfig, stored: str) -> str:
        if model.dtype != AUTO:
            return model.dtype
        place = model.device if model.device not in (None, AUTO) else None
        return read_dtype(stored, torch.device(place or kind).type, functools.partial(on, place or kind))

    teachers = tuple(read(model, each) for model, each in zip(run.teacher_models, stored, strict=False))
    student = "float32" if open_.student == AUTO else open_.student
    mixed = open_.mixed_precision
    if mixed == AUTO:
        # the run computes in a dtype that is given explicitly, as it did before auto existed
        suits = open_.student == AUTO and (kind == "cuda" or (kind == "cpu" and stored[-1] != "float32"))
        mixed = "bf16" if suits and on(kind) else "no"
    return Precision(teachers, student, mixed)


def resolved(
    run: RunConfig,
    configs: Sequence[PretrainedConfig | None],
    kind: str,
    bfloat16: bool | None = None,
) -> RunConfig:
    """`run` with the formats of `precision_of` instead of auto; unchanged if it has no auto."""
    return precision_of(run, configs, kind, bfloat16).filled(run) if Precision.of(run).open else run
