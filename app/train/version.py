"""Versions of the form: its content at one moment, for everything on the page that depends on it.

Every change of the form, the pair or the prompts begins a new version (static/form.js). Parts of the page that show an
older version are dimmed until they are updated, and Launch waits for them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.page import scripts
from app.server.handler import PRIVATE, Component
from simct.config import RunConfig, config_from_brief, validate
from simct.errors import ConfigError, DataError
from simct.preflight.records import Check
from simct.records import Record

# scripts run for every event, even while an earlier one is in progress
EVERY: dict[str, Any] = {**PRIVATE, "trigger_mode": "multiple"}


@dataclass(frozen=True)
class Version(Record):
    """The form at one moment.

    edit: its number. run: the settings, in brief. rows: how many rows the dataset has, if known.
    problems: what is wrong with single values, or else with all of them together (not `readable`).
    """

    edit: str = ""
    run: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    problems: list[Check] = field(default_factory=list)
    readable: bool = True

    def config(self) -> RunConfig:
        """The checked run. Raises ConfigError."""
        if not self.readable or not self.run:
            raise ConfigError(self.problems[0].text if self.problems else "The form has not been read yet.")
        return validate(config_from_brief(self.run))

    def text(self) -> str:
        """The version as the page keeps it."""
        return json.dumps(self.to_dict())


def version_of(kept: str) -> Version:
    """The version that the page keeps; an empty one if that cannot be read."""
    try:
        return Version.from_dict(json.loads(kept or "{}"))
    except (DataError, ValueError, RecursionError):
        return Version()


class FormState:
    """The page's record of the form: the number of the newest version, and the last version that was read.

    It is outside the steps, because their components exist only once they are opened. All values are texts, because
    gr.JSON reports a change whenever anything about it is updated. `values` is what the page sends: the number, and the
    value of each field.
    """

    def __init__(self) -> None:
        self.edit = gr.Textbox("", visible="hidden", elem_id="form-edit")
        self.values = gr.Textbox("", visible="hidden", elem_id="form-values")
        self.described = gr.Textbox("", visible="hidden", elem_id="form-described")

    def follow(self, run: Component, *changes: Any) -> None:
        """Begin a version on each of `changes`, and when other settings are loaded into `run`."""
        self.begin_with(lambda *event, **how: gr.on(list(changes), *event, **how))
        loaded: Any = run
        loaded.change(None, [run, self.described], self.edit, js=scripts.call("loadedRun"), **EVERY)

    def begin_with(self, change: Any) -> None:
        """Begin a version on an event."""
        change(None, None, self.edit, js=scripts.call("edited"), **EVERY)

    def gather(self, fields: Iterable[Component]) -> Any:
        """Collect the fields of each new version. Returns the next event, at which `values` is ready.

        All fields are one input of that event, because the browser looks up every input of every event whenever the
        status of any event changes.
        """
        self.edit.change(None, [self.edit, *fields], self.values, js=scripts.call("gathered"), **EVERY)
        return self.values.change

    def read_when(self, opened: Any) -> None:
        """Read the newest version when the step is opened."""
        opened(None, None, self.edit, js=scripts.call("openForm"), **EVERY)
