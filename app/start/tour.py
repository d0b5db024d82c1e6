"""The tour: the whole workflow on the embedded pair, with a caption on each page. page/static/tour.js runs it.

It uses the same buttons and fields as a person, in its own project. The visitor's pair and settings stay as they are,
and the tour has the same sign-in, queue and limits as a visitor.
"""

import json
from dataclasses import asdict, dataclass

import gradio as gr

from app.page import markup, scripts
from app.server.handler import PRIVATE
from app.server.studio import Studio
from simct.config import RunConfig
from simct.presets import load_preset

# page/static/storage.js has the same
PROJECT = "Tour"
SENTENCE = "Say it plainly: The physician must utilise the circular table on Monday."


@dataclass(frozen=True)
class Stop:
    """A caption on the page `step`. `look` is a selector of what to look at.

    Next works once something that `ready` selects is visible; until then, `waiting` says what is happening. On arrival,
    the tour fills `fill` (a field and its text) and presses `press` (a button) once it is enabled. Next has the label
    `next`; if `next_presses` is set, it presses that button, and the page then opens the next step by itself. If
    something that `trouble` selects is visible, something went wrong, and the tour shows `in_trouble`.
    """

    step: str
    title: str
    text: str
    look: str
    ready: str
    waiting: str = ""
    fill: tuple[str, str] | None = None
    press: str | None = None
    next: str = "Next"
    next_presses: str | None = None
    trouble: str | None = None
    in_trouble: str = ""


PAIR = Stop(
    "pair",
    "A teacher and a student",
    "This pair is a toy that comes with the studio: less than a million weights each, for one small task. It shows "
    "how things work, not what a real pair will score. The tiles say how much the two vocabularies have in common.",
    look="#pair-summary .tiles",
    ready="#pair-summary .tile",
    waiting="Reading both tokenizers…",
)
INSPECT = Stop(
    "inspect",
    "Where the tokenizers disagree",
    "Both models read the same text, each in its own tokens. Exact matching can use only the plain units; SimCT "
    "recovers the blue ones.",
    look="#inspect-lanes",
    ready="#inspect-lanes .unit",
    waiting="Splitting the text…",
)
TRAIN = Stop(
    "train",
    "Settings, estimate and checks",
    "The form describes a short run of 60 steps. Next to it are its memory, time and cost, and anything that would "
    "make it fail. The next button launches it.",
    look="#train-outcome",
    ready="#launch:not(:disabled):not([data-outdated])",
    waiting="Checking the run…",
    next="Launch the run",
    next_presses="#launch",
    trouble="#checklist:not([data-outdated]) .check-error, #train-note .note-error",
    in_trouble="This run cannot start. The red line next to Launch says why.",
)
TRAIN_ELSEWHERE = Stop(
    "train",
    "Settings, estimate and checks",
    "The form describes a short run, with its memory, time and cost next to it. This Space has no hardware of its own "
    "to train on, so the tour ends here. To train, rent a machine under Where it trains, or run the studio on your "
    "own machine.",
    look="#train-outcome",
    ready="#train-estimate .tile",
    waiting="Estimating…",
)
RUNS = Stop(
    "runs",
    "The run",
    "The student writes answers, the teacher grades every unit, and the student learns. Watch the loss fall and the "
    "answers change. At the end both are scored on prompts that it has not seen.",
    look="#run-head",
    ready="#run-head .pill-finished",
    waiting="The run is in progress…",
    trouble="#run-head :is(.pill-failed, .pill-stopped)",
    in_trouble="The run did not finish. The line below its name says why.",
)
COMPARE = Stop(
    "compare",
    "Before and after",
    "Student before, student after and teacher answer the same prompt. Units that the teacher finds unlikely are "
    "marked.",
    look="#compare-answers",
    ready=".answer[data-side=after] .said",
    waiting="The models are answering…",
    fill=("#compare-prompt textarea", SENTENCE),
    press=":root:has(#compare-sides input:checked) #compare-ask:not(:disabled)",
    trouble="#compare-note .note-error",
    in_trouble="The models could not answer. The red line says why.",
)
CARD = Stop(
    "publish",
    "The model card",
    "The card was written from the run: how the student was trained, what it scored, and how to use it. Publish would "
    "push the student with this card to the Hub; the tour leaves that to you.",
    look="#card",
    ready="#card h1",
    waiting="Writing the card…",
)


def stops(studio: Studio) -> list[Stop]:
    """The stops in a studio; without a machine to train on, only those up to the estimate."""
    return [PAIR, INSPECT, *((TRAIN, RUNS, COMPARE, CARD) if studio.trains_here else (TRAIN_ELSEWHERE,))]


def tour_config() -> RunConfig:
    """The tour's run: the preset of `simct demo` with fewer and larger steps, as in benchmarks/stress.py."""
    config = load_preset("demo-cpu")
    config.training.steps, config.training.learning_rate = 60, 3e-4
    config.evaluation.samples = 100
    return config


def script(studio: Studio) -> str:
    """The stops as a script element in the page's head, for tour.js."""
    held = json.dumps([asdict(stop) for stop in stops(studio)], ensure_ascii=False).replace("</", "<\\/")
    return f"<script>window.studio ??= {{}}; window.studio.tourStops = {held};</script>"


class TourStart:
    """The button that starts the tour, with an explanation."""

    def __init__(self, studio: Studio) -> None:
        minutes = " (about a minute)" if studio.trains_here else ""
        with gr.Row(elem_id="start", equal_height=True):
            self.button = gr.Button(f"Try it{minutes}", size="md", scale=0, min_width=220, elem_id="try-it")
            markup.panel(
                '<p class="lead">The whole workflow on a toy pair that comes with the studio. Your own pair and '
                "settings stay as they are.</p>"
            )
        self.button.click(None, js=scripts.call("startTour"), **PRIVATE)
