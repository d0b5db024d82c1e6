"""The page: seven steps and the help, each in its own folder, and the links between them."""

import sys
from collections.abc import Sequence
from typing import Any

import gradio as gr
import gradio.routes
from gradio.utils import get_space

from app import api, projects
from app.address import Restoring, decisions
from app.compare.tab import CompareTab
from app.data import choice
from app.data.tab import DataTab
from app.help import tab as help_tab
from app.help import words
from app.help.tab import HelpTab
from app.inspect import reliability_view
from app.inspect.pair_verdict import PairVerdict
from app.inspect.tab import InspectTab
from app.page import charts as line_charts
from app.page import markup, scripts
from app.page.kept import Kept
from app.page.markup import one_line
from app.page.theme import theme
from app.pair.tab import PairTab
from app.projects import ProjectEditor
from app.publish.tab import PublishTab
from app.runs import sharing
from app.runs.comparison import RunComparison
from app.runs.notices import RunNotices
from app.runs.sharing import SharedRun
from app.runs.tab import RunsTab
from app.server import opening
from app.server.guard import Guard, Preflights
from app.server.handler import LATEST, PRIVATE, QUIET, Component, Handler, Updates
from app.server.hosts import Hosts
from app.server.imports import Page, import_behind
from app.server.sessions import Sessions
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.start import tour
from app.start.gallery import Gallery
from app.start.tour import TourStart
from app.train import form
from app.train.checklist import step_of
from app.train.checklist_view import FIELDS
from app.train.tab import TrainTab
from app.train.teacher_server import TeacherServer
from app.train.version import FormState
from simct.config import brief
from simct.errors import SimCTError
from simct.hub import client
from simct.jobs import actions
from simct.report import charts

MAX_UPLOAD = "200mb"
# for uploads in Gradio's temporary folder: seconds between two checks, and the maximum age of a file
FORGET_UPLOADS = (3600, 24 * 3600)
MOST_WAITING = 256

HEADER = """<header class="top"><h1>SimCT Studio</h1>
<p>Distill a teacher into a student, even when they tokenize text differently.</p></header>"""


class StudioPage:
    """The whole page; `kept` is what the browser keeps for a project in addition to its pair."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with Page(studio, title="SimCT Studio", analytics_enabled=False, delete_cache=FORGET_UPLOADS) as self.blocks:
            with gr.Row(elem_id="top", equal_height=True):
                markup.panel(HEADER)
                if studio.public and get_space():
                    gr.LoginButton("Sign in", size="sm", scale=0, min_width=160)
            default = studio.default_pair
            with gr.Row(elem_id="decided", equal_height=True):
                self.where = markup.panel(
                    decisions(default["teacher"], default["student"], None, None), elem_id="where"
                )
                self.project = projects.field()
                edit = gr.Button("Edit…", size="sm", scale=0, min_width=70, visible=False, elem_id="project-edit")
            editor = ProjectEditor(studio, self.project, edit)
            self.kept = Kept(
                prompts=gr.JSON(choice.START, visible="hidden"),
                run=gr.JSON(brief(form.starting_config()), visible="hidden"),
                verdict=gr.JSON(reliability_view.in_advance(), visible=False),
            )
            self.query = gr.JSON({}, visible=False)
            self.form_state = FormState()
            self._build_steps()
            steps = (self.pair, self.inspect, self.data, self.train, self.runs)
            self.restoring = Restoring(studio, steps, self.tabs, self.project, self.kept, editor.note)
            self._wire_tabs()
            self._wire_steps()
            self._wire_address()
            api.build(studio)
        with self.blocks.route("Run", sharing.PATH, show_in_navbar=False):
            SharedRun(studio)

    def _build_steps(self) -> None:
        studio = self.studio
        self.tabs_of_steps: dict[str, gr.Tab] = {}
        steps = self.tabs_of_steps
        links = help_tab.links()
        with gr.Tabs(elem_id="steps") as self.tabs:
            with gr.Tab("Pair", id="pair") as steps["pair"]:
                self.start = TourStart(studio)
                self.gallery = Gallery(studio)
                self.pair = PairTab(studio)
                with self.pair.below_teacher:
                    self.teacher_server = TeacherServer(studio, self.pair)
                with self.pair.below:
                    self.pair_verdict = PairVerdict(studio, self.pair, self.kept, self.teacher_server.asked, FIELDS)
            with gr.Tab("Inspect", id="inspect") as steps["inspect"]:
                self.inspect = InspectTab(studio, self.pair, self.kept, self.teacher_server.asked, FIELDS)
            with gr.Tab("Data", id="data") as steps["data"]:
                self.data = DataTab(studio, self.pair, self.kept, FIELDS)
            with gr.Tab("Train", id="train") as steps["train"]:
                self.train = TrainTab(studio, self.pair, self.kept, self.form_state, self.project, self.teacher_server)
            with gr.Tab("Runs", id="runs") as steps["runs"]:
                self.runs = RunsTab(studio, self.project)
                self.notices = RunNotices(studio)
                RunComparison(studio)
                self.look = gr.Button("Compare with the teacher →", variant="primary", elem_classes="next")
            with gr.Tab("Compare", id="compare") as steps["compare"]:
                self.compare = CompareTab(studio, self.runs)
            with gr.Tab("Publish", id="publish") as steps["publish"]:
                self.publish = PublishTab(studio, self.runs)
            with gr.Tab("Help", id="help") as steps["help"]:
                HelpTab(studio, self.tabs, links)

    def _wire_tabs(self) -> None:
        """The actions when a step is opened, and the buttons that lead to another step."""
        self.form_state.read_when(self.tabs_of_steps["train"].select)
        for name, step in self.tabs_of_steps.items():
            step.select(None, None, self.runs.timer, js=scripts.call("openedStep", name), **PRIVATE)
        leads_to = {
            self.pair.next: "inspect",
            self.inspect.next: "data",
            self.data.next: "train",
            self.look: "compare",
            self.compare.next: "publish",
            self.runs.publish: "publish",
        }
        for button, name in leads_to.items():
            # in the browser: an answer of the server would arrive late, and leave a step that was opened since
            button.click(None, None, self.tabs, js=scripts.call("stepToOpen", name), **PRIVATE)
        each = {**QUIET, "trigger_mode": "multiple"}
        go = Handler(self.studio, self._open_step_of, {}, [self.tabs], each).on(
            self.train.checklist.panel.select, self.data.notices.select
        )
        go.then(None, js=scripts.call("focusField"), **PRIVATE)
        steps = self.tabs_of_steps
        self.inspect.refresh.on(steps["inspect"].select)
        self.data.refresh.on(steps["data"].select)
        self.runs.refresh.on(steps["runs"].select)
        self.compare.refresh.on(steps["compare"].select)
        self.publish.account_line.on(steps["publish"].select)
        self.publish.show_after(self.publish.refresh.on(steps["publish"].select).then)

    def _open_step_of(self, event: gr.EventData) -> Updates:
        """Open the step with the field that a message's button leads to."""
        step = step_of(event)
        return {self.tabs: gr.Tabs(selected=step)} if step else {}

    def _wire_steps(self) -> None:
        """The values that one step passes to another."""
        Handler(self.studio, self._measure, {}, [self.tabs, self.inspect.views]).on(self.train.measure.click)
        take = Handler(
            self.studio,
            self._take_recommended,
            {"run": self.kept.run, "verdict": self.kept.verdict},
            [*self.train.form_outputs, self.tabs],
        )
        take.on(self.inspect.train.click, self.pair_verdict.train.click)
        duplicate = Handler(
            self.studio,
            self._duplicate,
            {"run_id": self.runs.chosen},
            [self.tabs, self.train.loaded, *self.train.form_outputs, self.runs.note],
        )
        duplicate.on(self.runs.duplicate.click)
        filled = [*self.restoring.pair_and_data, *self.train.form_outputs]
        recipe = Handler(
            self.studio,
            self._take_recipe,
            {},
            [*filled, self.train.taken, self.train.preset, self.gallery.note],
            {**QUIET, "trigger_mode": "multiple"},
        )
        self.pair.refresh.on(recipe.on(self.gallery.panel.select).then)
        shown = [self.runs.chosen, self.tabs]
        show = Handler(self.studio, self._show_run, {"run_id": self.train.launched}, shown)
        show.on(self.train.launched.change)

    def _show_run(self, visitor: Visitor, run_id: str) -> Updates:
        """Choose the run and open its step in one update: a step that opened first would read the previously chosen
        run.
        """
        return {**self.runs.choose(visitor, run_id), self.tabs: gr.Tabs(selected="runs")}

    def _measure(self) -> Updates:
        return {self.tabs: gr.Tabs(selected="inspect"), self.inspect.views: gr.Tabs(selected="reliability")}

    def _take_recommended(self, run: dict[str, Any], verdict: dict[str, Any]) -> Updates:
        """Continue with the settings that the verdict recommends."""
        loaded = self.train.load(reliability_view.recommended(form.base_config(run), verdict))
        return {**loaded, self.tabs: gr.Tabs(selected="train")}

    def _take_recipe(self, event: gr.EventData) -> Updates:
        """Fill in the pair, the prompts and the settings of a recipe."""
        name = self.gallery.recipe_of(event)
        if name is None:
            return {}
        config = self.gallery.recipes[name].model_copy(deep=True)
        filled = {**self.restoring.load_pair_and_data(config), **self.train.load(config)}
        return {**filled, self.train.taken: name, self.train.preset: name, self.gallery.note: self.gallery.taken(name)}

    def _duplicate(self, visitor: Visitor, run_id: str | None) -> Updates:
        """Send a run's settings, pair and prompts to the steps they belong to."""
        try:
            config = actions.duplicate(owned_run(self.studio, run_id, visitor), token=visitor.token)
        except SimCTError as error:
            return {self.runs.note: markup.note("error", one_line(error))}
        loaded = {self.train.loaded: config, **self.train.load(config)}
        return {**loaded, self.tabs: gr.Tabs(selected="train"), self.runs.note: ""}

    def _wire_address(self) -> None:
        """Keep the choices in the address bar and in the browser, and restore them."""
        restoring = self.restoring
        load = Handler(
            self.studio, restoring.load_pair_and_data, {"config": self.train.loaded}, restoring.pair_and_data
        )
        self.pair.refresh.on(load.on(self.train.loaded.change).then)
        named: list[gr.Dropdown | gr.Radio] = [self.pair.teacher, self.pair.student, self.runs.chosen]
        renamed = [component.change for component in named]
        gr.on(renamed, None, named, js=scripts.call("rememberPair"), **PRIVATE)
        self.project.input(None, self.project, self.project, js=scripts.call("openProject"), **PRIVATE)
        kept = self.kept
        for name, value in {"data": kept.prompts, "run": kept.run, "verdict": kept.verdict}.items():
            value.change(None, value, js=scripts.call("keep", name), **PRIVATE)
        decided = {**self.pair.inputs, "prompts": kept.prompts, "run_id": self.runs.chosen}
        show = Handler(self.studio, self._show_decisions, decided, [self.where], LATEST)
        show.on(kept.prompts.change, *renamed)
        inputs: dict[str, Component] = {"query": self.query, "prompts": kept.prompts, "run": kept.run}
        inputs |= {"verdict": kept.verdict, "text": self.inspect.text.text}
        restore = Handler(
            self.studio,
            restoring.restore,
            inputs,
            restoring.everything,
            {**QUIET, "js": scripts.call("recall", "data run verdict")},
        )
        restored = restore.on(self.blocks.load)
        # for example if the queue is full; the fields would otherwise stay disabled
        restored.failure(None, js=scripts.call("restoreAgain"), **PRIVATE)
        restored.then(None, None, self.notices.ask, js=scripts.call("startRemembering"), **PRIVATE)
        show.on(restored.then)
        self.pair.refresh.on(restored.then)

    def _show_decisions(
        self, teacher: str | None, student: str | None, prompts: choice.Choice | None, run_id: str | None
    ) -> Updates:
        return {self.where: decisions(teacher, student, prompts, run_id)}


def build(studio: Studio) -> gr.Blocks:
    """The whole page of a studio."""
    return StudioPage(studio).blocks


def serve(studio: Studio, host: str = "127.0.0.1", port: int | None = None, allow_hosts: Sequence[str] = ()) -> None:
    """Serve the page, print its address, and block. `allow_hosts` are more names that it answers to."""
    client.fail_fast()
    gradio.routes.StateHolder = Sessions  # type: ignore[misc]
    gradio.routes.CustomCORSMiddleware = Preflights  # type: ignore[misc]
    templates = gradio.routes.templates.env
    templates.loader = opening.loader(templates.loader)
    # a computing thread gives way after one millisecond instead of five, so that requests are answered sooner
    sys.setswitchinterval(0.001)
    page = build(studio)
    import_behind(studio, studio.background.start)
    # the class and its arguments, in the form that Gradio's server expects for middleware
    guard = (Guard, (), {"hosts": Hosts.of(host, studio.public, allow_hosts), "uploads": studio.uploads})
    # all events of the page go through the queue, where visitors take turns
    _, url, _ = page.queue(default_concurrency_limit=4, max_size=MOST_WAITING, api_open=False).launch(
        app_kwargs={"middleware": [guard]},
        server_name=host,
        server_port=port,
        theme=theme(),
        css_paths=[charts.STYLE, *scripts.styles()],
        head=words.script() + tour.script(studio) + line_charts.script() + scripts.head(),
        footer_links=[],
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        quiet=True,
        show_error=False,
        prevent_thread_lock=True,
    )
    print(f"SimCT Studio is at {url} (runs in {studio.runs_dir}). Ctrl-C ends it; runs continue.", flush=True)
    page.block_thread()
