"""Data: where the prompts come from and which column is which, as both models will read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app import markup
from app.settings import Settings
from simct import demo


@dataclass(frozen=True)
class DataTab:
    """`chosen` holds the settings of `data` in run.yaml as plain data; the browser keeps it."""

    chosen: gr.BrowserState
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair) -> DataTab:
    """The source above, what both models make of it below."""
    markup.panel('<h2>Data</h2><p class="lead">The prompts that the student will answer.</p>')
    chosen = gr.BrowserState({"prompts": str(demo.PROMPTS)}, storage_key="simct-data", secret="simct-studio")
    note = markup.panel(elem_id="data-note")
    next_step = gr.Button("Set up training →", variant="primary", elem_classes="next")
    return DataTab(chosen, next_step, lambda chosen: markup.note("ok", name_of(chosen)), [chosen], [note])


def name_of(data: dict | None) -> str:
    """The prompts as people name them."""
    prompts = str((data or {}).get("prompts") or "")
    if not prompts:
        return "no prompts"
    return "embedded prompts" if prompts == str(demo.PROMPTS) else prompts.rsplit("/.uploads/", 1)[-1]
