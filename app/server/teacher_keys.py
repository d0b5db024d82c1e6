"""The keys that visitors enter for their teachers' servers, kept in this process's memory and used only for their
owner.
"""

import os

from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.errors import ConfigError
from simct.hub.redact import KEY_VARIABLE
from simct.models import server_keys

SIGN_IN = (
    "Sign in first: a public studio connects to a server, and keeps a key for it, only for visitors who have signed in."
)


def keep(studio: Studio, visitor: Visitor, address: str, key: str) -> None:
    """Keep a visitor's key for the server at `address`. Raises ConfigError; its message does not contain the key."""
    if studio.public and visitor.owner is None:
        raise ConfigError(SIGN_IN)
    server_keys.keep_key(visitor.owner, address, key)


def of(studio: Studio, visitor: Visitor, address: str | None) -> str | None:
    """The key for the server at `address`: the one that the visitor entered or, on a personal machine, the one in the
    environment.
    """
    if not address:
        return None
    return server_keys.key_of(visitor.owner, address) or (None if studio.public else os.environ.get(KEY_VARIABLE))
