"""`simct settings`: every setting of run.yaml with its default, the allowed values and its meaning."""

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any

from simct.config import RunConfig
from simct.config.sections import ModelConfig
from simct.config.teachers import TeacherConfig
from simct.errors import ConfigError
from simct.methods import METHODS, LossOptions
from simct.setting import Setting, every_setting, settings_of


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("settings", help="list the settings of run.yaml: default, allowed values, meaning")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, such as training or method_options.top_k")
    parser.set_defaults(run=run_settings)


def run_settings(options: argparse.Namespace) -> int:
    found = [
        text
        for name, text in described()
        if not options.names or any(f"{name}.".startswith(f"{wanted}.") for wanted in options.names)
    ]
    if not found:
        raise ConfigError(f"There is no setting {options.names[0]!r}. `simct settings` lists them all.")
    print("\n\n".join(found))
    return 0


def described() -> Iterator[tuple[str, str]]:
    """(dotted name, description) of every setting, and of every option of every method."""
    for name, setting in every_setting(RunConfig):
        yield name, _text(name, setting)
    for name, setting in settings_of(TeacherConfig).items():
        if name not in settings_of(ModelConfig):
            yield f"teachers.{name}", _text(f"{name}, of each of teachers", setting)
    for name, setting in every_setting(LossOptions):
        yield f"method_options.{name}", _text(f"method_options.{name}, for every method", setting)
    for method in METHODS.values():
        own = settings_of(method.options)
        for name in method.own_options:
            yield f"method_options.{name}", _text(f"method_options.{name}, for {method.name}", own[name])


def default_of(setting: Setting) -> str:
    """The default as text; for an empty default, what it means."""
    value = setting.default
    if value in (None, "", [], {}):
        return f"empty ({setting.empty})" if setting.empty else "empty"
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _text(head: str, setting: Setting) -> str:
    """The setting in a few lines: name, allowed values, default and, indented, its help."""
    first = f"{head}: {setting.allowed or setting.expected}; default {default_of(setting)}"
    paragraphs = textwrap.wrap(first, 100, subsequent_indent="    ")
    return "\n".join([*paragraphs, textwrap.indent(textwrap.fill(setting.help, 96), "    ")])
