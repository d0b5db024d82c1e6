"""Chat: a conversation with any model of a run; the conversation stays when another model is chosen."""

import secrets
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.compare import view
from app.compare.answers import Answer, reply, sampling, sampling_fields
from app.compare.models import RunModels, title
from app.page import markup
from app.page.markup import one_line
from app.server.handler import LONG, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.server.work import LongWork, Work
from simct.errors import DataError, SimCTError

LENGTH = 256
MOST_TURNS, MOST_CHARACTERS = 200, 20_000
START = "Choose a model and write a message. You can change the model at any time; it reads the whole conversation."
# a turn: role, content and, for an answer, which model wrote it
Turn = dict[str, str]


class ChatTab:
    """The model and how it answers on the left, the conversation on the right."""

    def __init__(self, studio: Studio, run: gr.Dropdown) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                self.model = gr.Dropdown([], label="Model", elem_id="chat-model", filterable=False)
                # filled with the run's text before it can be edited
                self.system = gr.Textbox(
                    label="System text", lines=2, max_lines=8, elem_id="chat-system", interactive=False
                )
                with gr.Row():
                    temperature, length = sampling_fields("chat", LENGTH)
            with gr.Column(scale=3, min_width=320):
                self.talk = markup.panel(markup.empty(START), elem_id="chat-talk", min_height=170)
                self.message = gr.Textbox(label="Message", lines=1, max_lines=10, elem_id="chat-message")
                with gr.Row():
                    send = gr.Button("Send", variant="primary", elem_id="chat-send", min_width=120, interactive=False)
                    again = gr.Button("Answer again", elem_id="chat-again", min_width=130, interactive=False)
                    cancel = gr.Button("Stop", elem_id="chat-stop", min_width=80, interactive=False)
                    clear = gr.Button("Clear", elem_id="chat-clear", min_width=80)
        # these start an answer, once the models are known
        self.starts = [send, again]
        self.note = markup.panel(elem_id="chat-note", min_height=24)
        self.turns = gr.State([])
        self.work = LongWork(studio, self.note, cancel, hides=False)
        asked = {
            "run_id": run, "side": self.model, "system": self.system, "temperature": temperature, "length": length,
            "turns": self.turns,
        }  # fmt: skip
        outputs = [*self.work.outputs, self.talk, self.message, self.turns]
        sending = Handler(studio, self._send, {**asked, "text": self.message}, outputs, LONG)
        sending.on(send.click, self.message.submit)
        Handler(studio, self._again, asked, outputs, LONG).on(again.click)
        Handler(studio, self._clear, {}, [self.turns, self.talk, self.note]).on(clear.click)

    def show(self, offered: list[tuple[str, str]], system: str | None) -> Updates:
        """The models of another run, the trained student first, and the run's system text. The conversation stays."""
        sides = [side for _, side in offered]
        first = next((side for side in ("after", *reversed(sides)) if side in sides), None)
        return {
            self.model: gr.Dropdown(choices=offered, value=first),
            self.system: gr.Textbox(system or "", interactive=True),
            **dict.fromkeys(self.starts, gr.Button(interactive=True)),
        }

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        return [self.model, self.system, *self.starts]

    def _clear(self) -> Updates:
        return {self.turns: [], self.talk: markup.empty(START), self.note: ""}

    def _send(self, visitor: Visitor, turns: list[Turn], text: str, **asked: Any) -> Iterator[Updates]:
        """Add what the visitor wrote, and let the model answer."""
        text = (text or "").strip()
        try:
            if not text:
                raise DataError("There is no message. Write one first.")
            if len(text) > MOST_CHARACTERS:
                raise DataError(f"The message has {len(text):,} characters; at most {MOST_CHARACTERS:,} can be sent.")
            if len(turns) >= MOST_TURNS:
                raise DataError(f"The conversation has {len(turns)} turns, which is the maximum. Clear it to continue.")
        except SimCTError as error:
            yield {self.note: markup.note("error", one_line(error))}
            return
        yield from self._answer(visitor, [*turns, {"role": "user", "content": text}], before=turns, **asked)

    def _again(self, visitor: Visitor, turns: list[Turn], **asked: Any) -> Iterator[Updates]:
        """Let the chosen model answer the last message again, and replace the present answer."""
        questions = turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns
        if not questions:
            yield {self.note: markup.note("error", "There is nothing to answer yet. Send a message first.")}
            return
        yield from self._answer(visitor, questions, before=turns, **asked)

    def _answer(
        self,
        visitor: Visitor,
        turns: list[Turn],
        before: list[Turn],
        run_id: str | None,
        side: str | None,
        system: str,
        temperature: float | None,
        length: float | None,
    ) -> Iterator[Updates]:
        """The answer to `turns`, shown as it is written. If it cannot start, the conversation goes back to `before`."""
        try:
            if not side:
                raise DataError("Choose a model first.")
            wanted = sampling(temperature, length, LENGTH, secrets.randbelow(2**31))
            run = owned_run(self.studio, run_id, visitor)
        except SimCTError as error:
            yield {self.note: markup.note("error", one_line(error))}
            return
        messages: Any = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        if (system or "").strip():
            messages.insert(0, {"role": "system", "content": system.strip()})
        answer = Answer()

        def write(work: Work) -> None:
            reply(RunModels.of(self.studio, run, visitor.token, [side]), side, messages, wanted, answer, work)

        sent = {self.message: ""}

        def running(work: Work) -> Updates:
            # emptied once, because the visitor may write the next message in the meantime
            emptied = {**sent}
            sent.clear()
            return {self.talk: view.conversation(turns, (side, answer)), **emptied}

        def ended(work: Work) -> Updates:
            if not answer.ids:
                shown = view.conversation(before) if before else markup.empty(START)
                typed = {self.message: turns[-1]["content"]} if turns[:-1] == before else {}
                return {self.talk: shown, self.turns: before, **typed}
            kept = [*turns, {"role": "assistant", "content": answer.text, "by": title(side)}]
            return {self.talk: view.conversation(kept), self.turns: kept, **sent}

        def finished(work: Work) -> Updates:
            return {**ended(work), self.note: markup.note("quiet", " · ".join(view.facts(answer)))}

        yield from self.work.run(write, finished, weights=True, running=running, failed=ended)
