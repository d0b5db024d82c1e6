"""What is restored after a reload: project, pair, run and step from the address bar, and the prompts and settings of
the project, which the browser keeps for each of its tabs. An address without a project opens the project used last.

The browser's part is in page/static/address.js and storage.js.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app import projects
from app.data import choice
from app.data.tab import DataTab
from app.inspect import link
from app.inspect.tab import InspectTab
from app.inspect.text import DEFAULT_TEXT
from app.page import markup
from app.page.kept import Kept
from app.pair import model_field
from app.pair import tab as pair_tab
from app.pair.tab import PairTab
from app.runs.listing import choices
from app.runs.tab import RunsTab
from app.server import model_facts
from app.server.handler import Updates
from app.server.studio import Studio
from app.server.visitor import Visitor, own_runs
from app.start.tour import tour_config
from app.train.form import base_config, starting_config
from app.train.tab import TrainTab
from simct.config import RunConfig
from simct.errors import quoted

STEPS = ("pair", "inspect", "data", "train", "runs", "compare", "publish", "help")


def decisions(teacher: str | None, student: str | None, prompts: choice.Choice | None, run_id: str | None) -> str:
    """The choices so far, in one line above the steps."""
    parts = [" → ".join(model_facts.display_name(model) for model in (teacher or "?", student or "?"))]
    parts.append(choice.name_of(prompts))
    if run_id:
        parts.append(f"run {run_id}")
    return f'<p class="where">{markup.escape(" · ".join(parts))}</p>'


def missing(studio: Studio, visitor: Visitor, query: Mapping[str, Any]) -> str:
    """What an address names that does not exist, and what was opened instead, in one line; empty if all of it exists.

    Models are not among it: the steps say which of them cannot be read.
    """
    found = []
    run_id, project, step, part, at = (str(query.get(name) or "") for name in ("run", "project", "step", "part", "at"))
    ids = [run.id for run, _ in own_runs(studio, visitor)] if run_id else []
    if run_id and run_id not in ids:
        instead = "The newest run was opened instead." if ids else "There are no other runs."
        if studio.public and visitor.owner is None:
            instead = "Sign in to see your runs."
        found.append(f"Run {quoted(run_id)} is not here. It may have been deleted. {instead}")
    if project and not query.get("tour") and project not in projects.project_names(query):
        found.append(f"This browser had no project {quoted(project)}, so a new one was opened.")
    if step and step not in STEPS:
        found.append(f"There is no step {quoted(step)}. Pair was opened instead.")
    if part and not link.is_part(part):
        found.append(f"Inspect has no view {quoted(part)}. Text was opened instead.")
    if at and not link.is_unit(at):
        found.append(f"Inspect has no position {quoted(at)}. The first one was opened instead.")
    if query.get("damaged"):
        found.append("The text in the link is damaged. The studio's own text was opened instead.")
    return " ".join(found)


class Restoring:
    """Restores what an address names and what the browser kept."""

    def __init__(
        self,
        studio: Studio,
        steps: tuple[PairTab, InspectTab, DataTab, TrainTab, RunsTab],
        tabs: gr.Tabs,
        project: gr.Dropdown,
        kept: Kept,
        note: gr.HTML,
    ) -> None:
        self.studio, self.tabs, self.project, self.kept, self.note = studio, tabs, project, kept, note
        self.pair, self.inspect, self.data, self.train, self.runs = steps
        pair_and_data = [self.pair.teacher, self.pair.student, kept.prompts, *self.data.fields.values()]
        self.pair_and_data = pair_and_data
        self.everything = [
            *pair_and_data, project, self.runs.chosen, tabs, self.inspect.text.text, *self.inspect.place, kept.verdict,
            self.pair.summary,
            *self.train.form_outputs, note,
        ]  # fmt: skip

    def restore(
        self, visitor: Visitor, query: dict[str, Any], prompts: Any, run: Any, verdict: Any, text: str
    ) -> Updates:
        """Project, pair, run and step come from the address bar's `query` and the inspected text from its fragment; the
        browser kept the rest.

        What the page already shows is not sent again, because everything that is sent is drawn again, and everything
        that depends on it is read again.
        """
        query, prompts, run, verdict = (
            value if isinstance(value, dict) else {} for value in (query, prompts, run, verdict)
        )
        config = tour_config() if query.get("tour") else base_config(run)
        updates: Updates = {
            self.runs.chosen: choices(self.studio, query.get("run"), visitor),
            self.note: markup.until_next(missing(self.studio, visitor, query)),
            **self._place(query),
            **_unlike(self.data.restored(prompts), self.data.restored(None)),
            **_unlike(self.train.load(config), self.train.load(starting_config())),
        }
        if prompts and prompts != choice.START:
            updates[self.kept.prompts] = prompts
        if verdict:
            updates[self.kept.verdict] = verdict
        if text != DEFAULT_TEXT:
            updates[self.inspect.text.text] = text
        if config.teacher.server:
            # the server is asked which model it has once the summary has changed
            updates[self.pair.summary] = pair_tab.reading()
        return updates

    def _place(self, query: dict[str, Any]) -> Updates:
        """Project, pair, step and position, if they differ from a new page."""
        updates: Updates = {}
        if query.get("project") or query.get("projects"):
            updates[self.project] = projects.shown(query)
        for side, default in self.studio.default_pair.items():
            model = str(query.get(side) or default)
            if model != default:
                updates[self.pair.inputs[side]] = model_field.shown(model)
                updates[self.pair.summary] = pair_tab.reading()
        step = query.get("step")
        if step in STEPS[1:]:
            updates[self.tabs] = gr.Tabs(selected=step)
        if query.get("part") or query.get("at"):
            updates |= self.inspect.restored(query)
        return updates

    def load_pair_and_data(self, config: RunConfig) -> Updates:
        """The pair and prompts of a run that was loaded whole, for the steps they belong to."""
        prompts = choice.kept(config.data)
        teacher, student = (
            model_field.shown(model_facts.joined(each.model, each.revision))
            for each in (config.teacher_models[0], config.student)
        )
        return {
            self.pair.teacher: teacher,
            self.pair.student: student,
            self.kept.prompts: prompts,
            **self.data.restored(prompts),
        }


def _unlike(values: Updates, before: Updates) -> Updates:
    """The values that differ from before, and all that are None: gr.Number shows None as 0 until None is sent."""
    return {each: value for each, value in values.items() if value is None or value != before[each]}
