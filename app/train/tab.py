"""Train: a preset, a method and settings; what they will take; the exact run.yaml and command; launch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from app.data import choice as data_choice
from app.data import source as data_source
from app.page import markup
from app.page.markup import one_line
from app.server import model_facts as models
from app.server.settings import Settings
from app.train import estimate as estimate_view
from app.train import prepare as launch
from app.train import where as where_form
from app.train.form import method_line, settings_form
from simct.config import RunConfig, brief, brief_yaml, load_config, validate
from simct.errors import ConfigError, SimCTError
from simct.presets import list_presets, load_preset

COMMAND = "simct distill --config run.yaml"
SAVE = """(text) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/yaml'}));
  link.download = 'run.yaml';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 4000);
}"""


@dataclass(frozen=True)
class TrainTab:
    """`loaded` holds a run.yaml's pair and prompts after one was loaded whole, for the steps they belong to."""

    launched: gr.Textbox
    loaded: gr.State
    measure: gr.Button
    refresh: Callable
    load: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]
    load_outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, prompts: gr.JSON, run: gr.JSON, verdict: gr.JSON) -> TrainTab:
    """The form on the left, what it amounts to on the right."""
    markup.panel(
        '<h2>Train</h2><p class="lead">The student writes, the teacher grades every unit, the student learns.</p>'
    )
    loaded, problem, wrong = gr.State(None), gr.State(""), gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            preset = gr.Dropdown(
                [(told, name) for name, told in list_presets().items()],
                value="demo-cpu",
                label="Start from",
                info="A preset fills in the settings below and leaves pair and prompts as they are.",
                filterable=False,
                elem_id="preset",
            )
            with gr.Row(elem_id="preset-row"):
                preset_note = markup.panel(elem_id="preset-note")
                whole = gr.Button("Take its pair and prompts too", size="sm", scale=0, min_width=220, visible=False)
            with gr.Row(elem_id="verdict-row", render=False) as verdict_row:
                method_note = markup.panel(elem_id="method-verdict", min_height=24)
                measure = gr.Button("Measure it →", size="sm", scale=0, min_width=130, visible=False)
            form = settings_form(verdict_row.render)
        with gr.Column(scale=2, min_width=300):
            told = markup.panel(elem_id="train-pair")
            estimate = markup.panel(markup.note("busy", "Estimating…"), elem_id="train-estimate", min_height=150)
            place = where_form.build(settings)
            with gr.Column(elem_id="train-note"):
                # of the fields, which every preview writes anew, and of the last launch, which none may wipe away
                note, outcome = markup.panel(), markup.panel()
            start = gr.Button(_launch_on(place.where.value), variant="primary", elem_id="launch")
            yaml = gr.Code(
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
                save = gr.Button("Download run.yaml", size="sm", elem_id="save-yaml", min_width=140)
                upload = gr.UploadButton(
                    "Load a run.yaml…", file_types=[".yaml", ".yml"], size="sm", elem_id="load-yaml", min_width=140
                )
    launched = gr.Textbox(visible=False)

    def described(teacher: str, student: str, chosen: dict, base: dict, *values) -> RunConfig:
        """The run that the fields describe, not checked. Raises ConfigError for a value of the wrong type."""
        return form.config(base, teacher, student, data_source.data_config(chosen), values)

    def preview(teacher: str, student: str, chosen: dict, base: dict, *values) -> list:
        """run.yaml as it would be written, what the browser keeps of it, and what is wrong with it."""
        config, error = None, ""
        try:
            config = described(teacher, student, chosen, base, *values)
            validate(config)
        except ConfigError as caught:
            error = one_line(caught)
        names = " → ".join(models.display_name(model) for model in (teacher or "?", student or "?"))
        line = f'<p class="lead">{markup.escape(names)} · {markup.escape(data_choice.name_of(chosen))}</p>'
        told = markup.note("error", error) if error else ""
        text = brief_yaml(config) if config else gr.skip()
        return [line, text, told, brief(config) if config else gr.skip(), error]

    # Gradio fills in who is visiting by position, so that comes before the fields
    def reckon(
        visitor: gr.OAuthToken | None, teacher: str, student: str, chosen: dict, base: dict, *values
    ) -> Iterator[str]:
        """The estimate for the fields as they are."""

        def checked() -> RunConfig:
            return validate(described(teacher, student, chosen, base, *values))

        yield from estimate_view.views(settings, checked, settings.token(visitor), (chosen or {}).get("rows"))

    def config_of(teacher: str, student: str, chosen: dict, base: dict, *values):
        """(the run, how many prompts it has) for the choice of a machine."""
        config = validate(described(teacher, student, chosen, base, *values))
        return config, estimate_view.prompt_facts(settings, config, settings.token(None), (chosen or {}).get("rows"))[1]

    def start_it(visitor: gr.OAuthToken | None, profile: gr.OAuthProfile | None, *values) -> Iterator[tuple]:
        """Start the run that run.yaml describes where it was chosen; its id, or one line on why not."""
        yield markup.note("busy", "Checking models, prompts and tasks…"), gr.skip()
        run_values, where = values[: len(inputs)], values[len(inputs) :]
        try:
            config = validate(described(*run_values))
            launch.ready(settings, config, settings.token(visitor))
            run = where_form.start(settings, config, where, visitor, profile)
            yield markup.note("ok", "Launched."), run.id
        except SimCTError as error:
            yield markup.note("error", one_line(error)), gr.skip()

    def load(config: RunConfig) -> list:
        """The form, and what the browser keeps of it, for a run read from elsewhere."""
        return [brief(config), *form.shown(config)]

    def take_preset(name: str, teacher: str, student: str) -> list:
        config = load_preset(name)
        same = (config.teacher.model, config.student.model) == (teacher, student)
        of = f"Made for {models.display_name(config.teacher.model)} → {models.display_name(config.student.model)}."
        return [markup.note("quiet", "" if same else of), gr.Button(visible=not same), *load(config)]

    def read_file(path: str) -> list:
        try:
            config = load_config(path)
            return [markup.note("ok", "Loaded."), config, *load(config)]
        except SimCTError as error:
            return [
                markup.note("error", one_line(error).replace(repr(path), "This file")),
                *[gr.skip()] * (2 + len(form.fields)),
            ]

    shared = [pair.teacher, pair.student, prompts, run]
    inputs, outputs = [*shared, *form.components], [told, yaml, note, run, problem]
    problem.change(form.marked, [wrong, problem], [wrong, *form.components], **settings.in_turn("marks"))
    gr.on([component.change for component in form.components], preview, inputs, outputs, **settings.in_turn("train"))
    yaml.change(reckon, inputs, estimate, **settings.in_turn("estimate"))
    gr.on(
        [form.fields["method"].change, verdict.change, pair.teacher.change, pair.student.change],
        method_line,
        [verdict, pair.teacher, pair.student, form.fields["method"]],
        [method_note, measure],
        **settings.latest,
    )
    load_outputs = [run, *form.components]
    preset.input(
        take_preset, [preset, pair.teacher, pair.student], [preset_note, whole, *load_outputs], **settings.latest
    )
    whole.click(load_preset, preset, loaded, **settings.quiet)
    save.click(None, yaml, js=SAVE, api_visibility="private")
    upload.upload(read_file, upload, [note, loaded, *load_outputs], **settings.latest)
    decisions = [prompts.change, pair.teacher.change, pair.student.change]
    decisions += [component.input for component in form.components]
    gr.on(decisions, None, outputs=outcome, js="() => ''", api_visibility="private")
    place.connect(settings, [yaml.change], inputs, config_of)
    place.where.change(lambda where: gr.Button(_launch_on(where)), place.where, start, **settings.quiet)
    start.click(start_it, [*inputs, *place.components], [outcome, launched], trigger_mode="once", **settings.quiet)
    return TrainTab(launched, loaded, measure, preview, load, inputs, outputs, load_outputs)


def _launch_on(where: str) -> str:
    return "Launch on this machine" if where == where_form.HERE else "Launch on Hugging Face Jobs"
