"""Several runs together: their curves in the same charts, the settings in which they differ, and their scores."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.page import charts, markup
from app.page.markup import one_line
from app.runs import curves
from app.runs.listing import one_line_options, visible
from app.server.handler import LATEST, Handler, Updates, new_value
from app.server.model_facts import display_name
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.config import RunConfig, leaves
from simct.errors import SimCTError
from simct.evaluation.records import evaluations_of
from simct.report.evaluations import MISSING, run_results
from simct.runs.folder import RunFolder

MOST = 6
LETTERS = "ABCDEF"
NOT_SETTINGS = ("output",)
COLUMNS = ("before", "best", "after", "change", "teacher")


class RunComparison:
    """A field to choose runs, and the comparison of the chosen runs; collapsed, because most people have one run."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Accordion("Run comparison", open=False, elem_id="run-comparison") as panel:
            self.chosen = gr.Dropdown(
                [],
                multiselect=True,
                max_choices=MOST,
                label="Runs",
                info=f"Choose two to {MOST}.",
                elem_id="run-comparison-runs",
            )
            self.drawn = markup.panel(
                markup.empty("Choose at least two runs."), elem_id="run-comparison-seen", min_height=60
            )
            self.charts = charts.place("run-comparison-charts")
        outputs = [self.drawn, self.charts]
        Handler(studio, self._show, {"run_ids": self.chosen}, outputs, LATEST).on(self.chosen.change)
        Handler(studio, self._refresh, {"chosen": self.chosen}, [self.chosen]).on(panel.expand)

    def _show(self, visitor: Visitor, run_ids: list[str] | None) -> Updates:
        try:
            runs = [owned_run(self.studio, run_id, visitor) for run_id in run_ids or []]
            return {self.drawn: compared(runs), self.charts: drawn(runs)}
        except SimCTError as error:
            return {self.drawn: markup.note("error", one_line(error)), self.charts: charts.data((), "")}

    def _refresh(self, visitor: Visitor, chosen: list[str] | None) -> Updates:
        options = one_line_options(visible(self.studio, visitor))
        ids = [run_id for _, run_id in options]
        still = [run_id for run_id in chosen or [] if run_id in ids]
        return {self.chosen: gr.Dropdown(choices=options, **new_value(still, chosen or []))}


def compared(runs: Sequence[RunFolder]) -> str:
    """Names, scores and differing settings of the runs. Raises ConfigError for an unreadable run.yaml."""
    if len(runs) < 2:
        return markup.empty("Choose at least two runs.")
    named = _named(runs)
    return f"{_who(named)}{_scores(named)}{_differences(named)}"


def drawn(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The curves of the runs in the same charts, labeled with the letters of the runs."""
    named = _named(runs) if len(runs) > 1 else {}
    metrics = {letter: run.metrics() for letter, run in named.items()}
    evaluations = {letter: evaluations_of(run) for letter, run in named.items()}
    key = " ".join(run.id for run in named.values())
    return charts.data(curves.of_several(metrics, evaluations), key)


def _named(runs: Sequence[RunFolder]) -> dict[str, RunFolder]:
    return dict(zip(LETTERS, runs[:MOST], strict=False))


def _who(named: dict[str, RunFolder]) -> str:
    rows = []
    for color, (letter, run) in enumerate(named.items()):
        config, status = run.config(), run.status()
        teachers = " + ".join(display_name(model.model) for model in config.teacher_models)
        pair = f"{teachers} → {display_name(config.student.model)}"
        steps = f"{status.step:,} of {status.total_steps or 0:,}"
        mark = f'<i class="swatch" style="--of-line: var(--series-{color})"></i>{letter}'
        rows.append((mark, pair, config.method, status.state, steps, run.id))
    return markup.table(("", "Pair", "Method", "State", "Steps", "Run"), rows, raw=(0,))


def _scores(named: dict[str, RunFolder]) -> str:
    """Every result before training, at the best checkpoint and at the end, with the change."""
    results = [{row.name: row for row in run_results(run).rows} for run in named.values()]
    rows = []
    for name in dict.fromkeys(name for each in results for name in each):
        for column in COLUMNS:
            cells = [getattr(each[name], column) if name in each else MISSING for each in results]
            if any(cell != MISSING for cell in cells):
                rows.append((f"{name}, {column}", *cells))
    return "<h3>Results</h3>" + markup.table(("", *named), rows) if rows else ""


def _differences(named: dict[str, RunFolder]) -> str:
    rows = differing([run.config() for run in named.values()])
    if not rows:
        return "<h3>Settings</h3>" + markup.empty("All settings are the same.")
    return "<h3>Settings that differ</h3>" + markup.table(("Setting", *named), rows)


def differing(configs: Sequence[RunConfig]) -> list[tuple[str, ...]]:
    """(setting, its value in each run) for every setting that is not the same in all of them."""
    flat = [leaves(config.model_dump()) for config in configs]
    for each in flat:
        each |= {f"method_options.{name}": value for name, value in each.pop("method_options").items()}
    names = [name for name in dict.fromkeys(key for each in flat for key in each) if name not in NOT_SETTINGS]
    rows = [(name, *(_written(each.get(name)) for each in flat)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _written(value: Any) -> str:
    return "–" if value in (None, "", []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
