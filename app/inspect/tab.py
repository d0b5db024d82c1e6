"""Inspect: where two tokenizers disagree, what SimCT recovers, and whether to trust it. Five views of one pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.inspect import corpus as corpus_view
from app.inspect import document as inspect_document
from app.inspect import link as inspect_link
from app.inspect import other_pairs as compare_pairs_view
from app.inspect import position as inspect_position
from app.inspect import reliability as verdict_tab
from app.inspect import text as inspect_text
from app.page import markup
from app.page.markup import one_line
from app.server.settings import Settings
from simct.errors import SimCTError


@dataclass(frozen=True)
class InspectTab:
    """`train` goes on to training with what was measured; `views` are the tabs.

    `kept` are set from the address by `restored(query)`, and `text` then by inspect_link.READ, in the browser.
    """

    next: gr.Button
    train: gr.Button
    text: gr.Textbox
    views: gr.Tabs
    kept: Sequence[gr.components.Component]
    restored: Callable
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, prompts: gr.JSON, verdict: gr.JSON) -> InspectTab:
    """The views as tabs of their own; the text and the position in it belong to all of them."""
    with gr.Row(elem_classes="head"):
        markup.panel("<h2>Inspect</h2>")
        link = gr.Button("Copy link", size="sm", scale=0, min_width=110, elem_id="inspect-link")
    linked = markup.panel(elem_id="inspect-linked")
    part = gr.Textbox(inspect_link.PARTS[0], visible=False)
    tabs: dict[str, gr.Tab] = {}
    with gr.Tabs(elem_id="inspect-parts") as views:
        with gr.Tab("Text", id="text") as tabs["text"]:
            text = inspect_text.build(settings, pair, verdict)
        with gr.Tab("Position", id="position") as tabs["position"]:
            position = inspect_position.build(settings, pair, text.document, text.at)
        with gr.Tab("Corpus", id="corpus") as tabs["corpus"]:
            corpus_view.build(settings, pair)
        with gr.Tab("Reliability", id="reliability") as tabs["reliability"]:
            judged = verdict_tab.build(settings, pair, prompts, verdict)
        with gr.Tab("Models", id="several") as tabs["several"]:
            compare_pairs_view.build(settings, pair)
    next_step = gr.Button("Choose the data →", variant="primary", elem_classes="next")

    for name, tab in tabs.items():
        tab.select(lambda name=name: name, outputs=part, **settings.latest)
    showing = {**settings.latest, "concurrency_limit": None}
    tabs["position"].select(position.show, position.inputs, position.outputs, **showing)
    tabs["reliability"].select(judged.show, judged.inputs, judged.outputs, **settings.latest)
    text.look.click(lambda: gr.Tabs(selected="position"), outputs=views, **settings.quiet)
    # a page that comes back to a position has no text yet when the view is first drawn
    text.document.change(
        lambda part, *values: (yield from position.show(*values)) if part == "position" else gr.skip(),
        [part, *position.inputs],
        position.outputs,
        **showing,
    )
    for component in (part, text.at):
        component.change(None, [part, text.at], js=inspect_link.PLACE, api_visibility="private")
    text.text.change(None, text.text, js=inspect_link.WRITE, api_visibility="private")
    link.click(
        None,
        [pair.teacher, pair.student, part, text.at, text.text],
        linked,
        js=inspect_link.COPY,
        api_visibility="private",
    )

    def restored(asked: dict) -> tuple:
        where, unit = inspect_link.place(asked)
        return gr.Tabs(selected=where), where, unit

    def inspect(teacher: str, student: str, text: str, visitor: gr.OAuthToken | None = None) -> tuple[str, dict]:
        """What is wrong (or nothing), and the report."""
        try:
            return "", inspect_document.read(settings, teacher, student, text, settings.token(visitor)).report.to_dict()
        except SimCTError as error:
            return one_line(error), {}

    gr.api(
        inspect,
        api_name="inspect",
        api_description="Compare two tokenizers on a text. Returns what is wrong, if anything, and the report.",
        concurrency_limit=1,
        concurrency_id="inspect",
    )
    return InspectTab(
        next_step, judged.train, text.text, views, [views, part, text.at], restored,
        text.refresh, text.inputs, text.outputs,
    )  # fmt: skip
