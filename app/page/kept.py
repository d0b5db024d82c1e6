"""What the browser keeps for a project in addition to its pair, as components that several steps read and fill."""

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Kept:
    """`prompts` are those chosen, `run` the settings of Train, and `verdict` what was measured about a pair."""

    prompts: gr.JSON
    run: gr.JSON
    verdict: gr.JSON
