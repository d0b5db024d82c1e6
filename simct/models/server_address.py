"""Which addresses a teacher's server may have, and which key is sent to it.

A public Space sends requests for people it does not know, so there the address must be public: it is resolved once and
checked, and the connection uses the checked IP address, so that a name cannot point elsewhere a moment later.
"""

import ipaddress
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from huggingface_hub import get_token

from simct.config.rules import is_server_address
from simct.errors import ConfigError
from simct.hub.redact import KEY_VARIABLE, RUN_KEY_VARIABLE

# servers of Hugging Face, the only ones that receive the Hub's token
OWN_HOST = ".endpoints.huggingface.cloud"


def on_space() -> bool:
    """Whether this process runs in a Space."""
    return bool(os.environ.get("SPACE_ID"))


def key_for(url: str, login: str | bool | None = None, key: str | None = None) -> str | None:
    """The key for the server at `url`: the one given, the run's own, the one in the environment, or the Hub's token for
    a server of Hugging Face.

    `login`: the Hub token of the person asking, None for the one stored on this machine, False for none. A Space never
    uses its own key.
    """
    key = key or os.environ.get(RUN_KEY_VARIABLE) or (None if on_space() else os.environ.get(KEY_VARIABLE))
    address = urlsplit(url)
    if key or address.scheme != "https" or not (address.hostname or "").endswith(OWN_HOST):
        return key or None
    return login if isinstance(login, str) else None if login is False or on_space() else get_token()


@dataclass(frozen=True)
class Target:
    """Where requests are sent: `url`, and on a Space the checked IP address in it, with the host it stands for."""

    url: str
    host: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Host": self.host} if self.host else {}

    @property
    def extensions(self) -> dict[str, str]:
        """The name that the certificate must have."""
        return {"sni_hostname": urlsplit(f"//{self.host}").hostname or ""} if self.host else {}


def target_of(url: str, public: bool | None = None) -> Target:
    """Where to send requests for `url`. Raises ConfigError if it is not an address or, where only `public` servers are
    allowed (None: on a Space), is private or not https.
    """
    if not is_server_address(url):
        raise ConfigError(f"{url!r} is not the address of a server, such as https://example.com.")
    plain = url.rstrip("/").removesuffix("/v1")
    if not (on_space() if public is None else public):
        return Target(plain)
    address = urlsplit(plain)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(address.hostname, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"The server {address.hostname!r} was not found. Check its address.") from error
    if not found or not all(ipaddress.ip_address(each).is_global for each in found):
        raise ConfigError(
            f"{address.hostname!r} is a private address, to which a Space does not connect. Run the studio on your own "
            "machine for a server there."
        )
    if address.scheme != "https":
        raise ConfigError(f"A Space connects to servers by https only, and the address is {url!r}.")
    chosen = str(min(found))
    host = f"[{chosen}]" if ":" in chosen else chosen
    return Target(f"{address.scheme}://{host}:{port}{address.path}", address.netloc)
