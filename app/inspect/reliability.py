"""Inspect, reliability: both models measured on a few of the student's answers, and which method that speaks for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from app.inspect import reliability_view as verdict_view
from app.inspect import source as inspect_source
from app.page import markup, saving
from app.server import downloads, weights, work, zero_gpu
from app.server import model_facts as models
from app.server.settings import ZERO_GPU, Settings
from simct.config import config_from_dict
from simct.inspection.records import Reliability

WORDS = "Measure this pair"
ANSWERS, MOST_ANSWERS = 16, 256
LEAD = (
    "The student answers a few prompts, and both models read the answers. From what they expected follows a verdict: "
    "which method suits this pair, and why. This loads both models; small ones will do on a CPU."
)


@dataclass(frozen=True)
class VerdictView:
    """`train` is pressed to go on with the recommended settings, which stand in the `verdict` of the page."""

    train: gr.Button
    show: Callable
    inputs: Sequence[gr.components.Component]
    outputs: Sequence[gr.components.Component]


def build(settings: Settings, pair, prompts: gr.JSON, verdict: gr.JSON) -> VerdictView:
    """Where the prompts come from, the button, and what was found."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    answers = gr.Number(
        ANSWERS, label="Answers", precision=0, minimum=1, maximum=MOST_ANSWERS, min_width=90, elem_id="verdict-answers",
        render=False,
    )  # fmt: skip
    kinds = (inspect_source.CHOSEN, inspect_source.UPLOAD, inspect_source.DATASET)
    with gr.Accordion("Prompts and answers", open=False):
        source = inspect_source.form("verdict", kinds, answers, always=True)
        length = gr.Number(64, label="Tokens an answer, at most", precision=0, minimum=1, maximum=2048, min_width=120)
    with gr.Row(elem_classes="tools"):
        measure = gr.Button(WORDS, size="sm", variant="primary", min_width=200, elem_id="verdict-measure")
        cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="verdict-cancel")
    note = markup.panel(elem_id="verdict-note")
    seen = markup.panel(markup.empty("Nothing measured yet."), elem_id="verdict-seen", min_height=120)
    with gr.Row(elem_classes="tools"):
        takes = {
            kind: gr.Button(told, size="sm", min_width=130, elem_id=f"verdict-{kind}")
            for kind, told in {"csv": "Numbers, CSV", "json": "Measurement, JSON"}.items()
        }
        train = gr.Button(
            "Train with these settings →", size="sm", variant="primary", min_width=200, interactive=False,
            elem_id="verdict-train",
        )  # fmt: skip
    task = gr.State(None)
    inputs, outputs = [pair.teacher, pair.student, verdict], [seen, measure, train, note]

    def show(teacher: str, student: str, known: dict | None, visitor: gr.OAuthToken | None = None) -> tuple:
        """What the browser keeps of this pair, and whether it can be measured here."""
        report = verdict_view.kept(known, teacher, student)
        told, refused = weights.label(settings, teacher, student, settings.token(visitor), WORDS)
        html = verdict_view.draw(report) if report else markup.empty("This pair has not been measured yet.")
        button = gr.Button(told, interactive=not refused)
        return html, button, gr.Button(interactive=report is not None), markup.note("quiet", refused)

    # Gradio fills in who is visiting by position, so that comes before the fields
    def measured(
        visitor: gr.OAuthToken | None, teacher: str, student: str, chosen: dict, most: float, *values
    ) -> Iterator[tuple]:
        """Load both models, let the student answer, measure; stopped early, what was measured until then."""
        skip, token = gr.skip(), settings.token(visitor)
        ask = (settings, teacher, student, chosen, int(most or 64), values, token)
        for now in work.follow(lambda work: _measure(*ask, work), weights=True):
            if now.running:
                yield work.view(now), skip, skip, gr.Button(visible=True), now, skip
        if now.error:
            yield markup.note("error", now.error), skip, skip, gr.Button(visible=False), None, skip
            return
        report = now.result
        told = f"Measured {report.answers:,} answers in {now.seconds:.0f} s."
        yield (
            markup.note("ok", told),
            verdict_view.draw(report),
            verdict_view.keep(teacher, student, report),
            gr.Button(visible=False),
            None,
            gr.Button(interactive=True),
        )

    measure.click(
        measured,
        [pair.teacher, pair.student, prompts, length, *source.components],
        [note, seen, verdict, cancel, task, train],
        trigger_mode="once",
        concurrency_limit=None,
        **settings.quiet,
    )
    cancel.click(work.stop, task, **settings.quiet)
    for kind, button in takes.items():
        downloads.offer(settings, button, TAKES[kind], [pair.teacher, pair.student, verdict], note)
    return VerdictView(train, show, inputs, outputs)


def _measure(
    settings: Settings,
    teacher: str,
    student: str,
    chosen: dict | None,
    most: int,
    values: Sequence,
    token: str | bool | None,
    task: work.Work,
) -> Reliability:
    from simct.inspection.reliability import measure_pair

    data = inspect_source.data_config(settings, chosen, values)
    answers = min(max(int(values[-1] or ANSWERS), 1), MOST_ANSWERS)
    sides = [
        {"model": models.location(model), "revision": models.facts(settings, model, token).revision}
        for model in (teacher, student)
    ]
    described = {"teacher": sides[0], "student": sides[1], "data": data, "rollout": {"max_new_tokens": most}}
    config = config_from_dict(described)
    if ZERO_GPU:
        size = weights.allow(settings, teacher, student, token)
        config.teacher.dtype = config.student.dtype = weights.precision(size, zero_gpu.MEMORY)
        weights.fetch(settings, teacher, "teacher", token, task)
        weights.fetch(settings, student, "student", token, task)
        return zero_gpu.measure_pair(config, answers, token, task)
    loaded = weights.load(settings, teacher, student, token, task)
    task.step("Measuring, answers:")
    return measure_pair(
        config,
        answers,
        token,
        on_progress=task.progress,
        should_stop=task.should_stop,
        models=(loaded.teacher, loaded.student),
    )


def _take_json(token: str | bool | None, teacher: str, student: str, known: dict | None) -> tuple[str, str]:
    return "reliability.json", saving.as_json(verdict_view.given(known, teacher, student))


def _take_csv(token: str | bool | None, teacher: str, student: str, known: dict | None) -> tuple[str, str]:
    return "reliability.csv", verdict_view.report_csv(verdict_view.given(known, teacher, student))


TAKES = {"csv": _take_csv, "json": _take_json}
