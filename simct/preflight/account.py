"""Whether the token permits what the run does on the Hub (start a Job, write), and whether the Job's machine fits."""

from typing import Any

from huggingface_hub import get_token

from simct.errors import SimCTError
from simct.hub.client import hub_api
from simct.hub.errors import SIGN_IN, TOKENS_PAGE, hub_error
from simct.jobs.hf.hardware import offers
from simct.preflight.planned import NotRead, PlannedRun
from simct.preflight.records import Check, from_error, ok, problem, warning
from simct.publishing import when_finished


def check_account(planned: PlannedRun) -> list[Check]:
    """Check who is signed in, whether the token may write, and the namespaces of the Job and the repositories."""
    place = planned.place
    if not place.on_jobs and not place.push_to:
        return []
    purpose = "a Job is charged to an account" if place.on_jobs else "the run pushes to the Hub"
    if planned.token is False or not (planned.token or get_token()):
        return [problem(f"You are not signed in to the Hub, and {purpose}.", f"{SIGN_IN[0].upper()}{SIGN_IN[1:]}.")]
    try:
        account = hub_api(planned.token).whoami()
    except Exception as error:
        return [from_error(hub_error(error, kind="job"))]
    found = _check_token(account) + _check_names(planned, account)
    if place.on_jobs and account.get("canPay") is False and place.namespace in (None, account["name"]):
        line = f"The account {account['name']} has no payment method, and Jobs are paid."
        found.append(warning(line, "Add one, or credits, at https://huggingface.co/settings/billing."))
    return found or [ok(f"Signed in to the Hub as {account['name']}, with a token that can write.")]


def _check_token(account: dict[str, Any]) -> list[Check]:
    role = ((account.get("auth") or {}).get("accessToken") or {}).get("role")
    if role != "read":
        return []
    line = f"The token of {account['name']} can only read, and the run writes to the Hub."
    return [problem(line, f"Use a token that can write: {TOKENS_PAGE}.")]


def _check_names(planned: PlannedRun, account: dict[str, Any]) -> list[Check]:
    """Check the written namespaces: they must be the account's own, or of organizations where it may write."""
    place = planned.place
    may = {account["name"]: True}
    may |= {org["name"]: org.get("roleInOrg") not in ("read", "no_access") for org in account.get("orgs") or []}
    wanted = [(place.namespace, "namespace")] if place.on_jobs and place.namespace else []
    wanted += [(repo.split("/")[0], "") for repo in place.push_to if "/" in repo]
    return [
        problem(
            f"The account {account['name']} may not write to {name!r}.",
            f"Choose one of {', '.join(each for each, allowed in may.items() if allowed)}.",
            setting or None,
        )
        for name, setting in wanted
        if not may.get(name, False)
    ]


def check_publishing(planned: PlannedRun) -> list[Check]:
    """Check that the run may publish its student where `publish` in run.yaml says."""
    try:
        name = when_finished.check_publishing(planned.config, planned.token)
    except SimCTError as error:
        return [from_error(error, "publish.repo_id")]
    return [ok(f"The student may be published to {name}.")] if name else []


def check_job_machine(planned: PlannedRun) -> list[Check]:
    """Check that the chosen machine of Jobs exists and that the run fits on it."""
    place = planned.place
    if not place.on_jobs or not place.flavor or planned.token is False:
        return []
    try:
        count = len(planned.prompt_set.prompts)
    except (SimCTError, NotRead):
        count = None
    offered = offers(planned.config.model_copy(deep=True), planned.token, count)
    offer = next((each for each in offered if each.machine.name == place.flavor), None)
    if offer is None:
        names = ", ".join(each.machine.name for each in offered)
        return [problem(f"There is no machine {place.flavor!r}.", f"Choose one of {names}.", "flavor")]
    if offer.fits is False:
        fitting = [each.machine.name for each in offered if each.fits]
        lower = f"Lower {planned.config.training.micro_batch_setting}."
        remedy = f"Choose one of {', '.join(fitting)}." if fitting else lower
        return [problem(f"The run does not fit {place.flavor}: it {offer.why}.", remedy, "flavor")]
    if offer.fits is None:
        return [warning(f"It is not known whether the run fits {place.flavor}: {offer.why}", setting="flavor")]
    return [ok(f"{offer.line()}.")]
