"""The model card of a published student, and the card of its rollouts.

Text from a run or a model (samples, names, settings) is escaped, so that it can neither break nor style the card;
tokens and paths of the training machine are left out.
"""

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData

import simct
from simct.config import RunConfig, divergence_of, dump_config
from simct.config.notify import NotifyConfig
from simct.config.precision import Precision, precision_text
from simct.config.publish import PublishConfig
from simct.config.sections import ModelConfig
from simct.config.tasks import rename_tasks
from simct.config.teachers import method_of, teacher_names
from simct.errors import DataError
from simct.evaluation.records import evaluations_of
from simct.files import expanded
from simct.hub.redact import redact
from simct.hub.repo_ids import hub_id
from simct.inspection.records import PairReport
from simct.methods import DIVERGENCES, METHODS
from simct.publishing.card_results import distance_results, results_section, samples_section, task_results
from simct.publishing.card_text import escape
from simct.publishing.usage import published_student, transformers_code
from simct.report import facts
from simct.runs.folder import RunFolder

CURVE_FILE = "training_curve.png"
RUN_FILE = "simct_run.yaml"
TAGS = ["simct", "distillation", "on-policy-distillation", "cross-tokenizer"]
DISTILLED = """\
$student, distilled on-policy from $teacher with the method $method, by SimCT Studio
([arXiv 2605.07711](https://arxiv.org/abs/2605.07711)). The student writes its own answers, the teacher scores exactly
the same text, and the student learns from the teacher's probabilities, although the two models cut text into different
tokens."""
WARMED_UP = """\
$student, warmed up on answers of $teacher by SimCT Studio: the teacher answered the prompts, and the student learned to
repeat its answers. It is a start for on-policy distillation."""
ADAPTER = (
    "This repository holds the LoRA adapter alone: a small file that is loaded onto the student's original weights."
)
WARM_UP = """\
**Warm start**: supervised fine-tuning on the teacher's own answers. The loss is the student's cross-entropy on the
tokens of the answer."""


def shown_name(name: str) -> str:
    """The name of a model or data source on the card: its Hub id, or only the last part of a local path."""
    if hub_id(name):
        return name
    path = expanded(name)
    demo = Path(simct.__file__).parent / "demo"
    if path.resolve().is_relative_to(demo):
        return f"SimCT Studio demo {path.resolve().relative_to(demo).as_posix()}"
    return path.name or "a local file"


def public_config(config: RunConfig) -> RunConfig:
    """A copy of the configuration without paths of this machine."""
    shown = config.model_copy(deep=True)
    shown.output = None
    shown.notify = NotifyConfig()  # a webhook's address is a secret
    shown.publish = PublishConfig()  # people who start from this run choose their own place to publish
    for model in shown.models:
        model.model = shown_name(model.model)
    # a server's address is private; the card only says that there was one
    for model in shown.teacher_models:
        model.server = model.price_per_million_tokens = None
        if model.scores:
            model.scores = shown_name(model.scores)
    shown.data.prompts = shown_name(shown.data.prompts)
    if shown.data.held_out_prompts:
        shown.data.held_out_prompts = shown_name(shown.data.held_out_prompts)
    rename_tasks(shown, lambda task: shown_name(task) if "/" in task else task)
    return shown


def public_yaml(config: RunConfig) -> str:
    """The run's YAML as it may be published."""
    return redact(dump_config(public_config(config)))


def model_card(run: RunFolder, repo_id: str, license: str | None = None, adapter: bool = False) -> str:
    """The README of the student in `repo_id`: metadata the Hub understands, then the report.

    `license` is the student's, as the Hub names it; `adapter`: the repository holds the LoRA weights alone. Raises
    ValueError if huggingface_hub finds the metadata malformed.
    """
    config, metrics = run.trained_config(), run.metrics()
    template = Template(files("simct.publishing").joinpath("card_template.md").read_text(encoding="utf-8"))
    body = template.substitute(
        title=escape(repo_id.split("/")[-1]),
        repo_id=repo_id,
        intro=_intro(config) + (f"\n\n{ADAPTER}" if adapter else ""),
        progress=_progress(run),
        results=results_section(run),
        samples=samples_section(run.evaluation()),
        usage=transformers_code(published_student(run, repo_id, adapter)),
        method=WARM_UP if config.kind == "warmup" else METHODS[config.method].paragraph,
        settings="\n".join(f"| {name} | {value} |" for name, value in _settings(config, adapter)),
        curve=_curve(run, metrics),
        tokenizers=_tokenizers(run),
        data=_data(config, metrics),
        license=_license(config, license),
    )
    return redact(f"---\n{card_metadata(run, repo_id, license, adapter).to_yaml()}\n---\n\n{body}")


def card_metadata(run: RunFolder, repo_id: str, license: str | None = None, adapter: bool = False) -> ModelCardData:
    """The card's metadata. Raises ValueError if huggingface_hub finds it malformed."""
    config = run.config()
    base, dataset = hub_id(config.student.model), hub_id(config.data.prompts)
    teachers = [name for model in config.teacher_models if (name := hub_id(model.model))]
    relation: dict[str, Any] = (
        {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"} if base else {}
    )
    if teachers:
        relation["teacher_model"] = teachers if config.teachers else teachers[0]
    results = [*task_results(run), *distance_results(run)]
    return ModelCardData(
        **relation,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        license=license,
        tags=[
            *TAGS[:2],
            *([] if config.kind == "warmup" else [*TAGS[2:], f"method-{config.method}"]),
            *["lora"] * adapter,
        ],
        datasets=[dataset] if dataset else None,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results or None,
    )


def rollouts_card(run: RunFolder, model_id: str) -> str:
    """The README of the dataset of rollouts."""
    config = public_config(run.config())
    metadata = DatasetCardData(tags=[*TAGS, "synthetic"], pretty_name=f"Rollouts of {model_id}")
    return redact(
        f"---\n{metadata.to_yaml()}\n---\n\n# Rollouts of {escape(model_id)}\n\n"
        f"What [{model_id}](https://huggingface.co/{model_id}) wrote while it was distilled from"
        f" {escape(teacher_names(config))}: one JSON line per sample, with the `step`, the `prompt`, the "
        "`completion` and"
        " whether it `ended` by itself. Text made by a model, unchecked; prompts come from the training data"
        f" ({escape(config.data.prompts)}).\n"
    )


def _intro(config: RunConfig) -> str:
    template = Template(WARMED_UP if config.kind == "warmup" else DISTILLED)
    return template.substitute(
        student=_model_link(config.student),
        teacher=_teacher_links(config),
        method=METHODS[config.method].title,
    )


def _teacher_links(config: RunConfig) -> str:
    """The teacher, or several with how they share the rows."""
    if not config.teachers:
        return _model_link(config.teacher)
    routed = config.data.teacher_column
    links = [
        f"{_model_link(each)} ({escape(each.name)}, "
        + (f"for {escape(', '.join(each.routed))}" if routed else f"weight {each.weight:g}")
        + ")"
        for each in config.teachers
    ]
    return f"{', '.join(links[:-1])} and {links[-1]}" if len(links) > 1 else links[0]


def _model_link(model: ModelConfig) -> str:
    name = hub_id(model.model)
    if not name:
        return escape(shown_name(model.model))
    revision = model.revision or ""
    commit = f" (commit `{revision[:12]}`)" if re.fullmatch(r"[0-9a-f]{12,40}", revision) else ""
    return f"[{name}](https://huggingface.co/{name}){commit}"


def _progress(run: RunFolder) -> str:
    status = run.status()
    step, total = status.step, status.total_steps or 0
    if status.state == "finished" and step < total:
        return f"The run ended by itself after {step:,} of {total:,} steps, as the student no longer improved."
    if status.state == "finished":
        return f"The run finished all {total:,} steps."
    state = escape(status.state)
    return f"The run ended early ({state}) after {step:,} of {total:,} steps; this is the student as it was then."


def _curve(run: RunFolder, metrics: list[dict]) -> str:
    """The picture next to the settings: the loss, and the distance if it was measured during training."""
    if len(metrics) < 2:
        return "No curve: fewer than two steps were recorded."
    measured = sum(bool(each.directions) for each in evaluations_of(run)) > 1
    return f"![{'Loss and distance to the teacher' if measured else 'Loss'} by step]({CURVE_FILE})"


def _settings(config: RunConfig, adapter: bool) -> list[tuple[str, str]]:
    """The settings that determine the result, in words; options that are off are left out."""
    rows = _warmup_settings(config) if config.kind == "warmup" else _distillation_settings(config)
    lora, training = config.lora, config.training
    rows += [
        (
            "LoRA",
            f"rank {lora.rank}, alpha {lora.alpha or 2 * (lora.rank or 0)}"
            + ("" if adapter else ", merged into the weights")
            if lora.rank
            else "",
        ),
        ("Parts not trained", ", ".join(training.freeze)),
        ("Running mean of the weights", f"decay {training.ema_decay:g}" if training.ema_decay else ""),
        *_teacher_settings(config),
        ("Seed", str(training.seed)),
        ("Software", f"SimCT Studio {simct.__version__}"),
    ]
    return [(name, escape(value)) for name, value in rows if value]


def _probabilities(teacher: ModelConfig) -> str:
    """The source of the teacher's probabilities, for a teacher whose weights were elsewhere."""
    if not teacher.elsewhere:
        return ""
    if teacher.scores:
        # how many were stored is in their folder, which may be on another machine
        return "stored in advance; at each position the most likely tokens and the sum of all others"
    return (
        f"served over HTTP; at each position the {teacher.top_logprobs:,} most likely tokens and the sum of all others"
    )


def _teacher_settings(config: RunConfig) -> list[tuple[str, str]]:
    if not config.teachers:
        return [
            ("Precision", precision_text(config)),
            ("Teacher's probabilities", _probabilities(config.teacher)),
            ("Teacher quantized", config.teacher.quantization or ""),
            ("System text for the teacher only", config.teacher.system or ""),
        ]
    column = config.data.teacher_column
    rows = [("Precision of the student", Precision.of(config).student_text.removeprefix("student "))]
    for each in config.teachers:
        method, options = method_of(config, each)
        parts = [
            shown_name(each.model),
            f"weight {each.weight:g}",
            f"rows whose {column} is {', '.join(each.routed)}" if column else "",
            method + "".join(f", {name} = {value}" for name, value in options.items()),
            _probabilities(each) or each.dtype + (f", quantized to {each.quantization}" if each.quantization else ""),
            f"system text: {each.system}" if each.system else "",
        ]
        rows.append((f"Teacher {each.name}", "; ".join(filter(None, parts))))
    return rows


def _distillation_settings(config: RunConfig) -> list[tuple[str, str]]:
    rollout, training, divergence = config.rollout, config.training, divergence_of(config)
    options = ", ".join(f"{key} = {value}" for key, value in config.method_options.items())
    sampling = (
        f"temperature {rollout.temperature:g}, top-p {rollout.top_p:g}, at most {rollout.max_new_tokens:,} tokens"
    )
    if rollout.top_k:
        sampling += f", top-k {rollout.top_k}"
    if rollout.min_p:
        sampling += f", min-p {rollout.min_p:g}"
    if rollout.repetition_penalty != 1:
        sampling += f", repetition penalty {rollout.repetition_penalty:g}"
    if rollout.teacher_fraction:
        sampling += f"; {rollout.teacher_fraction:.0%} of the answers written by the teacher"
    if rollout.dataset_fraction:
        sampling += f"; {rollout.dataset_fraction:.0%} of the answers taken from the data"
    spared = " (not of norms and biases)" if training.weight_decay else ""
    return [
        ("Method", config.method + (f" ({options})" if options else "")),
        ("Divergence", DIVERGENCES[divergence] if divergence else ""),
        ("Steps × rollouts per step", f"{training.steps:,} × {training.batch_size:,}"),
        ("Optimizer", f"{training.optimizer}, learning rate {training.learning_rate:g}, {training.schedule}"),
        ("Warm-up of the rate", f"{training.warmup_ratio:.0%} of the steps"),
        ("Weight decay, gradient clipping", f"{training.weight_decay:g}{spared}, {training.max_grad_norm:g}"),
        ("Sampling", sampling),
        ("Weight of the data's cross-entropy", f"{training.sft_weight:g}" if training.sft_weight else ""),
    ]


def _warmup_settings(config: RunConfig) -> list[tuple[str, str]]:
    warmup = config.warmup
    checked = "unchecked" if warmup.checker == "none" else f"kept only if the {warmup.checker} check passes"
    return [
        ("Answers of the teacher", f"{warmup.samples_per_prompt} a prompt, {checked}"),
        ("Epochs, examples per step", f"{warmup.epochs:g}, {warmup.batch_size:,}"),
        ("Learning rate", f"{warmup.learning_rate:g}"),
    ]


def _tokenizers(run: RunFolder) -> str:
    kept = run.inspection()
    if not kept:
        return "This run kept no tokenizer report; `simct inspect` makes one."
    several = kept.get("teachers") or {}
    try:
        if several:
            reports = {name: PairReport.from_dict(each) for name, each in several.items()}
            return "\n\n".join(f"### {escape(name)}\n\n{_pair_report(report)}" for name, report in reports.items())
        return _pair_report(PairReport.from_dict(kept))
    except (DataError, AttributeError):
        return "This run's tokenizer report cannot be read; `simct inspect` makes one."


def _pair_report(report: PairReport) -> str:
    found = facts.coverage_facts(report) + facts.vocabulary_facts(report)
    rows = "\n".join(f"| {fact.label} | {fact.text} | {fact.explanation} |" for fact in found)
    table = f"Measured on the prompts' text:\n\n| Number | Value | What it means |\n|---|---:|---|\n{rows}"
    names = [f"“{escape(each.text, 40)}” ({each.count:,})" for each in report.top_disagreements[:8]]
    return table + (
        f"\n\nMost frequent stretches that the two spell with different tokens: {', '.join(names)}." if names else ""
    )


def _data(config: RunConfig, metrics: list[dict]) -> str:
    dataset = hub_id(config.data.prompts)
    source = (
        f"[{dataset}](https://huggingface.co/datasets/{dataset})"
        if dataset
        else escape(shown_name(config.data.prompts))
    )
    text = f"Prompts: {source}, split {escape(config.data.split)}. {_answers_from(config)}"
    excluded: dict[str, int] = {}
    for record in metrics:
        for reason, count in (record.get("excluded") or {}).items():
            excluded[reason] = excluded.get(reason, 0) + int(count)
    if excluded:
        reasons = ", ".join(f"{escape(reason)}: {count:,}" for reason, count in sorted(excluded.items()))
        text += f" Samples left out, by reason: {reasons}."
    return text


def _answers_from(config: RunConfig) -> str:
    if config.kind == "warmup":
        return "The answers learned from are the teacher's."
    rollout = config.rollout
    others = ["the teacher's"] * bool(rollout.teacher_fraction) + ["the data's"] * bool(rollout.dataset_fraction)
    if not others:
        return "The answers learned from are the student's own."
    if not rollout.on_policy_fraction:
        return f"The answers learned from are {' and '.join(others)}."
    return f"The answers learned from are the student's own and, in part, {' and '.join(others)}."


def _license(config: RunConfig, license: str | None) -> str:
    teacher = escape(", ".join(shown_name(model.model) for model in config.teacher_models))
    if license:
        return f"The student's license, {escape(license)}, stays; the terms of the teacher, {teacher}, may apply too."
    return f"No license is stated: ask the authors of the student, and mind the terms of the teacher, {teacher}."
