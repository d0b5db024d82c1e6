"""The page: five steps in a row, each its own module, and what leads from one to the next."""

import threading
from pathlib import Path

import gradio as gr
from gradio.utils import get_space

from app import inspect_tab, markup, pair_tab, publish_tab, runs_tab, train_tab
from app.settings import Settings

HERE = Path(__file__).parent
MAX_UPLOAD = "200mb"
STEPS = ("pair", "inspect", "train", "runs", "publish")

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


def theme() -> gr.themes.Base:
    """Quiet greys, ink for what is pressed, the visitor's own fonts."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "Consolas", "monospace")
    base = gr.themes.Base(
        primary_hue="slate", secondary_hue="slate", neutral_hue="slate", radius_size="sm", font=sans, font_mono=mono
    )
    return base.set(
        body_background_fill="#fbfbfa",
        body_background_fill_dark="#111418",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#181c22",
        block_background_fill="*background_fill_primary",
        block_background_fill_dark="*background_fill_primary",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_title_text_weight="500",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        border_color_primary="#d9dde2",
        border_color_primary_dark="#343b45",
        block_border_color="#d9dde2",
        block_border_color_dark="#343b45",
        input_background_fill="#ffffff",
        input_background_fill_dark="#12161b",
        input_border_width="1px",
        input_border_color="#c3c9d1",
        input_border_color_dark="#414a56",
        input_border_color_focus="*neutral_600",
        input_border_color_focus_dark="*neutral_300",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_background_fill_selected_dark="transparent",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="#2a313a",
        button_secondary_background_fill_hover_dark="#39424e",
        background_fill_secondary_dark="#20262e",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="#d9dde2",
        checkbox_label_border_color_dark="#343b45",
        checkbox_label_border_color_selected="*neutral_700",
        checkbox_label_border_color_selected_dark="*neutral_300",
        button_primary_background_fill="*neutral_800",
        button_primary_background_fill_hover="*neutral_950",
        button_primary_background_fill_dark="*neutral_200",
        button_primary_background_fill_hover_dark="*neutral_50",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_900",
        checkbox_background_color_selected="*neutral_800",
        checkbox_background_color_selected_dark="*neutral_500",
        slider_color="*neutral_700",
        slider_color_dark="*neutral_300",
    )


def build(settings: Settings) -> gr.Blocks:
    """The whole page over one runs folder."""
    with gr.Blocks(title="SimCT Studio", analytics_enabled=False) as page:
        with gr.Row(elem_id="top", equal_height=True):
            markup.panel(HEADER)
            if settings.public and get_space():
                gr.LoginButton("Sign in", size="sm", scale=0, min_width=160)
        with gr.Tabs(elem_id="steps") as tabs:
            with gr.Tab("Pair", id="pair") as pair_step:
                pair = pair_tab.build(settings)
            with gr.Tab("Inspect", id="inspect") as inspect_step:
                inspect = inspect_tab.build(settings, pair)
            with gr.Tab("Train", id="train") as train_step:
                train = train_tab.build(settings, pair)
            with gr.Tab("Runs", id="runs") as runs_step:
                runs = runs_tab.build(settings)
            with gr.Tab("Publish", id="publish") as publish_step:
                publish = publish_tab.build(settings)

        steps = dict(zip(STEPS, (pair_step, inspect_step, train_step, runs_step, publish_step), strict=True))
        for name, step in steps.items():
            step.select(None, js=_remember_step(name), api_visibility="private")
            step.select(lambda shown=name == "runs": gr.Timer(active=shown), outputs=runs.timer, **settings.quiet)
        for button, name in ((pair.next, "inspect"), (inspect.next, "train"), (runs.publish, "publish")):
            button.click(lambda name=name: gr.Tabs(selected=name), outputs=tabs, **settings.quiet)

        inspect_step.select(inspect.refresh, inspect.inputs, inspect.outputs, **settings.in_turn("inspect"))
        train_step.select(train.refresh, train.inputs, train.outputs, **settings.quiet)
        runs_step.select(runs.tick, runs.inputs, runs.outputs, **settings.quiet)
        publish_step.select(publish.refresh, [runs.chosen, publish.run], publish.run, **settings.in_turn("card")).then(
            publish.tell, publish.inputs, publish.outputs, **settings.in_turn("card")
        )
        train.launched.change(lambda: gr.Tabs(selected="runs"), outputs=tabs, **settings.quiet)
        train.launched.change(runs.choose, train.launched, runs.chosen, **settings.quiet)

        kept = [pair.teacher, pair.student, runs.chosen]
        for component in kept:
            component.change(None, kept, js=REMEMBER, api_visibility="private")
        restored = page.load(_restore(settings), outputs=[*kept, tabs, runs.timer], **settings.quiet)
        restored.then(None, js="() => { window.studioRestored = true; }", api_visibility="private")
        restored.then(pair.refresh, pair.inputs, pair.outputs, **settings.in_turn("pair"))
    return page


def _restore(settings: Settings):
    def restore(request: gr.Request, profile: gr.OAuthProfile | None = None):
        """Pair, run and step from the address bar."""
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
        )

    return restore


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
    # transformers and torch take seconds to import
    import simct.coverage
    import simct.losses  # noqa: F401
