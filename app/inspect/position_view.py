"""The HTML of what `candidates.candidates_at` found at one position."""

from typing import Any

from app.inspect import lanes, numbers
from app.inspect.document import Document
from app.page import markup, saving
from simct.errors import DataError
from simct.inspection.records import Candidates, MeasuredCandidates
from simct.report import charts, facts
from simct.report.formats import share

TOP = 16
AROUND = 14
NAMES = ("text", "bytes", "kind", "student_id", "teacher_id")
MEASURED = ("student_mass", "teacher_mass", "student_q", "teacher_q", "written")


def surroundings(found: Document, unit: int) -> str:
    """The lanes of the units around `unit`."""
    first = max(0, unit - AROUND)
    rows = found.segments(first, unit + AROUND + 1)
    units = [lanes.unit(found.pair, row) for row in rows]
    return lanes.lanes(units, None, first, unit, found.scores[first : unit + AROUND + 1], legend=False)


def draw(found: Candidates, served: bool = False) -> str:
    """Everything about one position: its unit, the numbers, the candidates, and what is not a candidate. If the teacher
    is `served`, the page does not announce numbers.
    """
    if isinstance(found, MeasuredCandidates):
        return _unit(found) + _measured(found)
    return _unit(found) + ("" if served else _unmeasured())


def _unit(found: Candidates) -> str:
    sides = (("student", found.unit.student_pieces), ("teacher", found.unit.teacher_pieces))
    pieces = "".join(f"<dt>{side}</dt><dd>{markup.chips(map(markup.visible, each))}</dd>" for side, each in sides)
    return (
        f'<h3>{markup.escape(facts.unit_title(found))}</h3><dl class="pieces">{pieces}</dl>'
        f'<p class="prose">{markup.escape(facts.what_is_compared(found))}</p>'
    )


def _unmeasured() -> str:
    return markup.empty(
        "Both models' masses on them appear once the models are loaded. Nothing is downloaded before that."
    )


def _measured(found: MeasuredCandidates) -> str:
    return (
        f'{numbers.tiles(facts.position_facts(found))}<p class="prose">{markup.escape(facts.what_is_lost(found))}</p>'
        f'<div class="place">{charts.candidate_bars(found).figure()}{_unshared(found)}</div>'
    )


def _unshared(found: MeasuredCandidates) -> str:
    tables = ""
    for missing in facts.unshared(found):
        rows = [
            (markup.visible(text), share(mass), markup.chips(map(markup.visible, pieces)) if pieces else "not at all")
            for text, _, mass, pieces in missing.rows
        ]
        table = markup.table(("Token", "Mass", f"As the {missing.other} spells it"), rows, numeric=(1,), raw=(2,))
        none = markup.empty("None: the other side has all of them.")
        tables += f"<div><h3>{markup.escape(missing.title)}</h3>{table if rows else none}</div>"
    return f'<div class="unshared">{tables}</div>'


def given(found: Candidates | None) -> Candidates:
    """The position. Raises DataError if none was chosen."""
    if found is None:
        raise DataError("There is no position to save. Choose a unit first.")
    return found


def as_dict(found: Candidates) -> dict[str, Any]:
    """The position as it is saved."""
    return {"position": found.index, **found.to_dict()}


def candidates_csv(found: Candidates) -> str:
    """The candidates shown, one per line, with masses if both models were loaded."""
    names = NAMES + (MEASURED if isinstance(found, MeasuredCandidates) else ())
    return saving.as_csv(names, [[row.to_dict()[name] for name in names] for row in found.rows])
