"""How much memory a run will need, from the two models' config.json alone: no weights are downloaded.

Weights, gradients, optimizer states and the KV cache follow from shapes. The peak of a forward and a backward pass is
not guessed: the passes run on fake tensors, which have shapes but no data, while every storage that is created or freed
is counted. One and two periods of layers are enough, because the rest is linear. The loss is counted from the size of
its blocks. Sizes are in bytes.

Shapes: B sequences of a micro-batch, L their length, V vocabulary, H hidden size, C shared columns.
"""

import copy
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from simct.config import RunConfig, local_path
from simct.config.precision import trained_dtype
from simct.config.sections import ModelConfig
from simct.config.teachers import teachers_of, with_one_teacher
from simct.errors import ConfigError, ModelError, brief, quoted
from simct.estimate.live_bytes import LiveBytes, make_fake
from simct.estimate.records import MemoryEstimate
from simct.estimate.remembered import remembered
from simct.hub.errors import hub_error
from simct.hub.model_config import load_config
from simct.hub.model_files import adapter_of
from simct.losses.side import chunk_rows_for
from simct.methods import METHODS
from simct.models.adapters import trainable_student
from simct.models.packing import kept_bytes
from simct.models.precision import computing_in, resolved

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Python, torch, transformers, datasets and accelerate as loaded by a run; on a GPU its context and libraries
OVERHEAD = {"cpu": 560 << 20, "cuda": 900 << 20}
# float32 copies of a block's logits that a method holds at once, per side: logits, probabilities, gradients, products
LISTED_BYTES = 12  # an id and a log-probability of a teacher on a server
LOSS_COPIES = 6
# bytes for each logit of a decoding step: scores, softmax, sorted values with their ids, cumulative sums
DECODING_BYTES = 44
# torch has fused versions of these for CPUs and GPUs, which build_optimizer uses
FUSED = ("AdamW", "Adam", "SGD", "Adagrad")


@dataclass(frozen=True)
class Shape:
    """One model, from its config: parameter counts, and the numbers that decide the size of caches and logits.

    head_gradient, merged_head: numbers in the lm_head's gradient, and in a copy of it with LoRA merged, if any.
    """

    name: str
    parameters: int
    head: int
    trainable: int
    vocabulary: int
    hidden: int
    layers: int
    key_value_bytes: int
    largest: int
    head_gradient: int
    merged_head: int


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
    """The same model with this many layers."""
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


def _build(config: PretrainedConfig, model: ModelConfig) -> PreTrainedModel:
    # a copy, because a model writes its own dtype to its config, which says what the checkpoint is stored in
    config, dtype = copy.deepcopy(config), getattr(torch, trained_dtype(model))
    try:
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # a config can be inconsistent with its own model in many ways
        kind = getattr(config, "model_type", "?")
        raise ModelError(f"Models of type {quoted(kind)} cannot be estimated: {brief(error)}") from error


@remembered
def shape_of(config: PretrainedConfig, model: ModelConfig, run: RunConfig | None = None) -> Shape:
    """The counts of a model that is built without data; with `run`, also how much of it is trained."""
    with torch.device("meta"):
        built = _build(config, model)
        parameters = {id(each): each.numel() for each in built.parameters()}
        head = built.get_output_embeddings().weight
        # adapters and frozen parts are counted by the same code that creates them
        trained = trainable_student(built, run) if run else built
        wanted = {id(each): each.numel() for each in trained.parameters() if each.requires_grad}
        output: torch.nn.Module = trained.get_output_embeddings()
        learns = any(each.requires_grad for each in output.parameters())
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
        2 * heads * width * text.num_hidden_layers * SIZES[trained_dtype(model)],
        max(parameters.values()),
        head.numel() if learns else 0,
        head.numel() if learns and hasattr(output, "base_layer") else 0,
    )


def check_trained(run: RunConfig, token: str | bool | None = None) -> None:
    """Raise ConfigError for frozen parts or adapters that match nothing in the student, without reading its weights.

    A student that cannot be read or built like this passes: loading it raises the error.
    """
    try:
        with torch.device("meta"):
            trainable_student(_build(load_shape_config(run.student, token), run.student), run)
    except ConfigError:
        raise
    except Exception:
        # some architectures do not work on a device without data
        return


@remembered
def pass_bytes(
    config: PretrainedConfig, model: ModelConfig, batch: int, length: int, run: RunConfig | None = None
) -> tuple[int, int]:
    """(held after the forward pass, peak) of one pass over ids [batch, length]; with `run`, of its training pass.

    The training pass ends with the gradients of all trained parameters, which its peak includes. Without `run` nothing
    is kept for a backward pass. Layer by layer a backward pass gives back activations and takes gradients, so its peak
    is in the last layer or at the very end: both grow linearly with the layers, and are measured separately.
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
        built: Any = _build(config, model)
        if run:
            built = trainable_student(built, run).train()
            if run.training.gradient_checkpointing:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    built.gradient_checkpointing_enable()
    mixed = run.training.mixed_precision if run else "no"
    with FakeTensorMode():
        make_fake(built)
        decoder: Any = built.get_base_model().base_model if hasattr(built, "get_base_model") else built.base_model
        ids_BL = torch.zeros(batch, length, dtype=torch.long)
        live = LiveBytes([*built.parameters(), *built.buffers(), ids_BL])
        until_last_layer = 0

        def mark(gradient: torch.Tensor) -> None:
            nonlocal until_last_layer
            until_last_layer, live.peak = live.peak, live.live

        def watch_input(layer: torch.nn.Module, arguments: Any, options: Any) -> None:
            if arguments and arguments[0].requires_grad:
                arguments[0].register_hook(mark)

        if run:
            _layers(decoder, config)[-1].register_forward_pre_hook(watch_input, with_kwargs=True)
        precision: AbstractContextManager[Any] = nullcontext()
        if mixed == "bf16":
            precision = computing_in(decoder, torch.bfloat16)
        elif mixed == "fp16":
            precision = torch.autocast("cpu", torch.bfloat16)
        with live, torch.set_grad_enabled(run is not None), precision:
            hidden_BLH = decoder(
                input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL), use_cache=False
            ).last_hidden_state
            held = live.live
            if run:
                hidden_BLH.backward(torch.empty_like(hidden_BLH))
        return held, until_last_layer, live.peak


def _layers(decoder: torch.nn.Module, config: PretrainedConfig) -> torch.nn.ModuleList:
    """The decoder's layers: its only list of that length at the top."""
    count = config.get_text_config().num_hidden_layers
    for child in decoder.children():
        if isinstance(child, torch.nn.ModuleList) and len(child) == count:
            return child
    raise ModelError(f"The layers of {type(decoder).__name__} were not found, so its memory cannot be estimated.")


def shape_configs(run: RunConfig, token: str | bool | None = None) -> list[PretrainedConfig]:
    """The configs of the run's teachers in order, then the student's. Raises ModelError or HubError."""
    return [load_shape_config(model, token) for model in run.models]


def run_shapes(run: RunConfig, configs: Sequence[PretrainedConfig]) -> tuple[list[Shape], Shape]:
    """The teachers and the student, by `configs` as shape_configs gives them."""
    teachers = [shape_of(config, model) for config, model in zip(configs, run.teacher_models, strict=False)]
    return teachers, shape_of(configs[-1], run.student, run)


def estimate_memory(
    run: RunConfig,
    prompt_tokens: int = 256,
    device: str = "cuda",
    devices: int = 1,
    token: str | bool | None = None,
    configs: Sequence[PretrainedConfig] | None = None,
    bfloat16: bool | None = None,
) -> MemoryEstimate:
    """Peak memory of `run` on each of `devices` devices ("cuda" or "cpu"), if all completions have full length.

    `prompt_tokens` is the length of the longest prompt; `configs` are of the teachers in order, then the student.
    `bfloat16` says whether the devices compute in it, for settings that are auto: None asks the one here. Models are
    whole on every device (plain data parallelism). Raises ModelError or HubError for a config that cannot be read.
    """
    configs = configs or shape_configs(run, token)
    run = resolved(run, configs, device, bfloat16)
    (teachers, student), student_config = run_shapes(run, configs), configs[-1]
    training, new_tokens = run.training, run.rollout.max_new_tokens
    local_batch = max(1, training.batch_size // devices)
    length = min(prompt_tokens + new_tokens, training.max_length)
    micro_batch = training.micro_batch(local_batch, length)
    trained_size = SIZES[run.student.dtype]
    resident = _resident(run, teachers, student, device)
    gradients = student.trainable * trained_size
    cache, rounded = local_batch * length * student.key_value_bytes, 0
    if training.mixed_precision == "bf16" and trained_size == 4:
        # the student writes with weights that are rounded once per step
        cache, rounded = cache // 2, student.parameters * 2
    prefill = pass_bytes(student_config, run.student, local_batch, prompt_tokens)[1]
    decoding = cache // student.layers * 2 + local_batch * student.vocabulary * DECODING_BYTES
    teacher_held, teacher_peak = _teacher_passes(run, configs, teachers, (local_batch, micro_batch), length, device)
    held, peak = pass_bytes(student_config, run.student, micro_batch, length, run)
    attention = _kept_attention(run, student_config, length, device) * micro_batch
    held, peak = held + attention, peak + attention
    loss = _losses(run, teachers, student, micro_batch * new_tokens, device)
    # from the second micro-batch on, all gradients are there from the start
    accumulated = gradients if local_batch > micro_batch else 0
    # optimizers of torch that are not fused work on copies: on GPUs of all parameters at once, elsewhere of one at a
    # time
    copies = student.trainable if device == "cuda" else 2 * min(student.largest, student.trainable)
    temporary = 0 if training.optimizer.removeprefix("torch.optim.") in FUSED else trained_size * copies
    base = sum(resident.values())
    head_gradient, merged_head = student.head_gradient * trained_size, student.merged_head * trained_size
    parts = resident | {
        "gradients": gradients,
        "KV cache": cache,
        "activations": max(held, peak - gradients),
        "loss": loss,
    }
    phases = {
        "generation": base + cache + rounded + max(prefill, decoding),
        "teacher pass": base + accumulated + teacher_peak,
        "loss": base + accumulated + teacher_held + held + merged_head + loss,
        "backward": base + accumulated + teacher_held + merged_head + head_gradient + peak,
        "optimizer step": base + gradients + temporary,
    }
    return MemoryEstimate(parts, phases)


def _kept_attention(run: RunConfig, config: PretrainedConfig, length: int, device: str) -> int:
    """Bytes of the probabilities that attention keeps of one completion; a pass on fake tensors does not show them."""
    text, narrow = config.get_text_config(), run.training.mixed_precision == "bf16" or run.student.dtype == "bfloat16"
    if device != "cpu" or run.training.gradient_checkpointing or not narrow:
        return 0
    return text.num_hidden_layers * kept_bytes(text.num_attention_heads, length)


def _teacher_passes(
    run: RunConfig,
    configs: Sequence[PretrainedConfig],
    shapes: Sequence[Shape],
    batches: tuple[int, int],
    length: int,
    device: str,
) -> tuple[int, int]:
    """`_teacher_pass` for all teachers; their rows of a micro-batch are in memory together."""
    each = zip(run.teacher_models, configs, shapes, strict=False)
    passes = [_teacher_pass(run, model, config, shape, batches, length, device) for model, config, shape in each]
    held = sum(held for held, _ in passes)
    return held, held + max(peak - held for held, peak in passes)


def _teacher_pass(
    run: RunConfig,
    model: ModelConfig,
    config: PretrainedConfig,
    shape: Shape,
    batches: tuple[int, int],
    length: int,
    device: str,
) -> tuple[int, int]:
    """Bytes that a teacher's rows of a micro-batch hold, and the peak while they are made."""
    local_batch, micro_batch = batches
    if model.elsewhere:
        # listed ids and log-probabilities of all completions of a step
        listed = local_batch * run.rollout.max_new_tokens * (model.top_logprobs + 1) * LISTED_BYTES
        return listed, listed
    held, peak = pass_bytes(config, model, micro_batch, length)
    if model.offload and device != "cpu":
        # one weight at a time is transferred
        peak += shape.largest * SIZES[model.dtype]
    return held, peak


def _resident(run: RunConfig, teachers: Sequence[Shape], student: Shape, device: str) -> dict[str, int]:
    """The memory that is used all the time."""
    training, trained_size = run.training, SIZES[run.student.dtype]
    quantized = {"8bit": 1.0, "4bit": 0.6}

    def weights(shape: Shape, model: ModelConfig) -> int:
        return int(shape.parameters * quantized.get(model.quantization or "", SIZES[model.dtype]))

    def of_teacher(shape: Shape, model: ModelConfig) -> int:
        if model.elsewhere or model.device not in (None, "auto", device):
            return 0
        offloaded = model.offload and device != "cpu"
        return shape.head * SIZES[model.dtype] if offloaded else weights(shape, model)

    names = [f"teacher {each.name}" for each in run.teachers] or ["teacher weights"]
    optimizer_bytes = {"bitsandbytes.AdamW8bit": 2.1, "bitsandbytes.PagedAdamW8bit": 0.0, "SGD": 0.0}
    return {
        **dict(zip(names, map(of_teacher, teachers, run.teacher_models), strict=True)),
        "student weights": weights(student, run.student),
        "optimizer states": int(student.trainable * optimizer_bytes.get(training.optimizer, 2 * trained_size)),
        "weight average": student.trainable * trained_size if training.ema_decay else 0,
        "overhead": OVERHEAD[device],
    }


def _losses(run: RunConfig, teachers: Sequence[Shape], student: Shape, rows: int, device: str) -> int:
    """The peak of the losses against all teachers, one after another."""
    alone = [with_one_teacher(run, each) for each in teachers_of(run)]
    largest = max(loss_bytes(one, shape, student, rows, device) for one, shape in zip(alone, teachers, strict=True))
    # each keeps its gradient of the lm_head until the backward pass
    return largest + (len(teachers) - 1) * student.head_gradient * SIZES[run.student.dtype]


def loss_bytes(run: RunConfig, teacher: Shape, student: Shape, rows: int, device: str) -> int:
    """The peak memory of the loss for `rows` rows: the head's gradient if it is trained, gathered columns, a block."""
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
    return student.head_gradient * student_size + gathered + chunk * columns * 4 * LOSS_COPIES // 2 + hidden
