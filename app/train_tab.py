"""Train: prompts, method and settings; the exact run.yaml and command; launch."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from app import markup, models
from app.run_form import method_choices, settings_form
from app.settings import Settings, one_line
from simct import demo
from simct.config import RunConfig, dump_config, local_path, validate
from simct.errors import DataError, RunError, SimCTError
from simct.jobs import local_job
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder, list_runs

COMMAND = "simct distill --config run.yaml"


@dataclass(frozen=True)
class TrainTab:
    launched: gr.Textbox
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, data) -> TrainTab:
    """The form on the left, what it amounts to on the right."""
    markup.panel(
        '<h2>Train</h2><p class="lead">The student writes, the teacher grades every unit, the student learns.</p>'
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            form = settings_form()
        with gr.Column(scale=2, min_width=300):
            told = markup.panel(elem_id="train-pair")
            yaml = gr.Code(
                language="yaml", label="run.yaml", interactive=False, elem_id="run-yaml", lines=20, max_lines=28
            )
            gr.Code(
                COMMAND,
                language="shell",
                label="The same run without the studio",
                interactive=False,
                lines=1,
                max_lines=1,
                elem_id="run-command",
            )
            note = markup.panel(markup.note("quiet", ""), elem_id="train-note")
            start = gr.Button("Launch on this machine", variant="primary", elem_id="launch")
    launched = gr.Textbox(visible=False)

    def preview(teacher: str, student: str, *values) -> tuple[str, str, str]:
        """run.yaml as it would be written, and what is wrong with it if something is."""
        line = markup.note("quiet", "")
        config = None
        try:
            config = form.config(teacher, student, values)
            validate(config)
        except SimCTError as error:
            line = markup.note("error", one_line(error))
        names = " → ".join(models.display_name(model) for model in (teacher or "?", student or "?"))
        return f'<p class="lead">{markup.escape(names)}</p>', dump_config(config) if config else "", line

    # Gradio fills in who is visiting by position, so that comes before the fields
    def check_prompts(visitor: gr.OAuthToken | None, *values) -> str:
        """The line under the prompts: how many there are and how the first one reads."""
        try:
            data = form.config("-", "-", values).data
            return markup.note("ok", prompts_line(settings, data, settings.token(visitor)))
        except SimCTError as error:
            return markup.note("error", one_line(error))

    def launch(
        visitor: gr.OAuthToken | None, profile: gr.OAuthProfile | None, teacher: str, student: str, *values
    ) -> tuple[str, str]:
        """Start the run that run.yaml describes; its id, or one line on why not."""
        try:
            config = validate(form.config(teacher, student, values))
            return markup.note("ok", "Launched."), start_run(
                settings, config, settings.token(visitor), settings.owner(profile)
            )
        except SimCTError as error:
            return markup.note("error", one_line(error)), gr.skip()

    def refresh(teacher: str, student: str, *values) -> tuple:
        return gr.Radio(choices=method_choices()), *preview(teacher, student, *values)

    inputs, outputs = [pair.teacher, pair.student, *form.components], [told, yaml, note]
    for component in form.components:
        component.change(preview, inputs, outputs, trigger_mode="always_last", **settings.quiet)
    gr.on(
        form.prompt_events,
        check_prompts,
        form.components,
        form.prompts_note,
        trigger_mode="always_last",
        **settings.quiet,
    )
    busy = "() => document.querySelector('#launch').setAttribute('aria-busy', 'true')"
    free = "() => document.querySelector('#launch').removeAttribute('aria-busy')"
    start.click(None, js=busy, api_visibility="private")
    start.click(launch, inputs, [note, launched], trigger_mode="once", **settings.private).then(
        None, js=free, api_visibility="private"
    )
    return TrainTab(launched, refresh, inputs, [form.fields["method"], *outputs])


def prompts_line(settings: Settings, data, token: str | bool | None) -> str:
    """Raises DataError (one line) for prompts that cannot be read."""
    from simct.prompts import load_prompts

    guard_prompts(settings, data.prompts)
    prompts = load_prompts(data, token)
    first = " ".join(prompts[0].text.split())
    answers = sum(prompt.answer is not None for prompt in prompts)
    known = f", {answers:,} with answers" if answers else ""
    return f"{len(prompts):,} prompts{known}. First: {first[:90]}{'…' if len(first) > 90 else ''}"


def guard_prompts(settings: Settings, prompts: str) -> None:
    """In public a file of the machine can only be one that was uploaded or embedded."""
    if not prompts:
        raise DataError("There are no prompts. Use the embedded ones, upload a file, or name a Hub dataset.")
    ours = prompts == str(demo.PROMPTS) or Path(prompts).is_relative_to(get_upload_folder())
    if settings.public and not ours and local_path(prompts) is not None:
        raise DataError("A public studio reads prompts from the Hub or an upload only. Give an id like owner/name.")


def start_run(settings: Settings, config: RunConfig, token: str | bool | None, owner: str | None) -> str:
    """Check what can be checked, make the run folder, start the process. Returns the run's id."""
    if settings.public:
        raise RunError("This Space has no hardware to train on. Take run.yaml and the command to a machine that has.")
    active = [run for run in list_runs(settings.runs_dir) if local_job.refresh(run).get("state") in ACTIVE_STATES]
    if active:
        raise RunError(
            f"Run {active[0].id} is still {active[0].status()['state']}. Wait for it, or stop it under Runs."
        )
    for model in (config.teacher, config.student):
        # a run stays with the commit it was launched on
        model.revision = models.facts(settings, model.model, token).revision
    models.pair_of(settings, config.teacher.model, config.student.model, token)
    prompts_line(settings, config.data, token)
    config.data.prompts = _kept(settings, config.data.prompts)
    run = RunFolder.create(settings.runs_dir, config, owner=owner)
    local_job.launch(run, token=token or None)
    return run.id


def _kept(settings: Settings, prompts: str) -> str:
    """An uploaded file lies in a temporary folder: keep a copy beside the runs, named by its content."""
    path = Path(prompts)
    if not path.is_file() or not path.is_relative_to(get_upload_folder()):
        return prompts
    kept = settings.runs_dir / ".uploads" / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}{path.suffix}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            shutil.copyfile(path, kept)
    except OSError as error:
        raise RunError(f"Cannot keep the prompts in {str(kept.parent)!r}: {error.strerror}.") from error
    return str(kept)
