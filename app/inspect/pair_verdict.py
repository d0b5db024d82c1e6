"""The verdict on the Pair page: measured at once if that is quick, else with one button; and how to continue."""

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from app.data import prompt_source
from app.inspect import light, reliability_view, text_source
from app.inspect.reliability import ANSWERS, TOKENS, WORDS, Measurement, measure_reliability, with_server
from app.inspect.text_source import TextSource
from app.page import markup
from app.page.kept import Kept
from app.page.markup import one_line
from app.page.page_fields import PageFields
from app.pair.tab import PairTab
from app.reading.setup import explicit_token
from app.server import model_facts, paths, teacher_keys, weights
from app.server.handler import LATEST, LONG, Component, Handler, Updates
from app.server.machine import this_machine
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import LongWork, Work
from simct.config import config_from_dict
from simct.errors import SimCTError
from simct.hub.repo_ids import is_folder, split_revision
from simct.inspection.records import Reliability
from simct.report.formats import duration, human_size

PROMPT_TOKENS = 128
# a pair with local weights is measured automatically if that takes at most this many seconds
AT_ONCE_SECONDS = 15
IN_ADVANCE = markup.note("quiet", "Measured in advance: the result comes with the studio.")
STARTING_SECONDS = 5
AGAIN = "Measure again"


class PairVerdict:
    """The button with its cost, the traffic light, and `train`, which continues with the recommended settings.

    A new page has the verdict on the embedded pair. `due` names the pair that will be measured automatically. `page`
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
        default = reliability_view.kept(kept.verdict.value, *studio.default_pair.values())
        self.drawn = markup.panel(light.draw(default) if default else "", elem_id="pair-verdict")
        with gr.Row(elem_classes="tools"):
            self.measure = gr.Button(AGAIN, size="md", min_width=200, elem_id="pair-measure")
            cancel = gr.Button("Cancel", size="md", min_width=80, visible=False, elem_id="pair-cancel")
            self.train = gr.Button(
                "Train with this →", variant="primary", size="md", min_width=180, elem_id="pair-train"
            )
        self.note = markup.panel(IN_ADVANCE, elem_id="pair-verdict-note")
        self.due = markup.held()
        self.work = LongWork(studio, self.note, cancel)
        server: Any = served["server"]
        known = {**pair.inputs, "verdict": kept.verdict, "server": server}
        shown = [self.drawn, self.measure, self.train, self.note, self.due]
        Handler(studio, self._show, known, shown, LATEST).on(pair.summary.change, self.verdict.change, server.change)
        inputs = {**pair.inputs, "chosen": kept.prompts, "run": kept.run, **served}
        outputs = [*self.work.outputs, self.drawn, self.verdict, self.train, self.measure]
        measure = Handler(studio, self._measure, inputs, outputs, LONG)
        measure.on(self.measure.click)
        # must end after the measurement of the present pair
        measure.on(self.due.change, how={**LONG, "trigger_mode": "always_last"})

    def _show(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        verdict: dict[str, Any] | None,
        server: str | None = None,
    ) -> Iterator[Updates]:
        """The verdict on this pair, or the download size and the time to measure it."""
        nothing = {
            self.drawn: "", self.note: "", self.measure: gr.Button(visible=False), self.train: gr.Button(visible=False),
        }  # fmt: skip
        served = bool(server)
        try:
            weights.size(self.studio, teacher, student, visitor.token)
        except SimCTError:
            # shown next to the models' fields
            yield nothing
            return
        measured = reliability_view.kept(verdict, teacher, student)
        if measured:
            again = gr.Button(AGAIN, visible=True, interactive=True)
            note = IN_ADVANCE if (verdict or {}).get("in_advance") else ""
            shown = {self.drawn: light.draw(measured), self.note: note, self.measure: again}
            yield {**shown, self.train: gr.Button(visible=True)}
            return
        try:
            bytes_ = weights.allow(self.studio, teacher, student, visitor.token, served)
        except SimCTError as error:
            button = gr.Button(WORDS, visible=True, interactive=False)
            yield {**nothing, self.measure: button, self.note: markup.note("quiet", one_line(error))}
            return
        button = gr.Button(WORDS, visible=True, interactive=True)
        loaded = (student,) if served else (teacher, student)
        local = all(model in model_facts.EMBEDDED or is_folder(model) for model in loaded)
        what = human_size(bytes_) if bytes_ else "the student" if served else "both models"
        taken = f"{'Loads' if local else 'Downloads'} {what}{', and asks the teacher’s server' if served else ''}"
        lines = {**nothing, self.measure: button, self.note: markup.note("quiet", f"{taken}.")}
        yield lines
        if served:
            return
        seconds = measuring_seconds(self.studio, teacher, student, visitor.token)
        if seconds is not None:
            then = "takes" if local else "then takes"
            line = f"{taken}, and {then} about {duration(seconds)} on this machine."
            yield {self.note: markup.note("quiet", line)}
            if local and seconds <= AT_ONCE_SECONDS:
                yield {self.due: f"{teacher} {student}"}

    def _measure(
        self,
        visitor: Visitor,
        teacher: str,
        student: str,
        chosen: dict[str, Any],
        run: dict[str, Any] | None,
        server: str | None,
        listed: float | None,
    ) -> Iterator[Updates]:
        """Measure the pair on the prompts of the Data step."""
        key, settings = teacher_keys.of(self.studio, visitor, server), with_server(run, server, listed)
        wanted = Measurement(teacher, student, chosen, TextSource(text_source.CHOSEN), TOKENS, settings, key)

        def measure(work: Work) -> Reliability:
            paths.check_data(self.studio, visitor, prompt_source.data_config(chosen))
            return measure_reliability(self.studio, wanted, visitor.token, work)

        def finished(work: Work) -> Updates:
            return {
                self.note: "",
                self.drawn: light.draw(work.result),
                self.verdict: reliability_view.keep(teacher, student, work.result),
                self.train: gr.Button(visible=True),
                self.measure: gr.Button(AGAIN, interactive=True),
            }

        yield from self.work.run(
            measure,
            finished,
            weights=True,
            running=lambda work: {self.measure: gr.Button(interactive=False)},
            failed=lambda work: {self.measure: gr.Button(interactive=True)},
            words=lambda error: self.page.in_labels(error, "pair"),
        )


def measuring_seconds(studio: Studio, teacher: str, student: str, token: str | bool | None) -> float | None:
    """A rough estimate of the seconds that measuring takes on this machine; None if it is not known.

    The student writes as in one training step, and both models read what it wrote.
    """
    from app.reading import runs
    from simct.estimate.machines import MACHINES

    if not studio.trains_here:
        return None
    here = studio.kept(this_machine)().name
    if here not in ("cpu", *(machine.name for machine in MACHINES)):
        return None
    settings = {"rollout": {"max_new_tokens": TOKENS}, "training": {"steps": 1, "batch_size": ANSWERS}}
    try:
        sides = {
            side: {"model": model_facts.location(name), "revision": split_revision(name)[1]}
            for side, each in (("teacher", teacher), ("student", student))
            if (name := model_facts.allowed(studio, each))
        }
        config = config_from_dict({**sides, **settings, "data": {"prompts": "none"}})
        asked = (config, explicit_token(token), PROMPT_TOKENS, ANSWERS, here)
        found = studio.workers.run(runs.estimate, *asked, what="The estimate", near=("estimate", teacher, student))
    except SimCTError:
        return None
    return STARTING_SECONDS + sum(found.here.seconds_per_step.values()) if found.here else None
