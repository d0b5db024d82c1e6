"""Runs: what runs and ran, read from the run folders; watch, stop, resume, delete."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app import markup, run_view
from app.settings import Settings, one_line
from simct.errors import RunError, SimCTError
from simct.jobs import local_job
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder, list_runs, open_run

EVERY_SECONDS = 1.5
LISTED = 200


@dataclass(frozen=True)
class RunsTab:
    chosen: gr.Radio
    timer: gr.Timer
    publish: gr.Button
    tick: Callable
    choose: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings) -> RunsTab:
    """The list on the left, the chosen run on the right, refreshed while the step is open."""
    markup.panel('<h2>Runs</h2><p class="lead">Runs go on when this page or the studio is closed.</p>')
    timer = gr.Timer(EVERY_SECONDS, active=False)
    seen = gr.State({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            chosen = gr.Radio([], label="History", show_label=False, elem_id="run-list", container=False)
            none = markup.panel(markup.empty("No runs yet. Launch one under Train."), elem_id="run-none")
        with gr.Column(scale=5, min_width=320, visible=False) as detail:
            head = markup.panel(elem_id="run-head", min_height=96)
            with gr.Row(elem_id="run-buttons"):
                stop = gr.Button("Stop", size="sm", interactive=False, elem_id="stop")
                kill = gr.Button("Force stop", size="sm", interactive=False, elem_id="kill")
                resume = gr.Button("Resume", size="sm", interactive=False, elem_id="resume")
                delete = gr.Button("Delete…", size="sm", interactive=False, elem_id="delete")
                publish = gr.Button("Publish →", size="sm", variant="primary", interactive=False, elem_id="to-publish")
            with gr.Row(visible=False, elem_id="confirm") as confirm:
                markup.panel(markup.note("warn", "This removes the run's folder with its model and checkpoints."))
                really = gr.Button("Delete for good", size="sm", variant="stop", elem_id="delete-really")
                keep = gr.Button("Keep", size="sm")
            note = markup.panel(elem_id="run-note")
            results = markup.panel(elem_id="run-results")
            charts = markup.panel(elem_id="run-charts")
            samples = markup.panel(elem_id="run-samples")
            with gr.Accordion("Log", open=False):
                log = markup.panel(elem_id="run-log", max_height=320, autoscroll=True)
            with gr.Accordion("run.yaml", open=False):
                yaml = markup.panel(elem_id="run-config", max_height=420)

    buttons = [stop, kill, resume, delete, publish]
    panels = [head, results, charts, samples, log, yaml]
    inputs, outputs = [chosen, seen], [chosen, none, detail, seen, *panels, *buttons]

    def tick(run_id: str | None, before: dict, profile: gr.OAuthProfile | None = None) -> list:
        """What changed since this page was last told; files that did not change are not read again."""
        runs = runs_of(settings, settings.owner(profile))
        ids = [run.id for run in runs]
        picked = run_id if run_id in ids else next(iter(ids), None)
        run = open_run(settings.runs_dir, picked) if picked else None
        state = local_job.refresh(run).get("state") if run else None
        now = {
            "list": [run_view.stamp(found, "status.json") for found in runs],
            "run": [picked, *(run_view.stamp(run, name) for name in run_view.FILES)] if run else None,
            "state": state,
        }
        changed = {name for name, value in now.items() if before.get(name, "") != value}
        told = [gr.skip()] * 3
        if "list" in changed or picked != run_id:
            options = [(run_view.label(found), found.id) for found in runs]
            told = [gr.Radio(choices=options, value=picked), gr.HTML(visible=not runs), gr.Column(visible=bool(runs))]
        views = [gr.skip()] * len(panels)
        if "run" in changed:
            views = run_view.panels(run) if run else [""] * len(panels)
        allowed = allowed_actions(run, state)
        actions = [gr.Button(interactive=allowed[name]) if "state" in changed else gr.skip() for name in ACTIONS]
        return [*told, now if changed else gr.skip(), *views, *actions]

    def act(action: str):
        def acted(
            run_id: str | None, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None
        ) -> tuple[str, dict]:
            try:
                run = owned_run(settings, run_id, settings.owner(profile))
                return markup.note("ok", perform(action, run, settings.token(visitor))), gr.Row(visible=False)
            except SimCTError as error:
                return markup.note("error", one_line(error)), gr.Row(visible=False)

        return acted

    for button, action in ((stop, "stop"), (kill, "kill"), (resume, "resume"), (really, "delete")):
        button.click(act(action), chosen, [note, confirm], **settings.private).then(
            tick, inputs, outputs, **settings.quiet
        )
    delete.click(lambda: gr.Row(visible=True), outputs=confirm, **settings.quiet)
    keep.click(lambda: gr.Row(visible=False), outputs=confirm, **settings.quiet)
    timer.tick(tick, inputs, outputs, trigger_mode="once", concurrency_limit=8, **settings.quiet)
    chosen.input(tick, inputs, outputs, trigger_mode="always_last", **settings.quiet)
    chosen.input(lambda: ("", gr.Row(visible=False)), outputs=[note, confirm], **settings.quiet)

    def choose(run_id: str, profile: gr.OAuthProfile | None = None) -> gr.Radio:
        return choices(settings, run_id, settings.owner(profile))

    return RunsTab(chosen, timer, publish, tick, choose, inputs, outputs)


ACTIONS = ("stop", "kill", "resume", "delete", "publish")


def runs_of(settings: Settings, owner: str | None) -> list[RunFolder]:
    """Newest first; in public only the visitor's own."""
    runs = list_runs(settings.runs_dir)[:LISTED]
    return [run for run in runs if run.status().get("owner") == owner] if settings.public else runs


def owned_run(settings: Settings, run_id: str | None, owner: str | None) -> RunFolder:
    """The run, if this visitor may act on it. Raises RunError."""
    run = open_run(settings.runs_dir, run_id or "")
    if settings.public and (owner is None or run.status().get("owner") != owner):
        raise RunError(f"There is no run {run_id!r} of yours.")
    return run


def choices(settings: Settings, run_id: str | None, owner: str | None) -> gr.Radio:
    """The list with `run_id` chosen, or with the newest run."""
    options = [(run_view.label(run), run.id) for run in runs_of(settings, owner)]
    ids = [name for _, name in options]
    return gr.Radio(choices=options, value=run_id if run_id in ids else next(iter(ids), None))


def allowed_actions(run: RunFolder | None, state: str | None) -> dict[str, bool]:
    """Which buttons make sense now."""
    active = state in ACTIVE_STATES
    return {
        "stop": active and state != "stopping",
        "kill": active,
        "resume": state in ("stopped", "failed"),
        "delete": run is not None and not active,
        "publish": state == "finished",
    }


def perform(action: str, run: RunFolder, token: str | bool | None) -> str:
    """Do it; what to tell. Raises RunError when the run is in the wrong state."""
    if action == "stop":
        local_job.stop(run)
        return "Asked to stop: it writes a checkpoint first."
    if action == "kill":
        local_job.kill(run)
        return "Stopped at once. Its last checkpoint can be resumed."
    if action == "resume":
        local_job.launch(run, resume=True, token=token or None)
        return (
            "Resuming from the last checkpoint."
            if run.latest_checkpoint()
            else "Starting again: there is no checkpoint."
        )
    run.delete()
    return f"Deleted {run.id}."
