"""Inspect, other pairs: students for this teacher, or teachers for this student, in one sortable table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import gradio as gr

from app.inspect import other_pairs_view
from app.page import hub_notes, markup, scripts
from app.page.markup import one_line
from app.pair import model_field
from app.pair.tab import PairTab
from app.reading.records import TextsAt
from app.server import downloads, model_facts, weights
from app.server.downloads import Download
from app.server.handler import LONG, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct import demo
from simct.errors import DataError, SimCTError, quoted
from simct.hub.repo_ids import is_folder
from simct.inspection.records import PairRow

STUDENTS, TEACHERS = "Students for this teacher", "Teachers for this student"
TEXTS, SAMPLES, MOST_MODELS = 300, 8, 12
LEAD = (
    "Several students for the chosen teacher, or teachers for the chosen student, side by side. Only tokenizers are "
    "read, unless you ask for verdicts."
)


class OtherPairsTab:
    """Which models, the button, and the table."""

    def __init__(self, studio: Studio, pair: PairTab) -> None:
        self.studio = studio
        markup.panel(f'<p class="lead">{LEAD}</p>')
        with gr.Row(equal_height=False):
            which = gr.Radio(
                [STUDENTS, TEACHERS], value=STUDENTS, label="Pairs", elem_id="other-pairs-side", min_width=280
            )
            self.models = gr.Dropdown(
                model_field.choices([]),
                value=[],
                label="Models",
                info="Type to search the Hub, or a name and Enter. At most 12.",
                multiselect=True,
                allow_custom_value=True,
                max_choices=MOST_MODELS,
                elem_id="other-pairs-models",
                scale=2,
                min_width=300,
            )
        self.rows, typed = gr.State([]), gr.Textbox(visible=False)
        self.offered = gr.State(model_field.choices([]))
        with gr.Row(elem_classes="tools"):
            start = gr.Button(
                "Inspect these pairs", size="sm", variant="primary", min_width=150, elem_id="other-pairs-start"
            )
            cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="other-pairs-cancel")
            verdicts = gr.Checkbox(
                False, label="With verdicts: loads each model's weights", elem_id="other-pairs-verdicts"
            )
            files = downloads.buttons(FILES, "other-pairs", 110)
        self.note = markup.panel(elem_id="other-pairs-note")
        self.table = markup.panel(
            markup.empty("No other pair inspected yet."),
            elem_id="other-pairs-table",
            js_on_load=scripts.when_loaded("sortable"),
        )
        self.work = LongWork(studio, self.note, cancel)
        inputs = {**pair.inputs, "which": which, "models": self.models, "verdicts": verdicts}
        Handler(studio, self._inspect, inputs, [*self.work.outputs, self.table, self.rows], LONG).on(start.click)
        typing = {**in_turn("other_pairs"), "js": scripts.call("typed", "other-pairs-models")}
        searching = {"typed": typed, "before": self.offered}
        found = [self.models, self.offered, self.note]
        Handler(studio, self._search, searching, found, typing).on(self.models.key_up)
        downloads.offer(studio, files, {"rows": self.rows}, self.note)

    def _inspect(
        self, visitor: Visitor, teacher: str, student: str, which: str, models: list[str], verdicts: bool
    ) -> Iterator[Updates]:
        """One row per model."""

        def finished(work: Work) -> Updates:
            line = f"{len(work.result):,} of {len(models):,} inspected in {work.seconds:.0f} s."
            side = "student" if which == STUDENTS else "teacher"
            return {
                self.note: markup.note("ok", line),
                self.table: other_pairs_view.draw(work.result, side),
                self.rows: work.result,
            }

        yield from self.work.run(
            lambda work: inspect_others(self.studio, (teacher, student), which, models, verdicts, visitor.token, work),
            finished,
            weights=bool(verdicts),
        )

    def _search(self, visitor: Visitor, typed: str, before: Sequence[hub_notes.Choice] = ()) -> Updates:
        """Models on the Hub whose id contains the text typed so far, followed by what the list offered `before`."""
        query = (typed or "").strip()
        if len(query) < model_field.MIN_QUERY or is_folder(query):
            return {}
        from simct.hub.search import search_models

        try:
            found = search_models(query, visitor.token)
        except SimCTError as error:
            return {self.note: markup.note("warn", one_line(error))}
        line = f"{len(found)} found on the Hub." if found else f"No model on the Hub matches {quoted(query)}."
        options = hub_notes.offered(model_field.choices([hit.id for hit in found]), before)
        return {
            self.models: gr.Dropdown(choices=options),
            self.offered: options,
            self.note: markup.note("quiet", line),
        }


def inspect_others(
    studio: Studio,
    pair: tuple[str, str],
    which: str,
    models: Sequence[str],
    verdicts: bool,
    token: str | bool | None,
    work: Work,
) -> list[PairRow]:
    """A row for each pair of `models` with the teacher or the student of `pair`; refused pairs come last, with the
    reason.

    Raises a one-line SimCTError.
    """
    students = which == STUDENTS
    fixed = model_facts.allowed(studio, pair[0] if students else pair[1])
    names = list(dict.fromkeys(name.strip() for name in models if name and name.strip()))[:MOST_MODELS]
    if not names:
        raise DataError("Choose at least one model.")
    pairs = [(fixed, name) if students else (name, fixed) for name in names]
    refused = _refused(studio, fixed, students, names, verdicts, token)
    rows = [_row(studio, each, refused.get(name), token, work) for each, name in _counted(pairs, names, work)]
    return _with_verdicts(studio, rows, token, work) if verdicts else _sorted(rows, "strict")


def _counted(
    pairs: Sequence[tuple[str, str]], names: Sequence[str], work: Work
) -> Iterator[tuple[tuple[str, str], str]]:
    """The reports of the pairs, each with its model, until a cancel."""
    work.step("Inspecting, pairs:")
    for number, each in enumerate(zip(pairs, names, strict=True)):
        work.progress(number, len(pairs))
        if work.should_stop():
            return
        yield each


def _row(studio: Studio, pair: tuple[str, str], refused: str | None, token: str | bool | None, work: Work) -> PairRow:
    """The row of a pair without weights, or with the reason that it cannot be used."""
    from app.reading import texts
    from simct.inspection.compare_pairs import with_coverage

    row = PairRow(teacher=pair[0], student=pair[1], error=refused)
    if refused:
        return row
    try:
        sides = tuple(model_facts.source(studio, model, token) for model in pair)
        asked = (*sides, TextsAt(str(demo.PROMPTS), "prompt", limit=TEXTS), 3)
        should_stop = work.should_stop
        report = studio.workers.run(texts.compare_texts, *asked, what="This pair", near=sides, should_stop=should_stop)
    except SimCTError as error:
        return replace(row, error=one_line(error))
    return replace(row, error="Canceled.") if report.stopped else with_coverage(row, report)


def _sorted(rows: Sequence[PairRow], by: str) -> list[PairRow]:
    from simct.inspection.compare_pairs import sort_rows

    return sort_rows(rows, by)


def _with_verdicts(studio: Studio, rows: Sequence[PairRow], token: str | bool | None, work: Work) -> list[PairRow]:
    """The rows, with a measurement of each usable pair; this loads both models of each."""
    from simct.inspection.compare_pairs import compare_pairs
    from simct.inspection.corpus import dataset_texts

    usable = [row for row in rows if not row.error]
    studio.models.forget_pair()
    work.step("Measuring, pairs:")
    measured = compare_pairs(
        list(dict.fromkeys(row.teacher for row in usable)),
        list(dict.fromkeys(row.student for row in usable)),
        list(dataset_texts(str(demo.PROMPTS), "prompt", limit=TEXTS)),
        samples=SAMPLES,
        prompts=str(demo.PROMPTS),
        token=token,
        on_progress=work.progress,
        should_stop=work.should_stop,
    )
    return _sorted([*measured, *(row for row in rows if row.error)], "verdict")


def _refused(
    studio: Studio, fixed: str, students: bool, names: Sequence[str], verdicts: bool, token: str | bool | None
) -> dict[str, str]:
    """Models that this studio may not read, with the reason."""
    refused = {}
    for name in names:
        try:
            model_facts.allowed(studio, name)
            if verdicts:
                weights.allow(studio, *((fixed, name) if students else (name, fixed)), token)
        except SimCTError as error:
            refused[name] = str(error)
    return refused


FILES: dict[str, tuple[str, Callable[..., Download]]] = {
    "csv": ("Table, CSV", other_pairs_view.as_csv),
    "json": ("Table, JSON", other_pairs_view.as_json),
}
