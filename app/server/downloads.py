"""Files that a button makes and the visitor's browser saves."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.page import markup, scripts
from app.page.markup import one_line
from app.server.handler import PRIVATE, Component, Handler, Updates
from app.server.studio import Studio
from simct.errors import SimCTError

TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html"}


@dataclass(frozen=True)
class Download:
    """A file to save; `remark` is what to know about it."""

    name: str
    content: str
    remark: str = ""


def offer(
    studio: Studio, button: gr.Button, make: Callable[..., Download], inputs: Mapping[str, Component], note: gr.HTML
) -> None:
    """A click on `button` saves the file that `make(**values of inputs)` returns. Messages go to `note`."""
    file = gr.Textbox(visible=False)

    def prepare(**values: Any) -> Updates:
        try:
            made = make(**values)
        except SimCTError as error:
            return {file: "", note: markup.note("error", one_line(error))}
        sent = {"name": made.name, "type": TYPES[made.name.rsplit(".", 1)[1]], "content": made.content}
        return {file: json.dumps(sent), note: markup.note("quiet", made.remark)}

    saved = Handler(studio, prepare, inputs, [file, note]).on(button.click)
    saved.then(None, file, js=scripts.call("save"), **PRIVATE)
