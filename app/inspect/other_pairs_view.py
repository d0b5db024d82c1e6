"""The table of several pairs, to sort in the browser and to save."""

from collections.abc import Sequence

from app.page import markup, saving
from app.server.downloads import Download
from app.server.model_facts import display_name
from simct.errors import DataError
from simct.inspection.records import PairRow
from simct.report import facts

SAVED = (
    "teacher",
    "student",
    "shared_tokens",
    "jaccard",
    "of_smaller",
    "strict",
    "recovered",
    "method",
    "verdict",
    "error",
)


def draw(rows: Sequence[PairRow], side: str) -> str:
    """The table with headings that sort it; `side` is the side in which the rows differ."""
    verdicts = any(row.method for row in rows)
    heads = [(side.capitalize(), "", "text")]
    heads += [(fact.label, fact.explanation, "number") for fact in (facts.pair_facts(rows[0]) if rows else [])]
    heads += [("Verdict", "", "text")] if verdicts else []
    head = "".join(
        f'<th{"" if kind == "text" else " class=num"}><button type="button" data-sort="{kind}" '
        f'title="{markup.escape(explanation)}">{label}</button></th>'
        for label, explanation, kind in heads
    )
    body = "".join(_row(row, side, verdicts, len(heads)) for row in rows)
    table = f'<table class="grid sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _row(row: PairRow, side: str, verdicts: bool, width: int) -> str:
    model = row.student if side == "student" else row.teacher
    name = display_name(model)
    title = f'<span title="{markup.escape(model)}">{markup.escape(name)}</span>'
    if row.error:
        title += f'<span class="error">✕ {markup.escape(row.error)}</span>'
        return f"<tr>{_cell(name, title, f' colspan={width}')}{'<td hidden data-value></td>' * (width - 1)}</tr>"
    cells = _cell(name, title)
    for fact in facts.pair_facts(row):
        cells += _cell(fact.value, fact.text, " class=num")
    if verdicts:
        _, reasons = facts.split_verdict(row.verdict or "")
        cells += _cell(row.method or "", f"<b>{markup.escape(row.method or '')}</b> {markup.escape(reasons)}")
    return f"<tr>{cells}</tr>"


def _cell(value: object, html: str, kind: str = "") -> str:
    return f'<td{kind} data-value="{markup.escape(str(value))}">{html}</td>'


def given(rows: Sequence[PairRow] | None) -> Sequence[PairRow]:
    """The rows. Raises DataError if there are none."""
    if not rows:
        raise DataError("There is nothing to save. Inspect some pairs first.")
    return rows


def as_json(rows: Sequence[PairRow] | None) -> Download:
    return Download("other-pairs.json", saving.as_json({"rows": [row.to_dict() for row in given(rows)]}))


def as_csv(rows: Sequence[PairRow] | None) -> Download:
    values = [[row.to_dict()[name] for name in SAVED] for row in given(rows)]
    return Download("other-pairs.csv", saving.as_csv(SAVED, values))
