"""What comes back after a reload: project, pair, run and step from the address bar, and the prompts and settings that
the browser keeps of the project, for each of its tabs. A bare address opens the project that was used last.

The browser's side of it is page/static/address.js and storage.js.
"""

from typing import Any

import gradio as gr

from app import projects
from app.data import choice
from app.data.tab import DataTab
from app.inspect.tab import InspectTab
from app.page import markup
from app.pair import model_field
from app.pair.tab import PairTab
from app.runs.listing import choices
from app.runs.tab import RunsTab
from app.server import model_facts
from app.server.handler import Updates
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.start.tour import tour_config
from app.train.form import base_config, starting_config
from app.train.tab import TrainTab
from simct.config import RunConfig

STEPS = ("pair", "inspect", "data", "train", "runs", "compare", "publish", "help")


def decisions(teacher: str | None, student: str | None, prompts: choice.Choice | None, run_id: str | None) -> str:
    """The choices so far, in one line above the steps."""
    parts = [" → ".join(model_facts.display_name(model) for model in (teacher or "?", student or "?"))]
    parts.append(choice.name_of(prompts))
    if run_id:
        parts.append(f"run {run_id}")
    return f'<p class="where">{markup.escape(" · ".join(parts))}</p>'


class Restoring:
    """Puts back what an address names and a browser kept. `prompts` and `verdict` hold what it kept of those."""

    def __init__(
        self,
        studio: Studio,
        steps: tuple[PairTab, InspectTab, DataTab, TrainTab, RunsTab],
        tabs: gr.Tabs,
        project: gr.Dropdown,
        prompts: gr.JSON,
        verdict: gr.JSON,
    ) -> None:
        self.studio, self.tabs, self.project = studio, tabs, project
        self.prompts, self.verdict = prompts, verdict
        self.pair, self.inspect, self.data, self.train, self.runs = steps
        pair_and_data = [self.pair.teacher, self.pair.student, prompts, *self.data.fields.values()]
        self.pair_and_data = pair_and_data
        self.everything = [
            *pair_and_data, project, self.runs.chosen, tabs, self.runs.timer, *self.inspect.kept, verdict,
            *self.train.form_outputs,
        ]  # fmt: skip

    def restore(self, visitor: Visitor, query: dict[str, Any], prompts: Any, run: Any, verdict: Any) -> Updates:
        """Project, pair, run and step from the address bar's `query`; the rest as the browser kept it."""
        query, prompts, run, verdict = (
            value if isinstance(value, dict) else {} for value in (query, prompts, run, verdict)
        )
        step = query.get("step") if query.get("step") in STEPS else "pair"
        teacher, student = (str(query.get(side) or default) for side, default in self.studio.default_pair.items())
        config = tour_config() if query.get("tour") else base_config(run)
        before, kept = self.train.load(starting_config()), self.train.load(config)
        # initial values are not sent again, except to gr.Number, which shows None as 0 until it is sent
        changed = {each: value for each, value in kept.items() if value != before[each] or value is None}
        return {
            self.project: projects.shown(query),
            self.pair.teacher: model_field.shown(teacher),
            self.pair.student: model_field.shown(student),
            self.runs.chosen: choices(self.studio, query.get("run"), visitor),
            self.tabs: gr.Tabs(selected=step),
            self.runs.timer: gr.Timer(active=step == "runs"),
            **self.inspect.restored(query),
            self.prompts: prompts or choice.START,
            self.verdict: verdict,
            **self.data.restored(prompts),
            **changed,
        }

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
            self.prompts: prompts,
            **self.data.restored(prompts),
        }
