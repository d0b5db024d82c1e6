"""The list of runs: which ones a visitor sees, filtered by words and state, and the label of each."""

from collections.abc import Sequence

import gradio as gr

from app.page import markup
from app.runs.names import label, titled
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.labels import read_label
from simct.runs.listing import list_statuses
from simct.runs.status import RunStatus

PAGE = 30
IN_PROJECT = "This project"
STATES = ["All runs", IN_PROJECT, "Active", "Finished", "Stopped", "Failed", "Starred"]
SEARCHED = ("project", "method", "kind", "teacher", "student", "flavor", "namespace", "message", "error", "state")

Listed = Sequence[tuple[RunFolder, RunStatus]]


def visible(studio: Studio, visitor: Visitor) -> list[tuple[RunFolder, RunStatus]]:
    """Runs with their status, newest first; in public only the visitor's own."""
    listed = list_statuses(studio.runs_dir)
    if studio.public:
        listed = [each for each in listed if visitor.owner is not None and each[1].owner == visitor.owner]
    return [(run, titled(studio, run, status)) for run, status in listed]


def filtered(listed: Listed, words: str, state: str, project: str | None = None) -> list[tuple[RunFolder, RunStatus]]:
    """Those in `state`, or of `project`, that have every word in their label, id, project, method, models,
    machine or message."""
    wanted = (words or "").lower().split()

    def fits(run: RunFolder, status: RunStatus) -> bool:
        if state == "Active" and not status.active:
            return False
        if state == IN_PROJECT and (status.project or "") != (project or ""):
            return False
        if state in STATES[3:6] and status.state != state.lower():
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
    """How many runs are not shown, if any."""
    if not all_runs:
        return markup.empty("No runs yet. Launch one under Train.")
    if not found:
        return markup.empty(f"None of the {all_runs:,} runs matches.")
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
