"""The chosen prompts, as plain data that the browser keeps, and the field values that restore them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.data import hub_dataset, prompt_source, written
from app.page.markup import one_line
from app.reading.records import FIELDS
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct import demo
from simct.config import RunConfig, config_from_brief, local_path, set_option
from simct.config.sections import DataConfig
from simct.data.selection import row_ranges
from simct.errors import ConfigError, SimCTError, quoted
from simct.hub.errors import page_url

EMBEDDED, HUB, UPLOAD, WRITTEN = "Embedded", "Hub dataset", "Upload a file", "Write or paste"
SOURCES = (EMBEDDED, HUB, UPLOAD, WRITTEN)
# settings of `data` by the names of their fields: where each part is read from, and which prompts are used
MAPPING = {
    "column": "column", "answer": "answer_column", "system_column": "system_column",
    "completion": "completion_column", "checker": "checker_column", "template": "template",
}  # fmt: skip
SELECTION = {
    "deduplicate": "deduplicate", "shortest": "min_tokens", "longest": "max_tokens", "held_out": "held_out",
    "held_out_seed": "held_out_seed",
}  # fmt: skip
# the settings that determine the number of each row
ROWS = ("source", "prompts", "split", "config_name", "revision")
# settings that the button next to a warning may change
CHANGEABLE = ("exclude_rows", "deduplicate", "min_tokens", "max_tokens", "template", "system")
# settings that this step has no field for
ELSEWHERE = ("held_out_prompts", "held_out_split", "teacher_column")
START = {"source": EMBEDDED, "prompts": str(demo.PROMPTS)}


# the choice as the browser keeps it: `data` of run.yaml, and the name that is shown for it
Choice = dict[str, Any]


@dataclass(frozen=True)
class Fields:
    """What the fields of the Data step hold."""

    source: str
    upload: str | None = None
    text: str | None = ""
    dataset: str | None = ""
    config: str | None = None
    split: str | None = "train"
    column: str | None = ""
    answer: str | None = ""
    system_column: str | None = ""
    completion: str | None = ""
    checker: str | None = ""
    template: str | None = ""
    system: str | None = ""
    limit: int | None = None
    deduplicate: str | None = ""
    shortest: int | None = None
    longest: int | None = None
    excluded: str | None = ""
    held_out: int | None = None
    held_out_seed: int | None = None


def chosen(
    studio: Studio, before: Choice, described: dict[str, Any], fields: Fields, visitor: Visitor | None = None
) -> Choice:
    """The choice to keep; columns, excluded rows and facts of a previous source are dropped.

    `described` is what hub_dataset learned about the dataset that was chosen last.
    """
    now: Choice = {"source": fields.source, "system": (fields.system or "").strip(), "limit": _sendable(fields.limit)}
    now |= {setting: _sendable(getattr(fields, name)) for name, setting in SELECTION.items()}
    same = fields.source == before.get("source")
    if fields.source == EMBEDDED:
        now |= {"prompts": str(demo.PROMPTS)}
    elif fields.source == HUB:
        name = (fields.dataset or "").strip()
        same = same and name == before.get("prompts")
        now |= _of_hub(before if same else {}, described if described.get("id") == name else {}, name, fields)
    else:
        try:
            now |= _of_file(studio, before if same else {}, fields, visitor)
        except SimCTError as error:
            now |= {"prompts": "", "error": one_line(error)}
        same = same and (fields.source == WRITTEN or now["prompts"] == before.get("prompts"))
    if same and fields.source != EMBEDDED:
        now |= {setting: (getattr(fields, name) or "").strip() for name, setting in MAPPING.items()}
    if same:
        # a loaded run.yaml may contain more than the fields show
        now |= {name: before[name] for name in ELSEWHERE if before.get(name)}
        if all(now.get(name) == before.get(name) for name in ROWS):
            now["exclude_rows"] = [each.strip() for each in (fields.excluded or "").split(",") if each.strip()]
    return now


def _sendable(value: Any) -> Any:
    """A field's value, but an integer that is too large for the page's JSON as a float, so that it can be refused."""
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def without_prompts(before: Choice) -> Choice:
    """The choice without the file that it names, which the visitor has removed."""
    return {**before, "prompts": "", "name": ""}


def with_change(before: Choice, change: Mapping[str, Any]) -> Choice:
    """The choice with the change that the button of a warning makes, which comes from the page. New excluded rows are
    added to the present ones. Raises ConfigError.
    """
    config = RunConfig()
    for name, value in change.items():
        if name not in CHANGEABLE:
            raise ConfigError(f"Unknown setting {quoted(name)}.")
        set_option(config, f"data.{name}", value)
    found = {name: getattr(config.data, name) for name in change}
    if "exclude_rows" in found:
        found["exclude_rows"] = row_ranges([], [*(before.get("exclude_rows") or []), *found["exclude_rows"]])
        set_option(config, "data.exclude_rows", found["exclude_rows"])
    return {**before, **found}


def _of_file(studio: Studio, before: Choice, fields: Fields, visitor: Visitor | None) -> Choice:
    """An uploaded file or a written text, kept next to the runs; the previous one if there is nothing new."""
    if fields.source == WRITTEN and (fields.text or "").strip():
        return {"prompts": written.keep_text(studio, fields.text or "", visitor), "name": written.NAME}
    if fields.source == UPLOAD and fields.upload:
        return {
            "prompts": prompt_source.keep_upload(studio, fields.upload, visitor),
            "name": Path(fields.upload).name,
        }
    return {key: before.get(key, "") for key in ("prompts", "name")}


def _of_hub(before: Choice, described: dict[str, Any], name: str, fields: Fields) -> Choice:
    """A dataset on the Hub with its facts as described now, or as described before if it is the same dataset."""
    facts = described or before
    counts = described.get("configs", {}).get(fields.config, {})
    return {
        **{key: facts.get(key) for key in hub_dataset.KEPT},
        "prompts": name,
        "config_name": fields.config,
        "split": fields.split or "train",
        "rows": counts.get(fields.split, before.get("rows") if not counts else None),
    }


def run_settings(run: dict[str, Any] | None) -> RunConfig:
    """The settings of Train; those about lengths and chat templates matter here."""
    return config_from_brief(run or {})


def license_notes(data: Choice) -> list[tuple[str, str]]:
    """What the visitor should check about the dataset's license."""
    if data.get("source") != HUB:
        return []
    license, page = (data.get("license") or "").lower(), page_url(str(data.get("prompts")), "dataset")
    before = "before you publish the student"
    if not license:
        return [("warn", f"The dataset does not state a license. Ask its author {before}: {page}/discussions.")]
    if "nc" in license.split("-") or license in ("other", "unknown"):
        return [("warn", f"The dataset's license is {license}. Check what it allows {before}: {page}.")]
    return []


def kept(data: DataConfig) -> Choice:
    """The choice that the browser keeps for the prompts of a run.yaml."""
    plain = {name: getattr(data, name) for name in FIELDS}
    if data.prompts == str(demo.PROMPTS):
        return {**plain, "source": EMBEDDED}
    source = HUB if local_path(data.prompts) is None else UPLOAD
    return {**plain, "source": source, "name": Path(data.prompts).name}


def restored(data: Choice | None) -> dict[str, Any]:
    """The values of the fields for the choice that the browser kept, by the names of Fields."""
    data = data or START
    source = data.get("source") if data.get("source") in SOURCES else EMBEDDED
    hub = data if source == HUB else {}
    dataset = hub.get("prompts") or ""
    config, split = hub.get("config_name"), hub.get("split") or "train"
    return {
        "source": source,
        "dataset": gr.update(choices=[dataset] if dataset else [], value=dataset),
        "config": gr.update(choices=[config] if config else [], value=config),
        "split": gr.update(choices=[split], value=split),
        "template": data.get("template") or "",
        "system": data.get("system") or "",
        "limit": data.get("limit"),
        **selection(data),
    }


def selection(data: Choice) -> dict[str, Any]:
    """The values of the fields about which prompts are used."""
    defaults = {"held_out": DataConfig().held_out, "held_out_seed": DataConfig().held_out_seed}
    shown = {name: data.get(setting) for name, setting in SELECTION.items()}
    shown |= {name: default for name, default in defaults.items() if shown[name] is None}
    return {**shown, "deduplicate": shown["deduplicate"] or "", "excluded": ", ".join(data.get("exclude_rows") or [])}


def name_of(data: Choice | None) -> str:
    """A name for the prompts that people will recognize."""
    data = data or START
    named = data.get("name") if data.get("source") in (UPLOAD, WRITTEN) else data.get("prompts")
    return "embedded prompts" if named == str(demo.PROMPTS) else str(named or "no prompts yet")
