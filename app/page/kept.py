"""What the browser keeps of a project besides its pair, as components of the page that several steps read and fill."""

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Kept:
    """`prompts` are those chosen, `run` the settings of Train, and `verdict` what was measured about a pair."""

    prompts: gr.JSON
    run: gr.JSON
    verdict: gr.JSON
