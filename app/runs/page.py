"""What the Runs page shows, as plain data: read again at every look, and compared with what was shown before."""

from app.runs import list as run_list
from app.runs import view as run_view
from app.runs.actions import allowed_actions
from app.runs.names import stamp
from app.server.settings import Settings
from simct.jobs import actions
from simct.runs.folder import RunFolder


def current(
    settings: Settings, owner: str | None, run_id: str | None, words: str, state: str, length: int, trouble: str | None
) -> tuple[RunFolder | None, str | None, dict]:
    """The run to show, its place in the queue, and all that the page shows as plain data, to find what has changed."""
    listed = run_list.visible(settings, owner)
    found = run_list.filtered(listed, words, state)
    by_id = {run.id: run for run, _ in found}
    run = by_id.get(run_id) or next(iter(by_id.values()), None)
    shown = found[:length] + [each for each in found[length:] if each[0] == run]
    waiting = run_list.places(settings, shown)
    status = actions.known_status(run) if run else None
    quiet = actions.silence(run, status) if run and status else None
    place = waiting.get(run.id) if run else None
    files = [stamp(run, name) for name in run_view.FILES] if run else []
    return run, place, {
        "list": run_list.options(shown, waiting),
        "count": [len(shown), len(found), len(listed)],
        "run": [run and run.id, place, trouble, quiet and quiet // 60, *files],
        "allowed": allowed_actions(run, status),
    }  # fmt: skip


def runs_of(settings: Settings, owner: str | None) -> list[RunFolder]:
    """Newest first; in public only the visitor's own."""
    return [run for run, _ in run_list.visible(settings, owner)]
