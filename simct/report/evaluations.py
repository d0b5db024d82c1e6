"""The results of a run's evaluations, shown in the same way on its page, next to other runs, on the card and in the
terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simct.evaluation.health import HealthMark, health_marks
from simct.evaluation.noise import distance_change_text, score_change, score_change_text
from simct.evaluation.records import (
    DIRECTIONS,
    Distance,
    Evaluation,
    distance_change,
    evaluations_of,
    on_common_prompts,
)
from simct.runs.folder import RunFolder

MISSING = "–"
BITS = "bits per byte"


@dataclass(frozen=True)
class ResultRow:
    """One number of the student: before training, at the best checkpoint and at the end, next to the teacher's."""

    name: str
    before: str = MISSING
    best: str = MISSING
    after: str = MISSING
    teacher: str = MISSING
    change: str = MISSING


@dataclass(frozen=True)
class RunResults:
    """The rows, the step of the best checkpoint (None if it is unknown, or is the last), and the last step."""

    rows: list[ResultRow]
    evaluations: list[Evaluation]
    best_step: int | None
    marks: list[HealthMark]

    @property
    def last_step(self) -> int | None:
        return self.evaluations[-1].step if self.evaluations else None


def run_results(run: RunFolder) -> RunResults:
    """Distances, then tracked tasks, then the scores before and after."""
    evaluations, status = evaluations_of(run), run.status()
    best_step = (status.distance or {}).get("best_step")
    best_step = best_step if any(each.step == best_step for each in evaluations) else None
    rows = [*distance_rows(evaluations, best_step), *_tracked_rows(evaluations, best_step)]
    rows += task_rows(run.evaluation())
    return RunResults(rows, evaluations, best_step, health_marks(run.metrics()))


def distance_rows(evaluations: Sequence[Evaluation], best_step: int | None = None) -> list[ResultRow]:
    """Both directions with standard errors and what changed, then those of each of several teachers."""
    rows = _direction_rows(evaluations, best_step, f"Distance, {{}} ({BITS})")
    for name in dict.fromkeys(name for each in evaluations for name in each.teachers):
        alone = [replace(each, directions=each.teachers.get(name, {})) for each in evaluations]
        rows += _direction_rows(alone, best_step, f"Distance, {{}}, {name}")
    return rows


def _direction_rows(evaluations: Sequence[Evaluation], best_step: int | None, label: str) -> list[ResultRow]:
    shown = [each for each in _three(evaluations, best_step) if each]
    first, best, last = _three(on_common_prompts(shown), best_step)
    if first is None and last is None:
        return []
    changes = distance_change(first, last) if first and last else {}
    return [
        ResultRow(
            label.format(words.lower()),
            distance_text(first.directions.get(name) if first else None),
            distance_text(best.directions.get(name) if best else None),
            distance_text(last.directions.get(name) if last else None),
            change=distance_change_text(changes[name]) if name in changes else MISSING,
        )
        for name, words in DIRECTIONS.items()
        if any(name in each.directions for each in evaluations)
    ]


def distance_text(found: Distance | None) -> str:
    """For example "0.512 ± 0.031"."""
    if found is None:
        return MISSING
    error = found.standard_error
    return f"{found.mean:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _tracked_rows(evaluations: Sequence[Evaluation], best_step: int | None) -> list[ResultRow]:
    first, best, last = _three(evaluations, best_step)
    found = []
    for task in dict.fromkeys(task for each in evaluations for task in each.tasks):
        before, after = (each.tasks.get(task) if each else None for each in (first, last))
        change = score_change(before, after)
        found.append(
            ResultRow(
                f"{task_name(task)}, tracked",
                score_text(before),
                score_text(best.tasks.get(task) if best else None),
                score_text(after),
                change=score_change_text(change) if change else MISSING,
            )
        )
    return found


def task_rows(evaluation: Mapping[str, Any]) -> list[ResultRow]:
    """The scores of evaluation.json, before and after, next to the teacher's."""
    sides = {name: found for name, found in evaluation.items() if isinstance(found, dict)}
    several = {name: found for name, found in (sides.pop("teachers", None) or {}).items() if isinstance(found, dict)}
    tasks = sorted({task for scores in (*sides.values(), *several.values()) for task in scores})

    def result(side: str, task: str) -> Mapping[str, Any] | None:
        found = sides.get(side, {}).get(task)
        return found if isinstance(found, dict) else None

    rows = []
    for task in tasks:
        before, after, teacher = (result(side, task) for side in ("before", "after", "teacher"))
        change = score_change(before, after)
        text = score_change_text(change) if change else MISSING
        theirs = "; ".join(f"{name} {score_text(scores.get(task))}" for name, scores in several.items())
        of_teacher = theirs or score_text(teacher)
        rows.append(ResultRow(task_name(task), score_text(before), MISSING, score_text(after), of_teacher, text))
    return rows


@dataclass(frozen=True)
class HeadlineScores:
    """The score (0 to 1) of a run's first task before training, at the best checkpoint and at the end, where known."""

    task: str = ""
    before: float | None = None
    best: float | None = None
    after: float | None = None


def headline_scores(run: RunFolder) -> HeadlineScores:
    """For lists of runs: from evaluation.json, and from the tracked tasks where that lacks a score."""
    scored, evaluations = run.evaluation(), evaluations_of(run)
    scored = {side: found for side in ("before", "after") if isinstance(found := scored.get(side), dict)}
    named = [*(task for found in scored.values() for task in found), *(t for each in evaluations for t in each.tasks)]
    if not named:
        return HeadlineScores()
    task = named[0]
    tracked = {each.step: float(each.tasks[task]["score"]) for each in evaluations if task in each.tasks}
    later = {step: score for step, score in tracked.items() if step}

    def score(side: str) -> float | None:
        result = scored.get(side, {}).get(task)
        found = result.get("score") if isinstance(result, dict) else None
        return float(found) if isinstance(found, int | float) else None

    before, after = score("before"), score("after")
    best_step = (run.status().distance or {}).get("best_step")
    return HeadlineScores(
        task_name(task),
        tracked.get(0) if before is None else before,
        tracked.get(best_step) if isinstance(best_step, int) else None,
        (later[max(later)] if later else None) if after is None else after,
    )


def task_name(task: str) -> str:
    """The name of a task, without the path of a file."""
    return task.rsplit("/", 1)[-1]


def score_text(result: Mapping[str, Any] | None) -> str:
    """For example "75.0% (n = 200)"."""
    if not isinstance(result, Mapping) or not isinstance(result.get("score"), int | float):
        return MISSING
    count = f" (n = {result['n']:,})" if isinstance(result.get("n"), int) else ""
    return f"{result['score']:.1%}{count}"


def distance_line(distance: Mapping[str, Any] | None) -> str:
    """The mean of both directions in a run's status, such as "mean distance 0.51 → 0.32, best 0.30 at step 60"."""
    values = {name: value for name, value in (distance or {}).items() if isinstance(value, int | float)}
    if "now" not in values and "before" not in values:
        return ""
    ends = [f"{values[name]:.2f}" for name in ("before", "now") if name in values]
    if values.get("step") == 0:
        ends = ends[:1]
    line = f"mean distance {' → '.join(ends)}"
    if {"best", "best_step"} <= values.keys():
        line += f", best {values['best']:.2f} at step {values['best_step']:,.0f}"
    return line


def _three(
    evaluations: Sequence[Evaluation], best_step: int | None
) -> tuple[Evaluation | None, Evaluation | None, Evaluation | None]:
    """Before training, the best, and the last one after training began."""
    by_step = {each.step: each for each in evaluations}
    last = next((each for each in reversed(evaluations) if each.step), None)
    return by_step.get(0), by_step.get(best_step or -1), last
