"""The curves of one run, and of several runs in the same charts, as line charts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.page.charts import Line, LineChart
from simct.evaluation.records import DIRECTIONS, Evaluation, on_common_prompts
from simct.report.evaluations import task_name
from simct.report.formats import GIB

WHOLE = (0.0, 1.0)
STANDARD_ERRORS = 2
BITS = "bits per byte"
DISTANCE_TITLE = "Distance to the teacher"

Records = Sequence[Mapping[str, Any]]


def of_run(metrics: Records) -> list[LineChart]:
    """Loss, divergence by kind of unit, coverage, how the student writes, and how fast it learns."""

    def lines(**names: str) -> list[Line]:
        return [Line(label.replace("_", " "), points(metrics, name)) for label, name in names.items()]

    return [
        LineChart("Loss", "loss", lines(loss="loss")),
        *_by_teacher(metrics),
        LineChart("KL by kind of unit", "nats", lines(shared="kl_shared", recovered="kl_recovered")),
        LineChart(
            "Tokens covered",
            "share of tokens",
            lines(exact="coverage_strict", recovered="coverage_recovered"),
            percent=True,
            bounds=WHOLE,
        ),
        LineChart(
            "Answers",
            "share of answers",
            lines(ended="eos_rate", canonical="canonical_rate"),
            percent=True,
            bounds=WHOLE,
        ),
        LineChart("Answer length", "tokens", lines(length="response_length")),
        LineChart("Gradient norm", "norm", lines(norm="grad_norm")),
        LineChart("Speed", "tokens per second", [Line("speed", speed(metrics))]),
        LineChart("Memory", "GiB", [Line("process", gib(metrics, "memory")), Line("GPU", gib(metrics, "gpu_memory"))]),
    ]


def _by_teacher(metrics: Records) -> list[LineChart]:
    """The loss against each of several teachers, and each teacher's share of the rows."""
    keys = dict.fromkeys(key for record in metrics for key in record if key.startswith("share_"))
    names = [key.removeprefix("share_") for key in keys]
    if not names:
        return []
    losses = [Line(name, points(metrics, f"loss_{name}")) for name in names]
    shares = [Line(name, points(metrics, f"share_{name}")) for name in names]
    return [
        LineChart("Loss by teacher", "loss", losses),
        LineChart("Rows by teacher", "share of rows", shares, percent=True, bounds=WHOLE),
    ]


def of_evaluations(evaluations: Sequence[Evaluation]) -> list[LineChart]:
    """Both directions of the distance with bands of two standard errors, and the tracked tasks."""
    tasks = dict.fromkeys(task for each in evaluations for task in each.tasks)
    scores = [
        Line(
            task_name(task),
            [(each.step, float(each.tasks[task]["score"])) for each in evaluations if task in each.tasks],
        )
        for task in tasks
    ]
    return [
        LineChart(DISTANCE_TITLE, BITS, _both_directions(evaluations), noisy=False),
        *(
            LineChart(f"Distance to {teacher}", BITS, _both_directions(_of_teacher(evaluations, teacher)), noisy=False)
            for teacher in dict.fromkeys(name for each in evaluations for name in each.teachers)
        ),
        LineChart("Tracked tasks", "score", scores, percent=True, bounds=WHOLE, noisy=False),
    ]


def _both_directions(evaluations: Sequence[Evaluation]) -> list[Line]:
    """Over the prompts that all evaluations measured: a later one may have fewer, and its mean would be of others."""
    evaluations = on_common_prompts(evaluations)
    return [
        Line(words.lower(), distances_of(evaluations, name), band_of(evaluations, name))
        for name, words in DIRECTIONS.items()
    ]


def _of_teacher(evaluations: Sequence[Evaluation], teacher: str) -> list[Evaluation]:
    """The evaluations, with the distance to only one of several teachers."""
    return [replace(each, directions=each.teachers.get(teacher, {})) for each in evaluations]


def distances_of(evaluations: Sequence[Evaluation], name: str) -> list[tuple[float, float]]:
    """(step, bits per byte) in one direction."""
    return [(each.step, each.directions[name].mean) for each in evaluations if name in each.directions]


def band_of(evaluations: Sequence[Evaluation], name: str) -> list[tuple[float, float, float]]:
    """(step, low, high): the distance minus and plus two standard errors."""
    found = [(each.step, each.directions[name]) for each in evaluations if name in each.directions]
    return [
        (step, distance.mean - STANDARD_ERRORS * error, distance.mean + STANDARD_ERRORS * error)
        for step, distance in found
        if (error := distance.standard_error) is not None
    ]


def scores_of(evaluations: Sequence[Evaluation], task: str) -> list[tuple[float, float]]:
    """(step, score) of a tracked task."""
    return [(each.step, float(each.tasks[task]["score"])) for each in evaluations if task in each.tasks]


def of_several(metrics: Mapping[str, Records], evaluations: Mapping[str, Sequence[Evaluation]]) -> list[LineChart]:
    """The curves of several runs, by name, in the same charts; a run has the same color in every chart."""
    comparable = {run: on_common_prompts(found) for run, found in evaluations.items()}

    def lines(name: str) -> list[Line]:
        return [Line(run, points(records, name), color=color) for color, (run, records) in enumerate(metrics.items())]

    def distances(name: str) -> list[Line]:
        return [
            Line(run, distances_of(found, name), band_of(found, name), color)
            for color, (run, found) in enumerate(comparable.items())
        ]

    def scores(task: str) -> list[Line]:
        return [
            Line(run, scores_of(found, task), color=color) for color, (run, found) in enumerate(evaluations.items())
        ]

    tasks = dict.fromkeys(task for found in evaluations.values() for each in found for task in each.tasks)
    return [
        *(
            LineChart(f"Distance, {words.lower()}", BITS, distances(name), noisy=False)
            for name, words in DIRECTIONS.items()
        ),
        *(
            LineChart(f"{task_name(task)}, tracked", "score", scores(task), percent=True, bounds=WHOLE, noisy=False)
            for task in tasks
        ),
        LineChart("Loss", "loss", lines("loss")),
        LineChart("KL, shared", "nats", lines("kl_shared")),
        LineChart("KL, recovered", "nats", lines("kl_recovered")),
        LineChart("Tokens recovered", "share of tokens", lines("coverage_recovered"), percent=True),
        LineChart("Answers that end", "share of answers", lines("eos_rate"), percent=True, bounds=WHOLE),
        LineChart("Answer length", "tokens", lines("response_length")),
    ]


def speed(records: Records) -> list[tuple[float, float]]:
    """(step, tokens per second that the student wrote)."""
    timed = [each for each in records if isinstance(each.get("tokens"), int | float) and each.get("seconds")]
    return [(each["step"], each["tokens"] / each["seconds"]) for each in timed]


def gib(records: Records, name: str) -> list[tuple[float, float]]:
    """(step, memory in GiB)."""
    return [(step, value / GIB) for step, value in points(records, name)]


def points(records: Records, name: str) -> list[tuple[float, float]]:
    """(step, value) of the records that have a number of this name."""
    return [(record["step"], float(record[name])) for record in records if isinstance(record.get(name), int | float)]
