"""RunConfig: the one description of a run, as a dataclass and as YAML.

`run.yaml` written by the studio is the file the command runs; nothing about a run lives elsewhere. Values are checked
once, here, so that a mistake is told before a model is downloaded. Lengths are in tokens of the student.
"""

import dataclasses
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from simct.errors import ConfigError

DIVERGENCES = ("reverse_kl", "forward_kl", "js")
FORWARD_KL_METHODS = ("bpm", "alm")
METHODS = ("simct", "strict", "marginal", "bpm", "uld", "gold", "alm")
DTYPES = ("float32", "bfloat16", "float16")
SCHEDULES = ("cosine", "linear", "constant")
MIXED_PRECISIONS = ("no", "bf16", "fp16")
QUANTIZATIONS = ("8bit", "4bit")
PARALLELS = ("ddp", "fsdp2", "zero2")
TRACKERS = ("trackio", "tensorboard", "wandb")
KINDS = ("distill", "warmup")
ENGINES = ("transformers", "vllm")
CHECKERS = ("none", "text", "number", "maths", "code")


@dataclass
class ModelConfig:
    """A causal language model: Hub id or local folder.

    `quantization` (8bit or 4bit, by bitsandbytes) and `device` (such as cuda:1 or cpu) are for a teacher that would not
    fit beside its student, and 4bit for a student trained by LoRA. `sharded` splits a teacher over all processes.
    `chat_template` names one of several chat templates; empty is the one called default.
    """

    model: str = ""
    revision: str | None = None
    dtype: str = "float32"
    enable_thinking: bool | None = None
    quantization: str | None = None
    device: str | None = None
    sharded: bool = False
    chat_template: str | None = None


@dataclass
class DataConfig:
    """Where prompts come from: a JSONL/CSV/Parquet file, a folder, or a Hub dataset id.

    `template` makes each prompt's text from columns, as "{instruction}\\n\\n{input}" does; {{ and }} are braces. The
    system text of a row is `system_column`'s (found by its name where none is named), else `system`.
    """

    prompts: str = ""
    split: str = "train"
    config_name: str | None = None
    revision: str | None = None
    column: str | None = None
    answer_column: str | None = None
    system: str | None = None
    limit: int | None = None
    template: str | None = None
    system_column: str | None = None


@dataclass
class RolloutConfig:
    """How the student writes (paper Table 4: temperature 0.6, top-p 0.95).

    `on_policy_fraction` below 1 lets the teacher write the rest of the completions. `batch_size` bounds how many are
    written at once, and so the KV cache; empty is all of a process's. With `engine` vllm the student writes in vLLM,
    inside this machine with `vllm_memory` of the GPU's memory, or on the server at `vllm_url`; with `ahead` it writes
    the next step's completions while this one is trained, by weights that are one step old.
    """

    max_new_tokens: int = 128
    temperature: float = 0.6
    top_p: float = 0.95
    samples_per_prompt: int = 1
    on_policy_fraction: float = 1.0
    batch_size: int | None = None
    engine: str = "transformers"
    vllm_url: str | None = None
    vllm_memory: float = 0.3
    ahead: bool = False


@dataclass
class LoraConfig:
    """Low-rank adapters instead of full fine-tuning, if `rank` is given; merged into the student when it is saved."""

    rank: int | None = None
    alpha: int | None = None
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: ["all-linear"])


@dataclass
class TrainingConfig:
    """The optimization. `batch_size` is the number of rollouts in one optimizer step, over all processes.

    `epochs`, when given, decides `steps`: as many as take every prompt that often. `freeze` lists parts of parameter
    names that are not trained. `parallel` is how several GPUs share the student: whole on each (ddp), split (fsdp2), or
    its gradients and optimizer state split by DeepSpeed (zero2). With `ema_decay` the saved student is the running mean
    of the trained weights.
    """

    steps: int = 100
    epochs: float | None = None
    batch_size: int = 16
    micro_batch_size: int = 16
    learning_rate: float = 1e-5
    warmup_ratio: float = 0.05
    schedule: str = "cosine"
    optimizer: str = "AdamW"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float | None = None
    freeze: list[str] = field(default_factory=list)
    parallel: str = "ddp"
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    stop_on_collapse: bool = True
    tracker: str | None = None
    checkpoint_every: int = 50
    keep_checkpoints: int = 2
    samples_every: int = 10
    max_length: int = 4096
    seed: int = 0


@dataclass
class EvaluationConfig:
    """Scores before and after training; an empty list of tasks skips them.

    `allow_code_execution` lets tasks such as humaneval run what the model wrote, in a sandboxed process.
    """

    tasks: list[str] = field(default_factory=list)
    samples: int | None = None
    max_new_tokens: int = 64
    batch_size: int = 50
    seed: int = 0
    allow_code_execution: bool = False


@dataclass
class WarmupConfig:
    """A warm start: the student imitates checked answers of the teacher, before it learns from its own.

    Sampling takes temperature and top-p from `rollout`. `batch_size` is the examples of an optimizer step.
    """

    samples_per_prompt: int = 1
    checker: str = "none"
    max_new_tokens: int = 512
    generation_batch_size: int = 32
    epochs: float = 2.0
    learning_rate: float = 2e-6
    batch_size: int = 64
    allow_code_execution: bool = False


@dataclass
class RunConfig:
    """Everything that decides a run. `output` is the run folder; None lets the caller choose one under `runs/`.

    `divergence` None is the method's own: reverse KL, but forward KL for bpm and alm.
    """

    teacher: ModelConfig = field(default_factory=ModelConfig)
    student: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    method: str = "simct"
    method_options: dict[str, typing.Any] = field(default_factory=dict)
    divergence: str | None = None
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    kind: str = "distill"
    output: str | None = None


def divergence_of(config: RunConfig) -> str:
    """The divergence the run uses: the one it names, or its method's own."""
    return config.divergence or ("forward_kl" if config.method in FORWARD_KL_METHODS else "reverse_kl")


def _is_optional(kind) -> bool:
    return isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)


def _coerce(value, kind, name: str):
    """Turn a YAML or command-line value into `kind`, or say what was expected of `name`."""
    if _is_optional(kind):
        if value is None or (isinstance(value, str) and value.lower() in ("", "none", "null")):
            return None
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    origin = typing.get_origin(kind) or kind
    if dataclasses.is_dataclass(origin):
        if isinstance(value, str) and origin is ModelConfig:
            return ModelConfig(model=value)
        return _from_mapping(origin, value, name)
    if origin is dict:
        if isinstance(value, dict):
            return dict(value)
    elif origin is list:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list):
            return [str(part) for part in value]
    elif origin is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
    elif origin in (int, float):
        if not isinstance(value, bool):
            number: float | None
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = None
            if number is not None and (origin is float or number.is_integer()):
                return origin(number)
    elif origin is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping"}
    raise ConfigError(f"{name}: expected {expected.get(origin, 'a list')}, got {value!r}.")


def _from_mapping(cls, mapping, name: str):
    if not isinstance(mapping, dict):
        raise ConfigError(f"{name or 'The run configuration'}: expected a mapping of settings, got {mapping!r}.")
    kinds = typing.get_type_hints(cls)
    values = {}
    for key, value in mapping.items():
        path = f"{name}.{key}" if name else str(key)
        if key not in kinds:
            raise ConfigError(f"Unknown setting {path!r}. Known here: {', '.join(kinds)}.")
        values[key] = _coerce(value, kinds[key], path)
    return cls(**values)


def config_from_dict(mapping: dict) -> RunConfig:
    """A checked RunConfig from plain data. Raises ConfigError naming the setting."""
    return validate(_from_mapping(RunConfig, mapping, ""))


def load_config(path: str | Path) -> RunConfig:
    """Read and check `run.yaml`. Raises ConfigError for an unreadable file, an unknown setting or a bad value."""
    try:
        mapping = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {str(path)!r}: {error.strerror}. Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{str(path)!r} is not valid YAML: {reason}") from error
    return config_from_dict(mapping or {})


def config_to_dict(config: RunConfig) -> dict:
    return dataclasses.asdict(config)


def dump_config(config: RunConfig) -> str:
    """The YAML text of a run, in the order of the dataclasses."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def save_config(config: RunConfig, path: str | Path) -> None:
    Path(path).write_text(dump_config(config), encoding="utf-8")


def set_option(config: RunConfig, dotted: str, value) -> None:
    """Set `a.b` in place, as `--set a.b=value` does. Text is read by the field's type, as YAML for method options."""
    *parents, last = dotted.split(".")
    owner: typing.Any = config
    for depth, part in enumerate(parents):
        if part == "method_options" and owner is config:
            config.method_options[last] = yaml.safe_load(value) if isinstance(value, str) else value
            return
        if not dataclasses.is_dataclass(getattr(owner, part, None)):
            raise ConfigError(f"Unknown setting {'.'.join(parents[: depth + 1])!r} in --set {dotted}={value}.")
        owner = getattr(owner, part)
    kinds = typing.get_type_hints(type(owner))
    if last not in kinds:
        raise ConfigError(f"Unknown setting {dotted!r}. Known there: {', '.join(kinds)}.")
    if typing.get_origin(kinds[last]) is dict and isinstance(value, str):
        value = yaml.safe_load(value)
    setattr(owner, last, _coerce(value, kinds[last], dotted))
    if dotted == "training.steps":
        # a number of steps asked for by hand replaces the epochs of a preset
        config.training.epochs = None


def validate(config: RunConfig) -> RunConfig:
    """Check ranges; returns the same object. Raises ConfigError with the setting, its value and what is allowed."""
    rollout, training, evaluation = config.rollout, config.training, config.evaluation

    def require(ok: bool, name: str, value, allowed: str) -> None:
        if not ok:
            raise ConfigError(f"{name} is {value!r}; it must be {allowed}.")

    require(bool(config.teacher.model), "teacher.model", config.teacher.model, "a Hub id or a local folder")
    require(bool(config.student.model), "student.model", config.student.model, "a Hub id or a local folder")
    require(bool(config.data.prompts), "data.prompts", config.data.prompts, "a prompts file or a Hub dataset id")
    for name, model in (("teacher", config.teacher), ("student", config.student)):
        require(model.dtype in DTYPES, f"{name}.dtype", model.dtype, f"one of {', '.join(DTYPES)}")
        require(
            model.quantization in (None, *QUANTIZATIONS),
            f"{name}.quantization",
            model.quantization,
            f"empty or one of {', '.join(QUANTIZATIONS)}",
        )
    require(
        config.student.quantization is None or bool(config.lora.rank),
        "student.quantization",
        config.student.quantization,
        "empty unless lora.rank is given: quantized weights cannot be trained themselves",
    )
    require(not config.student.sharded, "student.sharded", True, "false: launch with training.parallel fsdp2 instead")
    require(
        not config.teacher.sharded or (rollout.on_policy_fraction == 1 and config.teacher.quantization is None),
        "teacher.sharded",
        True,
        "false for a quantized teacher, or for one that writes itself (rollout.on_policy_fraction below 1)",
    )
    require(training.parallel in PARALLELS, "training.parallel", training.parallel, f"one of {', '.join(PARALLELS)}")
    require(
        training.mixed_precision in MIXED_PRECISIONS,
        "training.mixed_precision",
        training.mixed_precision,
        f"one of {', '.join(MIXED_PRECISIONS)}",
    )
    require(
        training.tracker in (None, *TRACKERS),
        "training.tracker",
        training.tracker,
        f"empty or one of {', '.join(TRACKERS)}",
    )
    ema, fraction, lora = training.ema_decay, rollout.on_policy_fraction, config.lora
    require(ema is None or 0 < ema < 1, "training.ema_decay", ema, "empty or between 0 and 1")
    require(0 <= fraction <= 1, "rollout.on_policy_fraction", fraction, "between 0 and 1")
    require(lora.rank is None or lora.rank >= 1, "lora.rank", lora.rank, "empty or 1 or more")
    require(0 <= lora.dropout < 1, "lora.dropout", lora.dropout, "0 or more and below 1")
    require(config.method in METHODS, "method", config.method, f"one of {', '.join(METHODS)}")
    require(
        config.divergence in (None, *DIVERGENCES),
        "divergence",
        config.divergence,
        f"empty (the method's own) or one of {', '.join(DIVERGENCES)}",
    )
    require(training.schedule in SCHEDULES, "training.schedule", training.schedule, f"one of {', '.join(SCHEDULES)}")
    positive = {
        "training.steps": training.steps,
        "training.batch_size": training.batch_size,
        "training.micro_batch_size": training.micro_batch_size,
        "training.checkpoint_every": training.checkpoint_every,
        "training.keep_checkpoints": training.keep_checkpoints,
        "training.samples_every": training.samples_every,
        "rollout.max_new_tokens": rollout.max_new_tokens,
        "rollout.samples_per_prompt": rollout.samples_per_prompt,
        "evaluation.max_new_tokens": evaluation.max_new_tokens,
        "evaluation.batch_size": evaluation.batch_size,
    }
    for name, value in positive.items():
        require(value >= 1, name, value, "1 or more")
    require(
        training.max_length > rollout.max_new_tokens,
        "training.max_length",
        training.max_length,
        f"greater than rollout.max_new_tokens ({rollout.max_new_tokens})",
    )
    require(0 < training.learning_rate < 1, "training.learning_rate", training.learning_rate, "between 0 and 1")
    require(0 <= training.warmup_ratio <= 1, "training.warmup_ratio", training.warmup_ratio, "between 0 and 1")
    require(training.weight_decay >= 0, "training.weight_decay", training.weight_decay, "0 or more")
    require(training.max_grad_norm > 0, "training.max_grad_norm", training.max_grad_norm, "above 0")
    require(rollout.temperature > 0, "rollout.temperature", rollout.temperature, "above 0")
    require(0 < rollout.top_p <= 1, "rollout.top_p", rollout.top_p, "above 0 and at most 1")
    _validate_engine(config, require)
    if_given = {
        "data.limit": config.data.limit,
        "evaluation.samples": evaluation.samples,
        "rollout.batch_size": rollout.batch_size,
    }
    for name, given in if_given.items():
        require(given is None or given >= 1, name, given, "empty or 1 or more")
    require(
        training.batch_size % rollout.samples_per_prompt == 0,
        "training.batch_size",
        training.batch_size,
        f"a multiple of rollout.samples_per_prompt ({rollout.samples_per_prompt})",
    )
    require(training.epochs is None or training.epochs > 0, "training.epochs", training.epochs, "empty or above 0")
    require(config.kind in KINDS, "kind", config.kind, f"one of {', '.join(KINDS)}")
    _validate_warmup(config.warmup, require)
    return config


def _validate_engine(config: RunConfig, require) -> None:
    rollout, url = config.rollout, config.rollout.vllm_url
    require(rollout.engine in ENGINES, "rollout.engine", rollout.engine, f"one of {', '.join(ENGINES)}")
    require(
        url is None or (rollout.engine == "vllm" and url.startswith(("http://", "https://"))),
        "rollout.vllm_url",
        url,
        "empty, or the http address of a server when rollout.engine is vllm",
    )
    require(0 < rollout.vllm_memory < 1, "rollout.vllm_memory", rollout.vllm_memory, "between 0 and 1")
    require(
        rollout.engine == "vllm" or not rollout.ahead,
        "rollout.ahead",
        True,
        "false unless rollout.engine is vllm: elsewhere the weights that are trained also write",
    )
    require(
        rollout.engine != "vllm" or config.student.quantization is None,
        "student.quantization",
        config.student.quantization,
        "empty with rollout.engine vllm, which is given plain weights",
    )


def _validate_warmup(warmup: WarmupConfig, require) -> None:
    require(warmup.checker in CHECKERS, "warmup.checker", warmup.checker, f"one of {', '.join(CHECKERS)}")
    for name in ("samples_per_prompt", "max_new_tokens", "generation_batch_size", "batch_size"):
        require(getattr(warmup, name) >= 1, f"warmup.{name}", getattr(warmup, name), "1 or more")
    require(warmup.epochs > 0, "warmup.epochs", warmup.epochs, "above 0")
    require(0 < warmup.learning_rate < 1, "warmup.learning_rate", warmup.learning_rate, "between 0 and 1")


def local_path(name: str) -> Path | None:
    """The folder or file `name` means on this machine, or None when it reads as a Hub id."""
    path = Path(os.path.expanduser(name))
    return path if path.exists() else None
