"""A run's evaluations as HTML: results before and after, health marks, answers to fixed prompts over the steps."""

import difflib
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.page import markup
from simct.evaluation.records import Evaluation
from simct.report.evaluations import MISSING, RunResults, run_results
from simct.runs.folder import RunFolder

# this panel is read again when one of these changes
FILES = ("evaluations.jsonl", "teacher.jsonl")


def results(run: RunFolder) -> str:
    """Distances and scores before training, at the best checkpoint and at the end; and health marks."""
    found = run_results(run)
    return f"{table(found)}{''.join(markup.note('warn', f'{mark.text} {mark.advice}') for mark in found.marks)}"


def table(found: RunResults) -> str:
    """The rows, with the columns that have a value."""
    best = "Best" if found.best_step is None else f"Best, step {found.best_step:,}"
    columns = {
        "before": "Student before", "best": best, "after": "Student after", "teacher": "Teacher", "change": "Change",
    }  # fmt: skip
    shown = [name for name in columns if any(getattr(row, name) != MISSING for row in found.rows)]
    if not found.rows or not shown:
        return ""
    rows = [(row.name, *(getattr(row, name) for name in shown)) for row in found.rows]
    return "<h3>Results</h3>" + markup.table(("", *(columns[name] for name in shown)), rows)


def timeline(evaluations: Sequence[Evaluation], teacher: Sequence[Mapping[str, Any]]) -> str:
    """Answers to the fixed prompts: a slider over the evaluations, next to the teacher's answer and the reference."""
    evaluations = [each for each in evaluations if each.answers]
    if not evaluations:
        return ""
    last = len(evaluations) - 1
    count = max(len(each.answers) for each in evaluations)
    steps = " ".join(str(each.step) for each in evaluations)
    slider = (
        f'<label class="timeline-step">Step <input type="range" min="0" max="{last}" value="{last}" '
        f'data-steps="{steps}" aria-valuetext="step {evaluations[last].step}">'
        f"<output>{evaluations[last].step:,}</output></label>"
    )
    kept = [*teacher[:count], *({} for _ in range(count - len(teacher)))]
    prompts = [_fixed_prompt(index, evaluations, each) for index, each in enumerate(kept)]
    legend = '<p class="under">Greedy answers. <mark>Marked</mark>: differs from the teacher\'s answer.</p>'
    return f'<div class="timeline"><h3>Answers by step</h3>{slider}{legend}{"".join(prompts)}</div>'


def _fixed_prompt(index: int, evaluations: Sequence[Evaluation], kept: Mapping[str, Any]) -> str:
    greedy = kept.get("greedy")
    theirs = str(greedy.get("text", "")) if isinstance(greedy, Mapping) else None
    last = len(evaluations) - 1
    said = []
    for place, each in enumerate(evaluations):
        if index < len(each.answers):
            answer = each.answers[index]
            text = marked(answer.text, theirs) + ("" if answer.ended else " …")
            hidden = "" if place == last else " hidden"
            said.append(f'<p class="said" data-place="{place}"{hidden}>{text}</p>')
    parts = [f"<section><h4>Student</h4>{''.join(said)}</section>"]
    if theirs is not None:
        parts.append(f'<section><h4>Teacher</h4><p class="said">{escape(theirs)}</p></section>')
    if kept.get("reference"):
        parts.append(f'<section><h4>Reference</h4><p class="said">{escape(str(kept["reference"]))}</p></section>')
    return f'<p class="asked">{escape(str(kept.get("prompt", "")))}</p><div class="sides">{"".join(parts)}</div>'


def marked(text: str, other: str | None) -> str:
    """`text` as HTML; words that are not at the same place in `other` are marked."""
    if other is None:
        return escape(text)
    words, others = (re.findall(r"\s+|[^\s]+", each) for each in (text, other))
    found = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        piece = escape("".join(words[start:end]))
        found.append(piece if kind == "equal" or not piece.strip() else f"<mark>{piece}</mark>")
    return "".join(found)
