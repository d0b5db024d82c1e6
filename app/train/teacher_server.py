"""A teacher on a server, chosen on the Pair step: its address, its key, and facts that the server is asked for at
once.
"""

from collections.abc import Iterator
from typing import Any, cast

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.pair.model_field import is_address, shown
from app.pair.tab import PairTab
from app.reading.records import ServerAt
from app.reading.setup import explicit_token
from app.server import model_facts, teacher_keys
from app.server.handler import LATEST, Component, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import Work, follow
from app.train import fields
from app.train.checklist_view import FIELDS
from app.train.fields import FormField
from simct.config.rules import is_server_address
from simct.errors import SimCTError
from simct.hub.repo_ids import is_folder, is_here, is_repository

SERVER, LISTED = "teacher.server", "teacher.top_logprobs"
NOT_PLAIN = "Give the address of a server without a name, password or query, such as https://example.com."
EXPLAINED = "The model above is then read for its tokenizer and chat template only."


class TeacherServer:
    """The fields of the server, and a line about it. `fields` belong to the form of Train, by their names in run.yaml.

    `asked` are its address and how many tokens it lists. The key is removed from its field as soon as it is entered,
    and is never sent back.
    """

    def __init__(self, studio: Studio, pair: PairTab) -> None:
        self.studio, self.pair = studio, pair
        with gr.Accordion(fields.SERVED_GROUP, open=False, elem_id="served-teacher") as self.group:
            markup.panel(f'<p class="lead small">{EXPLAINED}</p>')
            self.fields: dict[str, FormField] = {}
            for names in fields.SERVED:
                with gr.Row():
                    self.fields |= {name: fields.build(name, fields.default(name)) for name in names}
            self.server: Any = self.fields[SERVER]
            self.asked: dict[str, Component] = {"server": self.server, "listed": self.fields[LISTED]}
            self.key = gr.Textbox(
                label="Key of the server",
                info="Sent only to this server, and kept in memory until the studio is closed.",
                type="password",
                html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                elem_id="server-key",
            )
            with gr.Row(elem_classes="tools"):
                again = gr.Button("Ask again", size="sm", min_width=110, elem_id="server-again")
                none = gr.Button("Load the weights instead", size="sm", min_width=180, elem_id="server-none")
        self.note = markup.panel(elem_id="server-note")
        self._wire(again, none)

    def _wire(self, again: gr.Button, none: gr.Button) -> None:
        studio, pair = self.studio, self.pair
        server, listed = self.server, cast(Any, self.fields[LISTED])
        asked = {**self.asked, "teacher": pair.teacher}
        ask = Handler(studio, self._ask, asked, [self.note], in_turn("server"))
        outputs = [server, self.note, self.group, pair.address]
        taken = Handler(studio, self._take, {"typed": pair.address}, outputs, LATEST).on(pair.address.change)
        found = Handler(studio, self._choose, asked, [pair.teacher], in_turn("pair"))
        # after an address is typed into either field, the server's model is chosen and then read
        ask.on(pair.refresh.on(found.on(taken.then).then).then)
        ask.on(pair.refresh.on(found.on(server.submit).then).then)
        ask.on(server.blur, listed.submit, listed.blur, again.click, pair.summary.change)
        keep = Handler(studio, self._keep_key, {"server": server, "key": self.key}, [self.key, self.note], LATEST)
        ask.on(keep.on(self.key.submit, self.key.blur).then)
        forget = Handler(studio, lambda: {server: "", self.note: ""}, {}, [server, self.note], LATEST)
        # asked once more without a server, because an earlier answer may arrive after this one
        ask.on(forget.on(none.click).then)
        opened = Handler(studio, self._open, {"server": server}, [self.group], LATEST)
        opened.on(server.change)

    def _open(self, server: str | None) -> Updates:
        """Show a server that was restored or loaded with a run."""
        return {self.group: gr.Accordion(open=True)} if server else {}

    def _take(self, typed: str | None) -> Updates:
        """Move an address that was typed into the teacher's field to its own field."""
        if not typed:
            return {}
        address, opened = typed, {self.group: gr.Accordion(open=True), self.pair.address: ""}
        if not is_server_address(address):
            return {**opened, self.note: markup.note("error", NOT_PLAIN)}
        return {**opened, self.fields[SERVER]: address, self.note: markup.note("busy", "Asking the server…")}

    def _choose(self, visitor: Visitor, server: str | None, listed: float | None, teacher: str | None) -> Updates:
        """Choose the server's model as the teacher, if a model with its name can be read here."""
        if not server or self._refused(visitor, server):
            return {}
        from app.reading import servers

        at = self._at(visitor, server, listed)
        try:
            names = self.studio.workers.run(servers.names, at, what="The teacher's server")
        except SimCTError:
            return {}  # `_ask` reports this
        known = [name for name in names if self._is_readable(name)]
        return {self.pair.teacher: shown(known[0])} if known and teacher not in names else {}

    def _is_readable(self, name: str) -> bool:
        """Whether the server's name for a model is a Hub id or, on a personal machine, a folder."""
        if is_folder(name):
            return not self.studio.public and is_here(name)
        return is_repository(name) and "/" in name

    def _ask(
        self, visitor: Visitor, server: str | None, listed: float | None, teacher: str | None
    ) -> Iterator[Updates]:
        """Which model the server has, whether its tokens are the teacher's, and how fast it is; or what is wrong."""
        refused = self._refused(visitor, server) if server else ""
        if not server or refused or is_address(teacher):
            yield {self.note: markup.note("quiet", refused)} if not is_address(teacher) else {}
            return

        def look(work: Work) -> str:
            from app.reading import servers

            at = self._at(visitor, server, listed)
            source = model_facts.source(self.studio, teacher or "", visitor.token)
            found = self.studio.workers.run(servers.look, at, source, what="The teacher's server", near=source)
            name = model_facts.display_name(teacher or "")
            if found.same_tokenizer is False:
                return markup.note("error", f"The server's tokens are not those of {name}. Choose its model above.")
            unknown = (
                ""
                if found.same_tokenizer
                else " The studio does not know whether its tokens are those of the model above."
            )
            same = f" Its tokens are those of {name}." if found.same_tokenizer else unknown
            return markup.note("ok" if found.same_tokenizer else "warn", found.line() + same)

        for work in follow(look):
            if work.running:
                yield {self.note: markup.note("busy", f"Asking the server… {work.seconds:.0f} s")}
            else:
                yield {self.note: work.result or markup.note("error", FIELDS.in_labels(work.error, "pair"))}

    def _refused(self, visitor: Visitor, server: str) -> str:
        """The reason why the server is not asked, if there is one."""
        if self.studio.public and visitor.owner is None:
            return teacher_keys.SIGN_IN
        return "" if is_server_address(server) else NOT_PLAIN

    def _at(self, visitor: Visitor, server: str, listed: float | None) -> ServerAt:
        key = teacher_keys.of(self.studio, visitor, server)
        token = explicit_token(visitor.token)
        return ServerAt(server, int(listed or fields.default(LISTED)), key, token, self.studio.public)

    def _keep_key(self, visitor: Visitor, server: str | None, key: str | None) -> Updates:
        """Keep the key for this server, and clear its field."""
        if not (key or "").strip():
            return {}
        try:
            teacher_keys.keep(self.studio, visitor, server or "", key or "")
        except SimCTError as error:
            return {self.key: "", self.note: markup.note("error", one_line(error))}
        kept = "A key for this server is stored in memory. Enter another one to replace it."
        return {self.key: gr.Textbox(value="", placeholder=kept)}
