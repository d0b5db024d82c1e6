"""The settings of a run as form fields, each kept by its place in run.yaml; what no field shows is kept as it was."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from app.server.handler import Updates
from app.train import fields
from app.train.fields import FormField
from simct.config import RunConfig, config_from_brief, leaves, set_option
from simct.config.sections import DataConfig
from simct.hub.repo_ids import split_revision
from simct.presets import load_preset

SETTING = re.compile(r"^([a-z_]+(?:\.[a-z_]+)?)(?: is |: )")


@dataclass(frozen=True)
class RunForm:
    """`fields` maps a dotted name of run.yaml to its component; `infos` to what stands under its label."""

    fields: dict[str, FormField]
    infos: dict[str, str | None]

    def config(
        self, base: dict[str, Any] | None, teacher: str, student: str, data: DataConfig, values: Mapping[str, Any]
    ) -> RunConfig:
        """The run that `base` with the fields on it describes. Raises ConfigError for a value that is not allowed."""
        config = base_config(base)
        config.data = data
        for side, name in (("teacher", teacher), ("student", student)):
            model, revision = split_revision(name)
            set_option(config, f"{side}.model", model)
            set_option(config, f"{side}.revision", revision)
        for name in self.fields:
            set_option(config, name, values[name])
        return config

    def shown(self, config: RunConfig) -> dict[str, Any]:
        """The fields' values for `config`."""
        values = leaves(config.model_dump())
        return {name: _shown(name, values[name]) for name in self.fields}

    def filled(self, config: RunConfig) -> Updates:
        """The fields as they show `config`."""
        return {self.fields[name]: value for name, value in self.shown(config).items()}

    def marked(self, before: str | None, problem: str) -> tuple[str | None, Updates]:
        """The field that a ConfigError's text is about, and updates: its reason stands under its label, and no longer
        under that of `before`."""
        found = SETTING.match(problem)
        named = found[1] if found else ""
        option = named.startswith("method_options.")
        wrong = "method_options" if option else named if named in self.fields else None
        updates: Updates = {}
        if before in self.fields and before != wrong:
            updates[self.fields[before]] = gr.update(info=self.infos[before], elem_classes=[])
        if wrong is not None:
            reason = problem if option else problem[len(named) :].lstrip(": ")
            updates[self.fields[wrong]] = gr.update(info=f"✕ {reason}", elem_classes=["wrong"])
        return wrong, updates


def base_config(kept: dict[str, Any] | None) -> RunConfig:
    """The run as the browser kept it, as far as it can be read; at first the starting one."""
    return config_from_brief(kept) if kept else starting_config()


def starting_config() -> RunConfig:
    """What the form holds at first: the preset that works for the embedded pair in a minute or two."""
    return load_preset("demo-cpu")


def settings_form(beside_method: Callable[[], None]) -> RunForm:
    """Lay the fields out: what most people set first, the rest folded by subject. `beside_method` follows the first."""
    default = leaves(starting_config().model_dump())
    made: dict[str, FormField] = {}

    def row(names: Sequence[str]) -> None:
        with gr.Row():
            for name in names:
                made[name] = fields.build(name, _shown(name, default[name]))

    for number, names in enumerate(fields.BASIC):
        row(names)
        if number == 0:
            beside_method()
    for subject, rows in fields.FOLDED.items():
        with gr.Accordion(subject, open=False):
            for names in rows:
                row(names)
    return RunForm(made, {name: fields.info(name) for name in made})


def _shown(name: str, value: Any) -> Any:
    """A setting as its field holds it: choices and texts are empty for none, lists are texts."""
    if isinstance(value, dict):
        return yaml.safe_dump(value, sort_keys=False).strip() if value else ""
    if isinstance(value, list) and name not in fields.TASK_LISTS:
        return ", ".join(value)
    if isinstance(value, bool) and fields.is_choice(name):
        return str(value).lower()
    return "" if value is None and fields.is_choice(name) else value
