"""Answers as HTML: side by side, with colors for how likely the teacher finds each unit; as a conversation; as a
table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.compare.answers import Answer
from app.compare.models import in_sentence, title
from app.page import markup
from simct.evaluation.votes import Tally

# the smallest probability per token at which a unit counts as this likely
LEVELS = ((0.5, "likely", "over 50%"), (0.1, "fair", "10–50%"), (0.01, "rare", "1–10%"), (0.0, "never", "under 1%"))
SIGNIFICANT = 0.05


# what a card says of an answer that has no text
WITHOUT_TEXT = {"waiting": "Waiting…", "loading": "Loading…", "none": "No answer."}


def cards(answers: Mapping[str, Answer]) -> str:
    """One card for each model, and a legend once there are colors."""
    drawn = "".join(_card(side, answer) for side, answer in answers.items())
    colored = any(answer.units for answer in answers.values())
    return f'<div class="answers">{drawn}</div>{legend() if colored else ""}'


def legend() -> str:
    keys = "".join(f'<span><i class="ag-{name}"></i>{words}</span>' for _, name, words in LEVELS)
    return f'<div class="legend"><b>How likely the teacher finds each unit, per token:</b>{keys}</div>'


def facts(answer: Answer) -> list[str]:
    """The length of an answer, how long it took, and how it ended."""
    found = [f"{len(answer.ids):,} tokens", f"{answer.seconds:.1f} s"] if answer.ids else []
    if answer.ended:
        found.append("ended")
    elif answer.state == "cut":
        found.append("cut off")
    return found


def _card(side: str, answer: Answer) -> str:
    said = facts(answer)
    if answer.units:
        likely = sum(unit["probability"] >= LEVELS[0][0] for unit in answer.units)
        said.append(f"{likely} of {len(answer.units)} units likely")
    body = _units(answer.units) if answer.units else markup.escape(answer.text)
    if not answer.text and not answer.error:
        body += f'<span class="dim">{WITHOUT_TEXT.get(answer.state, "")}</span>'
    elif answer.error:
        body += f'<span class="note-error">{markup.escape(answer.error)}</span>'
    return _section(side, title(side), " · ".join(said), f"{body}{_cursor(answer)}")


def _section(kind: str, head: str, small: str, body: str) -> str:
    return (
        f'<section class="answer" data-side="{markup.escape(kind)}"><h3>{markup.escape(head)} <small>{small}</small>'
        f'</h3><p class="said">{body}</p></section>'
    )


def _cursor(answer: Answer) -> str:
    return '<span class="cursor" aria-hidden="true"></span>' if answer.state == "writing" else ""


def _units(units: list[dict[str, Any]]) -> str:
    return "".join(_unit(unit) for unit in units)


def _unit(unit: dict[str, Any]) -> str:
    level = next(name for least, name, _ in LEVELS if unit["probability"] >= least)
    text = unit["bytes"].decode("utf-8", errors="replace")
    explanation = f"{unit['probability']:.2%} per token, {unit['student']}×{unit['teacher']} tokens (student × teacher)"
    if not unit["bytes"]:
        return f'<i class="ag-{level} end" title="End of turn: {explanation}">■</i>'
    return f'<i class="ag-{level}" title="{explanation}">{markup.escape(text)}</i>'


def conversation(turns: Sequence[Mapping[str, str]], answer: tuple[str, Answer] | None = None) -> str:
    """A chat: its turns, each with its author, and the answer that is being written."""
    drawn = [_turn(turn["role"], turn.get("by", ""), markup.escape(turn["content"])) for turn in turns]
    if answer is not None:
        side, written = answer
        waiting = '<span class="dim">Loading…</span>' if not written.text else ""
        drawn.append(_turn("assistant", title(side), f"{markup.escape(written.text)}{_cursor(written)}{waiting}"))
    return f'<div class="chat" role="log" aria-label="Conversation">{"".join(drawn)}</div>'


def _turn(role: str, by: str, body: str) -> str:
    who = "You" if role == "user" else markup.escape(by)
    return f'<section class="turn turn-{markup.escape(role)}"><h3>{who}</h3><p class="said">{body}</p></section>'


def blind(left: str, right: str, names: tuple[str, str] | None = None, choice: str = "") -> str:
    """Two answers, without their models before the vote and with them after it."""
    heads = ("Left", "Right") if names is None else (f"Left: {title(names[0])}", f"Right: {title(names[1])}")
    marks = ["your choice" if choice == side else "" for side in ("left", "right")]
    pairs = zip(("left", "right"), heads, marks, (left, right), strict=True)
    drawn = "".join(_section(side, head, mark, markup.escape(text)) for side, head, mark, text in pairs)
    return f'<div class="answers">{drawn}</div>'


def tally_table(counted: Sequence[Tally]) -> str:
    """The votes for each pair of models, and whether the difference could be chance."""
    if not counted:
        return markup.empty("No votes yet.")
    rows = [
        (f"{title(each.one)} or {in_sentence(each.other)}", f"{each.wins}", f"{each.losses}", f"{each.ties}",
         f"{each.p_value:.3f}", verdict(each))
        for each in counted
    ]  # fmt: skip
    return markup.table(("Models", "First preferred", "Second preferred", "Ties", "p", ""), rows, numeric=(1, 2, 3, 4))


def verdict(tally: Tally) -> str:
    """The sign test in words."""
    if tally.p_value >= SIGNIFICANT:
        return "No clear preference yet."
    return f"{title(tally.one if tally.wins > tally.losses else tally.other)} is preferred."


def prompt_table(sides: Sequence[str], prompts: Sequence[str], answers: Mapping[tuple[int, str], Answer]) -> str:
    """A row per prompt and a column per model, with the answers so far."""

    def cell(answer: Answer | None) -> str:
        return "" if answer is None else f"✕ {answer.error}" if answer.error else answer.text

    rows = [(prompt, *(cell(answers.get((at, side))) for side in sides)) for at, prompt in enumerate(prompts)]
    return markup.table(("Prompt", *map(title, sides)), rows).replace('class="grid"', 'class="grid answers-table"')
