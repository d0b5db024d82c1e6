"""The table of several models beside each other, to be sorted in the browser and taken away."""

from collections.abc import Sequence

from app.page import markup, saving
from app.server import model_facts as models
from simct.errors import DataError

COLUMNS = (
    ("shared_tokens", "Shared tokens"),
    ("jaccard", "Overlap"),
    ("strict", "Matched exactly"),
    ("recovered", "Recovered"),
)
# A click on a heading sorts by it: numbers largest first, names from A; rows with an error stay last.
SCRIPT = """
element.addEventListener('click', event => {
  const head = event.target.closest('button[data-sort]');
  if (!head) return;
  const cell = head.closest('th'), body = element.querySelector('tbody');
  const up = cell.getAttribute('aria-sort') === (head.dataset.sort === 'text' ? 'ascending' : 'descending');
  const turn = (head.dataset.sort === 'text') !== up ? 1 : -1;
  const value = row => row.children[cell.cellIndex].dataset.value;
  const order = (a, b) => {
    if (value(a) === '' || value(b) === '') return (value(a) === '') - (value(b) === '');
    return turn * (head.dataset.sort === 'text' ? value(a).localeCompare(value(b)) : value(a) - value(b));
  };
  [...body.rows].sort(order).forEach(row => body.append(row));
  element.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  cell.setAttribute('aria-sort', turn > 0 ? 'ascending' : 'descending');
});
"""


def draw(rows: Sequence[dict], side: str) -> str:
    """The table, its headings buttons that sort; `side` is what the rows differ in."""
    judged = any(row.get("method") for row in rows)
    heads = [(side.capitalize(), "text"), *((told, "number") for _, told in COLUMNS)]
    heads += [("Verdict", "text")] if judged else []
    head = "".join(
        f'<th{"" if kind == "text" else " class=num"}><button type="button" data-sort="{kind}">{told}</button></th>'
        for told, kind in heads
    )
    body = "".join(_row(row, side, judged, len(heads)) for row in rows)
    table = f'<table class="grid sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _row(row: dict, side: str, judged: bool, width: int) -> str:
    name = models.display_name(str(row[side]))
    title = f'<span title="{markup.escape(str(row[side]))}">{markup.escape(name)}</span>'
    if row["error"]:
        title += f'<span class="error">✕ {markup.escape(row["error"])}</span>'
        return f"<tr>{_cell(name, title, f' colspan={width}')}{'<td hidden data-value></td>' * (width - 1)}</tr>"
    cells = _cell(name, title)
    for key, _ in COLUMNS:
        shown = f"{row[key]:,}" if key == "shared_tokens" else f"{row[key]:.1%}"
        cells += _cell(row[key], shown, " class=num")
    if judged:
        method, words = str(row["method"] or ""), str(row["verdict"] or "")
        words = words.removeprefix(f"Use {method}. ")
        cells += _cell(method, f"<b>{markup.escape(method)}</b> {markup.escape(words)}")
    return f"<tr>{cells}</tr>"


def _cell(value: object, html: str, kind: str = "") -> str:
    return f'<td{kind} data-value="{markup.escape(str(value))}">{html}</td>'


def _given(rows: list[dict] | None) -> list[dict]:
    if not rows:
        raise DataError("There is nothing to save. Compare some models first.")
    return rows


def _take_json(token: str | bool | None, rows: list[dict] | None) -> tuple[str, str]:
    return "models.json", saving.as_json({"rows": _given(rows)})


def _take_csv(token: str | bool | None, rows: list[dict] | None) -> tuple[str, str]:
    names = ("teacher", "student", *(key for key, _ in COLUMNS), "method", "verdict", "error")
    return "models.csv", saving.as_csv(names, [[row.get(name) for name in names] for row in _given(rows)])


TAKES = {"csv": _take_csv, "json": _take_json}
