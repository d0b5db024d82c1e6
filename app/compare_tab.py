"""Compare: the student before and after, and the teacher, answering the same prompt side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app import markup
from app.settings import Settings


@dataclass(frozen=True)
class CompareTab:
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, runs) -> CompareTab:
    """A prompt above, one column a model below."""
    markup.panel('<h2>Compare</h2><p class="lead">What the student learnt, on a prompt of your own.</p>')
    note = markup.panel(elem_id="compare-note")
    next_step = gr.Button("Publish →", variant="primary", elem_classes="next")
    return CompareTab(next_step, lambda run: markup.note("quiet", run or "No run yet."), [runs.chosen], [note])
