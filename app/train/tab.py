"""Train: a preset, a method and settings; what they will take; the exact run.yaml and command; launch."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.data import choice, prompt_source
from app.page import markup, scripts
from app.page.markup import one_line
from app.pair.tab import PairTab
from app.server import model_facts, paths
from app.server.handler import LATEST, PRIVATE, QUIET, Component, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.uploads import arrived_file
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from app.train import estimate, prepare, view, where
from app.train.checklist import Checklist
from app.train.form import settings_form
from app.train.where import HERE, Place, PlaceForm
from simct.config import RunConfig, brief, brief_yaml, validate
from simct.errors import ConfigError, SimCTError
from simct.presets import list_presets, load_preset
from simct.runs.folder import RunFolder

COMMAND = "simct distill --config run.yaml"


class TrainTab:
    """The form on the left, what it amounts to on the right.

    `run` is what the browser keeps of the settings, `inputs` all that describes a run. `loaded` holds a RunConfig after
    one was loaded whole, whose pair and prompts belong to other steps; `launched` the id of the run launched last.
    """

    def __init__(self, studio: Studio, pair: PairTab, prompts: gr.JSON, run: gr.JSON, verdict: gr.JSON) -> None:
        self.studio, self.run = studio, run
        markup.panel(
            '<h2>Train</h2><p class="lead">The student writes, the teacher grades every unit, the student learns.</p>'
        )
        self.loaded, self.problem, self.wrong = gr.State(None), gr.State(""), gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._build_form()
            with gr.Column(scale=2, min_width=300):
                self._build_outcome()
        self.launched = gr.Textbox(visible=False)
        self.inputs: dict[str, Component] = {**pair.inputs, "prompts": prompts, "run": run, **self.form.fields}
        self.form_outputs: list[Component] = [run, *self.form.fields.values()]
        outputs = [self.pair, self.yaml, self.note, run, self.problem]
        self.refresh = Handler(studio, self._preview, self.inputs, outputs, in_turn("train"))
        self._wire_form(pair, verdict)
        self._wire_files(pair)
        self._wire_launch(pair, prompts)

    def _build_form(self) -> None:
        self.preset = gr.Dropdown(
            [(title, name) for name, title in list_presets().items()],
            value="demo-cpu",
            label="Start from",
            info="A preset fills in the settings below and leaves pair and prompts as they are.",
            filterable=False,
            elem_id="preset",
        )
        with gr.Row(elem_id="preset-row"):
            self.preset_note = markup.panel(elem_id="preset-note")
            self.whole = gr.Button("Take its pair and prompts too", size="sm", scale=0, min_width=220, visible=False)
        with gr.Row(elem_id="verdict-row", render=False) as verdict_row:
            self.method_note = markup.panel(elem_id="method-verdict", min_height=24)
            self.measure = gr.Button("Measure it →", size="sm", scale=0, min_width=130, visible=False)
        self.form = settings_form(verdict_row.render)

    def _build_outcome(self) -> None:
        self.pair = markup.panel(elem_id="train-pair")
        self.estimate = markup.panel(markup.note("busy", "Estimating…"), elem_id="train-estimate", min_height=150)
        self.place = PlaceForm(self.studio)
        with gr.Column(elem_id="train-note"):
            # on the fields, which every preview replaces, and on the last launch, which no preview may replace
            self.note, self.outcome = markup.panel(), markup.panel()
        where = str(self.place.where.value)
        self.start = gr.Button(_launch_on(where), variant="primary", interactive=False, elem_id="launch")
        self.checklist = Checklist(self.studio, self.start)
        self.work = LongWork(self.studio, self.outcome)
        self.yaml = gr.Code(
            language="yaml",
            label="run.yaml, where it is not at its defaults",
            interactive=False,
            elem_id="run-yaml",
            lines=18,
            max_lines=32,
            buttons=["copy"],
        )
        gr.Code(
            COMMAND,
            language="shell",
            label="The same run without the studio",
            interactive=False,
            lines=1,
            max_lines=1,
            elem_id="run-command",
            buttons=["copy"],
        )
        with gr.Row():
            self.save = gr.Button("Download run.yaml", size="sm", elem_id="save-yaml", min_width=140)
            self.upload = gr.UploadButton(
                "Load a run.yaml…", file_types=[".yaml", ".yml"], size="sm", elem_id="load-yaml", min_width=140
            )

    def _wire_form(self, pair: PairTab, verdict: gr.JSON) -> None:
        fields = list(self.form.fields.values())
        mark = Handler(
            self.studio,
            self._mark,
            {"before": self.wrong, "problem": self.problem},
            [self.wrong, *fields],
            in_turn("marks"),
        )
        mark.on(self.problem.change)
        self.refresh.on(*(field.change for field in fields))
        Handler(self.studio, self._estimate, self.inputs, [self.estimate], in_turn("estimate")).on(self.yaml.change)
        method = self.form.fields["method"]
        measured = {"verdict": verdict, **pair.inputs, "method": method}
        show = Handler(self.studio, self._show_verdict, measured, [self.method_note, self.measure], LATEST)
        show.on(method.change, verdict.change, pair.teacher.change, pair.student.change)

    def _wire_files(self, pair: PairTab) -> None:
        inputs = {"name": self.preset, **pair.inputs}
        outputs = [self.preset_note, self.whole, *self.form_outputs]
        Handler(self.studio, self._take_preset, inputs, outputs, LATEST).on(self.preset.input)
        Handler(self.studio, self._take_whole, {"name": self.preset}, [self.loaded]).on(self.whole.click)
        self.save.click(None, self.yaml, js=scripts.call("saveText", "run.yaml", "application/yaml"), **PRIVATE)
        read = Handler(
            self.studio, self._read_file, {"path": self.upload}, [self.note, self.loaded, *self.form_outputs], LATEST
        )
        read.on(self.upload.upload)

    def _wire_launch(self, pair: PairTab, prompts: gr.JSON) -> None:
        decisions: list[Any] = [prompts.change, pair.teacher.change, pair.student.change]
        decisions += [field.input for field in self.form.fields.values()]
        gr.on(decisions, None, outputs=self.outcome, js=scripts.call("empty"), **PRIVATE)
        self.place.connect(self.yaml.change, self.inputs, self._config_of)
        place = self.place
        changes = [self.yaml.change, self.problem.change]
        changes += [place.where.change, place.flavor.change, place.namespace.change]
        self.checklist.connect(self.inputs, place.fields, self._described, *changes)
        name = Handler(self.studio, self._name_place, {"where": self.place.where}, [self.start])
        name.on(self.place.where.change)
        inputs = {**self.inputs, **self.place.fields}
        launch = Handler(self.studio, self._launch, inputs, [self.outcome, self.launched, self.work.task])
        launch.on(self.start.click, how={**QUIET, "trigger_mode": "once"})

    def load(self, config: RunConfig) -> Updates:
        """The form, and what the browser keeps of it, for a run read from elsewhere."""
        return {self.run: brief(config), **self.form.filled(config)}

    def _describe(
        self, teacher: str, student: str, prompts: choice.Choice, run: dict[str, Any], fields: dict[str, Any]
    ) -> RunConfig:
        """The run that the fields describe, not checked. Raises ConfigError for a value of the wrong type."""
        return self.form.config(run, teacher, student, prompt_source.data_config(prompts), fields)

    def _described(
        self, teacher: str, student: str, prompts: choice.Choice, run: dict[str, Any], **fields: Any
    ) -> RunConfig:
        return self._describe(teacher, student, prompts, run, fields)

    def _resolved(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        prompts: choice.Choice,
        run: dict[str, Any],
        fields: dict[str, Any],
    ) -> RunConfig:
        """The run that the fields describe, checked, with nothing in it but the visitor's own. Raises SimCTError."""
        config = validate(self._describe(teacher, student, prompts, run, fields))
        return paths.check_run(self.studio, visitor, config)

    def _preview(
        self, teacher: str, student: str, prompts: choice.Choice, run: dict[str, Any], **fields: Any
    ) -> Updates:
        """run.yaml as it would be written, what the browser keeps of it, and what is wrong with it."""
        updates: Updates = {self.pair: view.pair_line(teacher, student, choice.name_of(prompts))}
        error = ""
        try:
            config = self._describe(teacher, student, prompts, run, fields)
            updates |= {self.yaml: brief_yaml(config), self.run: brief(config)}
            validate(config)
        except ConfigError as caught:
            error = one_line(caught)
        return {**updates, self.note: markup.note("error", error), self.problem: error}

    def _mark(self, before: str | None, problem: str) -> Updates:
        """The reason stands beside the field that is wrong."""
        wrong, marks = self.form.marked(before, problem)
        return {self.wrong: wrong, **marks}

    def _show_verdict(self, verdict: dict[str, Any] | None, teacher: str, student: str, method: str) -> Updates:
        return {
            self.method_note: view.method_line(verdict, teacher, student, method),
            self.measure: gr.Button(visible=not view.is_measured(verdict, teacher, student)),
        }

    def _estimate(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        prompts: choice.Choice,
        run: dict[str, Any],
        **fields: Any,
    ) -> Iterator[Updates]:
        """The estimate for the fields as they are."""

        def described() -> RunConfig:
            return self._resolved(visitor, teacher, student, prompts, run, fields)

        for html in estimate.views(self.studio, described, visitor.token, (prompts or {}).get("rows")):
            yield {self.estimate: html}

    def _config_of(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        prompts: choice.Choice,
        run: dict[str, Any],
        **fields: Any,
    ) -> tuple[RunConfig, int | None]:
        """The run, and how many prompts it has, for the choice of a machine."""
        config = self._resolved(visitor, teacher, student, prompts, run, fields)
        return config, estimate.prompt_facts(self.studio, config, visitor.token, (prompts or {}).get("rows"))[1]

    def _name_place(self, where: str) -> Updates:
        return {self.start: gr.Button(_launch_on(where))}

    def _launch(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        prompts: choice.Choice,
        run: dict[str, Any],
        **values: Any,
    ) -> Iterator[Updates]:
        """Start the run that run.yaml describes where it was chosen; its id, or one line on why not."""
        place = Place(**{name: values.pop(name) for name in self.place.fields})

        def start(work: Work) -> RunFolder:
            work.step("Checking models, prompts and tasks…")
            config = self._resolved(visitor, teacher, student, prompts, run, values)
            prepare.pin_and_check(self.studio, config, visitor.token, place)
            return where.start(self.studio, config, place, visitor)

        def finished(work: Work) -> Updates:
            return {self.outcome: markup.note("ok", "Launched."), self.launched: work.result.id}

        yield from self.work.run(start, finished)

    def _take_preset(self, name: str, teacher: str, student: str) -> Updates:
        config = load_preset(name)
        same = (config.teacher.model, config.student.model) == (teacher, student)
        pair = " → ".join(model_facts.display_name(each.model) for each in (config.teacher, config.student))
        return {
            self.preset_note: markup.note("quiet", "" if same else f"Made for {pair}."),
            self.whole: gr.Button(visible=not same),
            **self.load(config),
        }

    def _take_whole(self, name: str) -> Updates:
        return {self.loaded: load_preset(name)}

    def _read_file(self, path: str) -> Updates:
        try:
            config = prepare.load_run_yaml(self.studio, str(arrived_file(path)))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error).replace(repr(path), "This file"))}
        return {self.note: markup.note("ok", "Loaded."), self.loaded: config, **self.load(config)}


def _launch_on(where: str) -> str:
    return "Launch on this machine" if where == HERE else "Launch on Hugging Face Jobs"
