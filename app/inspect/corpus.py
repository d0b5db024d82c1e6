"""Inspect, the corpus: coverage over a file or a dataset, streamed, cancelable, and cached."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from app.inspect import numbers, text_source
from app.inspect.text_source import TextSource, TextSourceForm
from app.page import amounts, markup, saving
from app.pair.tab import PairTab
from app.server import downloads, model_facts
from app.server.downloads import Download
from app.server.handler import LONG, Handler, Updates
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.errors import DataError
from simct.inspection.records import PairReport
from simct.report import facts

TEXTS, MOST_TEXTS = 1_000, 1_000_000
TOP = 50
LEAD = (
    "The same for many texts: what exact matching loses and SimCT recovers, by kind of text. Datasets are streamed, "
    "and counts are kept for the next time."
)


class CorpusTab:
    """The source and the button above, the numbers under them."""

    def __init__(self, studio: Studio, pair: PairTab) -> None:
        self.studio = studio
        markup.panel(f'<p class="lead">{LEAD}</p>')
        limit = amounts.field(TEXTS, "At most", min_width=110, elem_id="corpus-limit", render=False)
        kinds = (text_source.EMBEDDED, text_source.UPLOAD, text_source.DATASET)
        source = TextSourceForm(studio, "corpus", kinds, limit)
        with gr.Row(elem_classes="tools"):
            start = gr.Button(
                "Measure this corpus", size="sm", variant="primary", min_width=170, elem_id="corpus-start"
            )
            cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="corpus-cancel")
        self.note = markup.panel(elem_id="corpus-note")
        self.numbers = markup.panel(markup.empty("Nothing measured yet."), elem_id="corpus-numbers", min_height=84)
        self.charts = markup.panel(elem_id="corpus-charts")
        self.table = markup.panel(elem_id="corpus-table")
        with gr.Row(elem_classes="tools", visible=False) as self.files:
            files = downloads.buttons(FILES, "corpus", 130)
        self.found = gr.State(None)
        self.work = LongWork(studio, self.note, cancel)
        outputs = [*self.work.outputs, self.numbers, self.charts, self.table, self.files, self.found]
        Handler(studio, self._measure, {**pair.inputs, **source.inputs}, outputs, LONG).on(start.click)
        downloads.offer(studio, files, {"found": self.found}, self.note)

    def _measure(self, visitor: Visitor, teacher: str, student: str, **fields: Any) -> Iterator[Updates]:
        """The report, or the counts until a cancel."""
        source = TextSource(**fields)

        def finished(work: Work) -> Updates:
            report = work.result
            charts = [numbers.kinds(report), numbers.shapes(report), numbers.vocabularies(report)]
            return {
                self.note: report_line(report, source.name, work.seconds),
                self.numbers: numbers.headline(report),
                self.charts: f'<div class="charts loose">{"".join(charts)}</div>',
                self.table: numbers.disagreements(report),
                self.files: gr.Row(visible=True),
                self.found: replace(numbers.named(report, teacher, student), source=source.name),
            }

        yield from self.work.run(
            lambda work: measure_corpus(self.studio, teacher, student, source, visitor.token, work),
            finished,
            words=text_source.FIELDS.in_labels,
        )


def measure_corpus(
    studio: Studio, teacher: str, student: str, source: TextSource, token: str | bool | None, work: Work
) -> PairReport:
    """The report of simct.inspection.corpus on the texts. Raises a one-line SimCTError."""
    from app.reading import texts

    work.step("Reading both tokenizers…")
    sides = model_facts.source(studio, teacher, token), model_facts.source(studio, student, token)
    limit = amounts.whole("At most", source.number, TEXTS, 1, MOST_TEXTS)
    found = text_source.texts(studio, source, token, limit)
    work.step("Reading and counting, texts:")
    total = limit if source.kind == text_source.DATASET else None
    report: PairReport = studio.workers.run(
        texts.measure_texts,
        *(*sides, found, TOP, total),
        what=f"The texts of {source.name!r}",
        near=sides,
        on_progress=work.progress,
        should_stop=work.should_stop,
    )
    if not report.texts:
        raise DataError("Canceled before the first text was counted.")
    return report


def report_line(report: PairReport, name: str, seconds: float) -> str:
    """How much text was counted, and what was left out."""
    counted = f"{report.texts:,} texts of {name}, {report.student_tokens:,} student tokens, in {seconds:.1f} s"
    if report.texts_remembered:
        counted += f" ({report.texts_remembered:,} counted before)"
    left = facts.left_out(report.excluded)
    line = f"{'Canceled after ' if report.stopped else ''}{counted}.{f' Left out: {left}.' if left else ''}"
    return markup.note("warn" if report.stopped or left else "ok", line)


def given(found: PairReport | None) -> PairReport:
    """The report. Raises DataError if nothing was measured."""
    if found is None:
        raise DataError("There is nothing to save. Measure a corpus first.")
    return found


def _disagreements_csv(found: PairReport | None) -> Download:
    return Download("disagreements.csv", numbers.disagreements_csv(given(found)))


def _kinds_csv(found: PairReport | None) -> Download:
    names = ("student_tokens", "strict", "recovered", "outside")
    rows = [(kind, *row.to_dict().values()) for kind, row in given(found).by_kind.items()]
    return Download("kinds.csv", saving.as_csv(("kind", *names), rows))


def _report_json(found: PairReport | None) -> Download:
    return Download("corpus.json", saving.as_json(given(found).to_dict()))


def _report_html(found: PairReport | None) -> Download:
    from simct.report.html import html_report

    return Download("corpus.html", html_report(given(found)))


FILES: dict[str, tuple[str, Callable[..., Download]]] = {
    "csv": ("Disagreements, CSV", _disagreements_csv),
    "kinds": ("Kinds, CSV", _kinds_csv),
    "json": ("Report, JSON", _report_json),
    "html": ("Report, HTML", _report_html),
}
