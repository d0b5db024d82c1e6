"""Prompt set: a few prompts, pasted or uploaded, answered by all chosen models, as a table and as CSV."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from app.compare import view
from app.compare.answers import Answer, conversation, could_not, end, sampling, sampling_fields, try_reply
from app.compare.models import RunModels, in_order, title
from app.data import prompt_source
from app.page import markup, saving
from app.page.markup import one_line
from app.server import downloads
from app.server.downloads import Download
from app.server.handler import LATEST, LONG, Handler, Updates
from app.server.studio import Studio
from app.server.uploads import arrived_file
from app.server.visitor import Visitor, owned_run
from app.server.work import LongWork, Work
from simct.config.sections import DataConfig
from simct.errors import DataError, SimCTError, quoted
from simct.files import read_file

LENGTH = 64
MOST_PROMPTS, MOST_CHARACTERS = 50, 100_000
START = "Write or upload prompts, tick who answers, and press Answer all."


@dataclass
class Answered:
    """What the table shows: a column per model, a row per prompt, and the answer by (prompt, model)."""

    sides: list[str]
    prompts: list[str]
    answers: dict[tuple[int, str], Answer] = field(default_factory=dict)


class PromptSetTab:
    """Prompts and models above, the table of answers below."""

    def __init__(self, studio: Studio, run: gr.Dropdown) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self.prompts = gr.Textbox(
                    label="Prompts",
                    info=r"One per line, at most 50. Write \n for a line break within a prompt.",
                    lines=5,
                    max_lines=15,
                    elem_id="set-prompts",
                )
                upload = gr.UploadButton("Upload a file", size="sm", elem_id="set-upload")
            with gr.Column(scale=2, min_width=280):
                self.sides = gr.CheckboxGroup([], label="Who answers", elem_id="set-sides")
                with gr.Row():
                    temperature, length = sampling_fields("set", LENGTH)
                with gr.Row():
                    ask = gr.Button(
                        "Answer all", variant="primary", elem_id="set-ask", min_width=130, interactive=False
                    )
                    cancel = gr.Button("Stop", elem_id="set-stop", min_width=80, interactive=False)
        # these start the answers, once the models are known
        self.starts = [ask]
        self.note = markup.panel(elem_id="set-note", min_height=24)
        self.table = markup.panel(markup.empty(START), elem_id="set-table", min_height=120)
        with gr.Row(elem_classes="tools"):
            save = gr.Button("Answers as CSV", size="sm", min_width=140, elem_id="set-save", scale=0)
        self.found = gr.State(None)
        self.work = LongWork(studio, self.note, cancel, hides=False)
        asked = {
            "run_id": run, "text": self.prompts, "sides": self.sides, "temperature": temperature, "length": length,
        }  # fmt: skip
        outputs = [*self.work.outputs, self.table, self.found]
        Handler(studio, self._answer, asked, outputs, LONG).on(ask.click)
        Handler(studio, self._upload, {"path": upload}, [self.prompts, self.note], LATEST).on(upload.upload)
        downloads.offer(studio, {save: answers_csv}, {"found": self.found}, self.note)

    def show(self, offered: list[tuple[str, str]], here: list[str]) -> Updates:
        """The models of another run. Those whose weights are on this machine are ticked."""
        return {
            self.sides: gr.CheckboxGroup(choices=offered, value=here),
            **self._nothing(),
            **dict.fromkeys(self.starts, gr.Button(interactive=True)),
        }

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        return [self.sides, self.table, self.found, *self.starts]

    def _upload(self, visitor: Visitor, path: str | None) -> Updates:
        """Replace the prompts in the field with those of a file."""
        if not path:
            return {}
        try:
            texts = uploaded_prompts(self.studio, path, visitor)
            if not texts:
                raise DataError(f"{quoted(Path(path).name)} has no prompts. Choose a file with one prompt per line.")
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error))}
        kept = texts[:MOST_PROMPTS]
        line = f"The first {MOST_PROMPTS} of {len(texts):,} prompts." if len(kept) < len(texts) else ""
        return {self.prompts: "\n".join(map(as_line, kept)), self.note: markup.note("quiet", line)}

    def _answer(
        self,
        visitor: Visitor,
        run_id: str | None,
        text: str,
        sides: list[str],
        temperature: float | None,
        length: float | None,
    ) -> Iterator[Updates]:
        """The table as it fills up. Each model answers all prompts before the next one, so that each is loaded once."""
        try:
            found = Answered(in_order(sides), prompts_in(text))
            if not sides:
                raise DataError("No model is chosen. Tick at least one.")
            wanted = sampling(temperature, length, LENGTH)
            run = owned_run(self.studio, run_id, visitor)
        except SimCTError as error:
            yield {self.note: markup.note("error", one_line(error))}
            return

        def write(work: Work) -> None:
            models = RunModels.of(self.studio, run, visitor.token, found.sides)
            for side in found.sides:
                for at, prompt in enumerate(found.prompts):
                    found.answers[at, side] = Answer()
                    messages = conversation(prompt, models.config.data.system)
                    if not try_reply(models, side, messages, wanted, found.answers[at, side], work):
                        break
                    work.step(f"{title(side)} has answered {at + 1} of {len(found.prompts)}…")

        def so_far(work: Work) -> Updates:
            shown = view.prompt_table(found.sides, found.prompts, dict(found.answers))
            return {self.table: shown, self.found: found}

        def finished(work: Work) -> Updates:
            return {**so_far(work), self.note: markup.note("error", could_not(found.answers.values()))}

        def failed(work: Work) -> Updates:
            end(found.answers.values())
            return so_far(work)

        yield from self.work.run(
            write,
            finished,
            weights=True,
            running=so_far,
            failed=failed,
            left=self._nothing(),
        )

    def _nothing(self) -> Updates:
        """The table before there are answers."""
        return {self.table: markup.empty(START), self.found: None}


def as_line(prompt: str) -> str:
    """A prompt on one line, as prompts_in reads it."""
    return prompt.replace("\\", "\\\\").replace("\n", "\\n")


def prompts_in(text: str) -> list[str]:
    r"""The prompts of the field, one per line, with \n for a line break. Raises DataError for none or too many."""
    if len(text or "") > MOST_CHARACTERS:
        raise DataError(f"The prompts have {len(text):,} characters; at most {MOST_CHARACTERS:,} are read.")
    pieces = [line.strip().split("\\\\") for line in (text or "").splitlines() if line.strip()]
    prompts = ["\\".join(piece.replace("\\n", "\n") for piece in each) for each in pieces]
    if not prompts:
        raise DataError("There are no prompts. Write one per line, or upload a file.")
    if len(prompts) > MOST_PROMPTS:
        raise DataError(f"There are {len(prompts):,} prompts; at most {MOST_PROMPTS} are answered at once.")
    return prompts


def uploaded_prompts(studio: Studio, path: str, visitor: Visitor) -> list[str]:
    """The prompts of an uploaded file: lines of a text file, rows of any other. Raises a one-line SimCTError."""
    if path.endswith(".txt"):
        data = read_file(arrived_file(path), MOST_CHARACTERS)
        return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    kept = prompt_source.keep_upload(studio, path, visitor)
    return [each.text for each in prompt_source.read(studio, DataConfig(prompts=kept), visitor.token).prompts]


def answers_csv(found: Answered | None) -> Download:
    """The table as comma-separated lines. Raises DataError before there is one."""
    if found is None:
        raise DataError("There are no answers yet.")
    return Download("answers.csv", saving.as_csv(("prompt", *map(title, found.sides)), _rows(found, found.answers)))


def _rows(found: Answered, answers: Mapping[tuple[int, str], Answer]) -> list[tuple[str, ...]]:
    return [
        (prompt, *(answers[at, side].text if (at, side) in answers else "" for side in found.sides))
        for at, prompt in enumerate(found.prompts)
    ]
