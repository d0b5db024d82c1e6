"""The sources of text for the Inspect pages: the embedded texts, an upload, or a column of a Hub dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.data import prompt_source
from app.page import amounts, markup
from app.page.page_fields import Field, PageFields
from app.reading.records import TextsAt
from app.reading.setup import explicit_token
from app.server.handler import LATEST, QUIET, Component, Handler, Updates
from app.server.studio import Studio
from app.server.uploads import arrived_file
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct import demo
from simct.config.sections import DataConfig
from simct.errors import DataError
from simct.hub.repo_ids import is_repository

EMBEDDED, CHOSEN, UPLOAD, DATASET = "Embedded prompts", "Prompts of the Data step", "Upload a file", "Hub dataset"
ELSEWHERE = (UPLOAD, DATASET)
# endings of files that are read as text; others have no ending
PLAIN = ("", ".md", ".py")
MAX_ROW = 100_000
# the most characters of a text that is shown unit by unit
MAX_CHARACTERS = 1_000_000
# the settings that these views have fields of their own for
_OWN = {"data.prompts": "Dataset", "data.config_name": "Configuration", "data.split": "Split", "data.column": "Column"}
FIELDS = PageFields({name: Field(label, "", "inspect") for name, label in _OWN.items()})


@dataclass(frozen=True)
class TextSource:
    """The values of a TextSourceForm; `number` is how many texts to read, or which one."""

    kind: str
    upload: str | None = None
    dataset: str | None = ""
    config: str | None = ""
    column: str | None = ""
    split: str | None = "train"
    number: float | None = None

    @property
    def name(self) -> str:
        """The source's name for people."""
        if self.kind == EMBEDDED:
            return "embedded prompts"
        return Path(self.upload or "upload").name if self.kind == UPLOAD else str(self.dataset)


class TextSourceForm:
    """The fields. A field that the kind of source does not need is hidden. `inputs` have the names of TextSource.

    `number` and `button`, which belong to the page, are placed among them. With `always`, the number is shown for every
    source.
    """

    def __init__(
        self,
        studio: Studio,
        name: str,
        kinds: Sequence[str],
        number: gr.Number,
        button: gr.Button | None = None,
        *,
        always: bool = False,
    ) -> None:
        shown = kinds[0]
        kind = gr.Radio(list(kinds), value=shown, label="Source", elem_id=f"{name}-source", show_label=len(kinds) > 2)
        self.upload = gr.File(
            label="TXT, JSONL, CSV or Parquet",
            visible=shown == UPLOAD,
            height=110,
            elem_id=f"{name}-file",
        )
        with gr.Row(visible=shown == DATASET) as self.places:
            dataset = gr.Textbox(label="Dataset", placeholder="owner/dataset", elem_id=f"{name}-dataset", min_width=180)
            config = gr.Textbox(label="Configuration", placeholder="the default one", min_width=120)
            split = gr.Textbox("train", label="Split", min_width=100)
        with gr.Row(visible=shown in ELSEWHERE, elem_classes="tools") as self.columns:
            column = gr.Textbox(label="Column", placeholder="found by name", min_width=120, elem_id=f"{name}-column")
            if not always:
                number.render()
            if button is not None:
                button.render()
        if always:
            number.render()
        self.inputs: dict[str, Component] = {
            "kind": kind,
            "upload": self.upload,
            "dataset": dataset,
            "config": config,
            "column": column,
            "split": split,
            "number": number,
        }
        places = Handler(studio, self._show_places, {"kind": kind}, [self.upload, self.places, self.columns])
        places.on(kind.change)

    def _show_places(self, kind: str) -> Updates:
        return {
            self.upload: gr.File(visible=kind == UPLOAD),
            self.places: gr.Row(visible=kind == DATASET),
            self.columns: gr.Row(visible=kind in ELSEWHERE),
        }


def texts(studio: Studio, source: TextSource, token: str | bool | None, limit: int | None = None) -> TextsAt:
    """Where the texts of a source are, at most `limit` (by default its number). Raises a one-line SimCTError."""
    limit = limit or (int(source.number) if source.number else None)
    if source.kind == EMBEDDED:
        return TextsAt(str(demo.PROMPTS), "prompt")
    column = (source.column or "").strip() or None
    if source.kind == UPLOAD:
        return TextsAt(_uploaded(source.upload), column, limit=limit)
    split, config = (source.split or "").strip() or "train", (source.config or "").strip() or None
    return TextsAt(_named(studio, source.dataset), column, split, config, limit, explicit_token(token))


def data_config(studio: Studio, chosen: dict[str, Any] | None, source: TextSource) -> DataConfig:
    """The source as the `data` of a run, for prompts to answer; `chosen` are the prompts of the Data step.

    Raises a one-line DataError.
    """
    if source.kind == CHOSEN:
        data = prompt_source.data_config(chosen)
        prompt_source.guard_prompts(studio, data.prompts)
        return data
    column = (source.column or "").strip()
    if source.kind == UPLOAD:
        return prompt_source.data_config({"prompts": _uploaded(source.upload), "column": column})
    split, config = (source.split or "").strip(), (source.config or "").strip()
    named = {"prompts": _named(studio, source.dataset), "split": split, "config_name": config}
    return prompt_source.data_config({**named, "column": column})


def _uploaded(path: str | None) -> str:
    """An uploaded file; one in PLAIN as a text file. Raises DataError for a path that is not an upload."""
    if not path:
        raise DataError("There is no file yet. Choose one to upload.")
    uploaded = arrived_file(path)
    if uploaded.suffix.lower() in PLAIN:
        plain = uploaded.with_suffix(".txt")
        plain.write_bytes(uploaded.read_bytes())
        return str(plain)
    return str(uploaded)


def _named(studio: Studio, dataset: str | None) -> str:
    name = (dataset or "").strip()
    if not name:
        raise DataError("There is no dataset yet. Enter its id, like owner/dataset.")
    if studio.public and not is_repository(name):
        raise DataError("A public studio reads datasets from the Hub only. Give an id like owner/dataset.")
    return name


class OneText:
    """One text of a file or dataset for the field `text`: a whole text file, or one row of any other source."""

    def __init__(self, studio: Studio, text: gr.Textbox) -> None:
        self.studio, self.text = studio, text
        row = amounts.field(0, "Row", min_width=90, elem_id="text-row", render=False)
        button = gr.Button("Show this text", size="sm", min_width=110, elem_id="text-load", render=False)
        form = TextSourceForm(studio, "text", (UPLOAD, DATASET), row, button)
        self.note = markup.panel(elem_id="text-source-note")
        self.work = LongWork(studio, self.note)
        show = Handler(studio, self._show, form.inputs, [text, *self.work.outputs])
        show.on(button.click, how={**QUIET, "trigger_mode": "once"})
        show.on(form.upload.upload, how=LATEST)

    def _show(self, visitor: Visitor, **fields: Any) -> Iterator[Updates]:
        source = TextSource(**fields)

        def read(work: Work) -> str:
            work.step("Reading…")
            return one_text(self.studio, source, visitor.token)

        def finished(work: Work) -> Updates:
            line = f"{len(work.result):,} characters of {source.name}."
            return {self.text: work.result, self.note: markup.note("ok", line)}

        yield from self.work.run(read, finished, words=FIELDS.in_labels)


def one_text(studio: Studio, source: TextSource, token: str | bool | None) -> str:
    """A whole text file, or the row with the source's number. Raises a one-line SimCTError."""
    from app.reading import texts as reading

    row = amounts.whole("Row", source.number, 0, 0, MAX_ROW)
    whole = source.kind == UPLOAD and Path(_uploaded(source.upload)).suffix.lower() == ".txt"
    where = texts(studio, source, token, MAX_ROW if whole else row + 1)
    asked = (where, 0 if whole else row, MAX_CHARACTERS, source.name)
    found: str = studio.workers.run(reading.one_text, *asked, what=repr(source.name))
    if not found:
        raise DataError(f"{source.name} has fewer than {row + 1:,} texts. Choose an earlier row.")
    return found
