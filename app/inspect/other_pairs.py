"""Inspect, several models: students for this teacher, or teachers for this student, in one table to be sorted."""

from collections.abc import Iterator, Sequence
from itertools import islice

import gradio as gr

from app.inspect import other_pairs_view as compare_pairs_table
from app.inspect import source as inspect_source
from app.page import markup
from app.page.markup import one_line
from app.pair import model_field
from app.server import downloads, weights, work
from app.server import model_facts as models
from app.server.settings import Settings
from simct import demo
from simct.errors import DataError, SimCTError
from simct.hub.model_names import is_folder, split_revision
from simct.inspection.records import PairRow

STUDENTS, TEACHERS = "Students for this teacher", "Teachers for this student"
TEXTS, SAMPLES, MOST_MODELS = 300, 8, 12
LEAD = (
    "Several students for the chosen teacher, or teachers for the chosen student, side by side. Only tokenizers are "
    "read, unless verdicts are asked for."
)


def build(settings: Settings, pair) -> None:
    """Which models, the button, and the table."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    with gr.Row(equal_height=False):
        side = gr.Radio([STUDENTS, TEACHERS], value=STUDENTS, label="Compare", elem_id="several-side", min_width=280)
        others = gr.Dropdown(
            model_field.choices([]),
            value=[],
            label="Models",
            info="Type to search the Hub, or a name and Enter. At most 12.",
            multiselect=True,
            allow_custom_value=True,
            max_choices=MOST_MODELS,
            elem_id="several-models",
            scale=2,
            min_width=300,
        )
    with gr.Row(elem_classes="tools"):
        start = gr.Button("Compare", size="sm", variant="primary", min_width=150, elem_id="several-start")
        cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="several-cancel")
        judged = gr.Checkbox(False, label="With verdicts: loads each model's weights", elem_id="several-judged")
        takes = {
            kind: gr.Button(told, size="sm", min_width=110, elem_id=f"several-{kind}")
            for kind, told in {"csv": "Table, CSV", "json": "Table, JSON"}.items()
        }
    note = markup.panel(elem_id="several-note")
    table = markup.panel(
        markup.empty("Nothing compared yet."), elem_id="several-table", js_on_load=compare_pairs_table.SCRIPT
    )
    found, task, typed = gr.State([]), gr.State(None), gr.Textbox(visible=False)

    def compared(
        teacher: str, student: str, which: str, chosen: list[str], verdicts: bool, visitor: gr.OAuthToken | None = None
    ) -> Iterator[tuple]:
        """A row a model, as they are finished."""
        skip, token = gr.skip(), settings.token(visitor)
        ask = (settings, teacher, student, which, chosen, verdicts, token)
        for now in work.follow(lambda work: _compare(*ask, work), weights=bool(verdicts)):
            if now.running:
                yield work.view(now), skip, gr.Button(visible=True), skip, now
        if now.error:
            yield markup.note("error", now.error), skip, gr.Button(visible=False), skip, None
            return
        html = compare_pairs_table.draw(now.result, "student" if which == STUDENTS else "teacher")
        told = f"{len(now.result):,} of {len(chosen):,} compared in {now.seconds:.0f} s."
        yield (
            markup.note("ok", told),
            html,
            gr.Button(visible=False),
            now.result,
            None,
        )

    start.click(
        compared, [pair.teacher, pair.student, side, others, judged], [note, table, cancel, found, task],
        trigger_mode="once", concurrency_limit=None, **settings.quiet,
    )  # fmt: skip
    cancel.click(work.stop, task, **settings.quiet)
    others.key_up(
        search(settings), typed, [others, note], js=model_field.TYPED.replace("SIDE", "several-models"),
        **settings.in_turn("several"),
    )  # fmt: skip
    for kind, button in takes.items():
        downloads.offer(settings, button, compare_pairs_table.TAKES[kind], [found], note)


def search(settings: Settings):
    def searched(typed: str, visitor: gr.OAuthToken | None = None) -> tuple[dict, dict | str]:
        """Models on the Hub whose id holds what has been typed so far."""
        query = (typed or "").strip()
        if len(query) < model_field.MIN_QUERY or is_folder(query):
            return gr.skip(), gr.skip()
        from simct.hub.search import search_models

        try:
            found = search_models(query, settings.token(visitor))
        except SimCTError as error:
            return gr.skip(), markup.note("warn", one_line(error))
        told = f"{len(found)} on the Hub." if found else f"No model on the Hub is called {query!r}."
        return gr.Dropdown(choices=model_field.choices([hit.id for hit in found])), markup.note("quiet", told)

    return searched


def _compare(
    settings: Settings,
    teacher: str,
    student: str,
    which: str,
    chosen: Sequence[str],
    verdicts: bool,
    token: str | bool | None,
    task: work.Work,
) -> list[PairRow]:
    from simct.inspection.compare_pairs import compare_pairs

    chosen = list(dict.fromkeys(name.strip() for name in chosen if name and name.strip()))[:MOST_MODELS]
    if not chosen:
        raise DataError("Choose at least one model to compare.")
    fixed = models.allowed(settings, teacher if which == STUDENTS else student)
    refused = {}
    for name in chosen:
        try:
            models.allowed(settings, split_revision(name)[0])
            if verdicts:
                weights.allow(settings, *((fixed, name) if which == STUDENTS else (name, fixed)), token)
        except SimCTError as error:
            refused[name] = str(error)
    if verdicts:
        weights.forget()
    readable = [name for name in chosen if name not in refused]
    task.step("Comparing, models:")
    rows = compare_pairs(
        [fixed] if which == STUDENTS else readable,
        readable if which == STUDENTS else [fixed],
        list(islice(inspect_source.texts(settings, (inspect_source.EMBEDDED, *[None] * 6), token), TEXTS)),
        samples=SAMPLES if verdicts else 0,
        prompts=str(demo.PROMPTS) if verdicts else "",
        token=token,
        sort="verdict" if verdicts else "strict",
        on_progress=task.progress,
        should_stop=task.should_stop,
    )
    for name, reason in refused.items():
        pair = (fixed, name) if which == STUDENTS else (name, fixed)
        rows.append(PairRow(teacher=pair[0], student=pair[1], error=reason))
    return rows
