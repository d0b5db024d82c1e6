"""Blind test: two answers in random order, a vote, and then which model wrote which. The votes are kept with the
run.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.compare import view
from app.compare.answers import Answer, conversation, prompts_of, reply, sampling, sampling_fields
from app.compare.models import RunModels
from app.page import markup, saving
from app.page.markup import one_line
from app.server import downloads
from app.server.downloads import Download
from app.server.handler import LATEST, LONG, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.server.work import LongWork, Work
from simct.errors import DataError, SimCTError
from simct.evaluation.votes import Choice, Vote, add_vote, tallies, votes_of, votes_report
from simct.runs.folder import RunFolder

LENGTH = 128
START = "Two models answer the same prompt. You see the answers without their names, and choose the better one."
BOTH = "Both models are answering… {:.0f} s"
VOTES: dict[Choice, str] = {"left": "Left is better", "tie": "Tie", "right": "Right is better"}


class BlindTab:
    """Two models and a prompt, the two answers, three buttons for the vote, and the tally."""

    def __init__(self, studio: Studio, run: gr.Dropdown) -> None:
        self.studio, self.run = studio, run
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                self.one = gr.Dropdown([], label="One model", elem_id="blind-one", filterable=False)
                self.other = gr.Dropdown([], label="The other", elem_id="blind-other", filterable=False)
                with gr.Row():
                    temperature, length = sampling_fields("blind", LENGTH)
            with gr.Column(scale=3, min_width=320):
                self.prompt = gr.Textbox(label="Prompt", lines=3, max_lines=10, elem_id="blind-prompt")
                with gr.Row():
                    ask = gr.Button("Answer", variant="primary", elem_id="blind-ask", min_width=120, interactive=False)
                    draw = gr.Button("Another prompt", elem_id="blind-draw", min_width=140, interactive=False)
                    cancel = gr.Button("Stop", elem_id="blind-stop", min_width=80, interactive=False)
        # these work only once the models of a run are known
        self.starts = [ask, draw]
        self.note = markup.panel(elem_id="blind-note", min_height=24)
        self.answers = markup.panel(markup.empty(START), elem_id="blind-answers", min_height=150)
        with gr.Row():
            self.votes = {
                choice: gr.Button(label, interactive=False, elem_id=f"blind-{choice}", min_width=120)
                for choice, label in VOTES.items()
            }
        self.tally = markup.panel(elem_id="blind-tally")
        with gr.Row(elem_classes="tools"):
            save = gr.Button("Votes as JSON", size="sm", min_width=130, elem_id="blind-save", scale=0)
        # what is being voted on: the prompt and, for left and right, the model and its answer
        self.open = gr.State(None)
        self.report = gr.State(None)
        self.work = LongWork(studio, self.note, cancel, hides=False)
        asked = {
            "run_id": run, "one": self.one, "other": self.other, "text": self.prompt, "temperature": temperature,
            "length": length,
        }  # fmt: skip
        outputs = [*self.work.outputs, self.answers, self.open, *self.votes.values()]
        Handler(studio, self._answer, asked, outputs, LONG).on(ask.click, self.prompt.submit)
        Handler(studio, self._draw, {"run_id": run, "current": self.prompt}, [self.prompt, self.note], LATEST).on(
            draw.click
        )
        voted = [self.answers, self.open, self.tally, self.report, self.note, *self.votes.values()]
        for choice, button in self.votes.items():
            vote = Handler(studio, self._voting(choice), {"run_id": run, "asked": self.open}, voted)
            vote.on(button.click)
        downloads.offer(studio, {save: votes_json}, {"report": self.report}, self.note)

    def show(self, run: RunFolder, offered: list[tuple[str, str]]) -> Updates:
        """The models and the votes of another run. By default the student before is compared with the student after."""
        sides = [side for _, side in offered]
        one = "before" if "before" in sides else next(iter(sides), None)
        other = next((side for side in ("after", "teacher", *sides) if side in sides and side != one), None)
        return {
            self.one: gr.Dropdown(choices=offered, value=one),
            self.other: gr.Dropdown(choices=offered, value=other),
            **self._counted(votes_of(run)),
            **self._nothing(),
            **dict.fromkeys(self.starts, gr.Button(interactive=True)),
        }

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        shown = [self.one, self.other, self.tally, self.report, self.answers, self.open]
        return [*shown, *self.votes.values(), *self.starts]

    def _counted(self, votes: list[Vote]) -> Updates:
        return {self.tally: view.tally_table(tallies(votes)), self.report: votes_report(votes)}

    def _buttons(self, active: bool) -> Updates:
        return {button: gr.Button(interactive=active) for button in self.votes.values()}

    def _draw(self, visitor: Visitor, run_id: str | None, current: str) -> Updates:
        """A prompt of the run that has not been voted on, or any other."""
        try:
            run = owned_run(self.studio, run_id, visitor)
            texts = {each.text for each in prompts_of(self.studio, run, visitor.token)} - {current}
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}
        fresh = texts - {vote.prompt for vote in votes_of(run)}
        if not texts:
            return {self.note: markup.note("error", "The run has no further prompts. Write your own.")}
        return {self.prompt: secrets.choice(sorted(fresh or texts)), self.note: ""}

    def _answer(
        self,
        visitor: Visitor,
        run_id: str | None,
        one: str | None,
        other: str | None,
        text: str,
        temperature: float | None,
        length: float | None,
    ) -> Iterator[Updates]:
        """Show both answers together once both are finished; the time of each would reveal its model."""
        try:
            if not (text or "").strip():
                raise DataError("There is no prompt. Write one, or press Another prompt.")
            if not one or not other or one == other:
                raise DataError("Choose two different models.")
            wanted = sampling(temperature, length, LENGTH, secrets.randbelow(2**31))
            run = owned_run(self.studio, run_id, visitor)
        except SimCTError as error:
            yield {self.note: markup.note("error", one_line(error))}
            return
        left, right = (one, other) if secrets.randbelow(2) else (other, one)
        written = {left: Answer(), right: Answer()}

        def write(work: Work) -> None:
            models = RunModels.of(self.studio, run, visitor.token, written)
            for side, answer in written.items():
                reply(models, side, conversation(text, models.config.data.system), wanted, answer, work)
                work.step("Both models are answering…")

        def running(work: Work) -> Updates:
            return {self.note: markup.note("busy", BOTH.format(work.seconds)), **self._nothing()}

        def finished(work: Work) -> Updates:
            asked = {"prompt": text, "left": left, "right": right}
            asked |= {"left_answer": written[left].text, "right_answer": written[right].text}
            shown = view.blind(asked["left_answer"], asked["right_answer"])
            return {self.answers: shown, self.open: asked, self.note: "", **self._buttons(True)}

        yield from self.work.run(write, finished, weights=True, running=running, left=self._nothing())

    def _nothing(self) -> Updates:
        """Nothing to vote on."""
        return {self.answers: markup.empty(START), self.open: None, **self._buttons(False)}

    def _voting(self, choice: Choice) -> Any:
        """The handler of one of the three buttons."""

        def vote(visitor: Visitor, run_id: str | None, asked: dict[str, str] | None) -> Updates:
            return self._vote(visitor, run_id, asked, choice)

        return vote

    def _vote(self, visitor: Visitor, run_id: str | None, asked: dict[str, str] | None, choice: Choice) -> Updates:
        """Keep the vote, and say which model wrote which answer."""
        try:
            if not asked:
                raise DataError("Nothing to vote on yet. Press Answer first.")
            run = owned_run(self.studio, run_id, visitor)
            texts = (asked["prompt"], asked["left"], asked["right"])
            add_vote(run, Vote(*texts, choice, asked["left_answer"], asked["right_answer"]))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}
        names = (asked["left"], asked["right"])
        shown = view.blind(asked["left_answer"], asked["right_answer"], names, choice)
        counted = self._counted(votes_of(run))
        return {self.answers: shown, self.open: None, self.note: "", **counted, **self._buttons(False)}


def votes_json(report: dict[str, Any] | None) -> Download:
    """The tallies and the votes of a run as a file. Raises DataError before the first vote."""
    if not report or not report["votes"]:
        raise DataError("There are no votes yet.")
    return Download("votes.json", saving.as_json(report))
