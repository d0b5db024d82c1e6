"""Runs: the list of waiting, active and past runs, read from their folders, and the chosen run with its actions."""

import time
from collections.abc import Callable
from typing import Any, Literal

import gradio as gr

from app.page import charts, markup
from app.page.markup import one_line
from app.page.scripts import when_loaded
from app.runs import curves, evaluations, listing, machine, page, table, view
from app.runs.actions import ACTIONS, perform, question
from app.runs.labels import LabelEditor, star_text
from app.runs.listing import ANY, PAGE, STATES, choices
from app.runs.sharing import ShareLink
from app.server import paths
from app.server.handler import LATEST, PRIVATE, QUIET, Handler, Updates, in_turn, new_value
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.errors import SimCTError, quoted
from simct.evaluation.records import evaluations_of
from simct.runs.folder import RunFolder

EVERY_SECONDS = 1.5
BUTTONS = {
    "stop": "Stop", "kill": "Force stop…", "resume": "Resume", "retry": "Retry", "duplicate": "Duplicate",
    "delete": "Delete…", "fetch": "Fetch the student", "publish": "Publish →",
}  # fmt: skip
# filled in by static/log.js
LOG = (
    '<div class="log-tools">'
    '<input type="search" placeholder="Filter" aria-label="Filter the log" data-testid="log-filter">'
    '<label><input type="checkbox" checked data-testid="log-follow"> Follow</label><output></output></div>'
    '<pre class="log" tabindex="0" aria-label="Log"></pre>'
)
DONE_HERE = ("stop", "kill", "resume", "retry", "delete", "fetch")


class RunsTab:
    """The list on the left, the chosen run on the right, refreshed while the step is open.

    `seen` is the content of this page as plain data. `stale_since` is when it was found to differ from the run folders,
    or when an action may have changed them. `pending` is the action and the run that a question is about.
    """

    def __init__(self, studio: Studio, project: gr.Dropdown) -> None:
        self.studio = studio
        markup.panel(markup.heading("Runs", "Runs continue when this page or the studio is closed.", "running"))
        self.timer = gr.Timer(EVERY_SECONDS, active=False)
        self.seen, self.stale_since, self.pending = gr.State({}), gr.State(0), gr.State(None)
        self.estimates = machine.PeakEstimates(studio)
        with gr.Accordion("Table of runs", open=False, elem_id="run-table") as self.whole:
            self.table = markup.panel(elem_id="run-table-rows", js_on_load=when_loaded("sortable"))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280, elem_id="run-side"):
                self._build_list()
            with gr.Column(scale=5, min_width=320, visible=False) as self.detail:
                self._build_detail()
        self.publish, self.duplicate = self.buttons["publish"], self.buttons["duplicate"]
        inputs = {
            "run_id": self.chosen, "before": self.seen, "words": self.words, "state": self.state, "length": self.length,
            "project": project, "within": self.within,
        }  # fmt: skip
        outputs = [
            self.chosen,
            self.within,
            self.count,
            self.more,
            self.detail,
            self.whole,
            self.seen,
            *self.panels,
            *self.buttons.values(),
        ]
        outputs += [self.evaluations, self.measured, self.curves, self.table, self.log, self.star, self.note]
        outputs += [*self.label.fields, *self.share.fields]
        self.refresh = Handler(studio, self._refresh, inputs, outputs, in_turn("runs"))
        watching = {**QUIET, "trigger_mode": "once", "concurrency_limit": 8}
        self.look = Handler(studio, self._look, inputs, [self.stale_since], watching)
        self._wire_list()
        self._wire_actions()

    def _build_list(self) -> None:
        with gr.Row(elem_id="run-search"):
            self.words = gr.Textbox(
                show_label=False, label="Search runs", placeholder="Search runs", min_width=120, container=False
            )
            self.state = gr.Dropdown(
                STATES,
                value=STATES[0],
                show_label=False,
                label="State",
                min_width=110,
                container=False,
                filterable=False,
            )
        self.within = gr.Dropdown(
            [("All projects", ANY)],
            value=ANY,
            show_label=False,
            label="Project of the runs",
            container=False,
            filterable=False,
            visible=False,
            elem_id="run-project",
        )
        self.chosen = gr.Radio([], label="History", show_label=False, elem_id="run-list", container=False)
        self.count = markup.panel(elem_id="run-none")
        self.more = gr.Button("Show more", size="sm", visible=False, elem_id="run-more")
        self.length = gr.State(PAGE)

    def _build_detail(self) -> None:
        head = markup.panel(elem_id="run-head", min_height=96)
        with gr.Row(elem_id="run-buttons"):
            self.star = gr.Button("☆ Star", size="sm", elem_id="star")
            self.buttons = {
                name: gr.Button(
                    text,
                    size="sm",
                    interactive=False,
                    visible=name != "fetch",
                    variant="primary" if name == "publish" else "secondary",
                    elem_id="to-publish" if name == "publish" else name,
                )
                for name, text in BUTTONS.items()
            }
        with gr.Row(visible=False, elem_id="confirm") as self.confirm:
            self.question = markup.panel()
            self.yes = gr.Button("Yes", size="sm", variant="stop", elem_id="confirm-really")
            self.no = gr.Button("Cancel", size="sm", elem_id="confirm-keep")
        self.note = markup.panel(elem_id="run-note")
        self.label = LabelEditor(self.studio, self.chosen)
        self.share = ShareLink(self.studio, self.chosen)
        used = markup.panel(elem_id="run-machine")
        results = markup.panel(elem_id="run-results")
        self.measured = charts.place("run-measured")
        self.curves = charts.place("run-charts")
        left_out = markup.panel(elem_id="run-left-out")
        self.evaluations = markup.panel(elem_id="run-evaluations", js_on_load=when_loaded("timeline"))
        samples = markup.panel(elem_id="run-samples")
        with gr.Accordion("Log", open=False):
            self.log = markup.panel(elem_id="run-log", html_template=LOG, js_on_load=when_loaded("log"))
        with gr.Accordion("run.yaml", open=False):
            yaml = markup.panel(elem_id="run-config", max_height=420)
        self.panels = [head, used, results, left_out, samples, yaml]

    def _wire_list(self) -> None:
        self.look.on(self.timer.tick)
        fields = (self.chosen.input, self.words.input, self.state.input, self.within.input)
        self.refresh.on(*fields, self.stale_since.change)
        self.label.connect(self.star, self.note, self.stale_since)
        self.share.connect(self.stale_since)
        each = {**QUIET, "trigger_mode": "multiple"}
        opened = [self.chosen, self.stale_since]
        Handler(self.studio, self._open_from_table, {}, opened, each).on(self.table.select)
        longer = [self.length, self.stale_since]
        Handler(self.studio, self._show_more, {"length": self.length}, longer).on(self.more.click)
        asked = [self.note, self.confirm, self.pending, self.label.outcome, self.share.outcome]
        leave = Handler(self.studio, self._forget_question, {}, asked, LATEST)
        leave.on(self.chosen.input)

    def _wire_actions(self) -> None:
        acted = [self.note, self.confirm, self.question, self.yes, self.pending, self.chosen, self.stale_since]
        once = {**PRIVATE, "trigger_mode": "once"}
        for name in DONE_HERE:
            act = Handler(self.studio, self._ask_or_do(name), {"run_id": self.chosen}, acted, once)
            act.on(self.buttons[name].click)
        confirmed = {"pending": self.pending, "run_id": self.chosen}
        Handler(self.studio, self._confirmed, confirmed, acted, once).on(self.yes.click)
        Handler(self.studio, self._keep, {}, [self.confirm, self.pending]).on(self.no.click)

    def choose(self, visitor: Visitor, run_id: str) -> Updates:
        """The list with that run chosen."""
        return {self.chosen: choices(self.studio, run_id, visitor)}

    def _open_from_table(self, visitor: Visitor, event: gr.EventData) -> Updates:
        """Show the run whose name was clicked in the table."""
        run_id = (event._data or {}).get("run")
        return {self.chosen: choices(self.studio, run_id, visitor), **self._stale()} if isinstance(run_id, str) else {}

    def _look(self, visitor: Visitor, run_id: str | None, before: dict[str, Any], **wanted: Any) -> Updates:
        """Check whether anything that is shown has changed. If so, one small update asks for `refresh`."""
        now = self._now(visitor, run_id, **wanted)
        return self._stale() if now.shown != before else {}

    def _stale(self) -> Updates:
        """Ask for `refresh`."""
        return {self.stale_since: time.monotonic_ns()}

    def _now(
        self,
        visitor: Visitor,
        run_id: str | None,
        words: str = "",
        state: str = STATES[0],
        length: int = PAGE,
        project: str | None = None,
        within: str | None = None,
    ) -> page.Look:
        """As page.look, for the values of the fields above the list."""
        self.studio.background.meet(visitor)
        wanted = listing.filtered_project(within, project)
        return page.look(self.studio, visitor, run_id, words, state, length, wanted)

    def _refresh(self, visitor: Visitor, run_id: str | None, before: dict[str, Any], **wanted: Any) -> Updates:
        """Show what changed since this page was last updated; unchanged files are not read again."""
        found = self._now(visitor, run_id, **wanted)
        run, now = found.run, found.shown
        picked = run.id if run else None
        changed = {name for name, value in now.items() if before.get(name, "") != value}
        updates: Updates = {self.seen: now} if changed else {}
        if changed & {"list", "count"} or picked != run_id:
            updates |= {
                self.chosen: gr.Radio(choices=now["list"], **new_value(picked, run_id)),
                self.count: listing.count_line(*now["count"]),
                self.more: gr.Button(visible=now["count"][0] < now["count"][1]),
                self.detail: gr.Column(visible=run is not None),
                self.whole: gr.Accordion(visible=bool(found.listed)),
            }
        if "projects" in changed:
            updates[self.within] = listing.project_filter(now["projects"], wanted.get("within") or ANY)
        if "table" in changed:
            updates[self.table] = table.table(self.studio, found.listed, picked)
        if "allowed" in changed:
            updates |= {
                self.buttons[name]: gr.Button(interactive=now["allowed"][name], visible=_shown(name, now["allowed"]))
                for name in ACTIONS
            }
        if run_id and picked != run_id:
            updates |= self._gone(visitor, run_id, picked)
        if run:
            self.estimates.ask(visitor, run, run.status())
        return updates | self._detail(run, changed, found.place, found.trouble)

    def _gone(self, visitor: Visitor, run_id: str, picked: str | None) -> Updates:
        """A line about the run that was shown, if it was deleted elsewhere and not only filtered out of the list."""
        try:
            owned_run(self.studio, run_id, visitor)
        except SimCTError:
            other = " Another one is shown." if picked else ""
            return {self.note: markup.note("warn", f"Run {quoted(run_id)} is no longer here.{other}")}
        return {}

    def _detail(self, run: RunFolder | None, changed: set[str], place: str | None, trouble: str | None) -> Updates:
        """The panels of the run that have changed."""
        updates: Updates = {}
        if "label" in changed:
            updates |= self.label.shown(run)
        if "star" in changed:
            updates[self.star] = star_text(run)
        if "share" in changed:
            updates |= self.share.shown(run)
        if "run" in changed:
            drawn = view.panels(run, place, trouble) if run else [""] * len(self.panels)
            updates |= {**dict(zip(self.panels, drawn, strict=True)), self.log: view.log(run) if run else ""}
        if "metrics" in changed:
            updates[self.curves] = _curves(run)
        if "evaluations" in changed:
            found = evaluations_of(run) if run else []
            updates[self.evaluations] = evaluations.timeline(found, run.teacher_answers()) if run else ""
            updates[self.measured] = charts.data(curves.of_evaluations(found), run.id if run else "", tools=False)
        return updates

    def _do(self, action: str, run_id: str | None, visitor: Visitor) -> Updates:
        """Perform the action; returns a note, the hidden question, and the run to show."""
        updates: Updates = {self.confirm: gr.Row(visible=False), self.pending: None, **self._stale()}
        try:
            run = owned_run(self.studio, run_id, visitor)
            if action in ("resume", "retry"):
                # its run.yaml may come from another machine, or from a time when the visitor owned other files
                paths.check_run(self.studio, visitor, run.config(), here=not run.status().remote)
            message, new = perform(action, run, visitor)
        except SimCTError as error:
            return {**updates, self.note: markup.note("error", one_line(error))}
        if new or action == "delete":
            updates[self.chosen] = choices(self.studio, new, visitor)
        return {**updates, self.note: markup.passing(message)}

    def _ask_or_do(self, action: str) -> Callable[..., Updates]:
        def ask_or_do(visitor: Visitor, run_id: str | None) -> Updates:
            try:
                asking = question(action, owned_run(self.studio, run_id, visitor))
            except SimCTError as error:
                line = markup.note("error", one_line(error))
                return {self.note: line, self.confirm: gr.Row(visible=False), **self._stale()}
            if asking is None:
                return self._do(action, run_id, visitor)
            text, yes = asking
            kind: Literal["stop", "primary"] = "stop" if action in ("kill", "delete") else "primary"
            return {
                self.note: "",
                self.confirm: gr.Row(visible=True),
                self.question: markup.note("warn", text),
                self.yes: gr.Button(yes, variant=kind),
                self.pending: [action, run_id],
            }

        return ask_or_do

    def _confirmed(self, visitor: Visitor, pending: list[str] | None, run_id: str | None) -> Updates:
        """Perform the confirmed action, unless the question was about a run that is no longer the chosen one."""
        if pending and pending[1] != run_id:
            line = f"The question was about run {quoted(pending[1])}. Choose it to act on it."
            return {**self._keep(), self.note: markup.note("warn", line)}
        return self._do(pending[0], pending[1], visitor) if pending else {}

    def _keep(self) -> Updates:
        return {self.confirm: gr.Row(visible=False), self.pending: None}

    def _forget_question(self) -> Updates:
        return {self.note: "", self.label.outcome: "", self.share.outcome: "", **self._keep()}

    def _show_more(self, length: int) -> Updates:
        return {self.length: length + PAGE, **self._stale()}


def _curves(run: RunFolder | None) -> dict[str, Any]:
    if run is None:
        return charts.data((), "")
    return charts.data(curves.of_run(run.metrics()), run.id, empty="Curves appear after the first step.")


def _shown(name: str, allowed: dict[str, bool]) -> bool:
    return allowed[name] or name != "fetch"
