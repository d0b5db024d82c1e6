"""The sections of a run about its optimization: adapters, training and the warm-up."""

from collections.abc import Iterable

from simct.config.sections import CHECKERS, LARGEST_SEED, MOST_AT_ONCE, MOST_EPOCHS, MOST_STEPS, MOST_TOKENS
from simct.setting import Section, setting

SCHEDULES = ("cosine", "linear", "constant")
PARALLELS = ("ddp", "fsdp2", "zero2")
KEPT = ("all", "shortest")
MIXED_PRECISIONS = ("auto", "no", "bf16", "fp16")
TRACKERS = ("trackio", "tensorboard", "wandb")
STUDENTS_KEPT = ("last", "best")


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
        "LoRA dropout", 0.0, "Share of the adapters' inputs that are dropped in training. Usual: 0 to 0.1.", ge=0, lt=1
    )
    targets: list[str] = setting(
        "LoRA layers",
        ["all-linear"],
        "Names of the layers that get adapters, in full or only the last part, such as q_proj. Usual: all-linear.",
        max_length=1000,
    )


class TrainingConfig(Section):
    """The optimization. `batch_size` is the number of rollouts in one optimizer step, over all processes."""

    steps: int = setting(
        "Steps", 100, "Optimizer steps. Usual: 100 to 1,000; more if the loss is still falling.", ge=1, le=MOST_STEPS
    )
    epochs: float | None = setting(
        "Epochs",
        None,
        "Passes over all prompts, instead of steps. Usual: 1 to 3.",
        empty="steps decide",
        gt=0,
        le=MOST_EPOCHS,
    )
    batch_size: int = setting(
        "Rollouts per step",
        16,
        "Completions in one step, over all processes. Usual: 16 to 64; more completions make steps more stable and "
        "slower.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    micro_batch_tokens: int = setting(
        "Micro-batch tokens",
        8192,
        "The most tokens in one forward and backward pass, including padding. Usual: 4,096 to 32,768; it does not "
        "change the result. It is halved automatically if memory runs out.",
        ge=1,
        le=MOST_TOKENS,
    )
    micro_batch_size: int | None = setting(
        "Micro-batch size",
        None,
        "Completions in one pass, however long they are. Usual: empty; if it is set, micro-batch tokens are ignored.",
        empty="as many as fit in the micro-batch tokens",
        ge=1,
        le=MOST_AT_ONCE,
    )
    learning_rate: float = setting(
        "Learning rate",
        1e-5,
        "Size of a step. Usual: 1e-6 to 1e-5 for all weights, 1e-4 for LoRA; lower it if the loss jumps.",
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
        "How the learning rate falls after its warm-up. Usual: cosine; constant if you may continue training later.",
        choices=SCHEDULES,
    )
    sft_weight: float = setting(
        "Cross-entropy weight",
        0.0,
        "Weight of the cross-entropy on the data's completions, added to the loss. Usual: 0, or 0.1 to 1. Needs "
        "rollout.dataset_fraction.",
        ge=0,
        le=1000,
    )
    optimizer: str = setting(
        "Optimizer",
        "AdamW",
        "A class of torch.optim, or bitsandbytes.AdamW8bit, which needs a quarter of the memory.",
        allowed="a class of torch.optim or bitsandbytes.AdamW8bit",
        required=True,
        max_length=200,
    )
    weight_decay: float = setting(
        "Weight decay",
        0.0,
        "How strongly the weights are pulled toward 0, except norms and biases. Usual: 0 to 0.1.",
        ge=0,
        le=1000,
    )
    max_grad_norm: float = setting(
        "Gradient clipping",
        1.0,
        "Largest gradient norm; a larger gradient is scaled down. Usual: 1; lower it if the loss jumps.",
        gt=0,
        le=1e12,
    )
    ema_decay: float | None = setting(
        "Running mean",
        None,
        "Decay of the running mean of the weights; the mean is what is saved. Usual: 0.99; use it if answers grow "
        "longer and longer.",
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
        "How several GPUs share the student: a whole copy on each (ddp), split (fsdp2), or with gradients and "
        "optimizer state split by DeepSpeed (zero2). Use fsdp2 for a student larger than a GPU.",
        choices=PARALLELS,
    )
    mixed_precision: str = setting(
        "Mixed precision",
        "auto",
        "Number format of the arithmetic; the weights keep their own. Usual: auto, which means bf16 if the student's "
        "precision is auto and the device is faster in bf16, else no; fp16 on a T4.",
        choices=MIXED_PRECISIONS,
    )
    gradient_checkpointing: bool = setting(
        "Recompute activations",
        False,
        "Compute activations again instead of keeping them. Needs less memory and is a third slower. Use it when "
        "memory is short.",
    )
    stop_on_collapse: bool = setting(
        "Stop on collapse",
        True,
        "End the run if its answers no longer end, become very long or become empty. Turn it off to study such a "
        "collapse.",
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
        "How many of the newest checkpoints are kept, in addition to the best one. Each has the trained weights and "
        "the optimizer.",
        ge=1,
        le=1_000_000,
    )
    keep: str = setting(
        "Student kept",
        "last",
        "Which student a finished run saves: the last one, or that of the best checkpoint (evaluation.best_by).",
        choices=STUDENTS_KEPT,
    )
    samples_every: int = setting(
        "Samples every", 10, "Steps between completions that are saved for you to read.", ge=1, le=MOST_STEPS
    )
    max_length: int = setting(
        "Longest sequence",
        4096,
        "The most tokens of prompt and completion together; longer prompts are left out. Lower it when memory is "
        "short.",
        ge=2,
        le=MOST_TOKENS,
    )
    seed: int = setting(
        "Seed",
        0,
        "Decides the order of prompts and all random numbers. Change it to see how much a result depends on chance.",
        ge=0,
        le=LARGEST_SEED,
    )

    def longest(self, contexts: Iterable[int | None]) -> int:
        """The most tokens of a prompt and its completion: `max_length`, or fewer if a model's context is shorter."""
        return min([self.max_length, *filter(None, contexts)])

    def micro_batch(self, rollouts: int, length: int) -> int:
        """Completions in one pass if all `rollouts` of a process are `length` tokens long."""
        return min(rollouts, self.micro_batch_size or max(1, self.micro_batch_tokens // length))

    @property
    def micro_batch_setting(self) -> str:
        """The setting that limits one pass."""
        return "training.micro_batch_size" if self.micro_batch_size else "training.micro_batch_tokens"


class WarmupConfig(Section):
    """A warm start: the student imitates checked answers of the teacher, before it learns from its own answers.

    Sampling uses temperature and top-p from `rollout`. `batch_size` is the number of examples in an optimizer step.
    """

    samples_per_prompt: int = setting(
        "Answers per prompt",
        1,
        "Answers of the teacher to each prompt. Usual: 1 to 8; more if many fail the check.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    checker: str = setting(
        "Checker",
        "none",
        "Which answers are kept: all (none), or only answers that match the reference as text, number, maths or code.",
        choices=CHECKERS,
    )
    keep: str = setting(
        "Keep",
        "all",
        "Which of the answers that pass are learned: all, or the shortest one per prompt, as in the paper.",
        choices=KEPT,
    )
    min_tokens: int = setting(
        "Shortest answer", 0, "Leave out answers with fewer tokens than this.", ge=0, le=MOST_TOKENS
    )
    max_tokens: int | None = setting(
        "Longest answer",
        None,
        "Leave out answers with more tokens than this.",
        empty="no limit",
        ge=1,
        le=MOST_TOKENS,
    )
    max_repetition: float | None = setting(
        "Most repetition",
        None,
        "Leave out answers if more than this share of them repeats earlier text. Usual: 0.3 to 0.5.",
        empty="not checked",
        ge=0,
        le=1,
    )
    max_new_tokens: int = setting(
        "Max new tokens", 512, "Longest answer of the teacher, in tokens. Usual: 512 to 2,048.", ge=1, le=MOST_TOKENS
    )
    retry_budget: float = setting(
        "Retry budget",
        4.0,
        "If many answers are cut off, they are written again with twice the length, repeatedly, for at most this many "
        "times the tokens of all first answers. 0: never.",
        ge=0,
        le=1000,
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
        "Run written code", False, "Let the checker 'code' run what the teacher wrote, in a sandbox."
    )

    def first_limit(self, longest: int, training: TrainingConfig) -> int:
        """The most tokens of an answer at first: of a teacher that reads fewer than training.max_length tokens, at most
        half of its `longest`, because max_new_tokens may leave its prompts no room.
        """
        return min(self.max_new_tokens, longest // 2) if longest < training.max_length else self.max_new_tokens
