"""How to use the student: code for transformers, vLLM and Ollama, with its repository filled in and copy buttons."""

from typing import Literal

import gradio as gr

from app.page import markup
from app.server.handler import Updates
from simct.publishing.card_edit import PLACEHOLDER
from simct.publishing.usage import (
    CONVERTER,
    GGUF_KIND,
    gguf_repo,
    ollama_command,
    published_student,
    transformers_code,
    vllm_commands,
)
from simct.runs.folder import RunFolder

QUESTION = "What is the capital of France?"
WHEN = (
    "It works once the student is published; a private one also needs `hf auth login` with an account that can see it."
)
MERGED_ONLY = "GGUF files are made from a merged model. Publish the merged model too, and convert that."


class UsagePanel:
    """Folded code below the fields of Publish, with one tab per program."""

    def __init__(self) -> None:
        with gr.Accordion("How to use the student", open=False, elem_id="usage"):
            gr.Markdown(WHEN)
            with gr.Tabs(elem_id="usage-parts"):
                with gr.Tab("Transformers"):
                    self.transformers = _code("python", "Python", "usage-transformers")
                with gr.Tab("vLLM"):
                    self.vllm = _code("shell", "Terminal", "usage-vllm")
                with gr.Tab("Ollama"):
                    self.steps = markup.panel(elem_id="usage-steps")
                    self.repository = _code("shell", "Repository to enter in the Space", "usage-repository")
                    self.ollama = _code("shell", "Terminal", "usage-ollama")
        self.outputs = [self.transformers, self.vllm, self.steps, self.repository, self.ollama]

    def show(self, run: RunFolder, repo_id: str, adapter: bool) -> Updates:
        """The code for the student of a run in `repo_id`; `adapter`: the repository holds the adapter alone."""
        repo_id = repo_id or PLACEHOLDER
        student = published_student(run, repo_id, adapter)
        return {
            self.transformers: transformers_code(student, QUESTION),
            self.vllm: vllm_commands(student, QUESTION),
            self.steps: markup.note("quiet", MERGED_ONLY) if adapter else conversion_steps(repo_id),
            self.repository: gr.Code(repo_id, visible=not adapter),
            self.ollama: gr.Code(ollama_command(repo_id), visible=not adapter),
        }


def conversion_steps(repo_id: str) -> str:
    """How to let a Space convert the student to a GGUF file, which Ollama and llama.cpp read, as HTML."""
    space = f'<a href="{CONVERTER}" target="_blank" rel="noopener">GGUF My Repo</a>'
    steps = (
        f"Open the Space {space} and sign in there. It runs llama.cpp, so you install nothing here.",
        f"Enter the repository below, keep the kind {GGUF_KIND}, and submit.",
        f"It makes {markup.escape(gguf_repo(repo_id))} in your account. Run the last command on a machine with Ollama.",
    )
    return f'<ol class="steps">{"".join(f"<li>{step}</li>" for step in steps)}</ol>'


def _code(language: Literal["python", "shell"], label: str, elem_id: str) -> gr.Code:
    return gr.Code(
        "# Choose a finished run first.",
        language=language,
        label=label,
        elem_id=elem_id,
        lines=1,
        wrap_lines=True,
        show_line_numbers=False,
        interactive=False,
        buttons=["copy"],
    )
