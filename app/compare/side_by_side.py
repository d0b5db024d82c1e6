"""Side by side: the models of a run answer the same prompt, with the scores of the run below."""

from collections.abc import Iterator

import gradio as gr

from app.compare import answers, view
from app.compare.answers import Answer, Question
from app.compare.models import RunModels
from app.page import markup, scripts
from app.page.markup import one_line
from app.runs.view import results
from app.server.handler import LATEST, LONG, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.server.work import LongWork, Work
from simct.errors import DataError, SimCTError
from simct.runs.folder import RunFolder

LENGTH = 64
START = "Choose a prompt or write one, then press Answer."


class SideBySideTab:
    """Models and prompt above, then a column for each model, then the scores of the run."""

    def __init__(self, studio: Studio, run: gr.Dropdown) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self.sides = gr.CheckboxGroup([], label="Who answers", elem_id="compare-sides")
                with gr.Row():
                    temperature, length = answers.sampling_fields("compare", LENGTH)
            with gr.Column(scale=3, min_width=320):
                self.offered = gr.Dropdown([], label="A prompt of the run", elem_id="compare-picked", filterable=True)
                self.prompt = gr.Textbox(label="Prompt", lines=3, max_lines=10, elem_id="compare-prompt")
                self.reference = markup.panel(elem_id="compare-reference")
                with gr.Row():
                    self.ask = gr.Button(
                        "Answer", variant="primary", elem_id="compare-ask", min_width=160, interactive=False
                    )
                    cancel = gr.Button("Stop", elem_id="compare-stop", min_width=90, scale=0, interactive=False)
        # these start an answer, once the models are known
        self.starts = [self.ask]
        self.note = markup.panel(elem_id="compare-note", min_height=24)
        self.answers = markup.panel(elem_id="compare-answers", min_height=170)
        self.results = markup.panel(elem_id="compare-results")
        self.work = LongWork(studio, self.note, cancel, hides=False)
        picking = {"text": self.offered, "run_id": run}
        filling = {**LATEST, "js": scripts.call("filledIn", "compare-prompt")}
        Handler(studio, self._pick, picking, [self.reference], filling).on(self.offered.select)
        # only this event follows a choice with the keyboard, and it also follows a list that was left unchanged
        filling = {**LATEST, "js": scripts.call("filledInIfNew", "compare-prompt")}
        Handler(studio, self._pick, picking, [self.reference], filling).on(self.offered.input)
        asked = {
            "run_id": run, "sides": self.sides, "text": self.prompt, "temperature": temperature, "length": length,
        }  # fmt: skip
        answer = Handler(studio, self._answer, asked, [*self.work.outputs, self.answers], LONG)
        answer.on(self.ask.click, self.prompt.submit)

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        return [self.sides, self.offered, self.results, self.answers, self.ask]

    def show(self, run: RunFolder, offered: list[tuple[str, str]], here: list[str], prompts: list[str]) -> Updates:
        """The models, prompts and scores of a run. The models that are `here` are ticked."""
        return {
            self.sides: gr.CheckboxGroup(choices=offered, value=here),
            self.offered: gr.Dropdown(choices=list(dict.fromkeys(prompts)), value=None),
            self.results: results(run),
            self.answers: markup.empty(START),
            self.ask: gr.Button(interactive=True),
        }

    def nothing(self, why: str) -> Updates:
        """The content if there is no run to show."""
        return {
            self.sides: gr.CheckboxGroup(choices=[], value=[]),
            self.offered: gr.Dropdown(choices=[]),
            self.results: "",
            self.answers: why,
            self.ask: gr.Button(interactive=False),
        }

    def _pick(self, visitor: Visitor, text: str, run_id: str | None) -> Updates:
        """Show the answer in the data to a prompt of the run, which the browser has filled in."""
        try:
            found = owned_run(self.studio, run_id, visitor)
            offered = answers.prompts_of(self.studio, found, visitor.token)
        except SimCTError as error:
            return {self.reference: markup.note("error", one_line(error))}
        known = next((each.answer for each in offered if each.text == text), None)
        line = f"Its answer in the data: {known}" if known else ""
        return {self.reference: markup.note("quiet", line)}

    def _answer(
        self,
        visitor: Visitor,
        run_id: str | None,
        sides: list[str],
        text: str,
        temperature: float | None,
        length: float | None,
    ) -> Iterator[Updates]:
        """Every chosen model's answer, shown as it is written; then how likely the teacher finds the students'
        answers.
        """
        try:
            if not (text or "").strip():
                raise DataError("There is no prompt. Write one, or choose one of the run's.")
            if not sides:
                raise DataError("No model is chosen. Tick at least one.")
            question = Question(text, sides, answers.sampling(temperature, length, LENGTH))
            found = owned_run(self.studio, run_id, visitor)
        except SimCTError as error:
            yield {self.note: markup.note("error", one_line(error))}
            return
        written: dict[str, Answer] = {}

        def write(work: Work) -> None:
            answers.write(RunModels.of(self.studio, found, visitor.token, sides), question, written, work)

        def so_far(work: Work) -> Updates:
            return {self.answers: view.cards(dict(written))} if written else {}

        def finished(work: Work) -> Updates:
            return {**so_far(work), self.note: markup.note("error", answers.could_not(written.values()))}

        def failed(work: Work) -> Updates:
            answers.end(written.values())
            return so_far(work) or {self.answers: markup.empty(START)}

        yield from self.work.run(
            write,
            finished,
            weights=True,
            running=so_far,
            failed=failed,
            left={self.answers: markup.empty(START)},
        )
