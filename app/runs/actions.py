"""What a visitor may do with a run: which buttons to offer, which actions need confirmation, and the actions
themselves.
"""

from app.server.visitor import Visitor
from simct.jobs import actions
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

ACTIONS = ("stop", "kill", "resume", "retry", "duplicate", "delete", "fetch", "publish")


def allowed_actions(run: RunFolder | None, status: RunStatus | None) -> dict[str, bool]:
    """The buttons that make sense now."""
    if run is None or status is None:
        return dict.fromkeys(ACTIONS, False)
    finished = status.state == "finished"
    elsewhere = status.remote and not (run.model_dir / "config.json").exists()
    return {
        "stop": status.active and status.state != "stopping",
        "kill": status.active,
        "resume": status.state in ("stopped", "failed"),
        "retry": not status.active,
        "duplicate": True,
        "delete": not status.active,
        "fetch": finished and elsewhere,
        "publish": finished and not elsewhere,
    }


def question(action: str, run: RunFolder) -> tuple[str, str] | None:
    """The question before an action that cannot be undone or costs money, and the label of its button; None for other
    actions.
    """
    rental = actions.rental_of(run)
    if action == "kill":
        lost = " All progress since its last checkpoint will be lost." if run.status().step else ""
        return f"End this run now?{lost}", "End it now"
    if action == "delete":
        where = "folder and its private repository on the Hub" if run.status().job_id else "folder"
        return f"Delete this run? This removes its {where}, with its model and checkpoints.", "Delete permanently"
    if action in ("resume", "retry") and rental:
        return f"This starts a Job on {rental.line()}, charged to {rental.namespace}.", "Start the Job"
    return None


def perform(action: str, run: RunFolder, visitor: Visitor) -> tuple[str, str | None]:
    """Act on the run; returns a message, and the id of a new run to show. Raises a one-line SimCTError."""
    token, own = visitor.token, visitor.own_token
    if action == "stop":
        return actions.stop(run, token), None
    if action == "kill":
        return actions.kill(run, token), None
    if action == "resume":
        return actions.resume(run, own), None
    if action == "retry":
        new = actions.retry(run, own, owner=visitor.owner)
        return f"Started again as {new.id}.", new.id
    if action == "fetch":
        actions.fetch_model(run, token)
        return "The student has been downloaded. You can now compare and publish it.", None
    return actions.delete(run, token), None
