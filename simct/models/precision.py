"""Which number formats suit a model on a device, where a run leaves them open (`dtype: auto`, `mixed_precision: auto`).

A model that is only read keeps the 16 bits of its checkpoint where the device computes in them, else it is float32.
Weights that are trained are float32, because small steps are lost to rounding in 16 bits; their arithmetic is bfloat16
on GPUs, and on CPUs that are faster in it, if the checkpoint is in 16 bits.
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

# a decoding step of a few sequences and a training pass: rows, and the sides of the weight
PROBED = ((4, 2048, 2048), (256, 1024, 1024))
PROBE_SECONDS = 0.5


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Whether this machine's CPU multiplies faster in bfloat16 than in float32: by half a second of both, once.

    It does with AMX or AVX512-BF16, and is several times slower without.
    """
    gain = 1.0
    for rows, inner, outer in PROBED:
        left, right = torch.ones(rows, inner), torch.ones(outer, inner)
        short = left.bfloat16(), right.bfloat16()
        once = {"float32": float("inf"), "bfloat16": float("inf")}
        ends = time.perf_counter() + PROBE_SECONDS / len(PROBED)
        # one after the other, and the fastest of each: other work on the machine slows both
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
            return True  # for GPUs elsewhere: all but the oldest do
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_prefers_bfloat16()


@contextmanager
def _replaced(
    modules: Iterable[torch.nn.Module], rounded: Callable[[torch.nn.Parameter], torch.Tensor]
) -> Iterator[None]:
    """The modules with what `rounded` makes of their float32 weights in their place; a weight that they share is one.

    The parameters stay as they are, as in torch.func.functional_call: DDP's hooks are on them, and another dtype would
    drop the hooks.
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
    """`model` with its float32 weights rounded to `dtype`, and after that with its own again, bit for bit.

    For decoding, where every token reads all weights: under autocast they are cast for each of them.
    """

    def rounded(weight: torch.nn.Parameter) -> torch.Tensor:
        return torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)

    with _replaced(model.modules(), rounded):
        yield


@contextmanager
def computing_in(decoder: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """`decoder` with its float32 weights rounded to `dtype` in what it computes; the gradients reach its own weights.

    For training passes, forward and backward. Each weight is rounded once, and hidden states are in `dtype` from layer
    to layer; autocast would round the weights in every pass and keep norms and residuals in float32. Embeddings stay as
    they are, so that the gradient of a frequent token is summed in float32; what is read from them is rounded.
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
    """The number format that a model's config.json names for its weights; float32 where it names none known here."""
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
    None where they are not known; `bfloat16` says whether the device computes in it, None asks the one here."""
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
        # a dtype that is given is what the run computes in, as before there was auto
        suits = open_.student == AUTO and (kind == "cuda" or (kind == "cpu" and stored[-1] != "float32"))
        mixed = "bf16" if suits and on(kind) else "no"
    return Precision(teachers, student, mixed)


def resolved(
    run: RunConfig,
    configs: Sequence[PretrainedConfig | None],
    kind: str,
    bfloat16: bool | None = None,
) -> RunConfig:
    """`run` with what `precision_of` says in the place of auto; itself where nothing is open."""
    return precision_of(run, configs, kind, bfloat16).filled(run) if Precision.of(run).open else run
