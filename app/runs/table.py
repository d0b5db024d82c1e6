"""All listed runs as a sortable table with their distance and score before and after training."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from app.page import markup
from app.runs.listing import Listed
from app.runs.names import names, stamp
from app.server.studio import Studio
from simct.report.evaluations import MISSING, HeadlineScores, headline_scores
from simct.runs.folder import RunFolder
from simct.runs.labels import RunLabel, read_label
from simct.runs.status import RunStatus

TEXT, NUMBER = "text", "number"
COLUMNS = {
    "Run": TEXT, "Method": TEXT, "State": TEXT, "Steps": NUMBER, "Mean distance before": NUMBER,
    "Best mean distance": NUMBER, "Mean distance after": NUMBER, "Score before": NUMBER, "Best score": NUMBER,
    "Score after": NUMBER, "Started": NUMBER, "Project": TEXT,
}  # fmt: skip
# the files that a row is made from, in addition to the status
FILES = ("label.json", "evaluation.json", "evaluations.jsonl")
KEPT = 1024

Stamps = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Cell:
    """The HTML of a cell, and the value that it is sorted by; empty values come last."""

    html: str
    value: str


def stamps(run: RunFolder, status: RunStatus) -> list:
    """Stamps that change when the row changes."""
    return [run.id, status.state, status.step, status.distance, status.project, *(stamp(run, name) for name in FILES)]


def table(studio: Studio, listed: Listed, chosen: str | None) -> str:
    """The runs in the order of the list; static/sorting.js sorts them after a click on a heading."""
    if not listed:
        return ""
    columns = dict(COLUMNS)
    if not any(status.project for _, status in listed):
        del columns["Project"]
    head = "".join(
        f'<th class="{"num" if kind == NUMBER else ""}">'
        f'<button type="button" data-sort="{kind}">{escape(name)}</button></th>'
        for name, kind in columns.items()
    )
    body = "".join(_row(_cells(studio, run, status)[: len(columns)], run.id == chosen) for run, status in listed)
    return (
        '<div class="scroll"><table class="grid sortable" data-testid="runs-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[Cell], now: bool) -> str:
    drawn = "".join(
        f'<td class="{"num" if kind == NUMBER else ""}" data-value="{escape(cell.value)}">{cell.html}</td>'
        for kind, cell in zip(COLUMNS.values(), cells, strict=False)
    )
    return f"<tr{' class=now' if now else ''}>{drawn}</tr>"


def _cells(studio: Studio, run: RunFolder, status: RunStatus) -> list[Cell]:
    method, teacher, student = names(run, status)
    scores = studio.kept(_scores, KEPT)(run.path, tuple(stamp(run, name) for name in FILES[1:]), _best_step(status))
    distance = status.distance or {}
    pair, created = f"{teacher} → {student}", status.created_at or 0.0
    return [
        _name(run, read_label(run), pair),
        Cell(escape(method), method),
        Cell(markup.pill(status.state), status.state),
        Cell(f"{status.step:,}", str(status.step)),
        *(_number(distance.get(name), "{:.3f}") for name in ("before", "best", "now")),
        *(_number(value, "{:.1%}", scores.task) for value in (scores.before, scores.best, scores.after)),
        Cell(datetime.fromtimestamp(created).strftime("%d %b %H:%M"), str(created)),
        Cell(escape(status.project or MISSING), status.project or ""),
    ]


def _name(run: RunFolder, label: RunLabel, pair: str) -> Cell:
    """A button that opens the run, with its star and name (or its pair), and its tags."""
    shown = f"{'★ ' * label.starred}{label.name or pair}"
    tags = "".join(f"<i>{escape(tag)}</i>" for tag in label.tags)
    chips = f'<span class="chips">{tags}</span>' if tags else ""
    under = f"<small>{escape(pair)}</small>" if label.name else ""
    button = f'<button type="button" class="run-link" data-run="{escape(run.id)}">{escape(shown)}</button>'
    return Cell(f"{button}{under}{chips}", f"{'' if label.starred else '~'}{label.name or pair}")


def _number(value: object, form: str, about: str = "") -> Cell:
    if not isinstance(value, int | float):
        return Cell(MISSING, "")
    title = f' title="{escape(about)}"' if about else ""
    return Cell(f"<span{title}>{form.format(value)}</span>", str(value))


def _best_step(status: RunStatus) -> int | None:
    step = (status.distance or {}).get("best_step")
    return step if isinstance(step, int) else None


def _scores(path: Path, changed: Stamps, best_step: int | None) -> HeadlineScores:
    """`changed` and `best_step` make a new cache key, so that the files are read again when they change."""
    return headline_scores(RunFolder(path))
