"""A client of the Hub that never hangs, and one quick question at a time, for the modules beside this one."""

from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

import simct

# What a person waits for in a search.
SEARCH_SECONDS = 10.0
# An upload's answer can take long: the Hub checks a commit of large files before it replies.
CALL_SECONDS = 180.0


def hub_api(token: str | bool | None = None) -> HfApi:
    """A client of the Hub that gives up on a silent connection; without it the client would wait for ever.

    `token`: a token, None for the one stored on this machine, False for none at all.
    """
    get_session().timeout = CALL_SECONDS
    return HfApi(
        endpoint=constants.ENDPOINT, token=token, library_name="simct-studio", library_version=simct.__version__
    )


def ask(path: str, params: dict, token: str | bool | None) -> Any:
    """The JSON that the Hub answers to one GET, at once or not at all: the client's own calls retry for half a minute.

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
