"""How much memory a run will need, from the two models' config.json alone: no weights are downloaded.

Weights, gradients, optimizer states and the KV cache follow from shapes. What a forward and a backward pass hold at
their peak is not guessed: the passes are run on fake tensors, which have shapes and no data, while every storage that
comes and goes is counted; one and two periods of layers are enough, the rest follows a straight line. The loss is
counted from the size of its blocks. Sizes are in bytes.

Shapes: B sequences of a micro-batch, L their length, V vocabulary, H hidden size, C shared columns.
"""

import copy
import functools
import json
import warnings
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from simct.config import RunConfig, local_path
from simct.config.sections import ModelConfig
from simct.errors import ConfigError, ModelError, brief, quoted
from simct.hub.errors import hub_error
from simct.hub.model_config import load_config
from simct.hub.model_files import adapter_of
from simct.losses.side import chunk_rows_for
from simct.methods import METHODS
from simct.models.adapters import trainable_student

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Python, torch, transformers, datasets and accelerate as loaded by a run; on a GPU its context and libraries
OVERHEAD = {"cpu": 560 << 20, "cuda": 900 << 20}
# float32 copies of a block's logits that a method has at once, on each side: logits, probabilities, gradients, products
LISTED_BYTES = 12  # an id and a log-probability of a teacher on a server
LOSS_COPIES = 6
# bytes for each logit of a decoding step: scores, softmax, sorted values with their ids, cumulative sums
DECODING_BYTES = 44
# fused by torch on CPUs and GPUs, as build_optimizer asks for
FUSED = ("AdamW", "Adam", "SGD", "Adagrad")


@dataclass(frozen=True)
class Shape:
    """One model by its config: parameter counts and what decides the size of caches and logits."""

    name: str
    parameters: int
    head: int
    trainable: int
    vocabulary: int
    hidden: int
    layers: int
    key_value_bytes: int
    largest: int


@dataclass
class MemoryEstimate:
    """Bytes on one device. `parts` are what there is; `phases` what is there at once, the largest being the peak."""

    parts: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        return max(self.phases.values())


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, as they come and go."""

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, function: Any, kinds: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def load_shape_config(model: ModelConfig, token: str | bool | None = None) -> PretrainedConfig:
    """The model's config.json as transformers reads it. Raises ModelError or HubError (one line)."""
    adapter = adapter_of(model.model, model.revision, token)
    name, revision = (adapter.base, adapter.base_revision) if adapter else (model.model, model.revision)
    path = local_path(name)
    try:
        return load_config(name, revision, token)
    except ModelError:
        raise
    except Exception as error:
        if path is None:
            raise hub_error(error, model.model) from error
        raise ModelError(f"Cannot read the config of {model.model!r}: {brief(error)}") from error


def _of_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same model with so many layers."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = layers
    for name in ("layer_types", "mlp_layer_types"):
        if getattr(text, name, None):
            setattr(text, name, list(getattr(text, name))[:layers])
    return config


def _period(config: PretrainedConfig) -> int:
    """After how many layers their kinds repeat (Gemma alternates two)."""
    kinds = getattr(config.get_text_config(), "layer_types", None) or ["full"]
    return next(n for n in range(1, len(kinds) + 1) if all(kinds[i] == kinds[i % n] for i in range(len(kinds))))


def _build(config: PretrainedConfig, dtype: str) -> PreTrainedModel:
    try:
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False)
    except Exception as error:  # a config has many ways not to fit its own model
        kind = getattr(config, "model_type", "?")
        raise ModelError(f"Models of type {quoted(kind)} cannot be estimated: {brief(error)}") from error


Measure = TypeVar("Measure", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Question:
    key: str
    arguments: tuple[Any, ...] = field(compare=False)


def _remembered(measure: Measure) -> Measure:
    """`measure` with its latest results kept: a form asks again at every change, and most change nothing here."""
    answer = functools.lru_cache(maxsize=256)(lambda question: measure(*question.arguments))

    def plain(argument: Any) -> Any:
        if isinstance(argument, RunConfig):
            training = argument.training
            trained = training.freeze, training.gradient_checkpointing, training.mixed_precision
            return argument.student.model_dump(), argument.lora.model_dump(), trained
        if isinstance(argument, ModelConfig):
            return argument.model_dump()
        return argument.to_dict() if hasattr(argument, "to_dict") else argument

    @functools.wraps(measure)
    def asked(*arguments: Any) -> Any:
        return answer(_Question(json.dumps([plain(each) for each in arguments], default=str), arguments))

    return cast(Measure, asked)


@_remembered
def shape_of(config: PretrainedConfig, model: ModelConfig, run: RunConfig | None = None) -> Shape:
    """Counts of a model built without data; with `run`, what of it is trained."""
    with torch.device("meta"):
        built = _build(config, model.dtype)
        parameters = {id(each): each.numel() for each in built.parameters()}
        head = built.get_output_embeddings().weight
        # counts of adapters and frozen parts come from the very code that makes them
        trained = trainable_student(built, run) if run else None
        wanted = {id(each): each.numel() for each in (trained or built).parameters() if each.requires_grad}
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        model.model,
        sum(parameters.values()),
        head.numel(),
        sum(wanted.values()),
        head.shape[0],
        text.hidden_size,
        text.num_hidden_layers,
        2 * heads * width * text.num_hidden_layers * SIZES[model.dtype],
        max(parameters.values()),
    )


def check_trained(run: RunConfig, token: str | bool | None = None) -> None:
    """Raise ConfigError for frozen parts or adapters that the student has no place for, found out without its weights.

    A student that cannot be read or built like this passes: loading it raises the error.
    """
    try:
        with torch.device("meta"):
            trainable_student(_build(load_shape_config(run.student, token), run.student.dtype), run)
    except ConfigError:
        raise
    except Exception:
        # architectures differ in what they ask of a device without data
        return


@_remembered
def pass_bytes(
    config: PretrainedConfig, model: ModelConfig, batch: int, length: int, run: RunConfig | None = None
) -> tuple[int, int]:
    """(held after the forward pass, peak) of one pass over ids [batch, length]; with `run`, of its training pass.

    The training pass ends with the gradients of all trained parameters, which its peak includes. Without `run` nothing
    is kept for a backward pass. Layer by layer a backward pass gives back activations and takes gradients, so that its
    peak is in the last layer or at the very end: both grow in a straight line with the layers, and are measured apart.
    """
    period = _period(config)
    layers = config.get_text_config().num_hidden_layers
    if layers <= 3 * period:
        held, *peaks = _measured_pass(config, model, batch, length, run)
        return held, max(peaks)
    # from two periods on: in the very first layer the input is not yet apart from the embedding
    fewer = _measured_pass(_of_layers(config, 2 * period), model, batch, length, run)
    more = _measured_pass(_of_layers(config, 3 * period), model, batch, length, run)
    held, *peaks = (
        int(first + (second - first) * (layers / period - 2)) for first, second in zip(fewer, more, strict=True)
    )
    return held, max(peaks)


def _measured_pass(
    config: PretrainedConfig, model: ModelConfig, batch: int, length: int, run: RunConfig | None
) -> tuple[int, int, int]:
    """Bytes held after the forward pass, and at most until the last layer is done backward, and at most after it."""
    with torch.device("meta"):
        built: Any = _build(config, model.dtype)
        if run:
            built = trainable_student(built, run).train()
            if run.training.gradient_checkpointing:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    built.gradient_checkpointing_enable()
    mixed = run is not None and run.training.mixed_precision != "no"
    with FakeTensorMode():
        _make_fake(built)
        decoder: Any = built.get_base_model().base_model if hasattr(built, "get_base_model") else built.base_model
        ids_BL = torch.zeros(batch, length, dtype=torch.long)
        live = _LiveBytes([*built.parameters(), *built.buffers(), ids_BL])
        until_last_layer = 0

        def mark(gradient: torch.Tensor) -> None:
            nonlocal until_last_layer
            until_last_layer, live.peak = live.peak, live.live

        def watch_input(layer: torch.nn.Module, arguments: Any, options: Any) -> None:
            if arguments and arguments[0].requires_grad:
                arguments[0].register_hook(mark)

        if run:
            _layers(decoder, config)[-1].register_forward_pre_hook(watch_input, with_kwargs=True)
        precision = torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext()
        with live, torch.set_grad_enabled(run is not None):
            with precision:
                hidden_BLH = decoder(
                    input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL), use_cache=False
                ).last_hidden_state
            held = live.live
            if run:
                hidden_BLH.backward(torch.empty_like(hidden_BLH))
        return held, until_last_layer, live.peak


def _make_fake(model: torch.nn.Module) -> None:
    """Put fake CPU tensors in the place of meta ones: operations then take the ways they take on a device."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        kept: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in kept:
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = fake
                tensors[name] = made[id(tensor)]


def _layers(decoder: torch.nn.Module, config: PretrainedConfig) -> torch.nn.ModuleList:
    """The decoder's layers: its only list of that length at the top."""
    count = config.get_text_config().num_hidden_layers
    for child in decoder.children():
        if isinstance(child, torch.nn.ModuleList) and len(child) == count:
            return child
    raise ModelError(f"The layers of {type(decoder).__name__} were not found, so its memory cannot be estimated.")


def estimate_memory(
    run: RunConfig,
    prompt_tokens: int = 256,
    device: str = "cuda",
    devices: int = 1,
    token: str | bool | None = None,
    configs: tuple[PretrainedConfig, PretrainedConfig] | None = None,
) -> MemoryEstimate:
    """Peak memory of `run` on each of `devices` devices ("cuda" or "cpu"), were all completions of full length.

    `prompt_tokens` is the length of the longest prompt. Models are whole on every device (plain data parallelism).
    Raises ModelError or HubError for a config that cannot be read.
    """
    teacher_config, student_config = configs or (
        load_shape_config(run.teacher, token),
        load_shape_config(run.student, token),
    )
    teacher, student = shape_of(teacher_config, run.teacher), shape_of(student_config, run.student, run)
    training, new_tokens = run.training, run.rollout.max_new_tokens
    local_batch = max(1, training.batch_size // devices)
    length = min(prompt_tokens + new_tokens, training.max_length)
    micro_batch = training.micro_batch(local_batch, length)
    trained_size, mixed = SIZES[run.student.dtype], training.mixed_precision != "no"
    resident = _resident(run, teacher, student, device)
    gradients = student.trainable * trained_size
    cache = local_batch * length * student.key_value_bytes
    prefill = pass_bytes(student_config, run.student, local_batch, prompt_tokens)[1]
    decoding = cache // student.layers * 2 + local_batch * student.vocabulary * DECODING_BYTES
    if run.teacher.elsewhere:
        # listed ids and log-probabilities of all completions of a step
        teacher_held = teacher_peak = local_batch * new_tokens * (run.teacher.top_logprobs + 1) * LISTED_BYTES
    else:
        teacher_held, teacher_peak = pass_bytes(teacher_config, run.teacher, micro_batch, length)
        if run.teacher.offload and device != "cpu":
            # one weight at a time is brought over
            teacher_peak += teacher.largest * SIZES[run.teacher.dtype]
    held, peak = pass_bytes(student_config, run.student, micro_batch, length, run)
    loss = loss_bytes(run, teacher, student, micro_batch * new_tokens, device)
    # from the second micro-batch on, all gradients are there from the start
    accumulated = gradients if local_batch > micro_batch else 0
    # the optimizers of torch that are not fused work on copies: of all parameters at once on GPUs, else of one
    copies = student.trainable if device == "cuda" else 2 * min(student.largest, student.trainable)
    temporary = 0 if training.optimizer.removeprefix("torch.optim.") in FUSED else trained_size * copies
    base = sum(resident.values())
    head_gradient = student.head * trained_size if not mixed else student.head * 2
    parts = resident | {
        "gradients": gradients,
        "KV cache": cache,
        "activations": max(held, peak - gradients),
        "loss": loss,
    }
    phases = {
        "generation": base + cache + max(prefill, decoding),
        "teacher pass": base + accumulated + teacher_peak,
        "loss": base + accumulated + teacher_held + held + loss,
        "backward": base + accumulated + teacher_held + head_gradient + peak,
        "optimizer step": base + gradients + temporary,
    }
    return MemoryEstimate(parts, phases)


def _resident(run: RunConfig, teacher: Shape, student: Shape, device: str) -> dict[str, int]:
    """What is in memory all the time."""
    training, trained_size = run.training, SIZES[run.student.dtype]
    quantized = {"8bit": 1.0, "4bit": 0.6}

    def weights(shape: Shape, model: ModelConfig) -> int:
        return int(shape.parameters * quantized.get(model.quantization or "", SIZES[model.dtype]))

    optimizer_bytes = {"bitsandbytes.AdamW8bit": 2.1, "bitsandbytes.PagedAdamW8bit": 0.0, "SGD": 0.0}
    elsewhere = run.teacher.elsewhere or run.teacher.device not in (None, "auto", device)
    offloaded = run.teacher.offload and device != "cpu"
    held = teacher.head * SIZES[run.teacher.dtype] if offloaded else weights(teacher, run.teacher)
    return {
        "teacher weights": 0 if elsewhere else held,
        "student weights": weights(student, run.student),
        "optimizer states": int(student.trainable * optimizer_bytes.get(training.optimizer, 2 * trained_size)),
        "weight average": student.trainable * trained_size if training.ema_decay else 0,
        "overhead": OVERHEAD[device],
    }


def loss_bytes(run: RunConfig, teacher: Shape, student: Shape, rows: int, device: str) -> int:
    """What the loss holds at its peak for `rows` rows: the head's gradient, gathered columns, a block of logits."""
    vocabulary = max(teacher.vocabulary, student.vocabulary)
    chunk = min(rows, chunk_rows_for(torch.device(device), vocabulary, run.method_options.get("chunk_rows")))
    student_size, teacher_size = SIZES[run.student.dtype], SIZES[run.teacher.dtype]
    shared = min(teacher.vocabulary, student.vocabulary)
    gathered = 0
    whole_rows = METHODS[run.method].whole_rows
    if not whole_rows:
        gathered = shared * (2 * student.hidden * student_size + teacher.hidden * teacher_size)
    columns = student.vocabulary + teacher.vocabulary if whole_rows else 2 * shared
    hidden = rows * (student.hidden * student_size * 2 + teacher.hidden * teacher_size)
    return student.head * student_size + gathered + chunk * columns * 4 * LOSS_COPIES // 2 + hidden
