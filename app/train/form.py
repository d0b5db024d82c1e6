"""The settings of a run as form fields, each kept by its place in run.yaml; what no field shows is kept as it was."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr
import yaml

from app.page import markup
from app.train.fields import BASIC, FOLDED, Field
from simct.config import DataConfig, RunConfig, config_to_dict, set_option
from simct.errors import ConfigError
from simct.hub.model_names import split_revision
from simct.presets import load_preset

CHOICES_OR_NONE = ("divergence", "teacher.quantization", "training.tracker")
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
        """The run that `base` with the fields on it describes. Raises ConfigError naming a setting; not for ranges."""
        config = base_config(base)
        config.teacher.model, config.teacher.revision = split_revision(teacher)
        config.student.model, config.student.revision = split_revision(student)
        config.data = data
        given = dict(zip(self.fields, values, strict=True))
        for name, value in given.items():
            if name == "method_options":
                value = _options(value)
            elif value is None or value == "":
                if _plain(config, name) in (None, ""):
                    continue
                value = None
            set_option(config, name, value)
        return config

    def shown(self, config: RunConfig) -> list:
        """The fields' values for `config`."""
        return [_shown(name, config) for name in self.fields]

    def marked(self, before: str | None, problem: str) -> list:
        """[name of the field that a ConfigError's text is about, updates of all]: its reason stands under the label."""
        found = SETTING.match(problem)
        wrong = found[1] if found and found[1] in self.fields else None
        told = problem[found.end(1) :].lstrip(": ") if wrong and found else ""
        updates = []
        for name in self.fields:
            if name == wrong:
                updates.append(gr.update(info=f"✕ {told}", elem_classes=["wrong"]))
            elif name == before:
                updates.append(gr.update(info=self.infos[name], elem_classes=[]))
            else:
                updates.append(gr.skip())
        return [wrong, *updates]


def base_config(base: dict | None) -> RunConfig:
    """The run as the browser kept it, settings it cannot read left at their defaults; at first the starting one."""
    if not base:
        return starting_config()
    config = RunConfig()
    for name, value in _leaves(base):
        try:
            set_option(config, name, value)
        except ConfigError:
            continue
    return config


def kept(config: RunConfig) -> dict:
    """What the browser keeps of a run: all but the pair, the prompts and the folder."""
    plain = config_to_dict(config)
    del plain["data"], plain["output"]
    for side in ("teacher", "student"):
        del plain[side]["model"], plain[side]["revision"]
    return plain


ALWAYS = ("teacher.model", "student.model", "data.prompts", "method", "training.steps", "training.learning_rate")


def brief_yaml(config: RunConfig) -> str:
    """run.yaml with what is not at its default, and what a run is about: it loads to the same run."""
    default = dict(_leaves(config_to_dict(RunConfig())))
    short: dict = {}
    for name, value in _leaves(config_to_dict(config)):
        if name in ALWAYS or value != default[name]:
            *parents, last = name.split(".")
            owner = short
            for part in parents:
                owner = owner.setdefault(part, {})
            owner[last] = value
    return yaml.safe_dump(short, sort_keys=False, allow_unicode=True)


def starting_config() -> RunConfig:
    """What the form holds at first: the preset that works for the embedded pair in a minute or two."""
    return load_preset("demo-cpu")


def settings_form(beside_method: Callable[[], None]) -> RunForm:
    """Lay the fields out: what most people set first, the rest folded by subject. `beside_method` follows the first."""
    default = starting_config()
    made: dict[str, gr.components.Component] = {}
    infos: dict[str, str | None] = {}

    def row(fields: Sequence[Field]) -> None:
        with gr.Row():
            for field in fields:
                made[field.name] = field.build(_shown(field.name, default))
                infos[field.name] = field.info

    for number, fields in enumerate(BASIC):
        row(fields)
        if number == 0:
            beside_method()
    for subject, rows in FOLDED.items():
        with gr.Accordion(subject, open=False):
            for fields in rows:
                row(fields)
    return RunForm(made, infos)


def _leaves(mapping: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in mapping.items():
        if isinstance(value, dict) and key != "method_options":
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _options(text: str | None) -> dict:
    try:
        options = yaml.safe_load(text or "") or {}
    except yaml.YAMLError as error:
        raise ConfigError("method_options: expected lines like `name: value`.") from error
    if not isinstance(options, dict):
        raise ConfigError("method_options: expected lines like `name: value`.")
    return options


def _plain(config: RunConfig, name: str):
    value = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _shown(name: str, config: RunConfig):
    """A setting as its field holds it: choices and texts are empty for none, lists are texts."""
    value = _plain(config, name)
    if name == "method_options":
        return yaml.safe_dump(value, sort_keys=False).strip() if value else ""
    if name in ("lora.targets", "training.freeze"):
        return ", ".join(value)
    if name.endswith("enable_thinking"):
        return "" if value is None else str(value).lower()
    return "" if value is None and name in CHOICES_OR_NONE else value


def method_line(known: dict | None, teacher: str, student: str, method: str) -> tuple[str, dict]:
    """What was measured for this pair about its methods, beside the method chosen."""
    known = known or {}
    if (known.get("teacher"), known.get("student")) != (teacher, student):
        return markup.note("quiet", "Which method suits this pair has not been measured yet."), gr.Button(visible=True)
    words = str(known.get("words") or "")
    if known.get("method") == method:
        return markup.note("ok", f"Measured for this pair: {words}"), gr.Button(visible=False)
    told = f"Measured for this pair, {known.get('method')} suits it better: {words}"
    return markup.note("warn", told), gr.Button(visible=False)
