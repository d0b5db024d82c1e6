"""Keys of teachers' servers that people entered, only in this process's memory, each for its server and its owner."""

from collections import OrderedDict
from urllib.parse import urlsplit

from simct.config.rules import is_server_address
from simct.errors import ConfigError
from simct.hub.redact import hide

# of all accounts together, and of each
MOST_KEYS, MOST_EACH, MOST_CHARACTERS = 10_000, 20, 4096

_keys: OrderedDict[tuple[str | None, str], str] = OrderedDict()


def keep_key(owner: str | None, address: str, key: str) -> None:
    """Keep the key that `owner` (None: the user of this machine) gave for the server at `address`; an empty one forgets
    it. Raises ConfigError, without the key, for what cannot be sent as one.
    """
    place = (owner, _server_of(address))
    key = key.strip()
    if not (key.isascii() and key.isprintable() and " " not in key and len(key) <= MOST_CHARACTERS):
        raise ConfigError("This is not a key: a key is one word of letters, digits and signs. Copy it again.")
    _keys.pop(place, None)
    if key:
        hide(key, owner)
        _keys[place] = key
        # an account that enters many keys replaces its own, not those of others
        for oldest in [each for each in list(_keys) if each[0] == owner][:-MOST_EACH]:
            _keys.pop(oldest, None)
        while len(_keys) > MOST_KEYS:
            _keys.popitem(last=False)


def key_of(owner: str | None, address: str | None) -> str | None:
    """The key that `owner` gave for the server at `address`, if they did."""
    if not address or not is_server_address(address):
        return None
    return _keys.get((owner, _server_of(address)))


def _server_of(address: str) -> str:
    """Scheme, host and port: a key is for a server, whatever the path on it."""
    if not is_server_address(address):
        raise ConfigError("Give the address of the server first, such as https://example.com.")
    found = urlsplit(address)
    port = found.port or (443 if found.scheme == "https" else 80)
    return f"{found.scheme}://{found.hostname}:{port}"
