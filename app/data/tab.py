"""Data: where the prompts come from and which column is which, as both models will read them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.data import hub_dataset
from app.data import source as data_source
from app.data import view as data_view
from app.data.choice import EMBEDDED, HUB, SOURCES, START, UPLOAD, license_notes, settled, started
from app.page import markup
from app.page.markup import one_line
from app.server import model_facts as models
from app.server.settings import Settings
from simct.errors import DataError, SimCTError

FOUND_BY_NAME = "Found by its name"
# of the slider, while there is no prompt to show
NONE_SHOWN = gr.update(visible=False)


@dataclass(frozen=True)
class DataTab:
    """`fields` show after a reload what was chosen."""

    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]
    fields: Sequence[gr.components.Component]


def build(settings: Settings, pair, chosen: gr.JSON, run: gr.JSON) -> DataTab:
    """The source on the left, its rows on the right, what both models make of it below.

    `chosen` holds `data` of run.yaml as plain data, and how it was named.
    """
    markup.panel('<h2>Data</h2><p class="lead">The prompts that the student will answer.</p>')
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            source = gr.Radio(SOURCES, value=EMBEDDED, label="Prompts from", elem_id="prompt-source")
            upload = gr.File(
                label="JSONL, JSON, CSV, TSV, Parquet or text, plain or compressed",
                file_types=list(data_source.SUFFIXES),
                visible=False,
                height=120,
                elem_id="prompt-file",
            )
            with gr.Group(visible=False) as places:
                hub = hub_dataset.build(settings)
            note = markup.panel(markup.note("busy", "Reading the prompts…"), elem_id="prompt-note")
            with gr.Row(visible=False) as mapping:
                column = _column("Prompt or messages column", "prompt-column")
                answer = _column("Answer column", "answer-column")
            template = gr.Textbox(
                label="Prompt template",
                info="Text with columns in braces. Empty: one column.",
                placeholder="{instruction}\n\n{input}",
                lines=1,
                max_lines=6,
                visible=False,
                elem_id="prompt-template",
            )
            with gr.Row():
                system = gr.Textbox(
                    label="System text", info="Where there is none.", lines=1, scale=2, min_width=180,
                    elem_id="system-text",
                )  # fmt: skip
                limit = gr.Number(
                    None,
                    label="Use at most",
                    info="Empty: all.",
                    precision=0,
                    minimum=1,
                    min_width=110,
                    elem_id="limit",
                )
        with gr.Column(scale=3, min_width=320):
            notices = markup.panel(elem_id="data-notices")
            table = markup.panel(elem_id="data-rows", min_height=240)
    which = gr.Slider(1, 2, value=1, step=1, label="Prompt shown", elem_id="prompt-shown", buttons=[])
    readings = markup.panel(elem_id="data-readings", min_height=120)
    lengths = markup.panel(elem_id="data-lengths", min_height=120)
    next_step = gr.Button("Set up training →", variant="primary", elem_classes="next")

    def refresh(teacher: str, student: str, data: dict, run: dict, shown: int, visitor: gr.OAuthToken | None = None):
        """Everything that is shown of the choice; on error one line beside it, and the rest empty."""
        try:
            return look(settings, teacher, student, data or START, run, int(shown or 1), settings.token(visitor))
        except SimCTError as error:
            told = markup.note("error", data.get("error") or plainly(error, data))
            rows = markup.empty("Rows appear when they can be read.")
            return told, "", rows, gr.skip(), gr.skip(), NONE_SHOWN, "", ""

    def show_one(teacher: str, student: str, data: dict, shown: int, visitor: gr.OAuthToken | None = None) -> str:
        token = settings.token(visitor)
        try:
            prompts = data_source.read(settings, data_source.data_config(data), token).prompts
            pair = models.pair_of(settings, teacher, student, token)
            return data_view.both_readings(pair, prompts[min(int(shown), len(prompts)) - 1])
        except SimCTError as error:
            return markup.note("error", one_line(error))

    inputs = [pair.teacher, pair.student, chosen, run, which]
    outputs = [note, notices, table, column, answer, which, readings, lengths]
    given = [source, upload, hub.dataset, hub.config, hub.split, column, answer, system, limit, template]
    limits = (system.submit, system.blur, limit.submit, limit.blur, template.submit, template.blur)
    gr.on(
        [
            source.input,
            upload.upload,
            upload.clear,
            column.input,
            answer.input,
            hub.described.change,
            hub.split.input,
            *limits,
        ],
        functools.partial(settled, settings),
        [chosen, hub.described, *given],
        chosen,
        **settings.in_turn("data"),
    )
    source.change(_places, source, [upload, places, mapping, template], **settings.quiet)
    chosen.change(lambda: markup.note("busy", "Reading the prompts…"), outputs=note, **settings.in_turn("data")).then(
        refresh, inputs, outputs, **settings.in_turn("data")
    )
    which.input(
        show_one,
        [pair.teacher, pair.student, chosen, which],
        readings,
        **settings.in_turn("data"),
    )
    fields = [source, hub.dataset, hub.config, hub.split, system, limit, template]
    return DataTab(next_step, refresh, inputs, outputs, fields)


def look(settings: Settings, teacher: str, student: str, data: dict, run: dict, shown: int, token) -> tuple:
    """What every panel of the step shows. Raises a one-line SimCTError."""
    wanted = data_source.data_config(data)
    rows, _ = data_source.rows_of(settings, wanted, token)
    # the columns can be chosen even while those found by name do not fit
    mapping = [
        gr.Dropdown(choices=_column_choices(data_source.columns_of(rows)), value=data.get(key) or "")
        for key in ("column", "answer_column")
    ]
    try:
        source = data_source.read(settings, wanted, token)
    except DataError as error:
        told = markup.note("error", plainly(error, data))
        return told, "", data_view.raw_table(rows[: data_source.PREVIEWED]), *mapping, NONE_SHOWN, "", ""
    _, report = data_source.report(settings, teacher, student, wanted, started(run), token)
    pair = models.pair_of(settings, teacher, student, token)
    count = len(source.prompts)
    return (
        data_view.line(source, report),
        data_view.notices(source, report, license_notes(data)),
        data_view.rows_table(source),
        *mapping,
        gr.Slider(maximum=max(2, count), value=min(shown, count), visible=count > 1),
        data_view.both_readings(pair, source.prompts[min(shown, count) - 1]),
        data_view.length_charts(report),
    )


def plainly(error: SimCTError, data: dict) -> str:
    """The error with the upload's own name, and with the field to use instead of the setting."""
    told = one_line(error).replace(str(data.get("prompts")), str(data.get("name") or data.get("prompts")))
    told = told.replace("Name the prompt column with data.column", "Choose the prompt column below")
    return told.replace("data.template", "the prompt template")


def _column(label: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(_column_choices([]), value="", label=label, elem_id=elem_id, min_width=130)


def _column_choices(columns: Sequence[str]) -> list[tuple[str, str]]:
    return [(FOUND_BY_NAME, ""), *((name, name) for name in columns)]


def _places(source: str) -> tuple:
    named = source != EMBEDDED
    return (
        gr.File(visible=source == UPLOAD),
        gr.Group(visible=source == HUB),
        gr.Row(visible=named),
        gr.Textbox(visible=named),
    )
