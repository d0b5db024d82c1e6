"""The page: seven steps in a row, each its own module, and what leads from one to the next."""

from pathlib import Path

import gradio as gr
from gradio.utils import get_space

from app import address, api
from app.compare import tab as compare_tab
from app.data import choice as data_choice
from app.data import tab as data_tab
from app.inspect import link as inspect_link
from app.inspect import reliability_view as verdict_view
from app.inspect import tab as inspect_tab
from app.page import markup, saving
from app.page.theme import theme
from app.pair import tab as pair_tab
from app.publish import tab as publish_tab
from app.runs import compare as runs_compare
from app.runs import tab as runs_tab
from app.server import background
from app.server import imports as libraries
from app.server.settings import Settings
from app.train import tab as train_tab
from app.train.form import base_config, starting_config
from simct.config import brief
from simct.hub import client
from simct.report import charts

HERE = Path(__file__).parent
MAX_UPLOAD = "200mb"

HEADER = """<header class="top"><h1>SimCT Studio</h1>
<p>Distil a teacher into a student, even when they tokenize text differently.</p></header>"""


def build(settings: Settings) -> gr.Blocks:
    """The whole page over one runs folder."""
    with libraries.Page(title="SimCT Studio", analytics_enabled=False) as page:
        with gr.Row(elem_id="top", equal_height=True):
            markup.panel(HEADER, js_on_load=saving.SCRIPT)
            if settings.public and get_space():
                gr.LoginButton("Sign in", size="sm", scale=0, min_width=160)
        where = markup.panel(address.decided(*settings.default_pair.values(), None, None), elem_id="where")
        # kept by the browser, as plain data: the prompts chosen, the settings of Train, and what was measured of a pair
        prompts = gr.JSON(data_choice.START, visible="hidden")
        run, verdict = gr.JSON(brief(starting_config()), visible="hidden"), gr.JSON({}, visible="hidden")
        steps: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab("Pair", id="pair") as steps["pair"]:
                pair = pair_tab.build(settings)
            with gr.Tab("Inspect", id="inspect") as steps["inspect"]:
                inspect = inspect_tab.build(settings, pair, prompts, verdict)
            with gr.Tab("Data", id="data") as steps["data"]:
                data = data_tab.build(settings, pair, prompts, run)
            with gr.Tab("Train", id="train") as steps["train"]:
                train = train_tab.build(settings, pair, prompts, run, verdict)
            with gr.Tab("Runs", id="runs") as steps["runs"]:
                runs = runs_tab.build(settings)
                runs_compare.build(settings)
                look = gr.Button("Compare with the teacher →", variant="primary", elem_classes="next")
            with gr.Tab("Compare", id="compare") as steps["compare"]:
                compare = compare_tab.build(settings, runs)
            with gr.Tab("Publish", id="publish") as steps["publish"]:
                publish = publish_tab.build(settings)

        for name, step in steps.items():
            step.select(None, js=address.remember_step(name), api_visibility="private")
            step.select(lambda shown=name == "runs": gr.Timer(active=shown), outputs=runs.timer, **settings.latest)
        next_of = {
            pair.next: "inspect",
            inspect.next: "data",
            data.next: "train",
            look: "compare",
            compare.next: "publish",
        }
        for button, name in {**next_of, runs.publish: "publish"}.items():
            button.click(lambda name=name: gr.Tabs(selected=name), outputs=tabs, **settings.quiet)

        steps["inspect"].select(inspect.refresh, inspect.inputs, inspect.outputs, **settings.in_turn("inspect"))
        steps["data"].select(data.refresh, data.inputs, data.outputs, **settings.in_turn("data"))
        steps["train"].select(train.refresh, train.inputs, train.outputs, **settings.in_turn("train"))
        steps["runs"].select(runs.tick, runs.inputs, runs.outputs, **settings.latest)
        steps["compare"].select(compare.refresh, compare.inputs, compare.outputs, **settings.latest)
        steps["publish"].select(
            publish.refresh, [runs.chosen, publish.run], publish.run, **settings.in_turn("card")
        ).then(publish.tell, publish.inputs, publish.outputs, **settings.in_turn("card"))
        train.measure.click(
            lambda: (gr.Tabs(selected="inspect"), gr.Tabs(selected="reliability")),
            outputs=[tabs, inspect.views],
            **settings.quiet,
        )
        whole = [pair.teacher, pair.student, prompts, *data.fields]
        train.loaded.change(address.pair_and_data, train.loaded, whole, **settings.quiet).then(
            pair.refresh, pair.inputs, pair.outputs, **settings.in_turn("pair")
        ).then(train.refresh, train.inputs, train.outputs, **settings.in_turn("train"))
        inspect.train.click(
            lambda run, verdict: train.load(verdict_view.recommended(base_config(run), verdict)),
            [run, verdict],
            train.load_outputs,
            **settings.quiet,
        ).then(lambda: gr.Tabs(selected="train"), outputs=tabs, **settings.quiet)
        runs.duplicate.click(
            runs.duplicated(train.load),
            runs.chosen,
            [tabs, train.loaded, *train.load_outputs, runs.note],
            **settings.quiet,
        )
        train.launched.change(lambda: gr.Tabs(selected="runs"), outputs=tabs, **settings.quiet)
        train.launched.change(runs.choose, train.launched, runs.chosen, **settings.quiet)

        named = [pair.teacher, pair.student, runs.chosen]
        for component in named:
            component.change(None, named, js=address.REMEMBER, api_visibility="private")
        so_far = [pair.teacher, pair.student, prompts, runs.chosen]
        gr.on(
            [component.change for component in so_far],
            address.decided,
            so_far,
            where,
            **settings.latest,
        )
        for name, value in {"data": prompts, "run": run, "verdict": verdict}.items():
            value.change(None, value, js=address.keep(name), api_visibility="private")
        restored = page.load(
            address.restoring(settings, train.load, inspect.restored),
            inputs=[prompts, run, verdict],
            outputs=[*named, tabs, runs.timer, *inspect.kept, prompts, verdict, *data.fields, *train.load_outputs],
            js=address.recall("data", "run", "verdict"),
            **settings.quiet,
        )
        restored = restored.then(None, inspect.text, inspect.text, js=inspect_link.READ, api_visibility="private")
        restored.then(None, js="() => { window.studioRestored = true; }", api_visibility="private")
        restored.then(address.decided, so_far, where, **settings.quiet)
        restored.then(pair.refresh, pair.inputs, pair.outputs, **settings.in_turn("pair"))
        api.build(settings)
    return page


def serve(settings: Settings, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve the page, say where it is, and block."""
    client.fail_fast()
    page = build(settings)
    libraries.import_behind(lambda: background.of(settings))
    _, url, _ = page.queue(default_concurrency_limit=4, max_size=64).launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css_paths=[charts.STYLE, HERE / "page" / "static" / "studio.css"],
        footer_links=[],
        allowed_paths=[],
        max_file_size=MAX_UPLOAD,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        quiet=True,
        show_error=False,
        prevent_thread_lock=True,
    )
    print(f"SimCT Studio is at {url} (runs in {settings.runs_dir}). Ctrl-C ends it; runs go on.", flush=True)
    page.block_thread()
