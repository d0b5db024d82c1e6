"""Data: where the prompts come from, which column is which, and how both models will read the prompts."""

from typing import Any

import gradio as gr

from app.data import choice, prompt_source, view, written
from app.data.choice import EMBEDDED, HUB, SOURCES, START, UPLOAD, WRITTEN, Choice, Fields
from app.data.forms import MappingForm, SelectionForm, number
from app.data.hub_dataset import HubDataset
from app.page import markup, scripts
from app.page.kept import Kept
from app.page.markup import one_line
from app.page.page_fields import PageFields
from app.pair.tab import PairTab
from app.server import paths
from app.server.handler import PRIVATE, Component, Handler, Updates, each_in_turn, in_turn, new_value
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.errors import DataError, SimCTError


class DataTab:
    """The source on the left, its rows on the right, and below, the prompts as both models read them.

    `chosen` holds `data` of run.yaml as plain data, and the name shown for it. `fields` has the names of choice.Fields.
    `page` are the fields of all steps: `notices.select` may ask for one of another step (app.train.checklist.step_of).
    """

    def __init__(self, studio: Studio, pair: PairTab, kept: Kept, page: PageFields) -> None:
        self.studio, self.chosen, self.page = studio, kept.prompts, page
        markup.panel(markup.heading("Data", "The prompts that the student will answer.", "data"))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._build_source()
            with gr.Column(scale=3, min_width=320):
                self.notices = markup.panel(elem_id="data-notices", js_on_load=scripts.when_loaded("findings"))
                self.refused = markup.panel(elem_id="data-refused")
                self.preview = markup.panel(elem_id="data-preview")
                self.table = markup.panel(elem_id="data-rows", min_height=240)
        self.which = gr.Slider(1, 2, value=1, step=1, label="Prompt shown", elem_id="prompt-shown", buttons=[])
        self.readings = markup.panel(elem_id="data-readings", min_height=120)
        self.lengths = markup.panel(elem_id="data-lengths", min_height=120)
        self.next = gr.Button("Set up training →", variant="primary", elem_classes="next")
        outputs = [self.note, self.parts, self.notices, self.preview, self.table, self.which, self.readings]
        outputs += [self.lengths, self.written, *self.mapping.columns.values()]
        inputs = {**pair.inputs, "data": self.chosen, "run": kept.run, "verdict": kept.verdict, "shown": self.which}
        inputs["text"] = self.text
        self.refresh = Handler(studio, self._refresh, inputs, outputs, in_turn("data"))
        self._wire(pair, kept.run)

    def _build_source(self) -> None:
        source = gr.Radio(SOURCES, value=EMBEDDED, label="Prompts from", elem_id="prompt-source")
        self.upload = gr.File(
            label="JSONL, JSON, CSV, TSV, Parquet or text, also compressed",
            visible=False,
            height=160,
            elem_id="prompt-file",
        )
        # the text after a reload of the page, for the field below unless something was typed there in the meantime
        self.written = markup.held()
        # whether the visitor has deleted all of it, as the event says: after a reload it is empty until it is filled in
        self.emptied = markup.held()
        self.text = gr.Textbox(
            label="Your prompts",
            info="One per line; separate longer ones with a blank line. JSON Lines and spreadsheet rows also work.",
            lines=8,
            max_lines=20,
            max_length=written.MOST_CHARACTERS,
            visible=False,
            elem_id="prompt-text",
        )
        # the number of the last change that was answered; Launch waits for the answer (static/form.js)
        self.answered = markup.panel(elem_id="data-answered", visible="hidden")
        with gr.Group(visible=False) as self.places:
            self.hub = HubDataset(self.studio)
        self.note = markup.panel(markup.note("busy", "Reading the prompts…"), elem_id="prompt-note")
        self.parts = markup.panel(elem_id="data-parts")
        self.edit = gr.Button("Edit these prompts", size="sm", elem_id="edit-prompts")
        self.mapping = MappingForm()
        with gr.Row():
            system = gr.Textbox(
                label="System text",
                info="For rows without one.",
                lines=1,
                scale=2,
                min_width=180,
                elem_id="system-text",
            )
            limit = number("Use at most", "Empty: all.", "limit", min_width=110)
        self.selection = SelectionForm()
        self.source, self.system, self.limit = source, system, limit
        self.fields: dict[str, Component] = {
            "source": source,
            "upload": self.upload,
            "text": self.text,
            "dataset": self.hub.dataset,
            "config": self.hub.config,
            "split": self.hub.split,
            **self.mapping.fields,
            "system": system,
            "limit": limit,
            **self.selection.fields,
        }

    def _wire(self, pair: PairTab, run: gr.JSON) -> None:
        turn = in_turn("data")
        # the browser fills in the first two
        inputs: dict[str, Component] = {"number": self.answered, "emptied": self.emptied, "before": self.chosen}
        inputs |= {"described": self.hub.described, **self.fields}
        outputs = [self.chosen, self.answered, self.fields["template"], self.fields["excluded"]]
        changing = {**turn, "js": scripts.call("changesData", "prompt-text")}
        choose = Handler(self.studio, self._choose, inputs, outputs, changing)
        Handler(self.studio, self._remove, inputs, outputs, changing).on(self.upload.clear)
        left: list[gr.Textbox | gr.Number] = [self.text, self.system, self.limit, self.mapping.template]
        choose.on(
            self.source.input,
            self.upload.upload,
            self.hub.described.change,
            self.hub.split.input,
            *(column.input for column in self.mapping.columns.values()),
            *(event for field in left for event in (field.submit, field.blur)),
            *self.selection.events,
        )
        shown = [self.upload, self.places, self.mapping.group, self.mapping.others, self.text, self.edit]
        places = Handler(self.studio, self._show_places, {"source": self.source}, shown)
        places.on(self.source.change)
        # in the browser: until an answer of the server, Gradio would do nothing else on this event, such as tell Train
        busy = scripts.call("given", markup.note("busy", "Reading the prompts…"))
        self.refresh.on(self.chosen.change(None, None, self.note, js=busy, **PRIVATE).then)
        one = {**pair.inputs, "data": self.chosen, "run": run, "shown": self.which}
        Handler(self.studio, self._show_one, one, [self.readings], turn).on(self.which.input)
        texts = [self.written, self.text]
        keep = scripts.call("keepTyped", "prompt-text")
        self.written.change(None, texts, self.text, js=keep, **PRIVATE)
        typed = {"data": self.chosen, "template": self.mapping.template}
        Handler(self.studio, self._preview, typed, [self.preview], in_turn("preview")).on(self.mapping.template.input)
        outputs = [self.chosen, self.answered, self.refused, self.system, self.mapping.template]
        outputs += self.selection.fields.values()
        Handler(self.studio, self._change, inputs, outputs, {**changing, **each_in_turn("data")}).on(
            self.notices.select
        )
        edit = Handler(self.studio, self._edit, {"data": self.chosen}, [self.source, self.text, self.refused])
        choose.on(edit.on(self.edit.click).then)

    def restored(self, data: Choice | None) -> Updates:
        """The fields as the browser kept them."""
        return {self.fields[name]: value for name, value in choice.restored(data).items()}

    def _choose(
        self, visitor: Visitor, number: str, before: Choice, described: dict[str, Any], emptied: str, **fields: Any
    ) -> Updates:
        if emptied and fields["source"] == WRITTEN:
            before = choice.without_prompts(before)
        now = choice.chosen(self.studio, before, described, Fields(**fields), visitor)
        # otherwise the next change would apply the values of the previous source to the new one
        left = {"template": "template", "excluded": "exclude_rows"}
        gone = {self.fields[name]: "" for name, setting in left.items() if fields[name] and not now.get(setting)}
        return {self.chosen: now, self.answered: markup.stamped("", str(number)), **gone}

    def _remove(self, visitor: Visitor, before: Choice, **asked: Any) -> Updates:
        """The uploaded file was removed: its prompts are not used any longer."""
        return self._choose(visitor, before=choice.without_prompts(before), **asked)

    def _show_places(self, source: str) -> Updates:
        return {
            self.upload: gr.File(visible=source == UPLOAD),
            self.places: gr.Group(visible=source == HUB),
            self.mapping.group: gr.Group(visible=source != EMBEDDED),
            self.mapping.others: gr.Accordion(visible=source != EMBEDDED),
            self.text: gr.Textbox(visible=source == WRITTEN),
            self.edit: gr.Button(visible=source != WRITTEN),
        }

    def _preview(self, visitor: Visitor, data: Choice, template: str) -> Updates:
        """The first prompts, made with the template that is being typed."""
        try:
            wanted = prompt_source.data_config({**(data or START), "template": (template or "").strip()})
            wanted = paths.check_data(self.studio, visitor, wanted)
            return {self.preview: view.preview(prompt_source.preview(self.studio, wanted, visitor.token))}
        except SimCTError as error:
            return {self.preview: markup.note("error", self._in_the_fields_words(error, data or START))}

    def _change(self, visitor: Visitor, event: gr.EventData, before: Choice, **asked: Any) -> Updates:
        """Make the change of the button next to a warning; most buttons leave prompts out.

        The fields count as well, because one of them may have been left with this click.
        """
        change = (event._data or {}).get("change")
        now = self._choose(visitor, before=before or START, **asked)
        answered = {self.answered: now[self.answered]}
        if not isinstance(change, dict):
            return answered
        try:
            data = choice.with_change(now[self.chosen], change)
        except SimCTError as error:
            return {**answered, self.refused: markup.note("error", one_line(error))}
        texts = {self.system: data.get("system") or "", self.mapping.template: data.get("template") or ""}
        return {self.chosen: data, self.refused: "", **answered, **texts, **self.selection.shown(data)}

    def _edit(self, visitor: Visitor, data: Choice) -> Updates:
        """The prompts of this source as a text that the visitor can edit."""
        try:
            wanted = prompt_source.data_config({**(data or START), "system": "", "exclude_rows": [], "deduplicate": ""})
            source = prompt_source.read(self.studio, paths.check_data(self.studio, visitor, wanted), visitor.token)
        except SimCTError as error:
            return {self.refused: markup.note("error", one_line(error))}
        text, taken = written.text_of_prompts(source.prompts)
        whole = source.summary.rows if source.total is None else source.total
        line = (
            ""
            if taken >= whole
            else f"Only the first {taken:,} of {whole:,} prompts were copied: the page cannot edit more."
        )
        return {self.source: WRITTEN, self.text: text, self.refused: markup.note("warn", line)}

    def _refresh(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        data: Choice,
        run: dict[str, Any],
        verdict: dict[str, Any] | None,
        shown: int,
        text: str,
    ) -> Updates:
        """Everything that the step shows about the choice; on an error, one line and nothing else."""
        data = data or START
        more = [*view.left_out(verdict, teacher, student), *choice.license_notes(data)]
        try:
            found = self._look(visitor, teacher, student, data, run, int(shown or 1), more)
        except SimCTError as error:
            line = markup.note("error", data.get("error") or self._in_the_fields_words(error, data))
            return self._nothing(line, markup.empty("Rows appear once they can be read."))
        if data.get("source") == WRITTEN and not text:
            # the page was reloaded; never replace text that is being written
            found[self.written] = written.text_of_file(self.studio, data["prompts"], visitor)
        return found

    def _nothing(self, line: str, table: str) -> Updates:
        empty = dict.fromkeys([self.notices, self.readings, self.lengths, self.parts, self.preview], "")
        return {self.note: line, self.table: table, **empty, self.which: gr.update(visible=False)}

    def _look(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        data: Choice,
        run: dict[str, Any],
        shown: int,
        more: list[tuple[str, str]],
    ) -> Updates:
        """The content of every panel of the step, with `more` notices. Raises a one-line SimCTError."""
        wanted = paths.check_data(self.studio, visitor, prompt_source.data_config(data))
        first = prompt_source.rows_of(self.studio, wanted, visitor.token)
        # let the visitor choose columns even if those found by name do not work
        mapping = self.mapping.options(first.columns, data)
        try:
            source = prompt_source.read(self.studio, wanted, visitor.token)
        except DataError as error:
            line = markup.note("error", self._in_the_fields_words(error, data))
            table = view.raw_table(first.rows, first.columns)
            return {**mapping, **self._nothing(line, table)}
        settings = choice.run_settings(run)
        _, report = prompt_source.report(self.studio, teacher, student, wanted, settings, visitor.token)
        count = source.count
        number = min(shown, count)
        asked = (self.studio, teacher, student, wanted, settings, number, visitor.token)
        return {
            **mapping,
            self.note: view.line(source, report, wanted),
            self.parts: view.parts_table(source),
            self.notices: view.notices(source, report, self.page, more),
            self.table: view.rows_table(source),
            self.preview: view.preview(prompt_source.preview(self.studio, wanted, visitor.token)),
            self.which: gr.Slider(maximum=max(2, count), visible=count > 1, **new_value(number, shown)),
            self.readings: view.both_readings(prompt_source.readings(*asked)),
            self.lengths: view.length_charts(report),
        }

    def _show_one(
        self, visitor: Visitor, teacher: str, student: str, data: Choice, run: dict[str, Any], shown: int
    ) -> Updates:
        """Another prompt as both models read it."""
        try:
            wanted = paths.check_data(self.studio, visitor, prompt_source.data_config(data))
            asked = (wanted, choice.run_settings(run), int(shown), visitor.token)
            return {self.readings: view.both_readings(prompt_source.readings(self.studio, teacher, student, *asked))}
        except SimCTError as error:
            return {self.readings: markup.note("error", one_line(error))}

    def _in_the_fields_words(self, error: SimCTError, data: Choice) -> str:
        """The error with the upload's original name, and with the fields' labels in place of the settings' names."""
        line, prompts, name = one_line(error), data.get("prompts"), data.get("name")
        line = line.replace(prompts, name) if prompts and name else line
        line = line.replace("Name the prompt column with data.column", "Choose the prompt column below")
        return self.page.in_labels(line.replace("data.template", "the prompt template"))
