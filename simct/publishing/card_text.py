"""Text from a run or a model as Markdown that can neither break nor style the card."""

import re

from simct.hub.redact import redact

# What begins markup or a link inside a line; the texts below never begin a line.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~$&:@]|(?<=www)\.", re.IGNORECASE)


def escape(text: object, limit: int = 300) -> str:
    """`text` on one line as Markdown that shows exactly these characters: every special one becomes an entity."""
    line = " ".join(redact(str(text)).split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", line)
