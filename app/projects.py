"""Named projects: a pair, its prompts, settings and runs under one name, stored in the browser
(page/static/storage.js).

The server knows only the name of a project, from the runs that were launched in it.
"""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.page import markup, scripts
from app.page.markup import one_line
from app.server.handler import LATEST, PRIVATE, QUIET, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, own_runs
from simct.errors import ConfigError, SimCTError
from simct.report.formats import plural

LONGEST_NAME = 60
MOST_OFFERED = 200
NONE = ("No project", "")
ONCE = {**QUIET, "trigger_mode": "once"}
# how an event gets what the browser knows: project, projects, tour, and `was`, the name before another tab changed it
KNOWN = {"js": scripts.call("knownProjects")}


def field() -> gr.Dropdown:
    """The choice of a project; a new name starts a new project."""
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
        elem_classes="takes-text",
    )


def shown(query: Mapping[str, Any]) -> gr.Dropdown:
    """The project that the page opens, in the list of this browser's projects."""
    name = _clean(query.get("project"))
    known = dict.fromkeys([*project_names(query)[:MOST_OFFERED], *([name] if name else [])])
    return gr.Dropdown(choices=[NONE, *((each, each) for each in known)], value=name)


def checked_name(name: str | None) -> str | None:
    """The name of the project that a run is launched in; None for none. Raises ConfigError if it cannot be a name."""
    cleaned = " ".join((name or "").split())
    if len(cleaned) > LONGEST_NAME or not cleaned.isprintable():
        raise ConfigError(f"A project's name is one line of at most {LONGEST_NAME} characters. Choose a shorter one.")
    return cleaned or None


def move_runs(studio: Studio, visitor: Visitor, before: str, after: str | None) -> int:
    """Move this visitor's runs of the project `before` to `after`, or to no project; returns their number.

    Raises RunError if the status of a run cannot be written.
    """
    found = [run for run, status in own_runs(studio, visitor) if status.project == before]
    for run in found:
        run.set_status(project=after)
    return len(found)


class ProjectEditor:
    """Rename and delete, below the project field; `edit` opens it.

    The server moves the runs to another project; then the browser changes what it keeps (`changed`). The hidden button
    `followed` is pressed in every other tab that has the same project open.
    """

    def __init__(self, studio: Studio, project: gr.Dropdown, edit: gr.Button) -> None:
        self.studio, self.project, self.edit = studio, project, edit
        self.note = markup.panel(elem_id="project-note")
        with gr.Row(visible=False, elem_id="project-editor") as self.row:
            self.name = gr.Textbox(
                label="Name of the project",
                max_length=LONGEST_NAME,
                show_label=False,
                container=False,
                min_width=180,
                elem_id="project-name",
            )
            rename = gr.Button("Rename", size="sm", elem_id="project-rename")
            delete = gr.Button("Delete…", size="sm", elem_id="project-delete")
            close = gr.Button("Close", size="sm", elem_id="project-close")
        with gr.Row(visible=False, elem_id="project-confirm") as self.confirm:
            self.question = markup.panel()
            yes = gr.Button("Delete the project", size="sm", variant="stop", elem_id="project-really")
            keep = gr.Button("Keep it", size="sm", elem_id="project-keep")
        self.known = gr.JSON({}, visible=False)
        self.changed = gr.Textbox("", visible="hidden")
        self.asked = gr.State("")
        followed = gr.Button("", visible="hidden", elem_id="project-followed")
        self._wire(rename, yes)
        folded = [self.row, self.confirm, self.note]
        known = {"known": self.known}
        Handler(studio, self._open, known, [*folded, self.name], {**ONCE, **KNOWN}).on(edit.click)
        asking = [self.confirm, self.question, self.asked, self.note]
        Handler(studio, self._ask, known, asking, {**ONCE, **KNOWN}).on(delete.click)
        Handler(studio, self._fold, {}, folded).on(close.click)
        Handler(studio, lambda: {self.confirm: gr.Row(visible=False)}, {}, [self.confirm]).on(keep.click)
        Handler(studio, self._switched, known, [edit, self.row, self.confirm], {**LATEST, **KNOWN}).on(project.change)
        outputs = [project, *folded]
        Handler(studio, self._follow, known, outputs, {**LATEST, **KNOWN}).on(followed.click)

    def _wire(self, rename: gr.Button, yes: gr.Button) -> None:
        """The two actions, each followed by the browser's part of it."""
        outputs = [self.project, self.row, self.confirm, self.note, self.changed]
        how = {**ONCE, **KNOWN}
        renamed = Handler(self.studio, self._rename, {"known": self.known, "name": self.name}, outputs, how)
        deleted = Handler(self.studio, self._delete, {"asked": self.asked}, outputs, ONCE)
        for done in (renamed.on(rename.click, self.name.submit), deleted.on(yes.click)):
            done.then(None, self.changed, None, js=scripts.call("changeProject"), **PRIVATE)

    def _fold(self, note: str = "") -> Updates:
        return {self.row: gr.Row(visible=False), self.confirm: gr.Row(visible=False), self.note: note}

    def _open(self, known: dict[str, Any] | None) -> Updates:
        name = _clean((known or {}).get("project"))
        return {**self._fold(), self.row: gr.Row(visible=bool(name)), self.name: name}

    def _switched(self, known: dict[str, Any] | None) -> Updates:
        """Another project is on the page."""
        named = bool(_clean((known or {}).get("project"))) and not (known or {}).get("tour")
        folded = {self.row: gr.Row(visible=False), self.confirm: gr.Row(visible=False)}
        return {**folded, self.edit: gr.Button(visible=named)}

    def _rename(self, visitor: Visitor, known: dict[str, Any] | None, name: str) -> Updates:
        before, names = _clean((known or {}).get("project")), project_names(known or {})
        try:
            after = checked_name(name)
            if not after:
                raise ConfigError("A project needs a name. Type one.")
            if after == before or not before:
                return {**self._fold(), self.changed: ""}
            if after in names:
                raise ConfigError(f"There is already a project “{after}”. Choose another name.")
            moved = move_runs(self.studio, visitor, before, after)
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), self.changed: ""}
        runs = f" with its {plural(moved, 'run')}" if moved else ""
        kept = [after if each == before else each for each in names]
        return {
            **self._fold(markup.passing(f"“{before}” is renamed{runs}.")),
            self.project: shown({"project": after, "projects": kept}),
            self.changed: json.dumps(["rename", before, after]),
        }

    def _ask(self, visitor: Visitor, known: dict[str, Any] | None) -> Updates:
        name = _clean((known or {}).get("project"))
        if not name:
            return {}
        count = sum(status.project == name for _, status in own_runs(self.studio, visitor))
        runs = f" Its {plural(count, 'run')} will stay, in no project." if count else " No run belongs to it."
        question = f"Delete the project “{name}”? This browser forgets its pair, prompts and settings.{runs}"
        return {
            self.confirm: gr.Row(visible=True),
            self.question: markup.note("warn", question),
            self.asked: name,
            self.note: "",
        }

    def _delete(self, visitor: Visitor, asked: str) -> Updates:
        """Delete the project that the question was about. Its runs stay."""
        try:
            move_runs(self.studio, visitor, asked, None)
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error)), self.changed: ""}
        return {**self._fold(), self.changed: json.dumps(["delete", asked, ""])}

    def _follow(self, known: dict[str, Any] | None) -> Updates:
        """Follow what another tab did to the project that is open here."""
        known = known or {}
        was, now = _clean(known.get("was")), _clean(known.get("project"))
        if now:
            note = markup.passing(f"“{was}” is now called “{now}”. It was renamed in another tab.")
        else:
            line = f"“{was}” was deleted in another tab. To keep what is on this page, type the name of a new project."
            note = markup.note("warn", line)
        return {**self._fold(note if was else ""), self.project: shown(known)}


def project_names(known: Mapping[str, Any]) -> list[str]:
    """The names of all projects that the browser keeps."""
    listed = known.get("projects")
    return [name for name in map(_clean, listed if isinstance(listed, list) else []) if name]


def _clean(name: object) -> str:
    try:
        return checked_name(name) or "" if isinstance(name, str) else ""
    except ConfigError:
        return ""
