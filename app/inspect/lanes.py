"""Both segmentations of the same text: two lanes, cut into aligned units, colored by kind or by a model's score."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from app.page import markup
from simct.inspection.records import ShownUnit, UnitScore
from simct.report import facts
from simct.report.formats import number, share

if TYPE_CHECKING:
    from simct.inspection.coverage import PairLookup

# what can shade a unit: name -> (field of a score, the value with the deepest shade, explanation)
SHADES = {
    "KL": ("kl", 8.0, "reverse KL between the candidates at the unit's start; deepest at 8 nats"),
    "Student": ("student_logprob", -8.0, "how little the student expected it; deepest at a log-probability of −8"),
    "Teacher": ("teacher_logprob", -8.0, "how little the teacher expected it; deepest at a log-probability of −8"),
}


@dataclass(frozen=True)
class DrawnUnit:
    """A unit with the (id, piece) of both sides; the pieces are made from the tokens' exact bytes."""

    shown: ShownUnit
    student: list[tuple[int, str]]
    teacher: list[tuple[int, str]]


def unit(pair: "PairLookup", shown: ShownUnit) -> DrawnUnit:
    student, teacher = (
        [(token_id, markup.visible_bytes(tokens.bytes_of[token_id] or b"")) for token_id in ids]
        for tokens, ids in ((pair.student, shown.student_ids), (pair.teacher, shown.teacher_ids))
    )
    return DrawnUnit(shown, student, teacher)


def lanes(
    units: Iterable[DrawnUnit],
    counts: dict[str, int] | None = None,
    first: int = 0,
    chosen: int = 0,
    scores: Sequence[UnitScore] = (),
    shade: str | None = None,
    *,
    legend: bool = True,
) -> str:
    """The legend, the lanes and the line about the selected unit. Lines of the text stay lines.

    `units` are those from index `first` of the text on, `counts` the units of the whole text by kind, `chosen` the
    index of the selected unit, and `scores` both models' scores of the first units, if there are any.
    """
    lines: list[list[str]] = [[]]
    seen = dict.fromkeys(facts.UNIT_KINDS, 0)
    for index, item in enumerate(units):
        seen[item.shown.kind] += 1
        score = scores[index] if index < len(scores) else None
        lines[-1].append(_unit(item, first + index, first + index == chosen, score, shade))
        if item.shown.bytes.endswith("0a"):
            lines.append([])
    body = "".join(f'<div class="text-line">{"".join(parts)}</div>' for parts in lines if parts)
    return (
        f"{_legend(counts or seen, shade if scores else None) if legend else ''}"
        '<div class="lanes" role="group" aria-label="Aligned units; arrow keys move between them, Enter chooses one">'
        f'{body}</div><p class="unit-line" aria-live="polite">Point at a unit, or use the arrow keys, to see its '
        "ids and bytes; click or press Enter to look at that position.</p>"
    )


def _legend(counts: dict[str, int], shade: str | None) -> str:
    keys = "".join(
        f'<span class="key-{kind}" title="{escape(meaning)}"><i></i>{name} <b>{counts[kind]:,}</b></span>'
        for kind, (name, meaning) in facts.UNIT_KINDS.items()
    )
    if shade:
        meaning = escape(SHADES[shade][2])
        keys += f'<span class="key-shade" title="{meaning}">shade: {meaning}</span>'
    return f'<div class="legend">{keys}<span class="which">{facts.LANES}</span></div>'


def _unit(item: DrawnUnit, index: int, chosen: bool, score: UnitScore | None, shade: str | None) -> str:
    about = f"unit {index:,} · {_about(item)}" + (_scored(score) if score else "")
    rows = "".join(
        f'<span class="lane">{"".join(f"<i>{escape(piece)}</i>" for _, piece in side)}</span>'
        for side in (item.student, item.teacher)
    )
    state = ' tabindex="0" aria-current="true"' if chosen else ' tabindex="-1"'
    deep = ""
    if score and shade:
        name, deepest, _ = SHADES[shade]
        heat = min(1.0, max(0.0, getattr(score, name) / deepest))
        deep = f' style="--heat:{heat**0.5:.2f}"'
    kinds = f"{item.shown.kind}{' now' if chosen else ''}{' shaded' if deep else ''}"
    return f'<span class="unit {kinds}" data-unit="{index}"{state}{deep} data-about="{escape(about)}">{rows}</span>'


def _about(item: DrawnUnit) -> str:
    student, teacher = (
        " | ".join(f"{piece} {token_id}" for token_id, piece in side) for side in (item.student, item.teacher)
    )
    shown = item.shown
    reason = f" ({shown.reason})" if shown.reason else ""
    return (
        f"{facts.UNIT_KINDS[shown.kind][0]}{reason}, {shown.shape} · student: {student} · teacher: {teacher} · "
        f"bytes {bytes.fromhex(shown.bytes).hex(' ')}"
    )


def _scored(score: UnitScore) -> str:
    return (
        f" · log p: student {score.student_logprob:.2f}, teacher {score.teacher_logprob:.2f}"
        f" · KL {number(score.kl)} nats · candidates hold {share(score.z_s)} of the student, {share(score.z_t)} of the "
        "teacher"
    )
