"""Evaluations in the log and in the status."""

from collections.abc import Sequence
from typing import Any

from simct.evaluation.noise import distance_change_text, score_change_text
from simct.evaluation.records import DIRECTIONS, Evaluation, distance_change, on_common_prompts, task_changes
from simct.training.checkpoints import BestCheckpoint


def evaluation_line(evaluations: Sequence[Evaluation]) -> str:
    """The newest evaluation in one line, with the changes since before training."""
    first, last = evaluations[0], evaluations[-1]
    compared = first.step == 0 and last is not first
    distances = distance_change(first, last) if compared else {}
    scores = task_changes(first, last) if compared else {}
    parts = []
    for name, words in DIRECTIONS.items():
        if name in last.directions:
            change = f" ({distance_change_text(distances[name])})" if name in distances else ""
            parts.append(f"{words.lower()} {last.directions[name].mean:.3f} bits per byte{change}")
    for teacher, directions in last.teachers.items():
        means = ", ".join(f"{each.mean:.3f}" for each in directions.values())
        parts += [f"to and from {teacher} {means}"] if means else []
    for task, result in last.tasks.items():
        change = f" ({score_change_text(scores[task])})" if task in scores else ""
        parts.append(f"{task} {result['score']:.3f}{change}")
    return f"evaluation at step {last.step}: {'; '.join(parts) or 'nothing could be measured'}  {last.seconds:.1f} s"


def status_distance(evaluations: Sequence[Evaluation], best: BestCheckpoint | None) -> dict[str, Any]:
    """The distance before training, now, and at the best checkpoint, on the prompts of all three, for lists of runs."""
    last = evaluations[-1].step
    steps = {0, last, *([best.step] if best else [])}
    compared = on_common_prompts([each for each in evaluations if each.step in steps])
    by_step = {each.step: each.distance for each in compared}
    found: dict[str, Any] = {"before": by_step.get(0), "now": by_step[last], "step": last}
    if best:
        found |= {"best": by_step.get(best.step), "best_step": best.step, "best_by": best.by}
    return found
