"""Compare: the student before and after, and the teacher, answering the same prompt side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from app.compare import answers as compare_models
from app.compare import view as compare_view
from app.compare.answers import Answer
from app.page import markup
from app.page.markup import one_line
from app.runs import names as run_names
from app.runs import view as run_view
from app.runs.actions import owned_run
from app.runs.page import runs_of
from app.server import model_facts as models
from app.server import work
from app.server.settings import Settings
from simct.errors import DataError, SimCTError


@dataclass(frozen=True)
class CompareTab:
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, runs) -> CompareTab:
    """Run and prompt above, one column a model below, then what the run was scored."""
    markup.panel('<h2>Compare</h2><p class="lead">What the student learnt, on a prompt of your own.</p>')
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown([], label="Run", elem_id="compare-run", filterable=False)
            sides = gr.CheckboxGroup([], label="Who answers", elem_id="compare-sides")
            with gr.Row():
                temperature = gr.Number(0.0, label="Temperature", info="0: the likeliest.", minimum=0, min_width=110)
                length = gr.Number(64, label="Tokens at most", info="Of each answer.", precision=0, min_width=110)
        with gr.Column(scale=3, min_width=320):
            picked = gr.Dropdown([], label="A prompt of the run", elem_id="compare-picked", filterable=True)
            prompt = gr.Textbox(label="Prompt", lines=3, max_lines=10, elem_id="compare-prompt")
            reference = markup.panel(elem_id="compare-reference")
            with gr.Row():
                ask = gr.Button("Answer", variant="primary", elem_id="compare-ask", min_width=160)
                cancel = gr.Button("Stop", elem_id="compare-stop", min_width=90, scale=0, interactive=False)
    note = markup.panel(elem_id="compare-note", min_height=24)
    answers = markup.panel(elem_id="compare-answers", min_height=170)
    results = markup.panel(elem_id="compare-results")
    next_step = gr.Button("Publish →", variant="primary", elem_classes="next")
    task = gr.State(None)

    def refresh(chosen: str | None, current: str | None, profile: gr.OAuthProfile | None = None) -> dict:
        """Runs that have begun, the one chosen under Runs picked."""
        found = [each for each in runs_of(settings, settings.owner(profile)) if each.status().step]
        options = [(run_names.label(each).replace("\n", " · "), each.id) for each in found]
        ids = [run_id for _, run_id in options]
        return gr.Dropdown(
            choices=options, value=next((each for each in (chosen, current) if each in ids), next(iter(ids), None))
        )

    def show(run_id: str | None, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None) -> tuple:
        """Who can answer, the run's own prompts, and its scores."""
        if not run_id:
            empty = markup.empty("Answers appear here once a run has begun. Launch one under Train.")
            return (
                gr.CheckboxGroup(choices=[], value=[]),
                gr.Dropdown(choices=[]),
                "",
                empty,
                gr.Button(interactive=False),
            )
        try:
            found = owned_run(settings, run_id, settings.owner(profile))
            config, token = found.config(), settings.token(visitor)
            offered = compare_models.sides_of(settings, found, config, token)
            # weights of the Hub are fetched only when somebody ticks the box
            here = [side for told, side in offered if models.is_folder(compare_models.name_of(side, found, config))]
            prompts = [each.text for each in compare_models.prompts_of(settings, found, token)]
        except SimCTError as error:
            told = markup.note("error", one_line(error))
            return (
                gr.CheckboxGroup(choices=[], value=[]),
                gr.Dropdown(choices=[]),
                "",
                told,
                gr.Button(interactive=False),
            )
        return (
            gr.CheckboxGroup(choices=offered, value=here),
            gr.Dropdown(choices=list(dict.fromkeys(prompts)), value=None),
            run_view.results(found),
            markup.empty("Choose a prompt or write one, then press Answer."),
            gr.Button(interactive=True),
        )

    def pick(
        run_id: str | None, text: str, profile: gr.OAuthProfile | None = None, visitor: gr.OAuthToken | None = None
    ) -> tuple[str, str]:
        try:
            found = owned_run(settings, run_id, settings.owner(profile))
            offered = compare_models.prompts_of(settings, found, settings.token(visitor))
        except SimCTError as error:
            return text, markup.note("error", one_line(error))
        answer = next((each.answer for each in offered if each.text == text), None)
        return text, markup.note("quiet", f"Its answer in the data: {answer}" if answer else "")

    def answer(
        run_id: str | None,
        chosen: list[str],
        text: str,
        heat: float,
        most: float,
        profile: gr.OAuthProfile | None = None,
        visitor: gr.OAuthToken | None = None,
    ) -> Iterator[tuple]:
        """Every chosen model's answer as it is written; then what the teacher thinks of the students'."""
        state: dict[str, Answer] = {}
        try:
            if not (text or "").strip():
                raise DataError("There is no prompt. Write one, or choose one of the run's.")
            if not chosen:
                raise DataError("Nobody is to answer. Tick at least one model.")
            found = owned_run(settings, run_id, settings.owner(profile))
            asked = (settings, found, text, chosen, float(heat or 0), int(most or 64), settings.token(visitor), state)
            for now in work.follow(lambda work: compare_models.write(*asked, work), weights=True):
                told = work.view(now) if now.running else markup.note("error", now.error)
                yield told, compare_view.cards(dict(state)), gr.Button(interactive=now.running), now
        except SimCTError as error:
            yield markup.note("error", one_line(error)), gr.skip(), gr.Button(interactive=False), None

    shown = [sides, picked, results, answers, ask]
    run.change(show, run, shown, **settings.in_turn("compare"))
    picked.input(pick, [run, picked], [prompt, reference], **settings.latest)
    asked = [run, sides, prompt, temperature, length]
    gr.on(
        [ask.click, prompt.submit],
        answer,
        asked,
        [note, answers, cancel, task],
        trigger_mode="once",
        concurrency_limit=None,
        **settings.quiet,
    )
    cancel.click(work.stop, task, **settings.quiet)
    return CompareTab(next_step, refresh, [runs.chosen, run], [run])
