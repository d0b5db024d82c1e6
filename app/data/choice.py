"""Which prompts were chosen, as plain data that the browser keeps, and the fields that show it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.data import hub_dataset, prompt_source
from app.page.markup import one_line
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct import demo
from simct.config import RunConfig, config_from_brief, local_path
from simct.config.sections import DataConfig
from simct.errors import SimCTError

EMBEDDED, HUB, UPLOAD = "Embedded", "Hub dataset", "Upload a file"
SOURCES = (EMBEDDED, HUB, UPLOAD)
START = {"source": EMBEDDED, "prompts": str(demo.PROMPTS)}


# the choice as the browser keeps it: `data` of run.yaml, and how it was named
Choice = dict[str, Any]


@dataclass(frozen=True)
class Fields:
    """What the fields of the Data step hold."""

    source: str
    upload: str | None = None
    dataset: str | None = ""
    config: str | None = None
    split: str | None = "train"
    column: str | None = ""
    answer: str | None = ""
    template: str | None = ""
    system: str | None = ""
    limit: int | None = None


def chosen(
    studio: Studio, before: Choice, described: dict[str, Any], fields: Fields, visitor: Visitor | None = None
) -> Choice:
    """The choice as it will be kept; columns and facts of a source that was left are dropped.

    `described` is what hub_dataset found out about the dataset that was chosen last.
    """
    now: Choice = {"source": fields.source, "system": (fields.system or "").strip(), "limit": fields.limit}
    name = (fields.dataset or "").strip()
    same = fields.source == before.get("source") and (fields.source != HUB or name == before.get("prompts"))
    if fields.source == EMBEDDED:
        return {**now, "prompts": str(demo.PROMPTS)}
    if fields.source == HUB:
        now |= _of_hub(before if same else {}, described if described.get("id") == name else {}, name, fields)
    elif not fields.upload:
        now |= {key: before.get(key, "") if same else "" for key in ("prompts", "name")}
    else:
        try:
            copy = prompt_source.keep_upload(studio, fields.upload, visitor)
            same = same and copy == before.get("prompts")
            now |= {"prompts": copy, "name": Path(fields.upload).name}
        except SimCTError as error:
            now |= {"prompts": "", "error": one_line(error)}
    mapping = {"column": fields.column, "answer_column": fields.answer, "template": (fields.template or "").strip()}
    return {**now, **mapping} if same else now


def _of_hub(before: Choice, described: dict[str, Any], name: str, fields: Fields) -> Choice:
    """A dataset of the Hub, with its facts as they were described now, or before if it is the same one."""
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
    """The settings of Train, of which those about lengths and chat templates matter here."""
    return config_from_brief(run or {})


def license_notes(data: Choice) -> list[tuple[str, str]]:
    """What to look up about the dataset's license."""
    if data.get("source") != HUB:
        return []
    license = (data.get("license") or "").lower()
    if not license:
        return [("warn", "The dataset states no license: ask its author before publishing what it trained.")]
    if "nc" in license.split("-") or license in ("other", "unknown"):
        return [("warn", f"The dataset's license is {license}: read what it allows before publishing the student.")]
    return []


def kept(data: DataConfig) -> Choice:
    """What the browser keeps of prompts that a run.yaml names."""
    plain = {name: getattr(data, name) for name in prompt_source.FIELDS}
    if data.prompts == str(demo.PROMPTS):
        return {**plain, "source": EMBEDDED}
    source = HUB if local_path(data.prompts) is None else UPLOAD
    return {**plain, "source": source, "name": Path(data.prompts).name}


def restored(data: Choice | None) -> dict[str, Any]:
    """What the fields show of the choice that the browser kept, by the names of Fields."""
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
        "template": gr.update(value=data.get("template") or "", visible=source != EMBEDDED),
        "system": data.get("system") or "",
        "limit": data.get("limit"),
    }


def name_of(data: Choice | None) -> str:
    """The prompts as people name them."""
    data = data or START
    named = data.get("name") if data.get("source") == UPLOAD else data.get("prompts")
    return "embedded prompts" if named == str(demo.PROMPTS) else str(named or "no prompts yet")
