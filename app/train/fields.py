"""The settings that the Train step shows, in order; the kind of each field follows from the setting's type."""

import math
from typing import Any

import gradio as gr

from simct.config import RunConfig
from simct.methods import DIVERGENCES, METHODS
from simct.setting import Setting, every_setting

FormField = gr.Number | gr.Dropdown | gr.Checkbox | gr.Textbox

SETTINGS: dict[str, Setting] = dict(every_setting(RunConfig))
TASK_LISTS = ("evaluation.tasks", "evaluation.tracked_tasks")
TASKS = ["demo", "gsm8k", "minerva_math500", "humaneval", "mbpp"]
CHOICE_NAMES = {
    "method": {name: f"{method.title}: {method.line.replace('`', '')}" for name, method in METHODS.items()},
    **{name: {"auto": "Automatic"} for name in ("teacher.dtype", "student.dtype", "training.mixed_precision")},
    "divergence": {name: words[0].upper() + words[1:] for name, words in DIVERGENCES.items()},
}
# the step of the arrow keys, if it does not follow from the value
STEPS = {"training.seed": 1, "training.epochs": 0.5, "lora.rank": 8, "lora.alpha": 8}
SHARE_STEP = 0.05
PLACEHOLDERS = {"method_options": "mass_mask: 0.5", "teachers": "- model: owner/name\n  weight: 1"}

BASIC = (
    ("method",),
    ("training.steps", "training.batch_size", "training.learning_rate", "rollout.max_new_tokens"),
    ("training.epochs", "lora.rank", "evaluation.tasks"),
)
# the fields that the switch "Publish when finished" reveals
PUBLISH = (
    ("publish.repo_id", "publish.what"),
    ("publish.private", "publish.rollouts", "publish.space", "publish.only_if_improved"),
)
FOLDED = {
    "Loss": (("divergence", "method_options"),),
    "Optimizer": (
        ("training.schedule", "training.warmup_ratio", "training.weight_decay"),
        ("training.optimizer", "training.max_grad_norm", "training.ema_decay"),
        ("lora.alpha", "lora.dropout", "lora.targets"),
    ),
    "Rollouts": (
        ("rollout.temperature", "rollout.top_p", "rollout.samples_per_prompt", "rollout.on_policy_fraction"),
        ("rollout.dataset_fraction", "training.sft_weight"),
        ("rollout.top_k", "rollout.min_p", "rollout.repetition_penalty"),
        ("rollout.engine", "teacher.enable_thinking", "student.enable_thinking", "teacher.system"),
        ("teacher.chat_template", "student.chat_template"),
    ),
    "Memory and precision": (
        ("training.micro_batch_tokens", "training.micro_batch_size", "training.max_length"),
        ("teacher.dtype", "student.dtype", "teacher.quantization"),
        ("training.mixed_precision", "training.gradient_checkpointing"),
    ),
    "Teacher elsewhere": (("teacher.scores", "teacher.offload"),),
    "Several teachers": (("teachers",), ("data.teacher_column",)),
    "Evaluations along the way": (
        ("evaluation.every", "evaluation.tracked_tasks", "evaluation.tracked_samples", "evaluation.time_share"),
        ("evaluation.best_by", "training.keep", "evaluation.patience"),
    ),
    "Checkpoints and metrics": (
        ("training.checkpoint_every", "training.keep_checkpoints", "training.samples_every"),
        ("evaluation.samples", "training.tracker", "training.seed"),
        ("training.stop_on_collapse", "evaluation.allow_code_execution"),
    ),
    "When it ends": (("notify.webhook",),),
}

# on the Pair step, under the teacher
SERVED_GROUP = "Teacher on a server"
SERVED = (("teacher.server",), ("teacher.top_logprobs", "teacher.price_per_million_tokens"))


def default(name: str) -> Any:
    """The value of a setting that is not set."""
    return SETTINGS[name].default


def build(name: str, value: Any) -> FormField:
    """The field of the setting `name` (such as training.steps), with `value`."""
    setting = SETTINGS[name]
    common: dict[str, Any] = {"label": label(name), "info": info(name), "elem_id": elem_id(name), "min_width": 150}
    if name in TASK_LISTS:
        return gr.Dropdown(TASKS, value=value, multiselect=True, allow_custom_value=True, **common)
    if is_choice(name):
        return gr.Dropdown(choices(name), value=value, filterable=False, **common)
    if bool in setting.kinds:
        return gr.Checkbox(value, **common)
    if int in setting.kinds or float in setting.kinds:
        # not rounded to a whole number: the run's settings refuse one that is not whole
        return gr.Number(value, step=step(name, value), elem_classes=classes(name), **common)
    if setting.entries:
        return gr.Textbox(value, placeholder=PLACEHOLDERS.get(name), lines=4, **common)
    return gr.Textbox(value, placeholder=PLACEHOLDERS.get(name), **common)


def elem_id(name: str) -> str:
    """The id of a setting's field on the page."""
    return name.replace(".", "-").replace("_", "-")


def step(name: str, value: float | None) -> float:
    """The step of the arrow keys in a number field with this value: about a tenth of it.

    static/form.js keeps the step of a scaled field at a tenth of its magnitude.
    """
    if name in STEPS:
        return STEPS[name]
    size = abs(value or 0)
    if int not in SETTINGS[name].kinds:
        return 10.0 ** (math.floor(math.log10(size)) - 1) if is_scaled(name) and size else SHARE_STEP
    if size < 16:
        return 1
    number = int(size)
    return number // 8 if number & (number - 1) == 0 else 10 ** (len(str(number)) - 2)


def is_scaled(name: str) -> bool:
    """Whether the setting is a positive number of unknown magnitude, such as a learning rate."""
    setting = SETTINGS[name]
    return float in setting.kinds and setting.lowest is None and setting.highest != 1 and name not in STEPS


def classes(name: str) -> list[str]:
    """The CSS classes of a field without an error."""
    return ["scaled"] if is_scaled(name) else []


def is_choice(name: str) -> bool:
    """Whether the setting is one of a few values; an empty setting is then "" instead of None."""
    setting = SETTINGS[name]
    return bool(setting.choices) or (bool in setting.kinds and setting.optional)


def choices(name: str) -> list[tuple[str, str]]:
    """(label, value) of each choice."""
    setting = SETTINGS[name]
    named = CHOICE_NAMES.get(name, {"true": "On", "false": "Off"} if bool in setting.kinds else {})
    values = setting.choices or ("true", "false")
    empty = [(setting.empty[0].upper() + setting.empty[1:], "")] if setting.optional else []
    return empty + [(named.get(value, value), value) for value in values]


def label(name: str) -> str:
    """The setting's title, with the model it belongs to if both have it."""
    section, _, _ = name.rpartition(".")
    title = SETTINGS[name].title
    return f"{section.capitalize()} {title.lower()}" if section in ("teacher", "student") else title


def info(name: str) -> str:
    """The text under the label: the setting's meaning, its usual range, and the meaning of an empty field."""
    setting = SETTINGS[name]
    meaning, *more = setting.help.rstrip(".").split(". ")
    usual = [sentence.partition(";")[0] for sentence in more if sentence.startswith("Usual: ")]
    # wherever this field is shown, a repository must be named
    optional = setting.optional and not is_choice(name) and name != "publish.repo_id"
    empty = [f"Empty: {setting.empty}"] if optional else []
    return "".join(f"{sentence}. " for sentence in (meaning, *usual, *empty)).strip()
