"""Where the Inspect pages take text from: what comes with them, an upload, or a column of a Hub dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from app.data import source as data_source
from app.page import markup
from app.server import work
from app.server.settings import Settings
from simct import demo
from simct.config import local_path
from simct.config.sections import DataConfig
from simct.errors import DataError

EMBEDDED, CHOSEN, UPLOAD, DATASET = "Embedded prompts", "Prompts of the Data step", "Upload a file", "Hub dataset"
ELSEWHERE = (UPLOAD, DATASET)
FILE_TYPES = [".txt", ".jsonl", ".json", ".csv", ".parquet", ".md", ".py"]
MAX_ROW = 100_000
# of a text that is shown unit by unit
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class SourceForm:
    """`components` in the order of `texts`' values: kind, upload, dataset, configuration, column, split, number."""

    components: Sequence[gr.components.Component]
    button: gr.Button | None = None
    note: gr.HTML | None = None


def form(
    name: str, kinds: Sequence[str], number: gr.Number, button: str | None = None, *, always: bool = False
) -> SourceForm:
    """The fields, those that the kind of source does not need hidden; `number` says how many texts, or which.

    With `always` the number stays whatever the source.
    """
    kind = gr.Radio(list(kinds), value=kinds[0], label="Source", elem_id=f"{name}-source", show_label=len(kinds) > 2)
    shown = kinds[0]
    upload = gr.File(
        label="TXT, JSONL, CSV or Parquet",
        file_types=FILE_TYPES,
        visible=shown == UPLOAD,
        height=110,
        elem_id=f"{name}-file",
    )
    with gr.Row(visible=shown == DATASET) as places:
        dataset = gr.Textbox(label="Dataset", placeholder="owner/dataset", elem_id=f"{name}-dataset", min_width=180)
        config = gr.Textbox(label="Configuration", placeholder="the default one", min_width=120)
        split = gr.Textbox("train", label="Split", min_width=100)
    with gr.Row(visible=shown in ELSEWHERE, elem_classes="tools") as columns:
        column = gr.Textbox(label="Column", placeholder="found by name", min_width=120, elem_id=f"{name}-column")
        if not always:
            number.render()
        pressed = gr.Button(button, size="sm", min_width=110, elem_id=f"{name}-load") if button else None
    if always:
        number.render()
    note = markup.panel(elem_id=f"{name}-source-note") if button else None

    def places_of(chosen: str) -> tuple:
        return gr.File(visible=chosen == UPLOAD), gr.Row(visible=chosen == DATASET), gr.Row(visible=chosen in ELSEWHERE)

    kind.change(places_of, kind, [upload, places, columns], api_visibility="private", show_progress="hidden")
    return SourceForm([kind, upload, dataset, config, column, split, number], pressed, note)


def texts(settings: Settings, values: Sequence, token: str | bool | None, limit: int | None = None) -> Iterator[str]:
    """The texts that the form's values name, at most `limit` (by default its number). Raises a one-line SimCTError."""
    from simct.inspection.corpus import dataset_texts

    kind, upload, dataset, config, column, split, number = values
    limit = limit or (int(number) if number else None)
    if kind == EMBEDDED:
        return dataset_texts(str(demo.PROMPTS), "prompt", limit=None)
    if kind == UPLOAD:
        return dataset_texts(_uploaded(upload), (column or "").strip() or None, limit=limit)
    return dataset_texts(
        _named(settings, dataset),
        (column or "").strip() or None,
        (split or "").strip() or "train",
        limit,
        token,
        config_name=(config or "").strip() or None,
    )


def data_config(settings: Settings, chosen: dict | None, values: Sequence) -> DataConfig:
    """The source as the `data` of a run, for prompts to answer; `chosen` are those of the Data step.

    Raises a one-line DataError.
    """
    kind, upload, dataset, config, column, split, _ = values
    if kind == CHOSEN:
        data = data_source.data_config(chosen)
        data_source.guard_prompts(settings, data.prompts)
        return data
    column = (column or "").strip() or None
    if kind == UPLOAD:
        return data_source.data_config({"prompts": _uploaded(upload), "column": column})
    named = {"prompts": _named(settings, dataset), "split": (split or "").strip(), "column": column}
    return data_source.data_config({**named, "config_name": (config or "").strip()})


def source_name(values: Sequence) -> str:
    """The source as people name it."""
    kind, upload, dataset, *_ = values
    return {EMBEDDED: "embedded prompts", UPLOAD: Path(upload or "upload").name}.get(kind) or str(dataset)


def _uploaded(path: str | None) -> str:
    """An uploaded file, as text where no reader knows its kind. Raises DataError for a path that no upload made."""
    if not path:
        raise DataError("There is no file yet. Choose one to upload.")
    uploaded = Path(path).resolve()
    if not uploaded.is_file() or not uploaded.is_relative_to(Path(get_upload_folder()).resolve()):
        raise DataError("The upload did not arrive. Choose the file again.")
    if uploaded.suffix.lower() in (".md", ".py"):
        plain = uploaded.with_suffix(".txt")
        plain.write_bytes(uploaded.read_bytes())
        return str(plain)
    return str(uploaded)


def _named(settings: Settings, dataset: str | None) -> str:
    name = (dataset or "").strip()
    if not name:
        raise DataError("There is no dataset yet. Give its id, like owner/dataset.")
    if settings.public and local_path(name) is not None:
        raise DataError("A public studio reads datasets from the Hub only. Give an id like owner/dataset.")
    return name


# One text of a file or dataset, for the text field


def row_form() -> SourceForm:
    row = gr.Number(
        0, label="Row", precision=0, minimum=0, maximum=MAX_ROW, min_width=90, elem_id="text-row", render=False
    )
    return form("text", (UPLOAD, DATASET), row, "Show this text")


def wire(settings: Settings, source: SourceForm, text: gr.Textbox) -> None:
    """Fill the text field with a whole text file, or with one row of anything else."""

    def taken(visitor: gr.OAuthToken | None, *values):
        token = settings.token(visitor)
        for now in work.follow(lambda work: one_text(settings, values, token)):
            if now.running:
                yield gr.skip(), markup.note("busy", "Reading…")
        if now.error:
            yield gr.skip(), markup.note("error", now.error)
        else:
            name = source_name(values)
            yield now.result, markup.note("ok", f"{len(now.result):,} characters of {name}.")

    source.button.click(taken, source.components, [text, source.note], trigger_mode="once", **settings.quiet)
    source.components[1].upload(taken, source.components, [text, source.note], **settings.latest)


def one_text(settings: Settings, values: Sequence, token: str | bool | None) -> str:
    """A text file whole, or the row that the form's number names. Raises a one-line SimCTError."""
    kind, upload, *_, number = values
    row = min(max(int(number or 0), 0), MAX_ROW)
    whole = kind == UPLOAD and Path(_uploaded(upload)).suffix.lower() == ".txt"
    found = ""
    for piece in texts(settings, values, token, MAX_ROW) if whole else _row(settings, values, token, row):
        found += piece
        if len(found) > MAX_CHARACTERS:
            raise DataError(
                f"{source_name(values)} has more than {MAX_CHARACTERS:,} characters. Measure it under Corpus."
            )
    if not found:
        raise DataError(f"{source_name(values)} has fewer than {row + 1:,} texts. Choose an earlier row.")
    return found


def _row(settings: Settings, values: Sequence, token: str | bool | None, row: int) -> Iterator[str]:
    return islice(texts(settings, values, token, row + 1), row, None)
