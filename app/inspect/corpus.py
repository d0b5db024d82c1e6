"""Inspect, the corpus: coverage over a file or a dataset, streamed, canceled when asked, and remembered."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import gradio as gr

from app.inspect import numbers as inspect_numbers
from app.inspect import source as inspect_source
from app.page import markup, saving
from app.server import downloads, work
from app.server import model_facts as models
from app.server.settings import Settings
from simct.errors import DataError
from simct.inspection.records import PairReport
from simct.report import facts

TEXTS, MOST_TEXTS = 1_000, 1_000_000
TOP = 50
LEAD = (
    "The same over many texts: what exact matching loses and SimCT recovers, by kind of text. Datasets are streamed, "
    "and what has been counted once is remembered."
)


def build(settings: Settings, pair) -> None:
    """The source and the button above, the numbers under them."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    limit = gr.Number(
        TEXTS, label="At most", precision=0, minimum=1, maximum=MOST_TEXTS, min_width=110,
        elem_id="corpus-limit", render=False,
    )  # fmt: skip
    source = inspect_source.form(
        "corpus", (inspect_source.EMBEDDED, inspect_source.UPLOAD, inspect_source.DATASET), limit
    )
    with gr.Row(elem_classes="tools"):
        start = gr.Button("Measure this corpus", size="sm", variant="primary", min_width=170, elem_id="corpus-start")
        cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="corpus-cancel")
    note = markup.panel(elem_id="corpus-note")
    numbers = markup.panel(markup.empty("Nothing measured yet."), elem_id="corpus-numbers", min_height=84)
    charts = markup.panel(elem_id="corpus-charts")
    table = markup.panel(elem_id="corpus-table")
    with gr.Row(elem_classes="tools", visible=False) as taking:
        takes = {
            kind: gr.Button(told, size="sm", min_width=130, elem_id=f"corpus-{kind}")
            for kind, told in {
                "csv": "Disagreements, CSV", "kinds": "Kinds, CSV", "json": "Report, JSON", "html": "Report, HTML"
            }.items()
        }  # fmt: skip
    found, task = gr.State(None), gr.State(None)

    # Gradio fills in who is visiting by position, so that comes before the fields
    def measured(visitor: gr.OAuthToken | None, teacher: str, student: str, *values) -> Iterator[tuple]:
        """The report, or what was counted until a cancel."""
        skip, token = gr.skip(), settings.token(visitor)
        for now in work.follow(lambda work: _measure(settings, teacher, student, values, token, work)):
            if now.running:
                yield work.view(now), skip, skip, skip, gr.Button(visible=True), skip, skip, now
        hidden = gr.Button(visible=False)
        if now.error:
            yield markup.note("error", now.error), skip, skip, skip, hidden, skip, skip, None
            return
        report = now.result
        charts = [inspect_numbers.kinds(report), inspect_numbers.shapes(report), inspect_numbers.vocabularies(report)]
        yield (
            _line(report, inspect_source.source_name(values), now.seconds),
            inspect_numbers.headline(report),
            f'<div class="charts loose">{"".join(charts)}</div>',
            inspect_numbers.disagreements(report),
            hidden,
            gr.Row(visible=True),
            replace(inspect_numbers.named(report, teacher, student), source=inspect_source.source_name(values)),
            None,
        )

    start.click(
        measured, [pair.teacher, pair.student, *source.components],
        [note, numbers, charts, table, cancel, taking, found, task],
        trigger_mode="once", concurrency_limit=None, **settings.quiet,
    )  # fmt: skip
    cancel.click(work.stop, task, **settings.quiet)
    for kind, button in takes.items():
        downloads.offer(settings, button, TAKES[kind], [found], note)


def _measure(
    settings: Settings, teacher: str, student: str, values: Sequence, token: str | bool | None, task: work.Work
) -> PairReport:
    from simct.inspection.corpus import inspect_corpus

    task.step("Reading both tokenizers…")
    pair = models.pair_of(settings, teacher, student, token)
    limit = min(max(int(values[-1] or TEXTS), 1), MOST_TEXTS)
    texts = inspect_source.texts(settings, values, token, limit)
    task.step("Reading and counting, texts:")
    total = limit if values[0] == inspect_source.DATASET else None
    report = inspect_corpus(pair, texts, task.progress, task.should_stop, top=TOP, total=total)
    if not report.texts:
        raise DataError("Canceled before the first text was counted.")
    return report


def _line(report: PairReport, name: str, seconds: float) -> str:
    counted = f"{report.texts:,} texts of {name}, {report.student_tokens:,} student tokens, in {seconds:.1f} s"
    if report.texts_remembered:
        counted += f" ({report.texts_remembered:,} remembered from before)"
    left = facts.left_out(report.excluded)
    told = f"{'Canceled after ' if report.stopped else ''}{counted}.{f' Left out: {left}.' if left else ''}"
    return markup.note("warn" if report.stopped or left else "ok", told)


def _given(found: PairReport | None) -> PairReport:
    if found is None:
        raise DataError("There is nothing to save. Measure a corpus first.")
    return found


def _report_json(token: str | bool | None, found: PairReport | None) -> tuple[str, str]:
    return "corpus.json", saving.as_json(_given(found).to_dict())


def _report_html(token: str | bool | None, found: PairReport | None) -> tuple[str, str]:
    from simct.report.html import html_report

    return "corpus.html", html_report(_given(found))


def _disagreements_csv(token: str | bool | None, found: PairReport | None) -> tuple[str, str]:
    return "disagreements.csv", inspect_numbers.disagreements_csv(_given(found))


def _kinds_csv(token: str | bool | None, found: PairReport | None) -> tuple[str, str]:
    names = ("student_tokens", "strict", "recovered", "outside")
    rows = [(kind, *row.to_dict().values()) for kind, row in _given(found).by_kind.items()]
    return "kinds.csv", saving.as_csv(("kind", *names), rows)


TAKES = {"csv": _disagreements_csv, "kinds": _kinds_csv, "json": _report_json, "html": _report_html}
