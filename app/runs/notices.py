"""Notices about runs while the visitor looks elsewhere: a badge in the page's title and browser notifications."""

from typing import Any

import gradio as gr

from app.page import scripts
from app.runs.listing import visible
from app.runs.names import kind
from app.server.handler import PRIVATE, QUIET, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.runs.status import RunStatus

EVERY_SECONDS = 10.0
# how many of the newest runs are watched; older ones ended long ago
WATCHED = 20


class RunNotices:
    """Checks the visitor's newest runs on every step, and passes changes to the browser.

    `ask` turns on the browser's notifications, which a browser allows only after a click.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        timer = gr.Timer(EVERY_SECONDS)
        self.states = gr.JSON([], visible=False)
        self.ask = gr.Button("Notify me when a run ends", size="sm", elem_id="notify")
        look = Handler(studio, self._look, {"before": self.states}, [self.states], {**QUIET, "trigger_mode": "once"})
        look.on(timer.tick)
        self.states.change(None, self.states, js=scripts.call("noticeRuns"), **PRIVATE)
        self.ask.click(None, None, self.ask, js=scripts.call("askToNotify"), **PRIVATE)

    def _look(self, visitor: Visitor, before: list[dict[str, Any]]) -> Updates:
        now = [
            {"id": run.id, "state": status.state, "title": kind(run, status), "message": line(status)}
            for run, status in visible(self.studio, visitor)[:WATCHED]
        ]
        return {self.states: now} if now != before else {}


def line(status: RunStatus) -> str:
    """The text of a notification about a run that has ended; empty for an active run."""
    if status.active:
        return ""
    return (status.error if status.state == "failed" else status.message) or status.state
