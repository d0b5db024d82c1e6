"""Settings for the Hub's clients, so that they never hang, do not fill the log, and notice an unreachable Hub
quickly.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

import simct
from simct.config import local_path

# how long a person waits for a search
SEARCH_SECONDS = 10.0
# an upload can take a long time, because the Hub checks a commit of large files before it answers
CALL_SECONDS = 180.0


def hub_api(token: str | bool | None = None) -> HfApi:
    """A client of the Hub that gives up on a silent connection, which the library would wait for forever.

    `token`: a token, None for the one stored on this machine, False to send none.
    """
    get_session().timeout = CALL_SECONDS
    return HfApi(
        endpoint=constants.ENDPOINT, token=token, library_name="simct-studio", library_version=simct.__version__
    )


def ask(path: str, params: dict[str, Any], token: str | bool | None) -> Any:
    """The Hub's JSON answer to one GET request, without retries; the client's own calls retry for half a minute.

    `path` is below the Hub's address, or a whole address. Raises what the client raises; see hub_error.
    """
    response = get_session().get(
        path if path.startswith("http") else f"{constants.ENDPOINT}{path}",
        params=params,
        headers=build_hf_headers(token=token, library_name="simct-studio", library_version=simct.__version__),
        timeout=SEARCH_SECONDS,
    )
    hf_raise_for_status(response)
    return response.json()


# seconds to wait when checking whether the Hub answers at all
ANSWER_SECONDS = 10


def prepare_clients(names: Sequence[str] = ()) -> None:
    """Show progress bars on terminals only; go offline if one of `names` is on the Hub and the Hub is unreachable.

    Offline, cached files still load, and others fail at once with the reason instead of after a minute of retries.
    """
    import datasets
    import huggingface_hub
    import transformers

    _silence_retries()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    on_hub = any(local_path(name) is None for name in names)
    if on_hub and not huggingface_hub.constants.HF_HUB_OFFLINE and not hub_answers():
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def fail_fast() -> None:
    """Make requests fail at once if the Hub is unreachable, for a process that people wait for.

    The clients would retry for half a minute. The next request tries again, cached files still load, and a connection
    that breaks in the middle of a download is still reopened.
    """
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils._http import hf_request_event_hook

    class Impatient(httpx2.Client):
        def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            try:
                return super().send(request, **options)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                # the only error for a missing connection that no caller retries
                raise OfflineModeIsEnabled(f"Cannot reach {request.url.host}: {error}") from error

    _silence_retries()
    set_client_factory(
        lambda: Impatient(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=None)
    )


def _silence_retries() -> None:
    # the client logs every retry; the reason is reported once, at the end
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def hub_answers() -> bool:
    """Whether the Hub answers at all."""
    import httpx2
    import huggingface_hub

    try:
        huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except (httpx2.TransportError, httpx2.InvalidURL):
        return False
    return True
