"""Removing access tokens and keys from text that is shown, logged or published."""

import os
import re

from simct.errors import without_credentials

# the environment variable with the key of a teacher's server, and the one with a key that is for a single run
KEY_VARIABLE = "SIMCT_TEACHER_KEY"
RUN_KEY_VARIABLE = "SIMCT_RUN_TEACHER_KEY"
SHORTEST_KEY = 6  # a shorter one might match ordinary text

_TOKEN = re.compile(r"\b(hf_oauth_|hf_jwt_)[\w.-]{8,}|\b(hf_|api_org_)[A-Za-z0-9]{16,}")


_hidden: set[str] = set()


def hide(key: str) -> None:
    """From now on, also remove `key` from everything that this process shows, logs or publishes."""
    _hidden.add(key)


def redact(text: str) -> str:
    """`text` with everything that looks like a Hugging Face token replaced by its prefix and an ellipsis, and with the
    keys of teachers' servers and the passwords in addresses left out.
    """
    known = {os.environ.get(name, "") for name in (KEY_VARIABLE, RUN_KEY_VARIABLE)} | _hidden
    for key in sorted(known, key=len, reverse=True):
        text = text.replace(key, "…") if len(key) >= SHORTEST_KEY else text
    return _TOKEN.sub(r"\1\2…", without_credentials(text))
