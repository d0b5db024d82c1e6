"""Errors of the Hub's clients as one line that says what to do."""

import errno
import os
import re
from urllib.parse import unquote

import httpx2
from huggingface_hub import constants
from huggingface_hub import errors as hub

from simct.errors import DataError, HubError, ModelError, SimCTError, quoted
from simct.hub.redact import redact
from simct.hub.repo_ids import is_path, no_folder

SIGN_IN = "sign in with `hf auth login` (in a Space: the sign-in button)"
TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_CLASSES: dict[str, type[SimCTError]] = {"model": ModelError, "dataset": DataError}
_PREFIXES = {"dataset": "datasets/", "space": "spaces/"}
_UNREACHABLE = (
    httpx2.TransportError,
    httpx2.InvalidURL,
    hub.OfflineModeIsEnabled,
    hub.LocalEntryNotFoundError,
    hub.FileMetadataError,
    hub.RevisionResolutionError,
    ConnectionError,
    TimeoutError,
)


def page_url(repo_id: str, kind: str = "model") -> str:
    """The web page of a repository. `kind` is model, dataset or space."""
    return f"{constants.ENDPOINT}/{_PREFIXES.get(kind, '')}{repo_id}"


def hub_error(
    error: BaseException, repo_id: str | None = None, *, kind: str = "model", writing: bool = False
) -> SimCTError:
    """The SimCTError that explains what `error`, or its cause, means for `repo_id`.

    `kind` is model, dataset, space or job. A problem with reading one repository becomes a ModelError or DataError,
    any other problem (and every problem while `writing`) a HubError; a SimCTError is returned unchanged.
    Use: `except Exception as error: raise hub_error(error, repo_id) from error`.
    """
    known = known_hub_error(error, repo_id, kind=kind, writing=writing)
    if known is None:
        name = f" for {repo_id}" if repo_id else ""
        known = HubError(redact(f"The Hub request{name} failed: {_first_line(error) or type(error).__name__}"))
    return known


def known_hub_error(
    error: BaseException, repo_id: str | None = None, *, kind: str = "model", writing: bool = False
) -> SimCTError | None:
    """As hub_error, but None if neither `error` nor its cause comes from the Hub, the network or the disk."""
    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, SimCTError):
            return cause
    known = next(filter(None, (_translate(cause, repo_id, kind, writing) for cause in chain)), None)
    return known and type(known)(redact(str(known)))


def _causes(error: BaseException) -> list[BaseException]:
    """`error` and its causes, outermost first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < 10:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if _refused_card(error):
        return chain
    # the Hub's response says more than the error of the cache, which was tried next
    return sorted(chain, key=lambda each: not isinstance(each, hub.HfHubHTTPError))


def _is_about_a_header(error: BaseException) -> bool:
    """Whether a header could not be sent as it is."""
    if isinstance(error, UnicodeEncodeError):
        return error.encoding == "ascii"
    return isinstance(error, httpx2.LocalProtocolError) and "header value" in str(error)


def _refused_card(error: BaseException) -> bool:
    return isinstance(error, ValueError) and "Invalid metadata in README.md" in str(error)


def _translate(error: BaseException, repo_id: str | None, kind: str, writing: bool) -> SimCTError | None:
    about = HubError if writing else _CLASSES.get(kind, HubError)
    name = repo_id or getattr(error, "repo_id", None) or f"the {kind}"
    page = page_url(name, kind) if repo_id or getattr(error, "repo_id", None) else constants.ENDPOINT
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError("The disk is full. Free some space (the Hub cache is `hf cache list`) and try again.")
    if isinstance(error, hub.LocalTokenNotFoundError):
        return HubError(f"You are not signed in to the Hub: {SIGN_IN}, then try again.")
    if _is_about_a_header(error):
        # the token is the only header that comes from a person
        return HubError(f"The access token has characters that no token has. Copy it again from {TOKENS_PAGE}.")
    if isinstance(error, hub.HFValidationError):
        if kind == "model" and is_path(name) and not writing:
            return about(no_folder(name))
        folder = ", and there is no such folder here" if name.count("/") > 1 and not writing else ""
        return about(
            f"{quoted(name)} is not a repository id{folder}. Give owner/name, of at most 96 letters, digits, '-', '_' "
            "and '.'."
        )
    if _refused_card(error):
        return HubError(f"The Hub refused the card's metadata: {_first_line(error, skip=1)}")
    if isinstance(error, hub.HfHubHTTPError):
        return _translate_answer(error, name, page, kind, about, writing)
    if isinstance(error, _UNREACHABLE):
        return _unreachable(error, name if repo_id else None)
    return None


def _translate_answer(
    error: hub.HfHubHTTPError, name: str, page: str, kind: str, about: type[SimCTError], writing: bool
) -> SimCTError:
    """The meaning of an answer of the Hub: by the client's exception if it has one, else by the status."""
    status = error.response.status_code
    reason = _server_reason(error)
    return (
        _of_repository(error, name, page, kind, about)
        or _of_account(error, name, reason, writing)
        or _of_request(error, name, reason)
        or HubError(f"The Hub refused the request for {name} (status {status}){reason}.")
    )


def _of_repository(
    error: hub.HfHubHTTPError, name: str, page: str, kind: str, about: type[SimCTError]
) -> SimCTError | None:
    """Errors about a gated, disabled or absent repository, revision, file or job."""
    status = error.response.status_code
    if isinstance(error, hub.GatedRepoError):
        if status == 401:
            return about(f"{name} is gated. Request access at {page}, {SIGN_IN}, then try again.")
        return about(f"{name} is gated and this account has no access yet. Request it at {page}, then try again.")
    if isinstance(error, hub.DisabledRepoError):
        return about(f"{name} has been disabled on the Hub. Choose another {kind}.")
    if isinstance(error, hub.RevisionNotFoundError):
        revision = _part(error, "revision|resolve|tree")
        return about(f"{name} has no revision {revision}. Its branches are at {page}/tree/main.")
    if isinstance(error, hub.RemoteEntryNotFoundError):
        return about(f"{name} has no file {_part(error, 'resolve/[^/]+')}. Its files are at {page}/tree/main.")
    if isinstance(error, hub.JobNotFoundError):
        return HubError(f"There is no job {error.job_id!r} in this namespace.")
    if isinstance(error, hub.RepositoryNotFoundError):
        if status == 401:
            return about(
                f"There is no public {kind} {name} on the Hub. Check the spelling, or, if it is private, {SIGN_IN}."
            )
        return about(
            f"There is no {kind} {name} that this account can see. Check the spelling and whose token is used."
        )
    return None


def _of_account(error: hub.HfHubHTTPError, name: str, reason: str, writing: bool) -> HubError | None:
    """Errors about the token, its permissions, payment and storage."""
    status = error.response.status_code
    if status == 401 and "authorization" not in error.response.request.headers:
        return HubError(f"You are not signed in to the Hub: {SIGN_IN}, then try again.")
    if status == 401:
        return HubError(
            f"The Hub refused the access token: it is wrong, expired or revoked. Make one at {TOKENS_PAGE}."
        )
    if status == 402:
        return HubError(f"The Hub asks for payment{reason}. See https://huggingface.co/settings/billing.")
    if status == 403 and re.search(r"limit|quota|storage", reason, re.IGNORECASE):
        return HubError(f"There is no room for {name}{reason}. Delete old repositories, or choose another namespace.")
    if status == 403:
        what = "write to" if writing else "read"
        return HubError(f"This token may not {what} {name}{reason}. Use a token with that permission: {TOKENS_PAGE}.")
    return None


def _of_request(error: hub.HfHubHTTPError, name: str, reason: str) -> HubError | None:
    """Errors about conflicts, sizes, rate limits, and problems of the Hub."""
    status = error.response.status_code
    if status == 409:
        return HubError(f"{name} is already taken or being changed{reason}. Choose another name, or try again.")
    if status == 412:
        return HubError(f"{name} was changed by someone else in the meantime. Try again.")
    if status == 413:
        return HubError(f"A file of {name} is too large for the Hub{reason}.")
    if status == 429:
        wait = error.response.headers.get("Retry-After") or _reset_seconds(error)
        return HubError(
            f"The Hub is limiting requests. Wait {f'{wait} s' if wait else 'a few minutes'}, then try again."
        )
    if status >= 500:
        return HubError(f"The Hub is having problems (status {status}). Nothing is lost; try again in a few minutes.")
    return None


def _unreachable(error: BaseException, name: str | None) -> HubError:
    wanted = f", and {name} is not in the cache" if isinstance(error, hub.LocalEntryNotFoundError) and name else ""
    # if the variable is not set, the command went offline because the Hub did not answer
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if asked and (constants.HF_HUB_OFFLINE or isinstance(error, hub.OfflineModeIsEnabled)):
        return HubError(f"Offline mode is on (HF_HUB_OFFLINE){wanted}. Unset it, or give a local folder.")
    why = (
        "it did not answer in time"
        if isinstance(error, httpx2.TimeoutException | TimeoutError)
        else "connection failed"
    )
    return HubError(f"Cannot reach the Hub at {constants.ENDPOINT} ({why}){wanted}. Check the network and try again.")


def _server_reason(error: hub.HfHubHTTPError) -> str:
    """The Hub's own reason, as ': reason', or nothing."""
    text = error.response.headers.get("X-Error-Message") or error.server_message or ""
    text = " ".join(text.split()).rstrip(".")
    return f": {text[:200]}" if text else ""


def _part(error: hub.HfHubHTTPError, before: str) -> str:
    """The revision or file in the request's address, quoted for people."""
    found = re.search(rf"/(?:{before})/([^?]+)", str(error.response.url))
    if found is None:
        return "of that name"
    text = found[1] if "[^/]" in before else found[1].split("/")[0]
    return repr(unquote(text))


def _reset_seconds(error: hub.HfHubHTTPError) -> str | None:
    found = re.search(r";\s*t=(\d+)", error.response.headers.get("RateLimit", ""))
    return found[1] if found else None


def _first_line(error: BaseException, skip: int = 0) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(skip, len(lines) - 1)][:300] if lines else ""
