"""Inspect, several models: students for this teacher, or teachers for this student, in one table to be sorted."""

from collections.abc import Iterator, Sequence
from itertools import islice

import gradio as gr

from app import inspect_source, markup, models, saving, weights, work
from app.settings import Settings
from simct import demo
from simct.errors import DataError, SimCTError

STUDENTS, TEACHERS = "Students for this teacher", "Teachers for this student"
TEXTS, SAMPLES, MOST_MODELS, MIN_QUERY = 300, 8, 12, 2
COLUMNS = (
    ("shared_tokens", "Shared tokens"),
    ("jaccard", "Overlap"),
    ("strict", "Matched exactly"),
    ("recovered", "Recovered"),
)
LEAD = (
    "Several students for the chosen teacher, or teachers for the chosen student, side by side. Only tokenizers are "
    "read, unless verdicts are asked for."
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


def build(settings: Settings, pair) -> None:
    """Which models, the button, and the table."""
    markup.panel(f'<p class="lead">{LEAD}</p>')
    with gr.Row(equal_height=False):
        side = gr.Radio([STUDENTS, TEACHERS], value=STUDENTS, label="Compare", elem_id="several-side", min_width=280)
        others = gr.Dropdown(
            offered(),
            value=[],
            label="Models",
            info="Type to search the Hub, or a name and Enter. At most 12.",
            multiselect=True,
            allow_custom_value=True,
            max_choices=MOST_MODELS,
            elem_id="several-models",
            scale=2,
            min_width=300,
        )
    with gr.Row(elem_classes="tools"):
        start = gr.Button("Compare", size="sm", variant="primary", min_width=150, elem_id="several-start")
        cancel = gr.Button("Cancel", size="sm", min_width=80, visible=False, elem_id="several-cancel")
        judged = gr.Checkbox(False, label="With verdicts: loads each model's weights", elem_id="several-judged")
        takes = {
            kind: gr.Button(told, size="sm", min_width=110, elem_id=f"several-{kind}")
            for kind, told in {"csv": "Table, CSV", "json": "Table, JSON"}.items()
        }
    note = markup.panel(elem_id="several-note")
    table = markup.panel(markup.empty("Nothing compared yet."), elem_id="several-table", js_on_load=SCRIPT)
    found, task = gr.State([]), gr.State(None)

    def compared(
        teacher: str, student: str, which: str, chosen: list[str], verdicts: bool, visitor: gr.OAuthToken | None = None
    ) -> Iterator[tuple]:
        """A row a model, as they are finished."""
        skip, token = gr.skip(), settings.token(visitor)
        ask = (settings, teacher, student, which, chosen, verdicts, token)
        for now in work.follow(lambda work: _compare(*ask, work), weights=bool(verdicts)):
            if now.running:
                yield work.view(now), skip, gr.Button(visible=True), skip, now
        if now.error:
            yield markup.note("error", now.error), skip, gr.Button(visible=False), skip, None
            return
        told = f"{len(now.result):,} of {len(chosen):,} compared in {now.seconds:.0f} s."
        yield markup.note("ok", told), draw(now.result, which), gr.Button(visible=False), now.result, None

    start.click(
        compared, [pair.teacher, pair.student, side, others, judged], [note, table, cancel, found, task],
        trigger_mode="once", concurrency_limit=None, **settings.quiet,
    )  # fmt: skip
    cancel.click(work.stop, task, **settings.quiet)
    for kind, button in takes.items():
        saving.offer(settings, button, TAKES[kind], [found], note)


def offered() -> list[tuple[str, str]]:
    return [(name, path) for path, name in models.EMBEDDED.items()]


def _compare(
    settings: Settings,
    teacher: str,
    student: str,
    which: str,
    chosen: Sequence[str],
    verdicts: bool,
    token: str | bool | None,
    task: work.Work,
) -> list[dict]:
    from simct.compare_pairs import compare_pairs, split_revision

    chosen = list(dict.fromkeys(name.strip() for name in chosen if name and name.strip()))[:MOST_MODELS]
    if not chosen:
        raise DataError("Choose at least one model to compare.")
    fixed = models.allowed(settings, teacher if which == STUDENTS else student)
    refused = {}
    for name in chosen:
        try:
            models.allowed(settings, split_revision(name)[0])
            if verdicts:
                weights.allow(settings, *((fixed, name) if which == STUDENTS else (name, fixed)), token)
        except SimCTError as error:
            refused[name] = str(error)
    if verdicts:
        weights.forget()
    readable = [name for name in chosen if name not in refused]
    task.step("Comparing, models:")
    rows = compare_pairs(
        [fixed] if which == STUDENTS else readable,
        readable if which == STUDENTS else [fixed],
        list(islice(inspect_source.texts(settings, (inspect_source.EMBEDDED, *[None] * 6), token), TEXTS)),
        samples=SAMPLES if verdicts else 0,
        prompts=str(demo.PROMPTS) if verdicts else "",
        token=token,
        sort="verdict" if verdicts else "strict",
        on_progress=task.progress,
        should_stop=task.should_stop,
    )
    side = "student" if which == STUDENTS else "teacher"
    return rows + [{side: name, "error": told} for name, told in refused.items()]


def draw(rows: Sequence[dict], which: str) -> str:
    """The table, its headings buttons that sort."""
    side = "student" if which == STUDENTS else "teacher"
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
