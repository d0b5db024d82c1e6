"""The results on a model card: scores, distances to the teacher, and answers before and after."""

import re
from pathlib import Path

from huggingface_hub import EvalResult

from simct.evaluation.noise import score_change, score_change_text
from simct.evaluation.records import DIRECTIONS, Evaluation, evaluations_of
from simct.publishing.card_text import escape
from simct.report.evaluations import MISSING, run_results
from simct.runs.folder import RunFolder

ROWS_SHOWN = 6


def task_results(run: RunFolder) -> list[EvalResult]:
    """The scores after training, as the Hub reads them."""
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=_slug(task),
            dataset_name=_task_name(task),
            metric_type=_metric(score),
            metric_name=_metric(score).replace("_", " "),
            metric_value=round(float(score["score"]), 4),
            verified=False,
        )
        for task, score in run.evaluation().get("after", {}).items()
        if isinstance(score, dict) and "score" in score
    ]


def _task_name(task: str) -> str:
    return "SimCT Studio demo (held out)" if task == "demo" else Path(task).stem


def _slug(task: str) -> str:
    return (
        "simct-demo" if task == "demo" else re.sub(r"[^a-z0-9-]+", "-", Path(task).stem.lower()).strip("-") or "custom"
    )


def distance_results(run: RunFolder) -> list[EvalResult]:
    """Both directions of the distance to the teacher, of the student that is published."""
    evaluation = kept_evaluation(run)
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type="held-out-prompts",
            dataset_name="Held-out prompts of the run",
            metric_type=f"{name}_bits_per_byte",
            metric_name=f"Distance to the teacher, {words.lower()}, bits per byte",
            metric_value=round(evaluation.directions[name].mean, 4),
            verified=False,
        )
        for name, words in DIRECTIONS.items()
        if evaluation is not None and name in evaluation.directions
    ]


def kept_evaluation(run: RunFolder) -> Evaluation | None:
    """The evaluation of the student in model/, at the step at which it was saved."""
    step = run.status().model_step
    return next((each for each in evaluations_of(run) if each.step == step), None)


def results_section(run: RunFolder) -> str:
    tables = [found for found in (_task_table(run.evaluation()), _distance_table(run)) if found]
    return "\n\n".join(tables) or "This run measured no scores. Evaluate the model before you rely on it."


def _distance_table(run: RunFolder) -> str:
    """Distances and tracked tasks before training, at the best checkpoint and at the end, and health marks."""
    found = run_results(run)
    rows = [row for row in found.rows if row.best != MISSING or row.name.startswith("Distance")]
    if not rows:
        return ""
    best = "Best" if found.best_step is None else f"Best (step {found.best_step:,})"
    lines = [
        f"| On held-out prompts | Before | {best} | End (step {found.last_step:,}) | Change |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [f"| {escape(row.name)} | {row.before} | {row.best} | {row.after} | {row.change} |" for row in rows]
    kept = run.status().model_step
    about = [
        f"The published student is that of step {kept:,}." if kept is not None else "",
        "The distance to the teacher is the difference of both models' log-probabilities on texts that one of them "
        "wrote; 0 means that they write the same way. A change exceeds noise beyond two standard errors, or more if "
        "there are fewer than sixty answers.",
        *(escape(mark.text) for mark in found.marks),
    ]
    return "\n".join(lines) + "\n\n" + " ".join(filter(None, about))


def _task_table(evaluation: dict) -> str:
    tasks = list(evaluation.get("after", {}))
    if not tasks:
        return ""
    lines = [
        "| Model | " + " | ".join(f"{escape(_task_name(task))}" for task in tasks) + " |",
        "|---|" + "---:|" * len(tasks),
    ]
    several = evaluation.get("teachers") or {}
    sides = [("Student before", "before"), ("**Student after**", "after"), ("Teacher", "teacher")]
    found = [(label, evaluation.get(role)) for label, role in sides]
    found += [(f"Teacher {escape(name)}", scores) for name, scores in several.items()]
    for label, scores in found:
        if scores:
            lines.append(f"| {label} | " + " | ".join(_score(scores.get(task)) for task in tasks) + " |")
    changes = [score_change(evaluation.get("before", {}).get(task), evaluation["after"][task]) for task in tasks]
    if any(changes):
        cells = (score_change_text(change) if change else MISSING for change in changes)
        lines.append("| Change | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + " ".join(_how_scored(evaluation["after"]))


def _how_scored(scores: dict[str, dict]) -> list[str]:
    """A sentence for our own tasks, and one for each of lm-eval's, which have a metric and a seed."""
    theirs = {task: score for task, score in scores.items() if isinstance(score, dict) and score.get("metric")}
    own = [] if len(theirs) == len(scores) else ["Share of greedy answers that match the reference answer."]
    return own + [
        f"{escape(_task_name(task))}: {escape(str(score['metric']))} by lm-eval, seed {score.get('seed', 0)}."
        for task, score in theirs.items()
    ]


def _metric(score: dict) -> str:
    """The metric without the filter that lm-eval appends to its name."""
    return str(score.get("metric") or "exact_match").split(",")[0]


def _score(score: dict | None) -> str:
    if not isinstance(score, dict) or "score" not in score:
        return "–"
    count = f" (n = {score['n']:,})" if isinstance(score.get("n"), int) else ""
    return f"{100 * float(score['score']):.1f} %{count}"


def samples_section(evaluation: dict) -> str:
    """A few held-out prompts: improved ones first, but failures are always included."""
    rows = []
    for task, score in evaluation.get("after", {}).items():
        before = {s.get("prompt"): s for s in evaluation.get("before", {}).get(task, {}).get("samples", [])}
        for sample in score.get("samples", []) if isinstance(score, dict) else []:
            earlier = before.get(sample.get("prompt"), {})
            rows.append((bool(sample.get("correct")), bool(earlier.get("correct")), sample, earlier))
    if not rows:
        return ""
    mended = [row for row in rows if row[0] and not row[1]][: ROWS_SHOWN // 2]
    failed = [row for row in rows if not row[0]][: ROWS_SHOWN // 3]
    others = [row for row in rows if row not in mended and row not in failed]
    shown = (mended + failed + others)[:ROWS_SHOWN]
    lines = ["| Prompt | Before | After | Right answer |", "|---|---|---|---|"]
    for correct, was_correct, sample, earlier in shown:
        cells = (
            escape(sample.get("prompt", ""), 160),
            f"{escape(earlier['completion'], 120)} {_mark(was_correct)}" if "completion" in earlier else "–",
            f"{escape(sample.get('completion', ''), 120)} {_mark(correct)}",
            escape(sample.get("answer", ""), 80),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mark(correct: bool) -> str:
    return "✓" if correct else "✗"
