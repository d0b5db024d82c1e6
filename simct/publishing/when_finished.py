"""Publishing by the run itself, as `publish` in its run.yaml asks: checked before it starts, done when it has finished.

The run is finished before anything is pushed. Whatever the Hub answers, it stays finished and can be published again
with one click or `simct publish`. A student that was published is not pushed a second time.
"""

import os
import time
from typing import cast

from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.errors import RepositoryNotFoundError

from simct.config import RunConfig
from simct.errors import HubError, brief
from simct.evaluation.noise import score_change
from simct.evaluation.records import DIRECTIONS, distance_change, evaluations_of
from simct.hub import client
from simct.hub.client import hub_api
from simct.hub.errors import SIGN_IN, hub_error
from simct.hub.repo_ids import hub_id
from simct.hub.retry import passing, patiently
from simct.jobs.local.process import start_time
from simct.publishing.card import RUN_FILE
from simct.publishing.card_results import kept_evaluation
from simct.publishing.push import begin, foreign, publish_run
from simct.runs.folder import RunFolder

# seconds between tries, so that a few minutes of trouble at the Hub do not prevent publishing
WAITS = (5.0, 30.0, 120.0, 300.0)
WRITING_ROLES = ("admin", "write", "contributor")


def check_publishing(config: RunConfig, token: str | bool | None = None) -> str | None:
    """Ask the Hub whether the run may publish where it says; returns the repository's full name, None without one.

    Nothing is written. Raises a one-line HubError: no token, the token can only read, the account may not
    write there, or the repository holds something else.
    """
    name = config.publish.repo_id
    if name is None:
        return None
    if token is False:
        raise HubError(f"The run would publish to {name}, and you are not signed in to the Hub: {SIGN_IN}.")
    if config.publish.what != "merged" and not hub_id(config.student.model):
        raise HubError(
            f"publish.what is {config.publish.what!r}, and the student is a folder of this machine: no one else could "
            "load its adapter. Name the student by its Hub id, or set publish.what to merged."
        )
    try:
        api = hub_api(token)
        account = patiently(api.whoami)
        repo_id = name if "/" in name else f"{account['name']}/{name}"
        _check_account(account, repo_id)
        _check_repository(api, repo_id)
    except Exception as error:
        raise hub_error(error, name, writing=True) from error
    return repo_id


def _check_account(account: dict, repo_id: str) -> None:
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise HubError(f"The run would publish to {repo_id}, and the token can only read. Use one that can write.")
    owner = repo_id.split("/")[0]
    organizations = {each["name"]: each.get("roleInOrg") for each in account.get("orgs", [])}
    if owner != account["name"] and organizations.get(owner, "none") not in (*WRITING_ROLES, None):
        own = ", ".join([account["name"], *organizations])
        raise HubError(f"publish.repo_id is {repo_id!r}, where {account['name']} may not write. Choose from: {own}.")


def _check_repository(api: HfApi, repo_id: str) -> None:
    try:
        info = cast(ModelInfo, api.repo_info(repo_id, timeout=client.SEARCH_SECONDS))
    except RepositoryNotFoundError:
        return
    if foreign([each.rfilename for each in info.siblings or []], RUN_FILE):
        raise HubError(
            f"publish.repo_id is {repo_id!r}, which exists and was not made by SimCT Studio. Choose another name."
        )


def announce_publishing(run: RunFolder) -> None:
    """Record, before the run counts as finished, that its process will publish it."""
    settings = run.config().publish
    if settings.repo_id is not None and not _published(run):
        pid = os.getpid()
        begin(run, settings.repo_id, settings.private, pid=pid, pid_started=start_time(pid))


def publish_when_finished(run: RunFolder, token: str | None = None) -> str | None:
    """Publish a finished run as its run.yaml asks; returns one line for its log, None where nothing was asked.

    Never raises: the reason for a failure is in publish.json and in the line.
    """
    settings = run.config().publish
    if settings.repo_id is None:
        return None
    if settings.only_if_improved and (reason := not_improved(run)):
        run.set_publishing(state="none", stage=None, pid=None, pid_started=None)
        return f"Not published: {reason}"
    if _published(run):
        return f"Published before: {run.publishing().url}"
    for wait in (*WAITS, None):
        try:
            url = publish_run(
                run,
                settings.repo_id,
                settings.private,
                token,
                rollouts=settings.rollouts,
                space=settings.space,
                what=settings.what,
            )
            return f"Published: {url}"
        except Exception as error:
            if wait is None or error.__cause__ is None or not passing(error.__cause__):
                return f"Not published: {brief(error)} The run itself has finished: publish it by simct publish."
        time.sleep(wait)
    return None


def not_improved(run: RunFolder) -> str | None:
    """Why the student counts as not improved, None if it did: something improved by more than noise, and nothing
    became worse by more than noise, of its tasks' scores and of its distance to the teacher.
    """
    scores = run.evaluation()
    after = scores.get("after", {})
    gains = {task: (score_change(scores.get("before", {}).get(task), each), 1) for task, each in after.items()}
    evaluations = evaluations_of(run)
    kept = kept_evaluation(run)
    if kept and kept.step and evaluations[0].step == 0:
        for name, change in distance_change(evaluations[0], kept).items():
            gains[f"distance {DIRECTIONS[name].lower()}"] = change, -1
    known = {name: (change, sign) for name, (change, sign) in gains.items() if change is not None}
    worse = [name for name, (change, sign) in known.items() if change.exceeds_noise and sign * change.mean < 0]
    better = [name for name, (change, sign) in known.items() if change.exceeds_noise and sign * change.mean > 0]
    if worse:
        return f"{worse[0]} became worse by more than noise."
    return None if better else "nothing that was measured improved by more than noise."


def _published(run: RunFolder) -> bool:
    """Whether the student as it is now was published where the run says."""
    record, name = run.publishing(), run.config().publish.repo_id
    same = record.repo_id is not None and name in (record.repo_id, record.repo_id.split("/")[-1])
    return record.state == "published" and same and record.model_step == run.status().model_step
