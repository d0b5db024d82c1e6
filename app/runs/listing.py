"""The list of runs: which runs a visitor sees, filters by words, state and project, and the label of each run."""

from collections.abc import Sequence

import gradio as gr

from app.page import markup
from app.runs.names import label, titled
from app.server.handler import new_value
from app.server.studio import Studio
from app.server.visitor import Visitor, own_runs
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.labels import read_label
from simct.runs.listing import list_statuses
from simct.runs.status import RunStatus

PAGE = 30
STATES = ["All runs", "Active", "Finished", "Stopped", "Failed", "Starred"]
# a choice of the project filter; every other choice is NAMED followed by the name of a project
ANY, THIS, NONE, NAMED = "any", "this", "none", "named "
SEARCHED = ("project", "method", "kind", "teacher", "student", "flavor", "namespace", "message", "error", "state")

Listed = Sequence[tuple[RunFolder, RunStatus]]


def visible(studio: Studio, visitor: Visitor) -> list[tuple[RunFolder, RunStatus]]:
    """Runs with their status, newest first; in public only the visitor's own."""
    return [(run, titled(studio, run, status)) for run, status in own_runs(studio, visitor)]


def project_filter(names: Sequence[str], chosen: str = ANY) -> gr.Dropdown:
    """The choice of a project, among those with runs; hidden if no run belongs to a project."""
    choices = [("All projects", ANY), ("This project", THIS), *((name, f"{NAMED}{name}") for name in names)]
    choices.append(("No project", NONE))
    value = chosen if chosen in {each for _, each in choices} else ANY
    return gr.Dropdown(choices=choices, visible=bool(names), **new_value(value, chosen))


def filtered_project(chosen: str | None, project: str | None) -> str | None:
    """The name of the project that was `chosen` in the filter; empty for runs without a project, None for all runs.

    `project` is the one that the page is in.
    """
    if chosen == THIS:
        return project or ""
    if chosen == NONE:
        return ""
    return chosen.removeprefix(NAMED) if chosen and chosen.startswith(NAMED) else None


def filtered(listed: Listed, words: str, state: str, project: str | None = None) -> list[tuple[RunFolder, RunStatus]]:
    """The runs in `state` and `project` that have every word in their label, id, project, method, models, machine or
    message. An empty `project` means runs without a project, None means all runs.
    """
    wanted = (words or "").lower().split()

    def fits(run: RunFolder, status: RunStatus) -> bool:
        if state == "Active" and not status.active:
            return False
        if project is not None and (status.project or "") != project:
            return False
        if state in STATES[2:5] and status.state != state.lower():
            return False
        if state == "Starred" and not read_label(run).starred:
            return False
        if not wanted:
            return True
        label = read_label(run)
        text = " ".join([run.id, label.line, label.note, *(getattr(status, name) or "" for name in SEARCHED)]).lower()
        return all(word in text for word in wanted)

    return [each for each in listed if fits(*each)]


def places(studio: Studio, listed: Listed) -> dict[str, str]:
    """The place of each waiting run in the queue, which all visitors share."""
    if not any(status.state == "queued" for _, status in listed):
        return {}
    line = queue.in_order(list_statuses(studio.runs_dir))
    return {run.id: queue.place_line(place, len(line)) for place, (run, _) in enumerate(line, start=1)}


def options(listed: Listed, waiting: dict[str, str]) -> list[tuple[str, str]]:
    return [(label(run, status, waiting.get(run.id)), run.id) for run, status in listed]


def count_line(shown: int, found: int, all_runs: int) -> str:
    """A line on how many runs are shown, if some are not."""
    if not all_runs:
        return markup.empty("No runs yet. Launch one under Train.")
    if not found:
        return markup.empty(f"No run matches, out of {all_runs:,}.")
    if shown < found:
        return markup.note("quiet", f"{shown:,} of {found:,} runs shown.")
    return markup.note("quiet", f"{found:,} of {all_runs:,} runs.") if found < all_runs else ""


def choices(studio: Studio, run_id: str | None, visitor: Visitor) -> gr.Radio:
    """The list with `run_id` chosen, or with the newest run."""
    listed = visible(studio, visitor)
    shown = listed[:PAGE] + [each for each in listed[PAGE:] if each[0].id == run_id]
    found = options(shown, places(studio, shown))
    ids = [name for _, name in found]
    return gr.Radio(choices=found, value=run_id if run_id in ids else next(iter(ids), None))


def one_line_options(listed: Listed) -> list[tuple[str, str]]:
    """The choices of a Dropdown: (line, id)."""
    return [(label(run, status).replace("\n", " · "), run.id) for run, status in listed]
