"""The settings of a run as form fields, each kept by its place in run.yaml; what no field shows is kept as it was."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from app.page import markup
from app.train import fields
from simct.config import RunConfig, config_from_brief, leaves, set_option
from simct.config.sections import DataConfig
from simct.hub.model_names import split_revision
from simct.presets import load_preset

SETTING = re.compile(r"^([a-z_]+(?:\.[a-z_]+)?)(?: is |: )")


@dataclass(frozen=True)
class RunForm:
    """`fields` maps a dotted name of run.yaml to its component; `infos` to what stands under its label."""

    fields: dict[str, gr.components.Component]
    infos: dict[str, str | None]

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self.fields.values())

    def config(self, base: dict | None, teacher: str, student: str, data: DataConfig, values: Sequence) -> RunConfig:
        """The run that `base` with the fields on it describes. Raises ConfigError for a value that is not allowed."""
        config = base_config(base)
        config.data = data
        for side, name in (("teacher", teacher), ("student", student)):
            model, revision = split_revision(name)
            set_option(config, f"{side}.model", model)
            set_option(config, f"{side}.revision", revision)
        for name, value in zip(self.fields, values, strict=True):
            set_option(config, name, value)
        return config

    def shown(self, config: RunConfig) -> list:
        """The fields' values for `config`."""
        values = leaves(config.model_dump())
        return [_shown(name, values[name]) for name in self.fields]

    def marked(self, before: str | None, problem: str) -> list:
        """[name of the field that a ConfigError's text is about, updates of all]: its reason stands under the label."""
        found = SETTING.match(problem)
        named = found[1] if found else ""
        option = named.startswith("method_options.")
        wrong = "method_options" if option else named if named in self.fields else None
        reason = problem if option else problem[len(named) :].lstrip(": ")
        updates = []
        for name in self.fields:
            if name == wrong:
                updates.append(gr.update(info=f"✕ {reason}", elem_classes=["wrong"]))
            elif name == before:
                updates.append(gr.update(info=self.infos[name], elem_classes=[]))
            else:
                updates.append(gr.skip())
        return [wrong, *updates]


def base_config(kept: dict | None) -> RunConfig:
    """The run as the browser kept it, as far as it can be read; at first the starting one."""
    return config_from_brief(kept) if kept else starting_config()


def starting_config() -> RunConfig:
    """What the form holds at first: the preset that works for the embedded pair in a minute or two."""
    return load_preset("demo-cpu")


def settings_form(beside_method: Callable[[], None]) -> RunForm:
    """Lay the fields out: what most people set first, the rest folded by subject. `beside_method` follows the first."""
    default = leaves(starting_config().model_dump())
    made: dict[str, gr.components.Component] = {}

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
    if isinstance(value, list) and name != "evaluation.tasks":
        return ", ".join(value)
    if isinstance(value, bool) and fields.is_choice(name):
        return str(value).lower()
    return "" if value is None and fields.is_choice(name) else value


def method_line(known: dict | None, teacher: str, student: str, method: str) -> tuple[str, gr.Button]:
    """What was measured for this pair about its methods, beside the chosen one."""
    known = known or {}
    if (known.get("teacher"), known.get("student")) != (teacher, student):
        return markup.note("quiet", "Which method suits this pair has not been measured yet."), gr.Button(visible=True)
    words = str(known.get("words") or "")
    if known.get("method") == method:
        return markup.note("ok", f"Measured for this pair: {words}"), gr.Button(visible=False)
    better = f"Measured for this pair, {known.get('method')} suits it better: {words}"
    return markup.note("warn", better), gr.Button(visible=False)
