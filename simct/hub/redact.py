"""Access tokens are removed from text that is shown, logged or published."""

import re

_TOKEN = re.compile(r"\b(hf_oauth_|hf_jwt_)[\w.-]{8,}|\b(hf_|api_org_)[A-Za-z0-9]{16,}")


def redact(text: str) -> str:
    """`text` with everything that looks like a Hugging Face token replaced by its prefix and an ellipsis."""
    return _TOKEN.sub(r"\1\2…", text)
