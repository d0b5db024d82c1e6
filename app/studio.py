"""The page: seven steps in a row, each its own module, and what leads from one to the next."""

import threading
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from gradio.utils import get_space

from app import (
    compare_tab,
    data_choice,
    data_tab,
    inspect_link,
    inspect_tab,
    markup,
    models,
    pair_tab,
    publish_tab,
    runs_tab,
    saving,
    train_tab,
    verdict_view,
)
from app.run_form import base_config
from app.settings import Settings
from app.theme import theme
from simct.config import RunConfig

HERE = Path(__file__).parent
MAX_UPLOAD = "200mb"
STEPS = ("pair", "inspect", "data", "train", "runs", "compare", "publish")

HEADER = """<header class="top"><h1>SimCT Studio</h1>
<p>Distil a teacher into a student, even when they tokenize text differently.</p></header>"""

# the address bar keeps pair, step and run, so that a reload or a link comes back to the same place
REMEMBER = """(...values) => {
  if (!window.studioRestored) return;
  const url = new URL(window.location);
  const names = ["teacher", "student", "run"];
  names.forEach((name, i) => values[i] ? url.searchParams.set(name, values[i]) : url.searchParams.delete(name));
  window.history.replaceState(null, "", url);
}"""


def _remember_step(step: str) -> str:
    return f"""() => {{
  if (!window.studioRestored) return;
  const url = new URL(window.location);
  url.searchParams.set("step", "{step}");
  window.history.replaceState(null, "", url);
  window.scrollTo({{top: 0}});
}}"""


def build(settings: Settings) -> gr.Blocks:
    """The whole page over one runs folder."""
    with gr.Blocks(title="SimCT Studio", analytics_enabled=False) as page:
        with gr.Row(elem_id="top", equal_height=True):
            markup.panel(HEADER, js_on_load=saving.SCRIPT)
            if settings.public and get_space():
                gr.LoginButton("Sign in", size="sm", scale=0, min_width=160)
        where = markup.panel(_where(*settings.default_pair.values(), None, None), elem_id="where")
        # the settings of Train as plain data, kept by the browser; Data needs the lengths among them
        run = gr.BrowserState({}, storage_key="simct-run", secret="simct-studio")
        verdict = gr.BrowserState({}, storage_key="simct-verdict", secret="simct-studio")
        steps: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab("Pair", id="pair") as steps["pair"]:
                pair = pair_tab.build(settings)
            with gr.Tab("Inspect", id="inspect") as steps["inspect"]:
                inspect = inspect_tab.build(settings, pair, verdict)
            with gr.Tab("Data", id="data") as steps["data"]:
                data = data_tab.build(settings, pair, run)
            with gr.Tab("Train", id="train") as steps["train"]:
                train = train_tab.build(settings, pair, data, run, verdict)
            with gr.Tab("Runs", id="runs") as steps["runs"]:
                runs = runs_tab.build(settings)
            with gr.Tab("Compare", id="compare") as steps["compare"]:
                compare = compare_tab.build(settings, runs)
            with gr.Tab("Publish", id="publish") as steps["publish"]:
                publish = publish_tab.build(settings)

        for name, step in steps.items():
            step.select(None, js=_remember_step(name), api_visibility="private")
            step.select(lambda shown=name == "runs": gr.Timer(active=shown), outputs=runs.timer, **settings.quiet)
        next_of = {pair.next: "inspect", inspect.next: "data", data.next: "train", compare.next: "publish"}
        for button, name in {**next_of, runs.publish: "publish"}.items():
            button.click(lambda name=name: gr.Tabs(selected=name), outputs=tabs, **settings.quiet)

        steps["inspect"].select(inspect.refresh, inspect.inputs, inspect.outputs, **settings.in_turn("inspect"))
        steps["data"].select(data.refresh, data.inputs, data.outputs, **settings.in_turn("data"))
        steps["train"].select(train.refresh, train.inputs, train.outputs, **settings.in_turn("train"))
        steps["runs"].select(runs.tick, runs.inputs, runs.outputs, **settings.quiet)
        steps["compare"].select(compare.refresh, compare.inputs, compare.outputs, **settings.quiet)
        steps["publish"].select(
            publish.refresh, [runs.chosen, publish.run], publish.run, **settings.in_turn("card")
        ).then(publish.tell, publish.inputs, publish.outputs, **settings.in_turn("card"))
        train.measure.click(lambda: gr.Tabs(selected="inspect"), outputs=tabs, **settings.quiet)
        whole = [pair.teacher, pair.student, data.chosen, *data.fields]
        train.loaded.change(_pair_and_data, train.loaded, whole, **settings.quiet).then(
            pair.refresh, pair.inputs, pair.outputs, **settings.in_turn("pair")
        ).then(train.refresh, train.inputs, train.outputs, **settings.in_turn("train"))
        inspect.train.click(
            lambda run, verdict: train.load(verdict_view.settled(base_config(run), verdict)),
            [run, verdict],
            train.load_outputs,
            **settings.quiet,
        ).then(lambda: gr.Tabs(selected="train"), outputs=tabs, **settings.quiet)
        train.launched.change(lambda: gr.Tabs(selected="runs"), outputs=tabs, **settings.quiet)
        train.launched.change(runs.choose, train.launched, runs.chosen, **settings.quiet)

        kept = [pair.teacher, pair.student, runs.chosen]
        for component in kept:
            component.change(None, kept, js=REMEMBER, api_visibility="private")
        gr.on(
            [component.change for component in (*kept, data.chosen)],
            _where,
            [pair.teacher, pair.student, data.chosen, runs.chosen],
            where,
            trigger_mode="always_last",
            **settings.quiet,
        )
        restored = page.load(
            _restore(settings, train.load, inspect.restored),
            inputs=[data.chosen, run],
            outputs=[*kept, tabs, runs.timer, *inspect.kept, *data.fields, *train.load_outputs],
            **settings.quiet,
        )
        restored = restored.then(None, inspect.text, inspect.text, js=inspect_link.READ, api_visibility="private")
        restored.then(None, js="() => { window.studioRestored = true; }", api_visibility="private")
        restored.then(pair.refresh, pair.inputs, pair.outputs, **settings.in_turn("pair"))
    return page


def _where(teacher: str | None, student: str | None, data: dict | None, run: str | None) -> str:
    """What has been decided so far, in one line above the steps."""
    parts = [" → ".join(models.display_name(model) for model in (teacher or "?", student or "?"))]
    parts.append(data_choice.name_of(data))
    if run:
        parts.append(f"run {run}")
    return f'<p class="where">{markup.escape(" · ".join(parts))}</p>'


def _restore(settings: Settings, load: Callable, inspected: Callable):
    def restore(request: gr.Request, data: dict, run: dict, profile: gr.OAuthProfile | None = None):
        """Pair, run and step from the address bar; prompts and settings from what the browser kept."""
        asked = dict(request.query_params)
        step = asked.get("step") if asked.get("step") in STEPS else "pair"
        teacher, student = (asked.get(name) or default for name, default in settings.default_pair.items())
        chosen = runs_tab.choices(settings, asked.get("run"), settings.owner(profile))
        return (
            pair_tab.shown(teacher),
            pair_tab.shown(student),
            chosen,
            gr.Tabs(selected=step),
            gr.Timer(active=step == "runs"),
            *inspected(asked),
            *data_choice.restored(data),
            *load(base_config(run)),
        )

    return restore


def _pair_and_data(config: RunConfig) -> list:
    """The pair and prompts of a run that was loaded whole, for the steps they belong to."""
    data = data_choice.kept(config.data)
    return [
        pair_tab.shown(models.joined(config.teacher.model, config.teacher.revision)),
        pair_tab.shown(models.joined(config.student.model, config.student.revision)),
        data,
        *data_choice.restored(data),
    ]


def serve(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve the page and block. The libraries that read tokenizers load behind the first paint."""
    page = build(settings)
    threading.Thread(target=_warm_up, daemon=True).start()
    page.queue(default_concurrency_limit=4, max_size=64).launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css_paths=[HERE / "studio.css"],
        footer_links=[],
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        quiet=True,
        show_error=False,
    )


def _warm_up() -> None:
    # transformers, torch and datasets take seconds to import
    import datasets  # noqa: F401

    import simct.cost_estimate
    import simct.coverage
    import simct.losses  # noqa: F401
