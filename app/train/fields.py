"""Which settings the Train step shows, in which order, under which names."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from simct.config import DIVERGENCES, DTYPES, ENGINES, METHODS, MIXED_PRECISIONS, QUANTIZATIONS, SCHEDULES, TRACKERS

METHOD_NAMES = {
    "simct": "SimCT: shared tokens and aligned units (as published)",
    "strict": "Strict: tokens both cut the same way, nothing else",
    "marginal": "Marginal: compares the two models on text",
    "bpm": "Byte-prefix marginalization",
    "uld": "ULD: sorted probabilities",
    "gold": "GOLD: merged spans",
    "alm": "ALM: chunk likelihoods",
}
DIVERGENCE_NAMES = {"reverse_kl": "Reverse KL", "forward_kl": "Forward KL", "js": "Jensen–Shannon"}
TASKS = ["demo", "gsm8k", "minerva_math500", "humaneval", "mbpp"]
THINKING = [("The template's own", ""), ("On", "true"), ("Off", "false")]


@dataclass(frozen=True)
class Field:
    """One setting: `kind` is number, whole, choice, several, text or switch."""

    name: str
    label: str
    kind: str = "number"
    choices: Sequence = ()
    info: str | None = None
    placeholder: str | None = None

    def build(self, value) -> gr.components.Component:
        shared = {"label": self.label, "elem_id": self.name.replace(".", "-").replace("_", "-"), "min_width": 150}
        told = {**shared, "info": self.info}
        if self.kind in ("number", "whole"):
            return gr.Number(value, precision=0 if self.kind == "whole" else None, **told)
        if self.kind == "choice":
            return gr.Dropdown(list(self.choices), value=value, filterable=False, **told)
        if self.kind == "several":
            return gr.Dropdown(list(self.choices), value=value, multiselect=True, allow_custom_value=True, **told)
        if self.kind == "switch":
            return gr.Checkbox(value, **told)
        return gr.Textbox(value, placeholder=self.placeholder, **told)


BASIC = (
    (Field("method", "Method", "choice", [(METHOD_NAMES[name], name) for name in METHODS]),),
    (
        Field("training.steps", "Steps", "whole"),
        Field("training.batch_size", "Rollouts per step", "whole"),
        Field("training.learning_rate", "Learning rate"),
        Field("rollout.max_new_tokens", "Max new tokens", "whole"),
    ),
    (
        Field("training.epochs", "Epochs", info="In place of steps."),
        Field("lora.rank", "LoRA rank", "whole", info="Empty: all weights."),
        Field("evaluation.tasks", "Score before and after", "several", TASKS, "Tasks of lm-eval, too."),
    ),
)

FOLDED = {
    "Loss": (
        (
            Field(
                "divergence",
                "Divergence",
                "choice",
                [("The method's own", ""), *((DIVERGENCE_NAMES[name], name) for name in DIVERGENCES)],
            ),
            Field("method_options", "Method options", "text", placeholder="mass_mask: 0.5", info="As YAML."),
        ),
    ),
    "Optimizer": (
        (
            Field("training.schedule", "Schedule", "choice", SCHEDULES),
            Field("training.warmup_ratio", "Warm-up, share of steps"),
            Field("training.weight_decay", "Weight decay"),
        ),
        (
            Field("training.optimizer", "Optimizer", "text"),
            Field("training.max_grad_norm", "Gradient clipping"),
            Field("training.ema_decay", "Mean of weights, decay", info="Empty: off."),
        ),
        (
            Field("lora.alpha", "LoRA alpha", "whole", info="Empty: twice the rank."),
            Field("lora.dropout", "LoRA dropout"),
            Field("lora.targets", "LoRA layers", "text"),
        ),
    ),
    "Rollouts": (
        (
            Field("rollout.temperature", "Temperature"),
            Field("rollout.top_p", "Top-p"),
            Field("rollout.samples_per_prompt", "Samples per prompt", "whole"),
            Field("rollout.on_policy_fraction", "Share written by the student"),
        ),
        (
            Field("rollout.engine", "Written by", "choice", ENGINES),
            Field("teacher.enable_thinking", "Teacher's thinking", "choice", THINKING),
            Field("student.enable_thinking", "Student's thinking", "choice", THINKING),
        ),
    ),
    "Memory and precision": (
        (
            Field("training.micro_batch_size", "Micro-batch", "whole"),
            Field("training.max_length", "Longest sequence, tokens", "whole"),
            Field("training.mixed_precision", "Mixed precision", "choice", MIXED_PRECISIONS),
        ),
        (
            Field("teacher.dtype", "Teacher precision", "choice", DTYPES),
            Field("student.dtype", "Student precision", "choice", DTYPES),
            Field("teacher.quantization", "Teacher quantized", "choice", [("No", ""), *QUANTIZATIONS]),
        ),
        (Field("training.gradient_checkpointing", "Recompute activations (less memory, slower)", "switch"),),
    ),
    "Keeping and watching": (
        (
            Field("training.checkpoint_every", "Checkpoint every, steps", "whole"),
            Field("training.keep_checkpoints", "Checkpoints kept", "whole"),
            Field("training.samples_every", "Show samples every, steps", "whole"),
        ),
        (
            Field("evaluation.samples", "Scored samples a task", "whole", info="Empty: all."),
            Field("training.tracker", "Tracker", "choice", [("None", ""), *TRACKERS]),
            Field("training.seed", "Seed", "whole"),
        ),
        (
            Field("training.stop_on_collapse", "End a run whose answers collapse", "switch"),
            Field("evaluation.allow_code_execution", "Run code that the model wrote, in a sandbox", "switch"),
        ),
    ),
}
