"""Several runs at once: their curves over each other, the settings in which they differ, what they scored."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.page import line_charts as charts
from app.page import markup
from app.page.markup import one_line
from app.runs.listing import one_line_options, visible
from app.server.handler import LATEST, Handler, Updates
from app.server.model_facts import display_name
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from simct.config import RunConfig, leaves
from simct.errors import SimCTError
from simct.report.evaluations import MISSING, run_results
from simct.report.formats import number
from simct.runs.folder import RunFolder

MOST = 6
LETTERS = "ABCDEF"
CURVES = (
    ("Loss", "loss", number),
    ("Distance, student to teacher", "distance_student_to_teacher", number),
    ("Distance, teacher to student", "distance_teacher_to_student", number),
    ("KL, shared", "kl_shared", number),
    ("KL, recovered", "kl_recovered", number),
    ("Tokens recovered", "coverage_recovered", charts.percent),
    ("Answers that end", "eos_rate", charts.percent),
    ("Answer length, tokens", "response_length", number),
)
NOT_SETTINGS = ("output",)
COLUMNS = ("before", "best", "after", "change", "teacher")


class RunComparison:
    """A chooser, and what is seen of the chosen; folded, because most people have one run."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Accordion("Run comparison", open=False, elem_id="run-comparison") as panel:
            self.chosen = gr.Dropdown(
                [],
                multiselect=True,
                max_choices=MOST,
                label="Runs",
                info=f"Two to {MOST}, over each other.",
                elem_id="run-comparison-runs",
            )
            self.drawn = markup.panel(
                markup.empty("Choose two runs or more."), elem_id="run-comparison-seen", min_height=60
            )
        Handler(studio, self._show, {"run_ids": self.chosen}, [self.drawn], LATEST).on(self.chosen.change)
        Handler(studio, self._refresh, {"chosen": self.chosen}, [self.chosen]).on(panel.expand)

    def _show(self, visitor: Visitor, run_ids: list[str] | None) -> Updates:
        try:
            runs = [owned_run(self.studio, run_id, visitor) for run_id in run_ids or []]
            return {self.drawn: compared(runs)}
        except SimCTError as error:
            return {self.drawn: markup.note("error", one_line(error))}

    def _refresh(self, visitor: Visitor, chosen: list[str] | None) -> Updates:
        options = one_line_options(visible(self.studio, visitor))
        ids = [run_id for _, run_id in options]
        still = [run_id for run_id in chosen or [] if run_id in ids]
        return {self.chosen: gr.Dropdown(choices=options, value=still)}


def compared(runs: Sequence[RunFolder]) -> str:
    """Names, scores, differing settings and curves of the runs. Raises ConfigError for an unreadable run.yaml."""
    if len(runs) < 2:
        return markup.empty("Choose two runs or more.")
    named = dict(zip(LETTERS, runs[:MOST], strict=False))
    return f"{_who(named)}{_scores(named)}{_differences(named)}{_curves(named)}"


def _who(named: dict[str, RunFolder]) -> str:
    rows = []
    for letter, run in named.items():
        config, status = run.config(), run.status()
        teachers = " + ".join(display_name(model.model) for model in config.teacher_models)
        pair = f"{teachers} → {display_name(config.student.model)}"
        steps = f"{status.step:,} of {status.total_steps or 0:,}"
        rows.append((letter, pair, config.method, status.state, steps, run.id))
    return markup.table(("", "Pair", "Method", "State", "Steps", "Run"), rows)


def _scores(named: dict[str, RunFolder]) -> str:
    """Every result before training, at the best checkpoint and at the end, with what changed."""
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
        return "<h3>Settings</h3>" + markup.empty("Every setting is the same.")
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


def _curves(named: dict[str, RunFolder]) -> str:
    metrics = {letter: run.metrics() for letter, run in named.items()}
    drawn = []
    for title, name, form in CURVES:
        series = {
            letter: charts.smooth([(each["step"], each[name]) for each in records if _is_number(each.get(name))])
            for letter, records in metrics.items()
        }
        if any(series.values()):
            drawn.append(charts.line_chart(title, series, form))
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
