"""Files that a button creates and the visitor's browser saves."""

import functools
import json
import time
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
    """A file to save, and a `remark` about it."""

    name: str
    content: str
    remark: str = ""


def buttons(
    files: Mapping[str, tuple[str, Callable[..., Download]]], place: str, min_width: int
) -> dict[gr.Button, Callable[..., Download]]:
    """A small button for each file. `files` has the label and the function of each, by name. Element ids begin with
    `place`.
    """
    return {
        gr.Button(label, size="sm", min_width=min_width, elem_id=f"{place}-{name}"): make
        for name, (label, make) in files.items()
    }


def offer(
    studio: Studio,
    files: Mapping[gr.Button, Callable[..., Download]],
    inputs: Mapping[str, Component],
    note: gr.HTML,
) -> None:
    """Let a click on a button of `files` save what its function returns for the values of `inputs`.

    Messages go to `note`.
    """
    file = gr.Textbox(visible=False)
    file.change(None, file, js=scripts.call("save"), **PRIVATE)

    def prepare(make: Callable[..., Download], **values: Any) -> Updates:
        try:
            made = make(**values)
        except SimCTError as error:
            return {file: "", note: markup.note("error", one_line(error))}
        sent = {"name": made.name, "type": TYPES[made.name.rsplit(".", 1)[1]], "content": made.content}
        # saving the same file again must count as a change
        sent["at"] = str(time.monotonic_ns())
        return {file: json.dumps(sent), note: markup.note("quiet", made.remark)}

    for button, make in files.items():
        Handler(studio, functools.partial(prepare, make), inputs, [file, note]).on(button.click)
