"""Inspect, reliability: both models are measured on a few of the student's answers, and a method is recommended."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.data import prompt_source
from app.inspect import reliability_view, text_source
from app.inspect.text_source import TextSource, TextSourceForm
from app.page import amounts, markup, saving
from app.page.kept import Kept
from app.page.page_fields import PageFields
from app.pair.tab import PairTab
from app.server import downloads, model_facts, paths, teacher_keys, weights, zero_gpu
from app.server.downloads import Download
from app.server.handler import LATEST, LONG, Component, Handler, Updates
from app.server.studio import ZERO_GPU, Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.config import RunConfig, config_from_brief, config_from_dict
from simct.inspection.records import Reliability

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from simct.models.teachers import Teacher

# seconds for which a server that fails is asked again; a run, for which nobody waits, asks for ten minutes
SERVER_PATIENCE = 20.0
WORDS = "Measure this pair"
ANSWERS, MOST_ANSWERS = 16, 256
TOKENS, MOST_TOKENS = 64, 2048
LENGTH = "Tokens per answer, at most"
LEAD = (
    "The student answers a few prompts, and both models read the answers. Their probabilities give a verdict: which "
    "method suits this pair, and why. This loads both models; a CPU is enough for small ones."
)


@dataclass(frozen=True)
class Measurement:
    """A measurement to make: `chosen` are the prompts of the Data step, `length` is the most tokens of an answer.

    `run` holds the settings of Train, of which only the chat templates and the teacher's server matter; `key` is that
    server's.
    """

    teacher: str
    student: str
    chosen: dict[str, Any] | None
    source: TextSource
    length: float | None = TOKENS
    run: dict[str, Any] | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def server(self) -> str | None:
        return server_of(self.run)


def server_of(run: dict[str, Any] | None) -> str | None:
    """The address of the teacher's server in the settings of Train, as the browser keeps them."""
    teacher = (run or {}).get("teacher")
    server = teacher.get("server") if isinstance(teacher, dict) else None
    return server if isinstance(server, str) else None


def with_server(run: dict[str, Any] | None, server: str | None, listed: float | None) -> dict[str, Any]:
    """The settings of Train as the browser keeps them, with the teacher's server as the Pair step has it now."""
    kept = (run or {}).get("teacher")
    teacher = {**(kept if isinstance(kept, dict) else {}), "server": server or None}
    if listed:
        teacher["top_logprobs"] = int(listed)
    return {**(run or {}), "teacher": teacher}


class ReliabilityTab:
    """The source of the prompts, the button, and the results.

    `verdict` is what the browser keeps about a measured pair; `train` continues with the recommended settings. `page`
    are the fields of all steps.
    """

    def __init__(
        self,
        studio: Studio,
        pair: PairTab,
        kept: Kept,
        served: Mapping[str, Component],
        page: PageFields,
    ) -> None:
        self.studio, self.verdict, self.page = studio, kept.verdict, page
        markup.panel(f'<p class="lead">{LEAD}</p>')
        answers = amounts.field(ANSWERS, "Answers", min_width=90, elem_id="reliability-answers", render=False)
        kinds = (text_source.CHOSEN, text_source.UPLOAD, text_source.DATASET)
        with gr.Accordion("Prompts and answers", open=False):
            source = TextSourceForm(studio, "reliability", kinds, answers, always=True)
            length = amounts.field(TOKENS, LENGTH, min_width=120, elem_id="reliability-length")
        with gr.Row(elem_classes="tools"):
            self.measure = gr.Button(WORDS, size="sm", variant="primary", min_width=200, elem_id="reliability-measure")
            cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="reliability-cancel")
        self.note = markup.panel(elem_id="reliability-note")
        self.drawn = markup.panel(markup.empty("Nothing measured yet."), elem_id="reliability-seen", min_height=120)
        with gr.Row(elem_classes="tools"):
            files = downloads.buttons(FILES, "reliability", 130)
            downloads.offer(studio, files, {**pair.inputs, "verdict": self.verdict}, self.note)
            self.train = gr.Button(
                "Train with these settings →", size="sm", variant="primary", min_width=200, interactive=False,
                elem_id="reliability-train",
            )  # fmt: skip
        self.work = LongWork(studio, self.note, cancel)
        shown = [self.drawn, self.measure, self.train, self.note]
        self.show = Handler(studio, self._show, {**pair.inputs, "verdict": self.verdict, **served}, shown, LATEST)
        inputs = {**pair.inputs, "chosen": kept.prompts, "run": kept.run, "length": length, **served, **source.inputs}
        outputs = [*self.work.outputs, self.drawn, self.verdict, self.train]
        Handler(studio, self._measure, inputs, outputs, LONG).on(self.measure.click)

    def _show(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        verdict: dict[str, Any] | None,
        server: str | None = None,
        listed: float | None = None,
    ) -> Updates:
        """The measurement of this pair that the browser has kept, and whether the pair can be measured here."""
        report = reliability_view.kept(verdict, teacher, student)
        words, refused = weights.button(self.studio, teacher, student, visitor.token, WORDS, bool(server))
        nothing = markup.empty("This pair has not been measured yet.")
        return {
            self.drawn: reliability_view.draw(report) if report else nothing,
            self.measure: gr.Button(words, interactive=not refused),
            self.train: gr.Button(interactive=report is not None),
            self.note: markup.note("quiet", refused),
        }

    def _measure(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        chosen: dict[str, Any],
        run: dict[str, Any] | None,
        length: float | None,
        server: str | None,
        listed: float | None,
        **fields: Any,
    ) -> Iterator[Updates]:
        """Load both models, let the student answer, and measure; after a cancel, show what was measured until then."""
        key = teacher_keys.of(self.studio, visitor, server)
        settings = with_server(run, server, listed)
        wanted = Measurement(teacher, student, chosen, TextSource(**fields), length, settings, key)

        def measure(work: Work) -> Reliability:
            if wanted.source.kind == text_source.CHOSEN:
                paths.check_data(self.studio, visitor, prompt_source.data_config(chosen))
            return measure_reliability(self.studio, wanted, visitor.token, work)

        def words(error: str) -> str:
            chosen_here = wanted.source.kind != text_source.CHOSEN
            page = self.page.with_own(text_source.FIELDS) if chosen_here else self.page
            return page.in_labels(error, "inspect")

        def finished(work: Work) -> Updates:
            report = work.result
            return {
                self.note: markup.note("ok", f"Measured {report.answers:,} answers in {work.seconds:.0f} s."),
                self.drawn: reliability_view.draw(report),
                self.verdict: reliability_view.keep(teacher, student, report),
                self.train: gr.Button(interactive=True),
            }

        yield from self.work.run(measure, finished, weights=True, words=words)


def measure_reliability(studio: Studio, wanted: Measurement, token: str | bool | None, work: Work) -> Reliability:
    """The report of simct.inspection.reliability on the pair. Raises a one-line SimCTError."""
    from simct.inspection.reliability import measure_pair

    config = _run_config(studio, wanted, token)
    answers = amounts.whole("Answers", wanted.source.number, ANSWERS, 1, MOST_ANSWERS)
    prompts = prompt_source.read_given(studio, config.data, token).prompts
    if ZERO_GPU and not wanted.server:
        model_facts.accept(studio, wanted.teacher, wanted.student, token, config)
        size = weights.allow(studio, wanted.teacher, wanted.student, token)
        config.teacher.dtype = config.student.dtype = weights.precision(size, zero_gpu.MEMORY)
        weights.fetch(studio, wanted.teacher, "teacher", token, work)
        weights.fetch(studio, wanted.student, "student", token, work)
        return zero_gpu.measure_pair(config, answers, token, work)
    models: tuple[PreTrainedModel | Teacher, PreTrainedModel]
    if wanted.server:
        models = _load_served(studio, wanted, config, token, work)
    else:
        loaded = weights.load(studio, wanted.teacher, wanted.student, token, work)
        models = loaded.teacher, loaded.student
    work.step("Measuring, answers:")
    return measure_pair(
        config,
        answers,
        token,
        on_progress=work.progress,
        should_stop=work.should_stop,
        models=models,
        prompts=prompts,
    )


def _load_served(
    studio: Studio, wanted: Measurement, config: RunConfig, token: str | bool | None, work: Work
) -> "tuple[Teacher, PreTrainedModel]":
    """The teacher on its server, and the student's weights."""
    from simct.models.served import ServedTeacher

    bytes_ = weights.allow(studio, wanted.teacher, wanted.student, token, served=True)
    pair = model_facts.pair_of(studio, wanted.teacher, wanted.student, token, config)
    work.step("Asking the teacher's server…")
    teacher = ServedTeacher(config.teacher, pair.teacher, token, SERVER_PATIENCE, wanted.key)
    dtype = weights.precision(bytes_, weights.free_memory())
    return teacher, weights.load_one(studio, wanted.student, "student", dtype, token, work)


def _run_config(studio: Studio, wanted: Measurement, token: str | bool | None) -> RunConfig:
    settings = config_from_brief(wanted.run or {})
    sides = ((wanted.teacher, settings.teacher), (wanted.student, settings.student))
    described: list[dict[str, Any]] = [
        {
            "model": model_facts.location(model),
            "revision": model_facts.facts(studio, model, token).revision,
            "chat_template": side.chat_template,
            "enable_thinking": side.enable_thinking,
            "system": side.system,
        }
        for model, side in sides
    ]
    teacher, student = described
    if wanted.server:
        teacher |= {"server": wanted.server, "top_logprobs": settings.teacher.top_logprobs}
    data = text_source.data_config(studio, wanted.chosen, wanted.source)
    rollout = {"max_new_tokens": amounts.whole(LENGTH, wanted.length, TOKENS, 1, MOST_TOKENS)}
    return config_from_dict({"teacher": teacher, "student": student, "data": data, "rollout": rollout})


def _json(teacher: str, student: str, verdict: dict[str, Any] | None) -> Download:
    return Download("reliability.json", saving.as_json(reliability_view.given(verdict, teacher, student)))


def _csv(teacher: str, student: str, verdict: dict[str, Any] | None) -> Download:
    return Download("reliability.csv", reliability_view.report_csv(reliability_view.given(verdict, teacher, student)))


FILES: dict[str, tuple[str, Callable[..., Download]]] = {
    "csv": ("Numbers, CSV", _csv),
    "json": ("Measurement, JSON", _json),
}
