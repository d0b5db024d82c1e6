"""Named projects: a pair, its prompts, settings and runs under one name, kept by the browser (page/static/storage.js).

The server knows of a project only the name, which a run carries that was launched in it.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from simct.errors import ConfigError

LONGEST_NAME = 60
MOST_OFFERED = 200
NONE = ("No project", "")


def field() -> gr.Dropdown:
    """The choice of a project; a new name begins one."""
    return gr.Dropdown(
        [NONE],
        value="",
        label="Project",
        show_label=False,
        container=False,
        allow_custom_value=True,
        filterable=True,
        scale=0,
        min_width=190,
        elem_id="project",
    )


def shown(query: Mapping[str, Any]) -> gr.Dropdown:
    """The project that the page opens, among the projects of this browser."""
    listed = query.get("projects")
    names = [name for name in map(_clean, listed if isinstance(listed, list) else []) if name]
    name = _clean(query.get("project"))
    known = dict.fromkeys([*names[:MOST_OFFERED], *([name] if name else [])])
    return gr.Dropdown(choices=[NONE, *((each, each) for each in known)], value=name)


def checked_name(name: str | None) -> str | None:
    """The project that a run is launched in; None for none. Raises ConfigError for what could not be a name."""
    cleaned = " ".join((name or "").split())
    if len(cleaned) > LONGEST_NAME or not cleaned.isprintable():
        raise ConfigError(f"A project's name is one line of at most {LONGEST_NAME} characters. Choose a shorter one.")
    return cleaned or None


def _clean(name: object) -> str:
    try:
        return checked_name(name) or "" if isinstance(name, str) else ""
    except ConfigError:
        return ""
