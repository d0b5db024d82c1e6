"""The collapsed groups of the Data step: which column is which, and which prompts are used."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.data import choice
from app.server.handler import Component
from simct.config.sections import DUPLICATES

# the names of the groups
OTHER_COLUMNS, SELECTION = "Other columns", "Which prompts are used"
FOUND_BY_NAME = "Found by name"
COLUMN_LABELS = {
    "column": ("Prompt or messages column", "prompt-column"),
    "answer": ("Answer column", "answer-column"),
    "system_column": ("System column", "system-column"),
    "completion": ("Completion column", "completion-column"),
    "checker": ("Checker column", "checker-column"),
}
DUPLICATE_NAMES = {"": "Keep them", "exact": "Remove copies", "normalized": "Also ignore case and spacing"}


class MappingForm:
    """The columns that the parts of a prompt are read from, or a template; hidden for the embedded prompts."""

    def __init__(self) -> None:
        with gr.Group(visible=False) as self.group:
            with gr.Row():
                self.columns = {name: _column(name) for name in ("column", "answer")}
            self.template = gr.Textbox(
                label="Prompt template",
                info="Joins columns. Empty: the prompt column alone.",
                placeholder="{instruction}  {input}",
                max_lines=6,
                elem_id="prompt-template",
            )
        with gr.Accordion(OTHER_COLUMNS, open=False, visible=False) as self.others, gr.Row():
            self.columns |= {name: _column(name) for name in ("system_column", "completion", "checker")}
        self.fields: dict[str, Component] = {**self.columns, "template": self.template}

    def options(self, columns: Sequence[str], data: choice.Choice) -> dict[Any, Any]:
        """Updates that offer these columns and select the chosen ones."""
        offered = _offered(columns)
        return {
            field: gr.Dropdown(choices=offered, value=data.get(choice.MAPPING[name]) or "")
            for name, field in self.columns.items()
        }


class SelectionForm:
    """Which prompts are used: duplicates, lengths, excluded rows and held-out prompts."""

    def __init__(self) -> None:
        names = [(DUPLICATE_NAMES[name], name) for name in ("", *DUPLICATES)]
        shown = choice.selection({})
        with gr.Accordion(SELECTION, open=False, elem_id="selection"):
            duplicates = gr.Dropdown(names, value="", label="Duplicates", filterable=False, elem_id="duplicates")
            with gr.Row():
                shortest = number("Shortest, tokens", "Empty: no limit.", "shortest")
                longest = number("Longest, tokens", "Empty: all that fit.", "longest")
            excluded = gr.Textbox(
                label="Excluded rows",
                info="Counted from 1, such as 7, 20-29. Empty: none.",
                max_lines=4,
                elem_id="excluded-rows",
            )
            with gr.Row():
                held_out = number("Held-out prompts", "At most a tenth of all.", "held-out", shown["held_out"])
                seed = number("Held-out seed", "Changes the choice.", "held-out-seed", shown["held_out_seed"])
        self.fields: dict[str, Component] = {
            "deduplicate": duplicates,
            "shortest": shortest,
            "longest": longest,
            "excluded": excluded,
            "held_out": held_out,
            "held_out_seed": seed,
        }
        self.events = [duplicates.input]
        for field in (shortest, longest, excluded, held_out, seed):
            self.events += [field.submit, field.blur]

    def shown(self, data: choice.Choice) -> dict[Any, Any]:
        """Updates that show the choice."""
        return {self.fields[name]: value for name, value in choice.selection(data).items()}


def number(label: str, info: str, elem_id: str, value: int | None = None, min_width: int = 130) -> gr.Number:
    """A whole number. Its limits are those of the setting: with limits of its own, Gradio would refuse every event of
    the step, in words that do not name the field."""
    return gr.Number(value, label=label, info=info, step=1, min_width=min_width, elem_id=elem_id)


def _column(name: str) -> gr.Dropdown:
    label, elem_id = COLUMN_LABELS[name]
    return gr.Dropdown(_offered([]), value="", label=label, elem_id=elem_id, min_width=130)


def _offered(columns: Sequence[str]) -> list[tuple[str, str]]:
    return [(FOUND_BY_NAME, ""), *((name, name) for name in columns)]
