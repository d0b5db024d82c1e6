"""The settings of a run as form fields. Each field is kept by its place in run.yaml."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from app import markup
from simct import demo
from simct.config import DIVERGENCES, SCHEDULES, RunConfig, set_option
from simct.errors import ConfigError
from simct.presets import load_preset

EMBEDDED_PROMPTS, UPLOAD, HUB_DATASET = "Embedded", "Upload a file", "Hub dataset"
SOURCES = (EMBEDDED_PROMPTS, UPLOAD, HUB_DATASET)
FILE_TYPES = [".jsonl", ".json", ".csv", ".parquet", ".txt"]
METHOD_NAMES = {
    "simct": "SimCT: shared tokens and aligned units (as published)",
    "strict": "Strict: tokens both cut the same way, nothing else",
    "marginal": "Marginal: compares the two models on text",
    "bpm": "Byte-prefix marginalisation",
    "uld": "ULD: sorted probabilities",
    "gold": "GOLD: merged spans",
    "alm": "ALM: chunk likelihoods",
}
BASIC_METHODS = ("simct", "strict")
DIVERGENCE_NAMES = {"reverse_kl": "Reverse KL", "forward_kl": "Forward KL", "js": "Jensen–Shannon"}


@dataclass(frozen=True)
class RunForm:
    """`fields` maps a dotted name of run.yaml to its component; source, upload and dataset name the prompts."""

    source: gr.Radio
    upload: gr.File
    dataset: gr.Textbox
    fields: dict[str, gr.components.Component]
    prompts_note: gr.HTML

    @property
    def components(self) -> list[gr.components.Component]:
        return [self.source, self.upload, self.dataset, *self.fields.values()]

    @property
    def prompt_events(self) -> list:
        fields = [self.dataset, self.fields["data.column"], self.fields["data.split"]]
        return [self.source.change, self.upload.change, *(e for field in fields for e in (field.submit, field.blur))]

    def config(self, teacher: str, student: str, values: Sequence) -> RunConfig:
        """The run the fields describe. Raises ConfigError naming a setting that does not fit; not for ranges."""
        source, upload, dataset, *settings = values
        config = RunConfig()
        config.teacher.model, config.student.model = (teacher or "").strip(), (student or "").strip()
        prompts = {EMBEDDED_PROMPTS: str(demo.PROMPTS), UPLOAD: upload, HUB_DATASET: (dataset or "").strip()}[source]
        config.data.prompts = prompts or ""
        for name, value in zip(self.fields, settings, strict=True):
            if value is None or value == "":
                continue
            set_option(config, name, value)
        if not isinstance(config.method_options, dict):
            raise ConfigError("method_options must be `name: value` lines. Correct them under Advanced.")
        return config


def settings_form() -> RunForm:
    """Lay the fields out: what most people set first, the rest folded."""
    default = starting_config()
    training, rollout = default.training, default.rollout
    with gr.Group():
        source = gr.Radio(SOURCES, value=EMBEDDED_PROMPTS, label="Prompts", elem_id="prompt-source")
        upload = gr.File(
            label="JSONL, CSV, Parquet or text", file_types=FILE_TYPES, visible=False, height=110, elem_id="prompt-file"
        )
        dataset = gr.Textbox(label="Dataset id", placeholder="owner/dataset", visible=False, elem_id="prompt-dataset")
        with gr.Row(visible=False) as places:
            fields = {
                "data.column": gr.Textbox(label="Prompt column", placeholder="found by name", elem_id="prompt-column"),
                "data.split": gr.Textbox("train", label="Split", elem_id="prompt-split"),
            }
    prompts_note = markup.panel(
        markup.note("quiet", "The embedded pair's own task, with checkable answers."), elem_id="prompt-note"
    )
    fields["method"] = gr.Radio(method_choices(), value=default.method, label="Method", elem_id="method")
    with gr.Row():
        fields["training.steps"] = _number(training.steps, "Steps", "steps", 0)
        fields["training.batch_size"] = _number(training.batch_size, "Rollouts per step", "batch-size", 0)
        fields["training.learning_rate"] = _number(training.learning_rate, "Learning rate", "learning-rate")
        fields["rollout.max_new_tokens"] = _number(rollout.max_new_tokens, "Max new tokens", "max-new-tokens", 0)
    fields["evaluation.tasks"] = gr.CheckboxGroup(
        [("Score the embedded task before and after", "demo")],
        value=default.evaluation.tasks,
        show_label=False,
        label="Evaluation",
    )
    with gr.Accordion("Advanced", open=False):
        with gr.Row():
            names = [("The method's own", ""), *((DIVERGENCE_NAMES[name], name) for name in DIVERGENCES)]
            fields["divergence"] = gr.Dropdown(names, value=default.divergence or "", label="Divergence")
            fields["training.schedule"] = gr.Dropdown(list(SCHEDULES), value=training.schedule, label="Schedule")
            fields["training.warmup_ratio"] = _number(training.warmup_ratio, "Warm-up, share of steps")
        with gr.Row():
            fields["rollout.temperature"] = _number(rollout.temperature, "Temperature")
            fields["rollout.top_p"] = _number(rollout.top_p, "Top-p")
            fields["rollout.samples_per_prompt"] = _number(rollout.samples_per_prompt, "Samples per prompt", None, 0)
        with gr.Row():
            fields["training.micro_batch_size"] = _number(training.micro_batch_size, "Micro-batch", None, 0)
            fields["training.weight_decay"] = _number(training.weight_decay, "Weight decay")
            fields["training.max_grad_norm"] = _number(training.max_grad_norm, "Gradient clipping")
        with gr.Row():
            fields["training.checkpoint_every"] = _number(training.checkpoint_every, "Checkpoint every", None, 0)
            fields["training.samples_every"] = _number(training.samples_every, "Show samples every", None, 0)
            fields["training.seed"] = _number(training.seed, "Seed", None, 0)
        dtypes = ["float32", "bfloat16", "float16"]
        with gr.Row():
            fields["teacher.dtype"] = gr.Dropdown(dtypes, value=default.teacher.dtype, label="Teacher precision")
            fields["student.dtype"] = gr.Dropdown(dtypes, value=default.student.dtype, label="Student precision")
            fields["data.limit"] = _number(None, "Prompts, at most", None, 0)
        fields["data.system"] = gr.Textbox(label="System text", placeholder="none")

    def places_of(chosen: str):
        return (
            gr.File(visible=chosen == UPLOAD),
            gr.Textbox(visible=chosen == HUB_DATASET),
            gr.Row(visible=chosen != EMBEDDED_PROMPTS),
        )

    source.change(places_of, source, [upload, dataset, places], api_visibility="private", show_progress="hidden")
    return RunForm(source, upload, dataset, fields, prompts_note)


def method_choices() -> list[tuple[str, str]]:
    """The methods that can run, by what they do. The two basic ones until torch is imported."""
    losses = sys.modules.get("simct.losses")
    return [(METHOD_NAMES.get(name, name), name) for name in getattr(losses, "METHODS", BASIC_METHODS)]


def starting_config() -> RunConfig:
    """What the form holds at first: the preset that works for the embedded pair in a minute or two."""
    return load_preset("demo-cpu")


def _number(value, label: str, elem_id: str | None = None, precision: int | None = None) -> gr.Number:
    return gr.Number(value, label=label, precision=precision, elem_id=elem_id, min_width=130)
