"""The read-only API of a running studio, for programs with gradio_client (docs/running.md)."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from app.inspect.document import read_document
from app.page.markup import one_line
from app.runs.page import runs_of
from app.server import paths
from app.server.handler import as_gradio_calls_it
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.train import estimate as train_estimate
from app.train import prepare
from simct.config.teachers import teacher_names
from simct.errors import ConfigError, SimCTError
from simct.runs.folder import RunFolder

MOST_YAML = 20_000


def build(studio: Studio) -> None:
    """Add the endpoints to the page."""

    def inspect(visitor: Visitor, teacher: str, student: str, text: str) -> tuple[str, dict]:
        """An error message (empty if there is none), and the report."""
        try:
            return "", read_document(studio, teacher, student, text, visitor.token).report.to_dict()
        except SimCTError as error:
            return one_line(error), {}

    # the other endpoints act without a visitor, and in public without any token
    def estimate(run_yaml: str) -> dict:
        """Memory, time and cost of the run that the text of a run.yaml describes, on every known machine."""
        with errors_as_lines():
            if len(run_yaml) > MOST_YAML:
                raise ConfigError(f"This run.yaml has {len(run_yaml):,} characters; give at most {MOST_YAML:,}.")
            config = prepare.read_run_yaml(studio, run_yaml)
            paths.check_run(studio, studio.nobody, config)
            return train_estimate.estimate(studio, config, studio.nobody.token).to_dict()

    def runs() -> list[dict]:
        """This machine's runs, newest first: id, state, step, total_steps, method, teacher, student, scores."""
        with errors_as_lines():
            return [_summary(run) for run in runs_of(studio, studio.nobody)]

    gr.api(
        as_gradio_calls_it(studio, inspect),
        api_name="inspect",
        api_description="Compare two tokenizers on a text. Returns an error message, if any, and the report.",
        concurrency_limit=1,
        concurrency_id="inspect",
    )
    gr.api(estimate, api_name="estimate")
    if not studio.public:
        # in public a run belongs to a visitor who has signed in; a program has not signed in
        gr.api(runs, api_name="runs")


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Inside this context, an error for people reaches the client as its one line."""
    try:
        yield
    except SimCTError as error:
        raise gr.Error(one_line(error), print_exception=False) from error


def _summary(run: RunFolder) -> dict:
    status = run.status()
    shown = ("state", "step", "total_steps", "message", "error")
    facts = {"id": run.id, **{name: getattr(status, name) for name in shown}}
    try:
        config = run.config()
    except SimCTError as error:
        return {**facts, "error": one_line(error)}
    named = {"method": config.method, "teacher": teacher_names(config), "student": config.student.model}
    return {**facts, **named, "scores": run.evaluation()}
