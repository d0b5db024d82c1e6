"""Removing access tokens and keys from text that is shown, logged or published."""

import os
import re
from collections import OrderedDict, deque

from simct.errors import without_credentials

# the environment variable with the key of a teacher's server, and the one with a key that is for a single run
KEY_VARIABLE = "SIMCT_TEACHER_KEY"
RUN_KEY_VARIABLE = "SIMCT_RUN_TEACHER_KEY"
SET_KEY = f"Set the environment variable {KEY_VARIABLE}."
SHORTEST_KEY = 6  # a shorter one might match ordinary text

_TOKEN = re.compile(r"\b(hf_oauth_|hf_jwt_)[\w.-]{8,}|\b(hf_|api_org_)[A-Za-z0-9]{16,}")


# how many accounts, and how many keys of each, are remembered
MOST_OWNERS, MOST_EACH = 1000, 20
# the keys that were entered in this process, by account (None: the person who runs it)
_hidden: OrderedDict[str | None, deque[str]] = OrderedDict()


def hide(key: str, owner: str | None = None) -> None:
    """From now on, also remove `key` from what belongs to `owner`; without an owner, from everything.

    A key of one account stays in what others read, because any word can be entered as a key.
    """
    keys = _hidden.setdefault(owner, deque(maxlen=MOST_EACH))
    _hidden.move_to_end(owner)
    if key not in keys:
        keys.append(key)
    while len(_hidden) > MOST_OWNERS:
        _hidden.popitem(last=False)


def redact(text: str, owner: str | None = None) -> str:
    """`text` with everything that looks like a Hugging Face token replaced by its prefix and an ellipsis, and without
    passwords in addresses and keys of teachers' servers: those of this process and those of the account `owner`, to
    which the text belongs.
    """
    known = {os.environ.get(name, "") for name in (KEY_VARIABLE, RUN_KEY_VARIABLE)}
    known.update(*(_hidden.get(each, ()) for each in (None, owner)))
    for key in sorted(known, key=len, reverse=True):
        text = text.replace(key, "…") if len(key) >= SHORTEST_KEY else text
    return _TOKEN.sub(r"\1\2…", without_credentials(text))
