"""Runs: what runs, waits and ran, read from the run folders; watch it and act on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.runs import list as run_list
from app.runs import view as run_view
from app.runs.actions import ACTIONS, owned_run, perform, question
from app.runs.list import PAGE, STATES, choices
from app.runs.page import current
from app.server import background
from app.server.settings import Settings
from simct.config import RunConfig
from simct.errors import SimCTError
from simct.jobs import actions

EVERY_SECONDS = 1.5
BUTTONS = {
    "stop": "Stop", "kill": "Force stop…", "resume": "Resume", "retry": "Retry", "duplicate": "Duplicate",
    "delete": "Delete…", "fetch": "Fetch the student", "publish": "Publish →",
}  # fmt: skip


@dataclass(frozen=True)
class RunsTab:
    """`duplicated(load)` makes the event of the button `duplicate`: the run's settings go to Train, which is shown."""

    chosen: gr.Radio
    timer: gr.Timer
    publish: gr.Button
    duplicate: gr.Button
    duplicated: Callable
    note: gr.HTML
    tick: Callable
    choose: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings) -> RunsTab:
    """The list on the left, the chosen run on the right, refreshed while the step is open."""
    markup.panel('<h2>Runs</h2><p class="lead">Runs go on when this page or the studio is closed.</p>')
    timer = gr.Timer(EVERY_SECONDS, active=False)
    seen, pending = gr.State({}), gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280, elem_id="run-side"):
            with gr.Row(elem_id="run-search"):
                words = gr.Textbox(
                    show_label=False, label="Search runs", placeholder="Search runs", min_width=120, container=False
                )
                state = gr.Dropdown(
                    STATES,
                    value=STATES[0],
                    show_label=False,
                    label="State",
                    min_width=110,
                    container=False,
                    filterable=False,
                )
            chosen = gr.Radio([], label="History", show_label=False, elem_id="run-list", container=False)
            count = markup.panel(elem_id="run-none")
            more = gr.Button("Show more", size="sm", visible=False, elem_id="run-more")
            length = gr.State(PAGE)
        with gr.Column(scale=5, min_width=320, visible=False) as detail:
            head = markup.panel(elem_id="run-head", min_height=96)
            with gr.Row(elem_id="run-buttons"):
                buttons = {
                    name: gr.Button(
                        text,
                        size="sm",
                        interactive=False,
                        visible=name != "fetch",
                        variant="primary" if name == "publish" else "secondary",
                        elem_id="to-publish" if name == "publish" else name,
                    )
                    for name, text in BUTTONS.items()
                }
            with gr.Row(visible=False, elem_id="confirm") as confirm:
                asked = markup.panel()
                really = gr.Button("Yes", size="sm", variant="stop", elem_id="confirm-really")
                keep = gr.Button("Keep as it is", size="sm", elem_id="confirm-keep")
            note = markup.panel(elem_id="run-note")
            results = markup.panel(elem_id="run-results")
            charts = markup.panel(elem_id="run-charts")
            samples = markup.panel(elem_id="run-samples")
            with gr.Accordion("Log", open=False):
                log = markup.panel(elem_id="run-log", max_height=320, autoscroll=True)
            with gr.Accordion("run.yaml", open=False):
                yaml = markup.panel(elem_id="run-config", max_height=420)

    panels = [head, results, charts, samples, log, yaml]
    inputs = [chosen, seen, words, state, length]
    outputs = [chosen, count, more, detail, seen, *panels, *buttons.values()]

    def tick(
        run_id: str | None, before: dict, words: str, state: str, length: int,
        profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None,
    ) -> list:  # fmt: skip
        """What changed since this page was last told; files that did not change are not read again."""
        owner, behind = settings.owner(profile), background.of(settings)
        behind.meet(owner, settings.token(visitor))
        trouble = behind.trouble.get(owner)
        run, place, now = current(settings, owner, run_id, words, state, length, trouble)
        picked = run.id if run else None
        changed = {name for name, value in now.items() if before.get(name, "") != value}
        told = [gr.skip()] * 4
        if changed & {"list", "count"} or picked != run_id:
            told = [
                gr.Radio(choices=now["list"], value=picked),
                run_list.count_line(*now["count"]),
                gr.Button(visible=now["count"][0] < now["count"][1]),
                gr.Column(visible=run is not None),
            ]
        views = [gr.skip()] * len(panels)
        if "run" in changed:
            views = run_view.panels(run, place, trouble) if run else [""] * len(panels)
        offered = [gr.skip()] * len(ACTIONS)
        if "allowed" in changed:
            offered = [gr.Button(interactive=ok, visible=ok or name != "fetch") for name, ok in now["allowed"].items()]
        return [*told, now if changed else gr.skip(), *views, *offered]

    def do(action: str, run_id: str | None, profile, visitor) -> list:
        """Act on the run; the note, the folded question, and the run to show."""
        try:
            owner = settings.owner(profile)
            told, new = perform(action, owned_run(settings, run_id, owner), settings.token(visitor), owner)
            shown = choices(settings, new, owner) if new else gr.skip()
            return [markup.note("ok", told), gr.Row(visible=False), gr.skip(), gr.skip(), None, shown]
        except SimCTError as error:
            return [markup.note("error", one_line(error)), gr.Row(visible=False), gr.skip(), gr.skip(), None, gr.skip()]

    def ask_or_do(action: str):
        def asked_first(
            run_id: str | None, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None
        ) -> list:
            try:
                asking = question(action, owned_run(settings, run_id, settings.owner(profile)))
            except SimCTError as error:
                return [markup.note("error", one_line(error)), gr.Row(visible=False), *[gr.skip()] * 4]
            if asking is None:
                return do(action, run_id, profile, visitor)
            told, yes = asking
            kind = "stop" if action in ("kill", "delete") else "primary"
            return [
                "", gr.Row(visible=True), markup.note("warn", told), gr.Button(yes, variant=kind), [action, run_id],
                gr.skip(),
            ]  # fmt: skip

        return asked_first

    def confirmed(
        waiting: list | None, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None
    ) -> list:
        """Do what was asked about, to the run that was asked about."""
        return do(*waiting, profile, visitor) if waiting else [gr.skip()] * 6

    acted = [note, confirm, asked, really, pending, chosen]
    for name in ("stop", "kill", "resume", "retry", "delete", "fetch"):
        buttons[name].click(ask_or_do(name), chosen, acted, trigger_mode="once", **settings.private).then(
            tick, inputs, outputs, **settings.quiet
        )
    really.click(confirmed, pending, acted, trigger_mode="once", **settings.private).then(
        tick, inputs, outputs, **settings.quiet
    )
    keep.click(lambda: (gr.Row(visible=False), None), outputs=[confirm, pending], **settings.quiet)
    timer.tick(tick, inputs, outputs, trigger_mode="once", concurrency_limit=8, **settings.quiet)
    for event in (chosen.input, words.input, state.input):
        event(tick, inputs, outputs, **settings.latest)
    more.click(lambda length: length + PAGE, length, length, **settings.quiet).then(
        tick, inputs, outputs, **settings.quiet
    )
    chosen.input(lambda: ("", gr.Row(visible=False), None), outputs=[note, confirm, pending], **settings.latest)

    def choose(run_id: str, profile: gr.OAuthProfile | None = None) -> gr.Radio:
        return choices(settings, run_id, settings.owner(profile))

    def duplicated(load: Callable) -> Callable:
        def shown(
            run_id: str | None, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None
        ) -> list:
            """The Train step, the RunConfig, and what `load` makes of it."""
            try:
                run = owned_run(settings, run_id, settings.owner(profile))
                config = actions.duplicate(run, token=settings.token(visitor))
                return [gr.Tabs(selected="train"), config, *load(config), ""]
            except SimCTError as error:
                return [
                    gr.skip(),
                    gr.skip(),
                    *[gr.skip() for _ in load(RunConfig())],
                    markup.note("error", one_line(error)),
                ]

        return shown

    return RunsTab(
        chosen, timer, buttons["publish"], buttons["duplicate"], duplicated, note, tick, choose, inputs, outputs
    )
