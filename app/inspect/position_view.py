"""What `candidates.candidates_at` found at one position, drawn."""

from app.inspect import lanes
from app.inspect.document import Document
from app.page import bar_charts, markup, saving
from app.page.line_charts import mass, number
from simct.errors import DataError

TOP = 16
AROUND = 14


def surroundings(found: Document, unit: int) -> str:
    """The lanes of the units about `unit`."""
    first = max(0, unit - AROUND)
    rows = found.segments(first, unit + AROUND + 1)
    units = [lanes.unit(found.pair, row) for row in rows]
    return lanes.lanes(units, None, first, unit, found.scores[first : unit + AROUND + 1], legend=False)


def draw(found: dict) -> str:
    """Everything about one position: its unit, the numbers, the candidates, and what is no candidate."""
    return _unit(found) + (_measured(found) if "Z_T" in found else _structure(found))


def _unit(found: dict) -> str:
    unit = found["unit"]
    shape = f"{len(unit['student_ids'])}×{len(unit['teacher_ids'])}"
    sides = "".join(
        f"<dt>{side}</dt><dd>{markup.chips(map(markup.visible, unit[f'{side}_pieces']))}</dd>"
        for side in ("student", "teacher")
    )
    title = f"Unit {found['position']:,}: {unit['kind']}, {shape}"
    return f'<h3>{markup.escape(title)}</h3><dl class="pieces">{sides}</dl>'


def _structure(found: dict) -> str:
    multi = found["candidates"] > found["shared_candidates"]
    if multi:
        unit = (
            "and this unit as one more. Exact matching compares nothing here: the unit is not one token on each side."
        )
    else:
        unit = "this unit among them." if found["unit"]["kind"] == "shared" else "and this unit is not among them."
    told = (
        f"SimCT compares both models on {found['shared_candidates']:,} shared tokens (the end of turn included), {unit}"
    )
    return f'<p class="told">{markup.escape(told)}</p>' + markup.empty(
        "Both models' masses on them appear once the models are loaded. Nothing is downloaded before that."
    )


def _measured(found: dict) -> str:
    lost = found["thrown_away_by_strict"]
    tiles = markup.tiles(
        [
            (mass(found["Z_T"]), "Z_T: teacher's mass on the candidates", "All shared tokens, and the unit"),
            (mass(found["Z_S"]), "Z_S: student's mass on the candidates", "All shared tokens, and the unit"),
            (number(found["kl"]), "KL here, nats", "Reverse KL between both models on the candidates"),
            (
                number(lost["kl"]) if lost["row"] else "nothing",
                "thrown away by exact matching",
                "What a loss on exact matches alone leaves out at this position",
            ),
        ]
    )
    return f'{tiles}{_lost(found)}<div class="place">{_masses(found)}{_outside(found)}</div>'


def _lost(found: dict) -> str:
    lost = found["thrown_away_by_strict"]
    if not lost["row"]:
        return '<p class="told">One token on each side: exact matching compares the models here as well.</p>'
    told = (
        f"Exact matching throws this position away: {lost['student_tokens']} of the student's and "
        f"{lost['teacher_tokens']} of the teacher's tokens. SimCT gives the unit {mass(lost['student_mass'])} of the "
        f"student and {mass(lost['teacher_mass'])} of the teacher per token, and learns from a KL of "
        f"{number(lost['kl'])} nats."
    )
    return f'<p class="told">{markup.escape(told)}</p>'


def _masses(found: dict) -> str:
    rows = []
    for row in found["rows"]:
        which = "the unit itself" if row["kind"] == "unit" else f"ids {row['student_id']} and {row['teacher_id']}"
        name = markup.visible(row["text"]) + (" ◂" if row["written"] else "")
        told = f"{which}; renormalized {row['student_q']:.2%} and {row['teacher_q']:.2%}"
        rows.append((name, (row["student_mass"], row["teacher_mass"]), told))
    rest = found["rest"]
    if rest["candidates"]:
        name = f"{rest['candidates']:,} more"
        rows.append((name, (rest["student_mass"], rest["teacher_mass"]), "all other candidates together"))
    told = "◂ what stands in the text"
    if max(found["Z_S"], found["Z_T"]) > 1:
        told += "; the sums pass 100% because the unit counts besides its own first piece"
    return bar_charts.bars("Mass on the candidates", rows, ("student", "teacher"), mass, mono=True, told=told)


def _outside(found: dict) -> str:
    tables = ""
    for side, other in (("teacher", "student"), ("student", "teacher")):
        rows = [
            (
                markup.visible(row["text"]),
                mass(row["mass"]),
                markup.chips(map(markup.visible, row[f"{other}_tokens"])) or "cannot spell it",
            )
            for row in found[f"{side}_outside"]
        ]
        told = f"<h3>The {side}'s heaviest tokens that the {other} has not</h3>"
        table = markup.table(("Token", "Mass", f"As the {other} spells it"), rows, numeric=(1,), raw=(2,))
        tables += f"<div>{told}{table if rows else markup.empty('None: the other side has all of them.')}</div>"
    return f'<div class="outside-tables">{tables}</div>'


def given(found: dict | None) -> dict:
    if found is None:
        raise DataError("There is no position to save. Choose a unit first.")
    return found


def candidates_csv(found: dict) -> str:
    """The candidates shown, one a line; masses where both models were loaded."""
    names = ("text", "bytes", "kind", "student_id", "teacher_id")
    names += ("student_mass", "teacher_mass", "student_q", "teacher_q", "written") if "Z_T" in found else ()
    return saving.as_csv(names, [[row[name] for name in names] for row in found["rows"]])
