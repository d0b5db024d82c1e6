"""Train: a preset, a method and settings, the estimate, the exact run.yaml and command, and Launch."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.data import choice, prompt_source
from app.page import markup, scripts
from app.page.kept import Kept
from app.page.markup import one_line
from app.pair.tab import PairTab
from app.server import model_facts, paths, teacher_keys
from app.server.handler import LATEST, PRIVATE, QUIET, Component, Handler, Updates, in_turn
from app.server.repository import suggested_name
from app.server.studio import Studio
from app.server.uploads import arrived_file
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from app.train import estimate, prepare, view, where
from app.train.checklist import Checklist, fix_of
from app.train.fields import FormField
from app.train.form import PUBLISH, REPOSITORY, STEPS, base_config, overridden, settings_form
from app.train.teacher_server import TeacherServer
from app.train.version import FormState, Version, version_of
from app.train.where import HERE, Place, PlaceForm
from simct.config import RunConfig, brief, brief_yaml, validate
from simct.config.teachers import teacher_names
from simct.errors import ConfigError, SimCTError
from simct.preflight.records import from_error
from simct.presets import list_presets, load_preset
from simct.runs.folder import RunFolder

SERVED = ("server", "top_logprobs", "price_per_million_tokens")
COMMAND = "simct distill --config run.yaml"


class TrainTab:
    """The form on the left, and its estimate, checklist and run.yaml on the right.

    `run` holds the settings that the browser keeps. `state` holds the version of the form, which everything next to the
    form depends on. `loaded` holds a whole RunConfig that was loaded; its pair and prompts belong to other steps.
    `launched` is the id of the last launched run, which belongs to the `project`.
    """

    def __init__(
        self,
        studio: Studio,
        pair: PairTab,
        kept: Kept,
        state: FormState,
        project: gr.Dropdown,
        server: TeacherServer,
    ) -> None:
        self.studio, self.run, self.state, self.project, self.server = studio, kept.run, state, project, server
        markup.panel(
            markup.heading(
                "Train",
                "The student writes, the teacher grades every unit, and the student learns.",
                "running#settings-worth-knowing",
            )
        )
        self.loaded, self.wrong = gr.State(None), gr.State([])
        # the version that was estimated last, and its estimate as HTML
        self.estimated = gr.State(("", ""))
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320, elem_id="train-form"):
                self._build_form()
            with gr.Column(scale=2, min_width=300, elem_id="train-outcome"):
                self._build_outcome()
        self.launched = gr.Textbox(visible=False)
        self.form_outputs: list[Component] = [self.run, *self.form.values.values()]
        inputs: dict[str, Component] = {"values": state.values, **pair.inputs, "prompts": kept.prompts, "run": self.run}
        inputs |= {"before": self.wrong, "estimated": self.estimated, **self.place.fields}
        groups = list(dict.fromkeys(self.form.groups.values()))
        outputs: list[Component] = [self.pair, self.yaml, self.save, self.suggested, state.described, self.wrong]
        outputs += [self.estimate, self.estimated, *self.form_outputs]
        # one event for all typing, because the browser looks up the component of each event before it draws the page
        listed = [field for name, field in self.form.fields.items() if self._is_reported(name, field)]
        place = (self.place.where, self.place.flavor, self.place.namespace)
        changes = (self.touched.edit, *(field.change for field in (*listed, *place)))
        # this must come before everything else that these events do
        state.follow(self.run, pair.teacher.change, pair.student.change, kept.prompts.change, *changes)
        gathered = state.gather(self.form.values.values())
        preview = Handler(studio, self._preview, inputs, [*outputs, *groups], in_turn("train")).on(gathered)
        self._wire_version(preview.then)
        self._wire_form(pair, kept.verdict)
        self._wire_publishing()
        self._wire_files(pair)
        self._wire_launch(pair, kept.prompts)

    def _is_reported(self, name: str, field: FormField) -> bool:
        """Whether Gradio reports the field's changes: it is a list, is filled in by the page, or is on another step."""
        return isinstance(field, gr.Dropdown) or name == REPOSITORY or name in self.server.fields

    def _build_form(self) -> None:
        self.touched = markup.panel(visible="hidden", js_on_load=scripts.when_loaded("touched"))
        self.preset = gr.Dropdown(
            [(title, name) for name, title in list_presets().items()],
            value="demo-cpu",
            label="Start from",
            info="A preset fills in the settings below and keeps your pair and prompts.",
            filterable=False,
            elem_id="preset",
        )
        # the preset that was used last, and how often the same one was chosen again
        self.taken = markup.held(self.preset.value)
        self.again = markup.held("0")
        with gr.Row(elem_id="preset-row"):
            self.preset_note = markup.panel(elem_id="preset-note")
            self.whole = gr.Button("Also use its pair and prompts", size="sm", scale=0, min_width=220, visible=False)
        with gr.Row(elem_id="verdict-row", render=False) as verdict_row:
            self.method_note = markup.panel(elem_id="method-verdict", min_height=24)
            self.measure = gr.Button("Measure it →", size="sm", scale=0, min_width=130, visible=False)
        self.form = settings_form(verdict_row.render, self.server.fields, self.server.group)
        # a repository for this run's student
        self.suggested = markup.held(suggested_name(base_config(None)))

    def _build_outcome(self) -> None:
        self.pair = markup.panel(elem_id="train-pair")
        self.estimate = markup.panel(markup.note("busy", "Estimating…"), elem_id="train-estimate", min_height=150)
        self.place = PlaceForm(self.studio)
        with gr.Column(elem_id="train-note"):
            # notes on the loaded file and on the last launch
            self.note, self.outcome = markup.panel(), markup.panel()
        where = str(self.place.where.value)
        self.start = gr.Button(_launch_on(where), variant="primary", interactive=False, elem_id="launch")
        self.checklist = Checklist(self.studio, self.start)
        self.work = LongWork(self.studio, self.outcome)
        self.yaml = gr.Code(
            language="yaml",
            label="run.yaml, settings that differ from the defaults",
            interactive=False,
            elem_id="run-yaml",
            # they are out of step with the lines until the editor is scrolled into view
            show_line_numbers=False,
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
            show_line_numbers=False,
            buttons=["copy"],
        )
        with gr.Row():
            self.save = gr.Button("Download run.yaml", size="sm", elem_id="save-yaml", min_width=140)
            self.upload = gr.UploadButton("Load a run.yaml…", size="sm", elem_id="load-yaml", min_width=140)

    def _wire_version(self, read: Any) -> None:
        """Update everything that depends on a version once it was read (the event `read`).

        Each part has its own event, because Gradio repeats everything in an event if one part of it was postponed.
        """
        form, state = self.form, self.state
        inputs = {"described": state.described, "estimated": self.estimated, **self.place.fields}
        outputs: list[Component] = [self.estimate, self.estimated, form.fields[STEPS]]
        Handler(self.studio, self._estimate, inputs, outputs, in_turn("estimate")).on(read)
        self.place.connect(read, state.described, self._config_of)
        self.checklist.connect(state.described, self.place.fields, read)
        fix = Handler(self.studio, self._fix, {}, list(form.fields.values()), {**QUIET, "trigger_mode": "multiple"})
        state.begin_with(fix.on(self.checklist.panel.edit).then)

    def _wire_form(self, pair: PairTab, verdict: gr.JSON) -> None:
        form = self.form
        method = form.fields["method"]
        measured = {"verdict": verdict, **pair.inputs, "method": method}
        show = Handler(self.studio, self._show_verdict, measured, [self.method_note, self.measure], LATEST)
        show.on(method.change, verdict.change, pair.teacher.change, pair.student.change)

    def _wire_publishing(self) -> None:
        """Show the fields that the switch reveals, and fill in a repository name from the student and the method."""
        form = self.form
        show = Handler(self.studio, self._show_publishing, {PUBLISH: form.publish}, [form.publishing], LATEST)
        show.on(form.publish.change)
        repo = form.fields[REPOSITORY]
        fill = {**PRIVATE, "js": scripts.call("suggestRepository", "publish-repo-id")}
        gr.on([form.publish.input, self.suggested.change], None, [form.publish, repo, self.suggested], repo, **fill)

    def _show_publishing(self, publish: bool) -> Updates:
        return {self.form.publishing: gr.Group(visible=publish)}

    def _wire_files(self, pair: PairTab) -> None:
        inputs = {"name": self.preset, **pair.inputs, "run": self.run}
        outputs = [self.taken, self.preset_note, self.whole, *self.form_outputs]
        # not `input`, which also fires when the list is left unchanged
        take_new = Handler(self.studio, self._take_new, {**inputs, "taken": self.taken}, outputs, LATEST)
        take_new.on(self.preset.change)
        counted = [self.preset, self.taken, self.again]
        self.preset.select(None, counted, self.again, js=scripts.call("chosenAgain"), **PRIVATE)
        Handler(self.studio, self._take_preset, inputs, outputs, LATEST).on(self.again.change)
        Handler(self.studio, self._take_whole, {"name": self.preset}, [self.loaded, *self.form_outputs]).on(
            self.whole.click
        )
        self.save.click(None, self.yaml, js=scripts.call("saveText", "run.yaml", "application/yaml"), **PRIVATE)
        read = Handler(
            self.studio, self._read_file, {"path": self.upload}, [self.note, self.loaded, *self.form_outputs], LATEST
        )
        read.on(self.upload.upload)

    def _wire_launch(self, pair: PairTab, prompts: gr.JSON) -> None:
        served: list[Any] = [field.input for field in self.server.fields.values()]
        decisions = [prompts.change, pair.teacher.change, pair.student.change, *served]
        gr.on(decisions, None, outputs=self.outcome, js=scripts.call("empty"), **PRIVATE)
        # one event for all fields, because the browser searches every event for every component when it builds the page
        self.touched.input(None, None, [self.outcome, self.note], js=scripts.call("emptyBoth"), **PRIVATE)
        name = Handler(self.studio, self._name_place, {"where": self.place.where}, [self.start])
        name.on(self.place.where.change)
        known: dict[str, Component] = {
            "edit": self.state.edit,
            "described": self.state.described,
            "project": self.project,
        }
        known |= self.place.fields
        launch = Handler(self.studio, self._launch, known, [self.outcome, self.launched, self.work.task])
        launch.on(self.start.click, how={**QUIET, "trigger_mode": "once"})

    def load(self, config: RunConfig) -> Updates:
        """Fill the form, and the settings that the browser keeps, from a loaded run."""
        return {self.run: brief(config), **self.form.filled(config)}

    def _resolved(self, visitor: Visitor, version: Version) -> RunConfig:
        """The run of a version, checked, with only files and models that the visitor may use. Raises SimCTError."""
        return paths.check_run(self.studio, visitor, version.config())

    def _preview(
        self,
        visitor: Visitor,
        values: str,
        teacher: str,
        student: str,
        prompts: choice.Choice,
        run: dict[str, Any],
        before: list[str],
        estimated: tuple[str, str],
        **place: Any,
    ) -> Updates:
        """Show a version of the form: its run.yaml, what the browser keeps of it, and what is wrong.

        The reason is shown next to each wrong field, and next to the steps if epochs decide them. An estimate that
        takes no time is sent along.
        """
        edit, fields = self.form.gathered(values)
        data, refused = prompt_source.read_choice(prompts)
        config, problems = self.form.read(run, teacher, student, data, fields)
        problems = [*map(from_error, refused), *problems]
        readable = not problems
        if readable:
            try:
                validate(config)
            except ConfigError as error:
                problems = [from_error(error)]
        settings = brief(config)
        version = Version(edit, settings, (prompts or {}).get("rows"), problems, readable)
        teachers = teacher_names(config) if config.teachers else teacher
        pair = view.pair_line(teachers, student, choice.name_of(prompts))
        wrong, marks = self.form.marked(before, problems, overridden(config.training.epochs, None))
        estimate = next(self._estimate(visitor, version.text(), estimated, **place))
        return {
            self.wrong: wrong,
            **marks,
            **(estimate if self.estimated in estimate else {}),
            self.pair: markup.stamped(pair, edit),
            # an invalid run.yaml is dimmed
            self.yaml: gr.update(value=brief_yaml(config), elem_classes=["stale"] if problems else []),
            self.save: gr.Button(interactive=not problems),
            self.suggested: suggested_name(config),
            **({self.run: settings} if settings != run else {}),
            self.state.described: version.text(),
        }

    def _fix(self, event: gr.EventData) -> Updates:
        """Set a field to the value that solves the problem whose button was pressed."""
        setting, value = fix_of(event) or ("", 0)
        return {self.form.fields[setting]: value} if setting in self.form.fields else {}

    def _show_verdict(self, verdict: dict[str, Any] | None, teacher: str, student: str, method: str) -> Updates:
        return {
            self.method_note: view.method_line(verdict, teacher, student, method),
            self.measure: gr.Button(visible=not view.is_measured(verdict, teacher, student)),
        }

    def _estimate(
        self, visitor: Visitor, described: str, estimated: tuple[str, str], **chosen: Any
    ) -> Iterator[Updates]:
        """Show the estimate for a version of the form and, if epochs decide the steps, their number next to the
        field.
        """
        version = version_of(described)
        edit, before = estimated
        if edit == version.edit and before:
            yield {}
            return

        def describe() -> RunConfig:
            return self._resolved(visitor, version)

        place = Place(**chosen)
        for shown in estimate.views(self.studio, describe, visitor.token, version.rows, before, place):
            if shown.done:
                html = markup.stamped(shown.html, version.edit)
                epochs = (version.run.get("training") or {}).get("epochs")
                marks = self.form.steps(version.problems, overridden(epochs, shown.steps))
                yield {self.estimate: html, self.estimated: (version.edit, shown.html), **marks}
            else:
                yield {self.estimate: shown.html}

    def _config_of(self, visitor: Visitor, described: str) -> tuple[RunConfig, int | None]:
        """The run and its number of prompts, for the choice of a machine."""
        version = version_of(described)
        config = self._resolved(visitor, version)
        return config, estimate.prompt_facts(self.studio, config, visitor.token, version.rows)[1]

    def _name_place(self, where: str) -> Updates:
        return {self.start: gr.Button(_launch_on(where))}

    def _launch(
        self, visitor: Visitor, edit: str, described: str, project: str | None, **chosen: Any
    ) -> Iterator[Updates]:
        """Start the run of run.yaml at the chosen place; returns its id, or one line that says why it did not start."""
        version, place = version_of(described), Place(**chosen)

        def start(work: Work) -> RunFolder:
            work.step("Checking models, prompts and tasks…")
            if version.edit != edit:
                raise ConfigError("A setting has just changed. Check the estimate, then launch again.")
            config = self._resolved(visitor, version)
            key = teacher_keys.of(self.studio, visitor, config.teacher.server)
            prepare.pin_and_check(self.studio, config, visitor.token, place, key)
            return where.start(self.studio, config, place, visitor, project)

        def finished(work: Work) -> Updates:
            return {self.outcome: markup.passing("Launched."), self.launched: work.result.id}

        yield from self.work.run(start, finished)

    def _take_new(self, name: str, taken: str, teacher: str, student: str, run: dict[str, Any]) -> Updates:
        return {} if name == taken else self._take_preset(name, teacher, student, run)

    def _take_preset(self, name: str, teacher: str, student: str, run: dict[str, Any]) -> Updates:
        config, kept = load_preset(name), base_config(run).teacher
        for setting in SERVED:
            # the teacher's server belongs to the pair
            setattr(config.teacher, setting, getattr(kept, setting))
        same = (config.teacher.model, config.student.model) == (teacher, student)
        pair = " → ".join(model_facts.display_name(each.model) for each in (config.teacher, config.student))
        return {
            self.taken: name,
            self.preset_note: markup.note("quiet", "" if same else f"Made for {pair}."),
            self.whole: gr.Button(visible=not same),
            **self.load(config),
        }

    def _take_whole(self, name: str) -> Updates:
        config = load_preset(name)
        return {self.loaded: config, **self.load(config)}

    def _read_file(self, path: str) -> Updates:
        try:
            config = prepare.load_run_yaml(self.studio, str(arrived_file(path)))
        except SimCTError as error:
            return {self.note: markup.note("error", one_line(error).replace(repr(path), "This file"))}
        return {self.note: markup.passing("Loaded."), self.loaded: config, **self.load(config)}


def _launch_on(where: str) -> str:
    return "Launch on this machine" if where == HERE else "Launch on Hugging Face Jobs"
