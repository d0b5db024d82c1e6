"""Answers side by side as HTML: the text as it comes, then colored by how likely the teacher finds each unit."""

from typing import Any

from app.compare.answers import Answer, side_title
from app.page import markup

# probability a token, from which a unit counts as so likely
LEVELS = ((0.5, "likely", "over 50%"), (0.1, "fair", "10–50%"), (0.01, "rare", "1–10%"), (0.0, "never", "under 1%"))


def cards(answers: dict[str, Answer]) -> str:
    """One card a model, in their order, and what the colors mean once there are any."""
    drawn = "".join(_card(side, answer) for side, answer in answers.items())
    colored = any(answer.units for answer in answers.values())
    return f'<div class="answers">{drawn}</div>{legend() if colored else ""}'


def legend() -> str:
    keys = "".join(f'<span><i class="ag-{name}"></i>{words}</span>' for _, name, words in LEVELS)
    return f'<div class="legend"><b>How likely the teacher finds each unit, a token:</b>{keys}</div>'


def _card(side: str, answer: Answer) -> str:
    facts = [f"{len(answer.ids):,} tokens", f"{answer.seconds:.1f} s"] if answer.ids else []
    if answer.ended:
        facts.append("ended")
    elif answer.state == "cut":
        facts.append("cut off")
    if answer.units:
        likely = sum(unit["probability"] >= LEVELS[0][0] for unit in answer.units)
        facts.append(f"{likely} of {len(answer.units)} units likely")
    body = _units(answer.units) if answer.units else markup.escape(answer.text)
    waiting = {"waiting": "Waiting…", "loading": "Loading…"}.get(answer.state, "") if not answer.text else ""
    cursor = '<span class="cursor" aria-hidden="true"></span>' if answer.state == "writing" else ""
    return (
        f'<section class="answer" data-side="{markup.escape(side)}">'
        f"<h3>{markup.escape(side_title(side))} <small>{' · '.join(facts)}</small></h3>"
        f'<p class="said">{body}{cursor}<span class="dim">{waiting}</span></p></section>'
    )


def _units(units: list[dict[str, Any]]) -> str:
    return "".join(_unit(unit) for unit in units)


def _unit(unit: dict[str, Any]) -> str:
    level = next(name for least, name, _ in LEVELS if unit["probability"] >= least)
    text = unit["bytes"].decode("utf-8", errors="replace")
    explanation = f"{unit['probability']:.2%} a token, {unit['student']}×{unit['teacher']} tokens (student × teacher)"
    if not unit["bytes"]:
        return f'<i class="ag-{level} end" title="End of turn: {explanation}">■</i>'
    return f'<i class="ag-{level}" title="{explanation}">{markup.escape(text)}</i>'
