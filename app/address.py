"""What comes back after a reload: pair, run and step from the address bar, prompts and settings from the browser."""

from collections.abc import Callable

import gradio as gr

from app.data import choice as data_choice
from app.page import markup
from app.pair import model_field
from app.runs import tab as runs_tab
from app.server import model_facts as models
from app.server.settings import Settings
from app.train.form import base_config, starting_config
from simct.config import RunConfig

STEPS = ("pair", "inspect", "data", "train", "runs", "compare", "publish")

# the address bar keeps pair, step and run, so that a reload or a link comes back to the same place
REMEMBER = """(...values) => {
  if (!window.studioRestored) return;
  const url = new URL(window.location);
  const names = ["teacher", "student", "run"];
  names.forEach((name, i) => values[i] ? url.searchParams.set(name, values[i]) : url.searchParams.delete(name));
  window.history.replaceState(null, "", url);
}"""


def remember_step(step: str) -> str:
    return f"""() => {{
  if (!window.studioRestored) return;
  const url = new URL(window.location);
  url.searchParams.set("step", "{step}");
  window.history.replaceState(null, "", url);
  window.scrollTo({{top: 0}});
}}"""


def keep(name: str) -> str:
    """Keep a value in this browser. Not gr.BrowserState: whether that has been read when the page loads is chance."""
    return f"""(value) => {{
  if (window.studioRestored) localStorage.setItem("simct-{name}", JSON.stringify(value));
}}"""


def recall(*names: str) -> str:
    """The values kept, null where there is none or it cannot be read."""
    listed = ", ".join(f'"simct-{name}"' for name in names)
    return f"""() => [{listed}].map(name => {{
  try {{ return JSON.parse(localStorage.getItem(name)); }} catch {{ return null; }}
}})"""


def decided(teacher: str | None, student: str | None, data: dict | None, run: str | None) -> str:
    """What has been decided so far, in one line above the steps."""
    parts = [" → ".join(models.display_name(model) for model in (teacher or "?", student or "?"))]
    parts.append(data_choice.name_of(data))
    if run:
        parts.append(f"run {run}")
    return f'<p class="where">{markup.escape(" · ".join(parts))}</p>'


def restoring(settings: Settings, load: Callable, inspected: Callable):
    def restore(
        request: gr.Request,
        data: dict | None,
        run: dict | None,
        verdict: dict | None,
        profile: gr.OAuthProfile | None = None,
    ):
        """Pair, run and step from the address bar; prompts, settings and verdict from what the browser kept."""
        data, run, verdict = (value if isinstance(value, dict) else {} for value in (data, run, verdict))
        asked = dict(request.query_params)
        step = asked.get("step") if asked.get("step") in STEPS else "pair"
        teacher, student = (asked.get(name) or default for name, default in settings.default_pair.items())
        chosen = runs_tab.choices(settings, asked.get("run"), settings.owner(profile))
        return (
            model_field.shown(teacher),
            model_field.shown(student),
            chosen,
            gr.Tabs(selected=step),
            gr.Timer(active=step == "runs"),
            *inspected(asked),
            data or data_choice.START,
            verdict,
            *data_choice.restored(data),
            *_changed(load(base_config(run)), load(starting_config())),
        )

    return restore


def _changed(values: list, before: list) -> list:
    """Updates of components that were built with `before`: what they hold already is not sent again."""
    # a gr.Number built with None shows 0 until it is told
    return [gr.skip() if value == old and old is not None else value for value, old in zip(values, before, strict=True)]


def pair_and_data(config: RunConfig) -> list:
    """The pair and prompts of a run that was loaded whole, for the steps they belong to."""
    data = data_choice.kept(config.data)
    return [
        model_field.shown(models.joined(config.teacher.model, config.teacher.revision)),
        model_field.shown(models.joined(config.student.model, config.student.revision)),
        data,
        *data_choice.restored(data),
    ]
