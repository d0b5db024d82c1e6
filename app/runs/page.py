"""The content of the Runs page as plain data, read at every refresh and compared with the previous content."""

from dataclasses import dataclass
from typing import Any

from app.runs import evaluations, listing, table, view
from app.runs.actions import allowed_actions
from app.runs.names import stamp
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.jobs import actions
from simct.runs.folder import RunFolder
from simct.runs.labels import RunLabel, read_label
from simct.runs.sharing import SHARE_FILE


@dataclass(frozen=True)
class Look:
    """The run to show, its place in the queue, the Hub's last error about Jobs, the listed runs, and the content of the
    page as plain data, to find what has changed.
    """

    run: RunFolder | None
    place: str | None
    trouble: str | None
    listed: listing.Listed
    shown: dict[str, Any]


def look(
    studio: Studio,
    visitor: Visitor,
    run_id: str | None,
    words: str,
    state: str,
    length: int,
    project: str | None = None,
) -> Look:
    """The present content of the page: at most `length` of the runs that match `words`, `state` and `project`, and the
    run `run_id`, or else the first one. `project` is as in listing.filtered.
    """
    trouble = studio.background.trouble.get(visitor.owner)
    listed = listing.visible(studio, visitor)
    found = listing.filtered(listed, words, state, project)
    by_id = {run.id: run for run, _ in found}
    run = by_id.get(run_id or "") or next(iter(by_id.values()), None)
    shown = found[:length] + [each for each in found[length:] if each[0] == run]
    waiting = listing.places(studio, shown)
    status = actions.known_status(run) if run else None
    quiet = actions.silence(run, status) if run and status else None
    place = waiting.get(run.id) if run else None
    picked = run.id if run else None
    label = read_label(run) if run else RunLabel()
    files = [stamp(run, name) for name in view.FILES] if run else []
    return Look(run, place, trouble, shown, {
        "list": listing.options(shown, waiting),
        "count": [len(shown), len(found), len(listed)],
        "projects": sorted({status.project for _, status in listed if status.project}),
        "table": [picked, *(table.stamps(*each) for each in shown)],
        "label": [picked, label.name, label.note, label.tags],
        "star": [picked, label.starred],
        "share": [picked, run and stamp(run, SHARE_FILE)],
        "run": [picked, place, trouble, quiet and quiet // 60, *files],
        "metrics": [picked, run and stamp(run, "metrics.jsonl")],
        "evaluations": [picked, *(stamp(run, name) for name in evaluations.FILES if run)],
        "allowed": allowed_actions(run, status),
    })  # fmt: skip


def runs_of(studio: Studio, visitor: Visitor) -> list[RunFolder]:
    """Newest first; in public only the visitor's own."""
    return [run for run, _ in listing.visible(studio, visitor)]
