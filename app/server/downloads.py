"""Files that a button makes and the visitor's own browser saves."""

import json
from collections.abc import Callable, Sequence

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.page.saving import TAKE
from app.server.settings import Settings
from simct.errors import SimCTError

TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html"}


def offer(
    settings: Settings,
    button: gr.Button,
    make: Callable[..., tuple[str, ...]],
    inputs: Sequence[gr.components.Component],
    note: gr.HTML,
) -> None:
    """A click on `button` downloads what `make(token, *values)` returns: (file name, content).

    Errors go to `note`, and so does a third value: what to know about the file.
    """
    file = gr.Textbox(visible=False)

    # Gradio fills in who is visiting by position, so that comes before the values
    def prepare(visitor: gr.OAuthToken | None, *values) -> tuple[str, str | dict]:
        try:
            name, content, *told = make(settings.token(visitor), *values)
        except SimCTError as error:
            return "", markup.note("error", one_line(error))
        made = {"name": name, "type": TYPES[name.rsplit(".", 1)[1]], "content": content}
        return json.dumps(made), markup.note("quiet", "".join(told))

    button.click(prepare, inputs, [file, note], **settings.quiet).then(None, file, js=TAKE, api_visibility="private")
