"""Compare: ask the models of a run, in four views: side by side, a chat, a blind test, and a set of prompts."""

import gradio as gr

from app.compare import answers, models
from app.compare.blind import BlindTab
from app.compare.chat import ChatTab
from app.compare.prompt_set import PromptSetTab
from app.compare.side_by_side import SideBySideTab
from app.page import markup, scripts
from app.page.markup import one_line
from app.runs.listing import one_line_options, visible
from app.runs.tab import RunsTab
from app.server.handler import LATEST, PRIVATE, Handler, Updates, in_turn, new_value
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.server.work import Work
from simct.errors import SimCTError
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

NO_RUN = "Answers appear here once a run has started. Launch one under Train."
GONE = "The chosen run is no longer here. Choose another one."


class CompareTab:
    """The run above, and the views as tabs. `refresh` fills the list of runs; the views show the chosen run."""

    def __init__(self, studio: Studio, runs: RunsTab) -> None:
        self.studio = studio
        markup.panel(
            markup.heading("Compare", "What the student learned, on your own prompts.", "running#trying-the-student")
        )
        self.run = gr.Dropdown([], label="Run", elem_id="compare-run", filterable=False)
        self.served = markup.panel(elem_id="compare-served")
        with gr.Tabs(elem_id="compare-parts"):
            with gr.Tab("Side by side", id="side_by_side"):
                self.side_by_side = SideBySideTab(studio, self.run)
            with gr.Tab("Chat", id="chat"):
                self.chat = ChatTab(studio, self.run)
            with gr.Tab("Blind test", id="blind"):
                self.blind = BlindTab(studio, self.run)
            with gr.Tab("Prompt set", id="prompt_set"):
                self.prompt_set = PromptSetTab(studio, self.run)
        self.next = gr.Button("Publish →", variant="primary", elem_classes="next")
        self.refresh = Handler(studio, self._refresh, {"chosen": runs.chosen, "current": self.run}, [self.run], LATEST)
        views = (self.side_by_side, self.chat, self.blind, self.prompt_set)
        # a conversation continues after another run is chosen; these end
        self.works = {"asked": self.side_by_side.work, "blind": self.blind.work, "several": self.prompt_set.work}
        shown = [self.served, *(component for view in views for component in view.outputs)]
        shown += [component for work in self.works.values() for component in work.outputs]
        followed = {"run_id": self.run, **{name: work.task for name, work in self.works.items()}}
        # disabled while they are still about the previous run
        starts = [button for view in views for button in view.starts]
        self.run.change(None, starts, starts, js=scripts.call("disabled"), **PRIVATE)
        Handler(studio, self._show, followed, shown, in_turn("compare")).on(self.run.change)

    def _refresh(self, visitor: Visitor, chosen: str | None, current: str | None) -> Updates:
        """The runs that have started, with the one chosen under Runs selected; none if the chosen one was deleted."""
        options = one_line_options(self._begun(visitor))
        ids = [run_id for _, run_id in options]
        first = None if current else next(iter(ids), None)
        picked = next((each for each in (chosen, current) if each in ids), first)
        # no run is always sent: only its arrival makes the page say why there is none
        value = new_value(picked, current) if picked else {"value": None}
        return {self.run: gr.Dropdown(choices=options, **value)}

    def _begun(self, visitor: Visitor) -> list[tuple[RunFolder, RunStatus]]:
        return [(run, status) for run, status in visible(self.studio, visitor) if status.step]

    def _show(self, visitor: Visitor, run_id: str | None, **works: Work | None) -> Updates:
        """The models that can answer, the run's own prompts, its scores and its votes. The models of the previous run
        stop answering.
        """
        ended: Updates = {}
        for name, work in works.items():
            ended |= self.works[name].leave(work)
        return {**ended, **self._shown(visitor, run_id)}

    def _shown(self, visitor: Visitor, run_id: str | None) -> Updates:
        if not run_id:
            why = markup.note("warn", GONE) if self._begun(visitor) else markup.empty(NO_RUN)
            return {self.served: "", **self.side_by_side.nothing(why)}
        try:
            run = owned_run(self.studio, run_id, visitor)
            config = run.config()
            offered = models.offered_sides(self.studio, run, config, visitor.token)
            # not ticked at first: models that must be downloaded, and checkpoints, because there may be many
            whole = [side for _, side in offered if models.checkpoint_step(side) is None]
            here = [side for side in whole if models.is_here(side, run, config)]
            prompts = [each.text for each in answers.prompts_of(self.studio, run, visitor.token)]
        except SimCTError as error:
            return {self.served: "", **self.side_by_side.nothing(markup.note("error", one_line(error)))}
        return {
            self.served: markup.note("quiet", models.served_line(config)),
            **self.side_by_side.show(run, offered, here, prompts),
            **self.chat.show(offered, config.data.system),
            **self.blind.show(run, offered),
            **self.prompt_set.show(offered, here),
        }
