"""What the Runs page shows, as plain data: read at every refresh and compared with what was shown before."""

from app.runs import evaluations, listing, table, view
from app.runs.actions import allowed_actions
from app.runs.names import stamp
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.jobs import actions
from simct.runs.folder import RunFolder
from simct.runs.sharing import SHARE_FILE


def current(
    studio: Studio,
    visitor: Visitor,
    run_id: str | None,
    words: str,
    state: str,
    length: int,
    trouble: str | None,
    project: str | None = None,
) -> tuple[RunFolder | None, str | None, dict, listing.Listed]:
    """The run to show, its place in the queue, everything that the page shows as plain data (to find what has changed),
    and the listed runs. `project` is as in listing.filtered."""
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
    files = [stamp(run, name) for name in view.FILES] if run else []
    return run, place, {
        "list": listing.options(shown, waiting),
        "count": [len(shown), len(found), len(listed)],
        "projects": sorted({status.project for _, status in listed if status.project}),
        "table": [picked, *(table.stamps(*each) for each in shown)],
        "label": [picked, run and stamp(run, "label.json")],
        "share": [picked, run and stamp(run, SHARE_FILE)],
        "run": [run and run.id, place, trouble, quiet and quiet // 60, *files],
        "metrics": [run and run.id, run and stamp(run, "metrics.jsonl")],
        "evaluations": [run and run.id, *(stamp(run, name) for name in evaluations.FILES if run)],
        "allowed": allowed_actions(run, status),
    }, shown  # fmt: skip


def runs_of(studio: Studio, visitor: Visitor) -> list[RunFolder]:
    """Newest first; in public only the visitor's own."""
    return [run for run, _ in listing.visible(studio, visitor)]
