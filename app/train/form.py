"""The settings of a run as form fields, each with its place in run.yaml; settings without a field stay as they are."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from app.server.handler import Updates
from app.train import fields
from app.train.checklist_view import FIELDS
from app.train.fields import FormField
from simct.config import RunConfig, brief, config_from_brief, leaves, set_option
from simct.config.sections import DataConfig, ModelConfig
from simct.errors import ConfigError
from simct.hub.repo_ids import split_revision
from simct.preflight.records import Check, from_error, problem
from simct.presets import load_preset
from simct.report.formats import plural

STEPS, REPOSITORY = "training.steps", "publish.repo_id"
# the switch that says in the form's values whether the run publishes; if it is off, a repository's name has no effect
PUBLISH = "publish"


@dataclass(frozen=True)
class RunForm:
    """`fields` maps a dotted name of run.yaml to its component, `infos` to the text under its label, and `groups` to
    the folded group of the field, if it is in one. `publish` is the switch that shows `publishing`.
    """

    fields: dict[str, FormField]
    infos: dict[str, str | None]
    groups: dict[str, gr.Accordion]
    publish: gr.Checkbox
    publishing: gr.Group

    @property
    def values(self) -> dict[str, FormField]:
        """Every component that holds a part of the run, by its name in the values of `read`."""
        return {**self.fields, PUBLISH: self.publish}

    def gathered(self, text: str) -> tuple[str, dict[str, Any]]:
        """The number of a version and the fields' values, from the text that the page sends."""
        edit, *sent = json.loads(text)
        fields = zip(self.values.items(), sent, strict=True)
        return str(edit), {name: field.preprocess(value) for (name, field), value in fields}

    def config(
        self, base: dict[str, Any] | None, teacher: str, student: str, data: DataConfig, values: Mapping[str, Any]
    ) -> RunConfig:
        """The run that `base` describes with the fields' values. Raises ConfigError for a value that is not allowed."""
        config, problems = self.read(base, teacher, student, data, values)
        if problems:
            raise ConfigError(problems[0].text)
        return config

    def read(
        self, base: dict[str, Any] | None, teacher: str, student: str, data: DataConfig, values: Mapping[str, Any]
    ) -> tuple[RunConfig, list[Check]]:
        """The same run, and the invalid values, whose settings stay as they are in `base`."""
        config, problems = base_config(base), []
        config.data = data
        wanted: dict[str, Any] = {}
        for side, name in (("teacher", teacher), ("student", student)):
            wanted[f"{side}.model"], wanted[f"{side}.revision"] = split_revision(name or "")
        wanted |= {name: values[name] for name in self.fields}
        if not values[PUBLISH]:
            wanted[REPOSITORY] = None
        elif not (wanted[REPOSITORY] or "").strip():
            problems.append(problem("Name a repository, or turn off “Publish when finished”.", setting=REPOSITORY))
        # a list of teachers replaces the teacher of the pair and its settings
        several = bool(str(wanted.get("teachers") or "").strip())
        if several:
            config.teacher = ModelConfig()
        for name, value in wanted.items():
            if several and name.startswith("teacher."):
                continue
            try:
                set_option(config, name, value)
            except ConfigError as error:
                problems.append(from_error(error, name))
        return config, problems

    def shown(self, config: RunConfig) -> dict[str, Any]:
        """The fields' values for `config`."""
        values = leaves(config.model_dump()) | {"teachers": brief(config).get("teachers", [])}
        shown = {name: _shown(name, values[name]) for name in self.fields}
        return {**shown, PUBLISH: config.publish.repo_id is not None}

    def filled(self, config: RunConfig) -> Updates:
        """Updates that fill the fields with `config`."""
        return {self.values[name]: value for name, value in self.shown(config).items()}

    def marked(
        self, before: Sequence[str], problems: Sequence[Check], overridden: str = ""
    ) -> tuple[list[str], Updates]:
        """The marked fields, and updates that show what is wrong under each label in an open group and remove the marks
        of `before`. `overridden` says why the steps are disabled, if they are.
        """
        reasons = {check.setting: check for check in reversed(problems) if check.setting in self.fields}
        updates: Updates = {
            self.fields[name]: gr.update(info=self.infos[name], elem_classes=fields.classes(name), interactive=True)
            for name in before
            if name in self.fields and name not in reasons
        }
        for name, check in reasons.items():
            classes = [*fields.classes(name), "wrong"]
            updates[self.fields[name]] = gr.update(info=f"✕ {_reason(check)}", elem_classes=classes, interactive=True)
            if name in self.groups and name not in before:
                updates[self.groups[name]] = gr.Accordion(open=True)
        if overridden and STEPS not in reasons:
            return [*reasons, STEPS], updates | self.steps(problems, overridden)
        return list(reasons), updates

    def steps(self, problems: Sequence[Check], overridden: str) -> Updates:
        """The field of the steps, disabled if they are overridden; unchanged if its value is wrong."""
        field = self.fields[STEPS]
        if any(check.setting == STEPS for check in problems):
            return {}
        if overridden:
            return {field: gr.update(info=overridden, elem_classes=["overridden"], interactive=False)}
        return {field: gr.update(info=self.infos[STEPS], elem_classes=fields.classes(STEPS), interactive=True)}


def overridden(epochs: float | None, steps: int | None) -> str:
    """The text that says that epochs decide the steps, and how many steps that is, if known; empty if they do not."""
    if epochs is None:
        return ""
    passes = f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    return f"Overridden: {passes} = {plural(steps, 'step')}." if steps else f"Overridden by {passes}."


def _reason(check: Check) -> str:
    """The allowed values, for a line under the label of the field; else the whole message."""
    _, found, allowed = check.message.partition("; it must be ")
    return FIELDS.in_labels(f"It must be {allowed}" if found else check.message)


def base_config(kept: dict[str, Any] | None) -> RunConfig:
    """The run that the browser kept, as far as it can be read; else the starting one."""
    return config_from_brief(kept) if kept else starting_config()


def starting_config() -> RunConfig:
    """The form's initial content: the preset that trains the embedded pair in a minute or two."""
    return load_preset("demo-cpu")


def settings_form(
    beside_method: Callable[[], None],
    elsewhere: Mapping[str, FormField] | None = None,
    group: gr.Accordion | None = None,
) -> RunForm:
    """Create the fields: the common ones first, the rest in folded groups by subject.

    `beside_method` comes after the first field. `elsewhere` are fields of the form on another step, in the folded
    `group`.
    """
    default = leaves(starting_config().model_dump())
    made: dict[str, FormField] = dict(elsewhere or {})
    groups: dict[str, gr.Accordion] = dict.fromkeys(made, group) if group else {}

    def row(names: Sequence[str]) -> None:
        with gr.Row():
            for name in names:
                made[name] = fields.build(name, _shown(name, default[name]))

    for number, names in enumerate(fields.BASIC):
        row(names)
        if number == 0:
            beside_method()
    publish = gr.Checkbox(
        False,
        label="Publish when finished",
        info="The run pushes its student and a model card to the Hub by itself.",
        elem_id="publish-when-finished",
    )
    with gr.Group(visible=False) as publishing:
        for names in fields.PUBLISH:
            row(names)
    for subject, rows in fields.FOLDED.items():
        with gr.Accordion(subject, open=False) as group:
            for names in rows:
                row(names)
                groups |= dict.fromkeys(names, group)
    return RunForm(made, {name: fields.info(name) for name in made}, groups, publish, publishing)


def _shown(name: str, value: Any) -> Any:
    """A setting's value in its field: in choices and texts, None is "", and lists become texts."""
    if isinstance(value, dict):
        return yaml.safe_dump(value, sort_keys=False).strip() if value else ""
    if fields.SETTINGS[name].entries:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip() if value else ""
    if isinstance(value, list) and name not in fields.TASK_LISTS:
        return ", ".join(value)
    if isinstance(value, bool) and fields.is_choice(name):
        return str(value).lower()
    return "" if value is None and fields.is_choice(name) else value
