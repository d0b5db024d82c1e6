"""The checklist next to Launch: the checks of the current form, repeated whenever the form changes."""

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from app.page import markup, scripts
from app.server import paths, teacher_keys
from app.server.handler import Component, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import Work, follow
from app.train import checklist_view as view
from app.train.version import version_of
from app.train.where import HERE, Place
from simct.config import config_from_brief
from simct.errors import SimCTError
from simct.preflight.records import Preflight, from_error


class Checklist:
    """The list and a button to check again. `start` is the Launch button, which is enabled if there is no problem.

    `panel.select` fires when a button leads to a field of another step; `step_of` returns that step. `panel.edit` fires
    when a button solves a problem; `fix_of` returns how.
    """

    def __init__(self, studio: Studio, start: gr.Button) -> None:
        self.studio, self.start = studio, start
        self.panel = markup.panel(
            view.waiting(), elem_id="checklist", min_height=90, js_on_load=scripts.when_loaded("checklist")
        )
        self.again = gr.Button("Check again", size="sm", elem_id="check-again", min_width=110)
        self.shown = gr.State("")

    def connect(self, described: gr.Textbox, place: Mapping[str, Component], ready: Any) -> None:
        """On the event `ready`, check the version of the form in `described`, for training at `place`."""
        inputs = {"shown": self.shown, "described": described, **place}
        check = Handler(self.studio, self._check, inputs, [self.panel, self.shown, self.start], in_turn("checklist"))
        check.on(self.again.click)
        check.on(ready)

    def _check(self, visitor: Visitor, shown: str, described: str, **chosen: Any) -> Iterator[Updates]:
        """Dim the last list and disable Launch during the check; then show the new list."""
        version, place = version_of(described), Place(**chosen)
        yield {self.panel: view.stale(shown, "Checking…"), self.start: gr.Button(interactive=False)}

        def checked(work: Work) -> tuple[str, bool]:
            # torch and transformers take seconds to import
            from app.train.preflight import place_of, run_preflight

            def on_progress(subject: str, done: int, total: int) -> None:
                work.step(f"Checking: {subject.lower()}…")

            if not version.readable:
                return view.checklist(Preflight(version.problems)), False
            config = config_from_brief(version.run)
            try:
                if self.studio.public:
                    paths.check_run(self.studio, visitor, config, here=place.where == HERE)
            except SimCTError as error:
                found = Preflight([from_error(error)])
            else:
                key = teacher_keys.of(self.studio, visitor, config.teacher.server)
                at = place_of(self.studio, place)
                found = run_preflight(self.studio, config, visitor.token, at, on_progress, key)
            return view.checklist(found), not found.problems

        for work in follow(checked):
            if work.running:
                yield {self.panel: view.stale(shown, f"{work.doing} {work.seconds:.0f} s")}
        if work.error:
            # if the check itself fails, launching is still possible, because it checks again
            html, ready = view.HEAD + markup.note("error", work.error), True
        else:
            html, ready = work.result
        yield {
            self.panel: markup.stamped(html, version.edit),
            self.shown: html,
            self.start: gr.Button(interactive=ready),
        }


def fix_of(event: gr.EventData) -> tuple[str, float] | None:
    """The setting, and the value that the button of a problem gives it."""
    asked = event._data or {}
    setting, value = asked.get("setting"), asked.get("fix")
    if isinstance(value, int | float) and isinstance(setting, str) and view.FIELDS.get(setting):
        return setting, value
    return None


def step_of(event: gr.EventData) -> str | None:
    """The step that the button of a problem leads to."""
    step = (event._data or {}).get("step")
    return step if step in {field.step for field in view.FIELDS.by_setting.values()} else None
