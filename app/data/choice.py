"""Which prompts were chosen, as plain data that the browser keeps, and the fields that show it again."""

from pathlib import Path

import gradio as gr

from app.data import hub_dataset
from app.data import source as data_source
from app.page.markup import one_line
from app.server.settings import Settings
from simct import demo
from simct.config import DataConfig, RunConfig, local_path
from simct.errors import SimCTError

EMBEDDED, HUB, UPLOAD = "Embedded", "Hub dataset", "Upload a file"
SOURCES = (EMBEDDED, HUB, UPLOAD)
START = {"source": EMBEDDED, "prompts": str(demo.PROMPTS)}


def settled(
    settings: Settings,
    before: dict,
    described: dict,
    source: str,
    path: str | None,
    name,
    config,
    split,
    column,
    answer,
    system,
    limit,
    template="",
) -> dict:
    """The choice as it will be kept; columns and facts of a source that was left are dropped."""
    now = {"source": source, "system": (system or "").strip(), "limit": limit}
    name = (name or "").strip()
    same = source == before.get("source") and (source != HUB or name == before.get("prompts"))
    if source == EMBEDDED:
        return {**now, "prompts": str(demo.PROMPTS)}
    if source == HUB:
        facts = described if described.get("id") == name else before if same else {}
        now |= {key: facts.get(key) for key in hub_dataset.KEPT}
        now |= {"prompts": name, "config_name": config, "split": split or "train"}
        counts = described.get("configs", {}).get(config, {}) if described.get("id") == name else {}
        now["rows"] = counts.get(split, before.get("rows") if same and not counts else None)
    elif not path:
        now |= {key: before.get(key, "") if same else "" for key in ("prompts", "name")}
    else:
        try:
            kept = data_source.keep_upload(settings, path)
            same = same and kept == before.get("prompts")
            now |= {"prompts": kept, "name": Path(path).name}
        except SimCTError as error:
            now |= {"prompts": "", "error": one_line(error)}
    return {**now, "column": column, "answer_column": answer, "template": (template or "").strip()} if same else now


def started(run: dict | None) -> RunConfig:
    """The settings of Train that matter here: how long a text may be."""
    config = RunConfig()
    training, rollout = (run or {}).get("training") or {}, (run or {}).get("rollout") or {}
    config.training.max_length = int(training.get("max_length") or config.training.max_length)
    config.rollout.max_new_tokens = int(rollout.get("max_new_tokens") or config.rollout.max_new_tokens)
    return config


def license_notes(data: dict) -> list[tuple[str, str]]:
    """What to look up about the dataset's license."""
    if data.get("source") != HUB:
        return []
    license = (data.get("license") or "").lower()
    if not license:
        return [("warn", "The dataset states no license: ask its author before publishing what it trained.")]
    if "nc" in license.split("-") or license in ("other", "unknown"):
        return [("warn", f"The dataset's license is {license}: read what it allows before publishing the student.")]
    return []


def kept(data: DataConfig) -> dict:
    """What the browser keeps of prompts that a run.yaml names."""
    plain = {name: getattr(data, name) for name in data_source.FIELDS}
    if data.prompts == str(demo.PROMPTS):
        return {**plain, "source": EMBEDDED}
    source = HUB if local_path(data.prompts) is None else UPLOAD
    return {**plain, "source": source, "name": Path(data.prompts).name}


def restored(data: dict | None) -> list:
    """`fields` as the browser kept them."""
    data = data or START
    source = data.get("source") if data.get("source") in SOURCES else EMBEDDED
    hub = data if source == HUB else {}
    named = hub.get("prompts") or ""
    config, split = hub.get("config_name"), hub.get("split") or "train"
    return [
        source,
        gr.update(choices=[named] if named else [], value=named),
        gr.update(choices=[config] if config else [], value=config),
        gr.update(choices=[split], value=split),
        data.get("system") or "",
        data.get("limit"),
        gr.update(value=data.get("template") or "", visible=source != EMBEDDED),
    ]


def name_of(data: dict | None) -> str:
    """The prompts as people name them."""
    data = data or START
    named = data.get("name") if data.get("source") == UPLOAD else data.get("prompts")
    return "embedded prompts" if named == str(demo.PROMPTS) else str(named or "no prompts yet")
