"""A read-only link to a run, which its owner creates and withdraws, and the page that it opens, for people without an
account.

The key follows the # in the address, so it does not appear in server logs and is not sent to other sites.
"""

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.page import charts, markup, scripts
from app.page.markup import one_line
from app.page.scripts import when_loaded
from app.runs import curves, evaluations, view
from app.runs.names import stamp
from app.server.handler import PRIVATE, QUIET, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import SimCTError
from simct.evaluation.records import evaluations_of
from simct.publishing.card import public_yaml
from simct.runs.folder import RunFolder
from simct.runs.sharing import link_of, linked_run, make_link, withdraw_link

PATH = "run"
EVERY_SECONDS = 3.0
ONCE = {**QUIET, "trigger_mode": "once"}
LEAD = (
    "Anyone with the link can follow this run: its progress, curves, answers and settings, but not its log. They need "
    "no account and can change nothing."
)
HEADER = '<header class="top"><h1>SimCT Studio</h1><p>A run that was shared with you, read-only.</p></header>'
WITHOUT = "The link in the address is incomplete. Ask for the whole link to the run."


class ShareLink:
    """The link of the chosen run, folded; `fields` are updated when another run is chosen."""

    def __init__(self, studio: Studio, chosen: gr.Radio) -> None:
        self.studio = studio
        with gr.Accordion("Read-only link", open=False, elem_id="run-share"):
            markup.panel(f'<p class="lead small">{LEAD}</p>')
            self.link = gr.Textbox(
                label="Link", interactive=False, visible=False, buttons=["copy"], elem_id="share-link"
            )
            with gr.Row(elem_classes="tools"):
                self.make = gr.Button("Make a link", size="sm", min_width=110, elem_id="share-make")
                self.withdraw = gr.Button(
                    "Withdraw the link", size="sm", min_width=140, visible=False, elem_id="share-withdraw"
                )
            self.outcome = markup.panel(elem_id="share-note")
        # the browser adds the address of the page, which the server does not know
        self.path = markup.held()
        self.path.change(None, self.path, self.link, js=scripts.call("linkToRun"), **PRIVATE)
        self.chosen = chosen

    def connect(self, changed: gr.State) -> None:
        """Make and withdraw the link on a click. `changed` follows, so that the fields of the chosen run are updated,
        which may no longer be the run of the click.
        """
        self.changed = changed
        for button, act in ((self.make, self._make), (self.withdraw, self._withdraw)):
            Handler(self.studio, act, {"run_id": self.chosen}, [self.outcome, changed], ONCE).on(button.click)

    @property
    def fields(self) -> list[Any]:
        return [self.path, self.link, self.make, self.withdraw]

    def shown(self, run: RunFolder | None) -> Updates:
        """The present link to the run."""
        link = link_of(run) if run else None
        return {
            self.path: link or "",
            self.link: gr.Textbox(visible=link is not None),
            self.make: gr.Button(visible=link is None),
            self.withdraw: gr.Button(visible=link is not None),
        }

    def _make(self, visitor: Visitor, run_id: str | None) -> Updates:
        return self._change(visitor, run_id, make_link, "")

    def _withdraw(self, visitor: Visitor, run_id: str | None) -> Updates:
        return self._change(visitor, run_id, withdraw_link, "Withdrawn. The link no longer shows anything.")

    def _change(self, visitor: Visitor, run_id: str | None, act: Callable[[RunFolder], object], done: str) -> Updates:
        """`act` on the owner's run; a message on what was done."""
        try:
            run = owned_run(self.studio, run_id, visitor)
            act(run)
        except SimCTError as error:
            return {self.outcome: markup.note("error", one_line(error))}
        return {self.outcome: markup.passing(done) if done else "", self.changed: time.monotonic_ns()}


class SharedRun:
    """The page of a link. It has no buttons, and everything on it is read from the one run that the link names."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        markup.panel(HEADER)
        self.head = markup.panel(markup.note("busy", "Opening the run…"), elem_id="shared-head", min_height=96)
        self.results = markup.panel(elem_id="shared-results")
        self.measured, self.curves = charts.place("shared-measured"), charts.place("shared-charts")
        self.left_out = markup.panel(elem_id="shared-left-out")
        self.evaluations = markup.panel(elem_id="shared-evaluations", js_on_load=when_loaded("timeline"))
        self.samples = markup.panel(elem_id="shared-samples")
        self.settings = markup.panel(elem_id="shared-settings")
        # file times are too large for the browser's numbers
        self.seen = gr.State({})
        link = markup.held()
        self.panels = [self.head, self.results, self.left_out, self.samples, self.settings]
        self.drawn = [*self.panels, self.measured, self.curves, self.evaluations]
        how = {**ONCE, "js": scripts.call("linkedRun")}
        look = Handler(studio, self.look, {"link": link, "seen": self.seen}, [*self.drawn, self.seen], how)
        look.on(gr.Timer(EVERY_SECONDS).tick)

    def look(self, link: str | None, seen: dict[str, Any] | None) -> Updates:
        """What has changed in the run that the link opens."""
        try:
            run = linked_run(self.studio.runs_dir, link or "")
        except SimCTError as error:
            empty = dict.fromkeys(self.panels[1:], "")
            line = markup.note("error", one_line(error) if link else WITHOUT)
            nothing = {self.measured: charts.data((), ""), self.curves: charts.data((), ""), self.evaluations: ""}
            return {self.head: line, **empty, **nothing, self.seen: {}}
        now = {"run": run.id, "files": [stamp(run, name) for name in (*view.FILES, *evaluations.FILES)]}
        return {} if now == seen else {**self._drawn(run), self.seen: now}

    def _drawn(self, run: RunFolder) -> Updates:
        metrics, found = run.metrics(), evaluations_of(run)
        return {
            self.head: view.head(run, metrics),
            self.results: evaluations.results(run),
            self.measured: charts.data(curves.of_evaluations(found), run.id, tools=False),
            self.curves: charts.data(curves.of_run(metrics), run.id, empty="Curves appear with the first step."),
            self.left_out: view.left_out(metrics),
            self.evaluations: evaluations.timeline(found, run.teacher_answers()),
            self.samples: view.samples(run),
            self.settings: _settings(run),
        }


def _settings(run: RunFolder) -> str:
    """The settings as they would be published."""
    try:
        text = public_yaml(run.config())
    except SimCTError as error:
        return markup.note("error", one_line(error))
    return f'<details><summary>Settings</summary><pre class="log" tabindex="0">{markup.escape(text)}</pre></details>'
