"""The sections of a run: which models, which prompts, how the student writes, how it is trained and scored.

Each setting stands here with its type, default, limits, label and help. Lengths are in tokens of the student.
"""

from typing import Any

from pydantic import model_validator

from simct.setting import Section, setting

DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("8bit", "4bit")
ENGINES = ("transformers", "vllm")
SCHEDULES = ("cosine", "linear", "constant")
PARALLELS = ("ddp", "fsdp2", "zero2")
MIXED_PRECISIONS = ("no", "bf16", "fp16")
TRACKERS = ("trackio", "tensorboard", "wandb")
CHECKERS = ("none", "text", "number", "maths", "code")

# Nothing sensible is larger; they keep a slip of the keyboard from filling a disk or a machine's memory.
NAME_CHARACTERS, PROSE_CHARACTERS = 4096, 50_000
MOST_TOKENS, MOST_AT_ONCE, MOST_STEPS, MOST_EPOCHS = 10_000_000, 65_536, 100_000_000, 10_000
LARGEST_SEED = 2**32 - 1


class ModelConfig(Section):
    """A causal language model: Hub id or local folder. A text in its place is `model` alone."""

    model: str = setting(
        "Model",
        "",
        "A causal language model: its id on the Hub, or a local folder.",
        allowed="a Hub id or a local folder",
        required=True,
        max_length=NAME_CHARACTERS,
    )
    revision: str | None = setting(
        "Revision",
        None,
        "Commit, tag or branch of the Hub repository. Give a commit to repeat a run exactly.",
        empty="the newest",
        max_length=NAME_CHARACTERS,
    )
    dtype: str = setting(
        "Precision",
        "float32",
        "Number format of the weights. Usual: bfloat16 for a teacher, float32 for a student; in 16 bits, small steps "
        "are lost to rounding.",
        choices=DTYPES,
    )
    enable_thinking: bool | None = setting(
        "Thinking",
        None,
        "Whether the chat template lets the model think before it answers, where it offers both.",
        empty="the template's own",
    )
    quantization: str | None = setting(
        "Quantization",
        None,
        "Load the weights in 8 or 4 bits, by bitsandbytes. Use it for a teacher that does not fit beside its student, "
        "or for a student trained by LoRA.",
        choices=QUANTIZATIONS,
        empty="none",
    )
    device: str | None = setting(
        "Device",
        None,
        "Where this model lies, such as cuda:1 or cpu. Use it to put the teacher on another GPU.",
        empty="with the student",
        max_length=100,
    )
    sharded: bool = setting(
        "Sharded",
        False,
        "Split the teacher over all processes, each layer gathered while it runs. For a teacher larger than a GPU.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value


class DataConfig(Section):
    """Where prompts come from: a JSONL/CSV/Parquet file, a folder, or a Hub dataset id."""

    prompts: str = setting(
        "Prompts",
        "",
        "A JSONL, CSV or Parquet file, a folder, or the id of a dataset on the Hub. Answers are not needed to distil.",
        allowed="a prompts file or a Hub dataset id",
        required=True,
        max_length=NAME_CHARACTERS,
    )
    split: str = setting("Split", "train", "Split of the Hub dataset.", max_length=NAME_CHARACTERS)
    config_name: str | None = setting(
        "Configuration",
        None,
        "Configuration of the Hub dataset, where it has several, such as main for openai/gsm8k.",
        empty="the only one",
        max_length=NAME_CHARACTERS,
    )
    revision: str | None = setting(
        "Revision",
        None,
        "Commit, tag or branch of the Hub dataset. Give a commit to repeat a run exactly.",
        empty="the newest",
        max_length=NAME_CHARACTERS,
    )
    column: str | None = setting(
        "Prompt column",
        None,
        "Column with the prompts or messages. Name it where it has an unusual name.",
        empty="found by its name",
        max_length=NAME_CHARACTERS,
    )
    answer_column: str | None = setting(
        "Answer column",
        None,
        "Column with the reference answers, for scores and for the warm-up's checks.",
        empty="found by its name",
        max_length=NAME_CHARACTERS,
    )
    system: str | None = setting(
        "System prompt",
        None,
        "Message of the system before every prompt that has none.",
        empty="none",
        max_length=PROSE_CHARACTERS,
    )
    limit: int | None = setting(
        "Prompt limit",
        None,
        "Use only the first so many prompts. Set it for a quick look.",
        empty="all prompts",
        ge=1,
        le=1_000_000_000,
    )


class RolloutConfig(Section):
    """How the student writes (paper, Table 4: temperature 0.6, top-p 0.95)."""

    max_new_tokens: int = setting(
        "Max new tokens",
        128,
        "Longest completion, in tokens. Usual: 128 to 2,048; raise it where many completions are cut off.",
        ge=1,
        le=MOST_TOKENS,
    )
    temperature: float = setting(
        "Temperature",
        0.6,
        "Randomness of the completions. Usual: 0.6 to 1; raise it where they are all alike.",
        gt=0,
        le=100,
    )
    top_p: float = setting(
        "Top-p",
        0.95,
        "Share of the probability that tokens are sampled from. Usual: 0.95; 1 is the whole distribution.",
        gt=0,
        le=1,
    )
    samples_per_prompt: int = setting(
        "Samples per prompt",
        1,
        "Completions of each prompt in a step. Usual: 1; more where prompts are few.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    on_policy_fraction: float = setting(
        "On-policy share",
        1.0,
        "Share written by the student; the teacher writes the rest. Lower it while the student writes nothing useful.",
        ge=0,
        le=1,
    )
    batch_size: int | None = setting(
        "Written at once",
        None,
        "Completions written at once, which bounds the KV cache. Lower it when memory runs out while writing.",
        empty="all of a process",
        ge=1,
        le=MOST_AT_ONCE,
    )
    engine: str = setting(
        "Engine",
        "transformers",
        "What writes the completions. Use vllm on a GPU, where writing takes most of a step.",
        choices=ENGINES,
    )
    vllm_url: str | None = setting(
        "vLLM server",
        None,
        "Address of a vLLM server that writes for all processes.",
        empty="vLLM inside this machine's process",
        max_length=NAME_CHARACTERS,
    )
    vllm_memory: float = setting(
        "vLLM memory", 0.3, "Share of the GPU's memory for vLLM beside the trainer. Usual: 0.2 to 0.5.", gt=0, lt=1
    )
    ahead: bool = setting(
        "Write ahead",
        False,
        "vLLM writes the next step's completions while this one is trained, by weights one step old.",
    )


class LoraConfig(Section):
    """Low-rank adapters instead of full fine-tuning, if `rank` is given; merged into the student when it is saved."""

    rank: int | None = setting(
        "LoRA rank",
        None,
        "Train low-rank adapters. Usual: 8 to 64; use it when memory is short.",
        empty="all weights are trained",
        ge=1,
        le=16_384,
    )
    alpha: int | None = setting(
        "LoRA alpha",
        None,
        "Scale of the adapters. Usual: once or twice the rank.",
        empty="twice the rank",
        ge=0,
        le=1_000_000,
    )
    dropout: float = setting(
        "LoRA dropout", 0.0, "Share of the adapters' inputs dropped in training. Usual: 0 to 0.1.", ge=0, lt=1
    )
    targets: list[str] = setting(
        "LoRA layers", ["all-linear"], "Names of the layers that get adapters. Usual: all-linear.", max_length=1000
    )


class TrainingConfig(Section):
    """The optimization. `batch_size` is the number of rollouts in one optimizer step, over all processes."""

    steps: int = setting(
        "Steps", 100, "Optimizer steps. Usual: 100 to 1,000; more while the loss still falls.", ge=1, le=MOST_STEPS
    )
    epochs: float | None = setting(
        "Epochs",
        None,
        "Passes over all prompts, in place of steps. Usual: 1 to 3.",
        empty="steps decide",
        gt=0,
        le=MOST_EPOCHS,
    )
    batch_size: int = setting(
        "Rollouts per step",
        16,
        "Completions in one step, over all processes. Usual: 16 to 64; more make steps steadier and slower.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    micro_batch_size: int = setting(
        "Micro-batch",
        16,
        "Completions in one forward and backward pass. Lower it when memory is short; the result is the same.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    learning_rate: float = setting(
        "Learning rate",
        1e-5,
        "Size of a step. Usual: 1e-6 to 1e-5 for all weights, 1e-4 for LoRA; lower it where the loss jumps.",
        gt=0,
        lt=1,
    )
    warmup_ratio: float = setting(
        "Warm-up share",
        0.05,
        "Share of the steps in which the learning rate rises from 0. Usual: 0.05 to 0.1.",
        ge=0,
        le=1,
    )
    schedule: str = setting(
        "Schedule",
        "cosine",
        "How the learning rate falls after its warm-up. Usual: cosine; constant if you may train on later.",
        choices=SCHEDULES,
    )
    optimizer: str = setting(
        "Optimizer",
        "AdamW",
        "A class of torch.optim, or bitsandbytes.AdamW8bit, which needs a quarter of the memory.",
        allowed="a class of torch.optim or bitsandbytes.AdamW8bit",
        required=True,
        max_length=200,
    )
    weight_decay: float = setting("Weight decay", 0.0, "Pull of the weights towards 0. Usual: 0 to 0.1.", ge=0, le=1000)
    max_grad_norm: float = setting(
        "Gradient clipping",
        1.0,
        "Longest gradient; a longer one is scaled down. Usual: 1; lower it where the loss jumps.",
        gt=0,
        le=1e12,
    )
    ema_decay: float | None = setting(
        "Running mean",
        None,
        "Decay of the running mean of the weights, which is saved. Usual: 0.99; use it where answers grow long.",
        empty="off",
        gt=0,
        lt=1,
    )
    freeze: list[str] = setting(
        "Frozen parts", [], "Parts of parameter names that are not trained, such as embed_tokens.", max_length=1000
    )
    parallel: str = setting(
        "Parallelism",
        "ddp",
        "How several GPUs share the student: whole on each (ddp), split (fsdp2), or its gradients and optimizer state "
        "split by DeepSpeed (zero2). Use fsdp2 for a student larger than a GPU.",
        choices=PARALLELS,
    )
    mixed_precision: str = setting(
        "Mixed precision",
        "no",
        "Number format of the arithmetic; the weights keep theirs. Usual: bf16 on a GPU, fp16 on a T4, no on a CPU.",
        choices=MIXED_PRECISIONS,
    )
    gradient_checkpointing: bool = setting(
        "Recompute activations",
        False,
        "Compute activations again instead of keeping them: less memory, a third slower. Use it when memory is short.",
    )
    stop_on_collapse: bool = setting(
        "Stop on collapse",
        True,
        "End a run whose answers no longer end, explode or vanish. Turn it off to study just that.",
    )
    tracker: str | None = setting(
        "Tracker",
        None,
        "Also send metrics to this experiment tracker, whose package must be installed.",
        choices=TRACKERS,
        empty="none",
    )
    checkpoint_every: int = setting(
        "Checkpoint every",
        50,
        "Steps between checkpoints. Usual: 50; fewer on machines that may be taken away.",
        ge=1,
        le=MOST_STEPS,
    )
    keep_checkpoints: int = setting(
        "Checkpoints kept",
        2,
        "Newest checkpoints that are kept, beside the best one. Each holds the trained weights and the optimizer.",
        ge=1,
        le=1_000_000,
    )
    samples_every: int = setting(
        "Samples every", 10, "Steps between completions that are kept to read.", ge=1, le=MOST_STEPS
    )
    max_length: int = setting(
        "Longest sequence",
        4096,
        "Longest prompt and completion together; longer prompts are left out. Lower it when memory is short.",
        ge=2,
        le=MOST_TOKENS,
    )
    seed: int = setting(
        "Seed",
        0,
        "Decides the order of prompts and every random draw. Change it to see how much a result depends on chance.",
        ge=0,
        le=LARGEST_SEED,
    )


class EvaluationConfig(Section):
    """Scores before and after training; an empty list of tasks skips them."""

    tasks: list[str] = setting(
        "Evaluation tasks",
        [],
        "Scored before and after training: demo, JSONL files with answers, tasks of lm-eval such as gsm8k.",
        max_length=1000,
    )
    samples: int | None = setting(
        "Samples per task",
        None,
        "Score only the first so many prompts of each task. Usual: 100 to 500.",
        empty="all",
        ge=1,
        le=1_000_000_000,
    )
    max_new_tokens: int = setting(
        "Max new tokens",
        64,
        "Longest scored answer, in tokens. Raise it for tasks that reason before they answer.",
        ge=1,
        le=MOST_TOKENS,
    )
    batch_size: int = setting(
        "Answers at once", 50, "Answers written at once. Lower it when memory is short.", ge=1, le=MOST_AT_ONCE
    )
    seed: int = setting("Seed", 0, "Decides lm-eval's few-shot examples.", ge=0, le=LARGEST_SEED)
    allow_code_execution: bool = setting(
        "Run written code", False, "Let tasks such as humaneval run what the model wrote, in a sandbox."
    )


class WarmupConfig(Section):
    """A warm start: the student imitates checked answers of the teacher, before it learns from its own.

    Sampling takes temperature and top-p from `rollout`. `batch_size` is the examples of an optimizer step.
    """

    samples_per_prompt: int = setting(
        "Answers per prompt",
        1,
        "Answers of the teacher to each prompt. Usual: 1 to 8; more where many fail the check.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    checker: str = setting(
        "Checker",
        "none",
        "Which answers are kept: all (none), or those that match the reference as text, number, maths or code.",
        choices=CHECKERS,
    )
    max_new_tokens: int = setting(
        "Max new tokens", 512, "Longest answer of the teacher, in tokens. Usual: 512 to 2,048.", ge=1, le=MOST_TOKENS
    )
    generation_batch_size: int = setting(
        "Answers at once",
        32,
        "Answers the teacher writes at once. Lower it when memory is short.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    epochs: float = setting("Epochs", 2.0, "Passes over the kept answers. Usual: 1 to 3.", gt=0, le=MOST_EPOCHS)
    learning_rate: float = setting("Learning rate", 2e-6, "Size of a step. Usual: 1e-6 to 2e-5.", gt=0, lt=1)
    batch_size: int = setting(
        "Examples per step", 64, "Answers in one optimizer step. Usual: 16 to 128.", ge=1, le=MOST_AT_ONCE
    )
    allow_code_execution: bool = setting(
        "Run written code", False, "Let the checker code run what the teacher wrote, in a sandbox."
    )
