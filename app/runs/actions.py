"""What a visitor may do with a run: which buttons make sense, what has to be confirmed, and doing it."""

from app.server.settings import Settings
from simct.errors import RunError
from simct.jobs import actions
from simct.runs.folder import ACTIVE_STATES, RunFolder
from simct.runs.listing import open_run

ACTIONS = ("stop", "kill", "resume", "retry", "duplicate", "delete", "fetch", "publish")


def owned_run(settings: Settings, run_id: str | None, owner: str | None) -> RunFolder:
    """The run, if this visitor may act on it. Raises RunError."""
    run = open_run(settings.runs_dir, run_id or "")
    if settings.public and (owner is None or run.status().get("owner") != owner):
        raise RunError(f"There is no run {run_id!r} of yours.")
    return run


def allowed_actions(run: RunFolder | None, state: str | None) -> dict[str, bool]:
    """Which buttons make sense now."""
    if run is None:
        return dict.fromkeys(ACTIONS, False)
    active = state in ACTIVE_STATES
    away = actions.on_jobs(run) and not (run.model_dir / "config.json").exists()
    return {
        "stop": active and state != "stopping",
        "kill": active,
        "resume": state in ("stopped", "failed"),
        "retry": not active,
        "duplicate": True,
        "delete": not active,
        "fetch": state == "finished" and away,
        "publish": state == "finished" and not away,
    }


def question(action: str, run: RunFolder) -> tuple[str, str] | None:
    """What to ask before doing it and the button that does; None for what can be taken back."""
    rental = actions.rental_of(run)
    if action == "kill":
        lost = "What it did since its last checkpoint is lost." if run.status().get("step") else "It ends at once."
        return f"End this run at once? {lost}", "End it now"
    if action == "delete":
        where = "folder and its private repository on the Hub" if run.status().get("job_id") else "folder"
        return f"Delete this run? This removes its {where}, with model and checkpoints.", "Delete for good"
    if action in ("resume", "retry") and rental:
        return f"This starts a Job on {rental.line()}, charged to {rental.namespace}.", "Start the Job"
    return None


def perform(action: str, run: RunFolder, token: str | bool | None, owner: str | None = None) -> tuple[str, str | None]:
    """Do it; what to tell, and the run to show afterwards if that is another. Raises a one-line SimCTError."""
    lent = token or None
    if action == "stop":
        return actions.stop(run, token), None
    if action == "kill":
        return actions.kill(run, token), None
    if action == "resume":
        return actions.resume(run, lent), None
    if action == "retry":
        new = actions.retry(run, lent, owner=owner)
        return f"Started again as {new.id}.", new.id
    if action == "fetch":
        actions.model_here(run, token)
        return "The student is here: it can be compared and published.", None
    return actions.delete(run, token), None
