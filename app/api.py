"""What programs may ask of a running studio beside /inspect: read-only, by gradio_client (docs/running.md)."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from app.page.markup import one_line
from app.runs.page import runs_of
from app.server import model_facts as models
from app.server.settings import Settings
from app.train import estimate as estimate_view
from simct.config import config_from_text
from simct.errors import ConfigError, SimCTError

MOST_YAML = 20_000


def build(settings: Settings) -> None:
    """Add the endpoints to the page. They act without a visitor: in public with no token at all."""

    def estimate(run_yaml: str) -> dict:
        """Memory, time and cost of the run that a run.yaml (its text) describes, on every machine known."""
        with telling():
            if len(run_yaml) > MOST_YAML:
                raise ConfigError(f"This run.yaml has {len(run_yaml):,} characters; give at most {MOST_YAML:,}.")
            config = config_from_text(run_yaml)
            for model in (config.teacher, config.student):
                models.allowed(settings, model.model)
            return estimate_view.estimate(settings, config, settings.token(None)).to_dict()

    def runs() -> list[dict]:
        """This machine's runs, newest first: id, state, step, total_steps, method, teacher, student, scores."""
        with telling():
            return [_summary(run) for run in runs_of(settings, None)]

    gr.api(estimate, api_name="estimate")
    if not settings.public:
        # in public a run belongs to a visitor who signed in, and a program has not
        gr.api(runs, api_name="runs")


@contextmanager
def telling() -> Iterator[None]:
    """While open, an error for people reaches the client as its one line."""
    try:
        yield
    except SimCTError as error:
        raise gr.Error(one_line(error), print_exception=False) from error


def _summary(run) -> dict:
    status = run.status()
    told = {
        "id": run.id,
        **{name: getattr(status, name) for name in ("state", "step", "total_steps", "message", "error")},
    }
    try:
        config = run.config()
    except SimCTError as error:
        return {**told, "error": one_line(error)}
    named = {"method": config.method, "teacher": config.teacher.model, "student": config.student.model}
    return {**told, **named, "scores": run.evaluation()}
