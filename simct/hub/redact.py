"""Removing access tokens and keys from text that is shown, logged or published."""

import os
import re

# the environment variable with the key of a teacher's server
KEY_VARIABLE = "SIMCT_TEACHER_KEY"
SHORTEST_KEY = 6  # a shorter one might match ordinary text

_TOKEN = re.compile(r"\b(hf_oauth_|hf_jwt_)[\w.-]{8,}|\b(hf_|api_org_)[A-Za-z0-9]{16,}")


def redact(text: str) -> str:
    """`text` with everything that looks like a Hugging Face token replaced by its prefix and an ellipsis, and with the
    key of a teacher's server left out."""
    key = os.environ.get(KEY_VARIABLE, "")
    return _TOKEN.sub(r"\1\2…", text.replace(key, "…") if len(key) >= SHORTEST_KEY else text)
