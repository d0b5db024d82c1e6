"""Sign-in with the loopback Hub, as a Space does it (OpenID Connect), and a visitor of a studio without a browser."""

import base64
import hashlib
import json
import re
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.hub_repos import Refused
from tests.support.hub_routes import Answer, Request, route

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

KEY = RSAKey.generate_key(2048, {"kid": "loopback", "use": "sig"})
CODES: dict[str, dict] = {}
SPACE_HOST = "acme-studio.hf.space"
CLIENT = {"OAUTH_CLIENT_ID": "the-studio", "OAUTH_CLIENT_SECRET": "a-secret-of-the-space"}


def space_settings(hub: "HubServer", scopes: str) -> dict[str, str]:
    """The variables that make a process a Space with sign-in by `hub`."""
    space = {"SYSTEM": "spaces", "SPACE_ID": "acme/studio", "SPACE_HOST": SPACE_HOST}
    return {**space, **CLIENT, "OAUTH_SCOPES": scopes, "OPENID_PROVIDER_URL": hub.url}


@route("GET", "/.well-known/openid-configuration")
def _configuration(hub: "HubServer", request: Request) -> Answer:
    return Answer.of(
        {
            "issuer": hub.url,
            "authorization_endpoint": f"{hub.url}/oauth/authorize",
            "token_endpoint": f"{hub.url}/oauth/token",
            "jwks_uri": f"{hub.url}/oauth/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
        }
    )


@route("GET", "/oauth/jwks")
def _keys(hub: "HubServer", request: Request) -> Answer:
    return Answer.of({"keys": [KEY.as_dict(private=False)]})


@route("GET", "/oauth/authorize")
def _authorize(hub: "HubServer", request: Request) -> Answer:
    """Consent immediately, as the user that the request names (a browser would have a session with the Hub)."""
    asked = {name: values[-1] for name, values in request.query.items()}
    token = request.headers.get("x-signed-in-as", "")
    if asked.get("client_id") != CLIENT["OAUTH_CLIENT_ID"] or token not in hub.users:
        raise Refused(401, "Who are you?")
    code = uuid.uuid4().hex
    CODES[code] = {**asked, "token": token}
    back = urlencode({"code": code, "state": asked["state"]})
    joined = "&" if "?" in asked["redirect_uri"] else "?"
    return Answer(302, headers={"Location": f"{asked['redirect_uri']}{joined}{back}"})


@route("POST", "/oauth/token")
def _token(hub: "HubServer", request: Request) -> Answer:
    given = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
    secret = base64.b64encode(":".join(CLIENT.values()).encode()).decode()
    if given.get("code") not in CODES or request.path != "/oauth/token":
        raise Refused(400, "invalid_grant")
    if request.headers.get("authorization") != f"Basic {secret}":
        raise Refused(401, "invalid_client")
    asked, now = CODES.pop(given["code"]), int(time.time())
    name = hub.users[asked["token"]].name
    profile = {
        "sub": hashlib.md5(name.encode()).hexdigest(),
        "name": name.title(),
        "preferred_username": name,
        "profile": f"{hub.url}/{name}",
        "picture": f"{hub.url}/{name}.png",
    }
    about = {"iss": hub.url, "aud": asked["client_id"], "iat": now, "exp": now + 600, "nonce": asked.get("nonce")}
    signed = jwt.encode({"alg": "RS256", "kid": "loopback"}, {**profile, **about}, KEY)
    token = {"access_token": asked["token"], "token_type": "bearer", "expires_in": 28800, "scope": asked["scope"]}
    return Answer.of({**token, "id_token": signed})


class Visitor:
    """Someone who uses a studio by the very requests that its page makes."""

    def __init__(self, url: str):
        self.url, self.session, self.cookie = url.rstrip("/"), uuid.uuid4().hex[:12], ""
        self.http = httpx.Client(timeout=120, trust_env=False)
        self.config = self.get("/config").json()

    def get(self, path: str) -> httpx.Response:
        return self.http.get(self.url + path, headers={"Cookie": self.cookie})

    def sign_in(self, token: str) -> str:
        """Go through the whole sign-in as the user of `token`; returns the scopes that were asked for."""
        to_hub = self._keep(self.get("/login/huggingface"))
        consent = self.http.get(to_hub.headers["location"], headers={"X-Signed-In-As": token})
        back = urlsplit(consent.headers["location"])
        assert back.netloc == SPACE_HOST and back.scheme == "https"
        self._keep(self.get(f"{back.path}?{back.query}"))
        return parse_qs(urlsplit(to_hub.headers["location"]).query)["scope"][0]

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        set_cookie = answer.headers.get("set-cookie", "")
        assert "httponly" in set_cookie.lower() and "secure" in set_cookie.lower()
        self.cookie = set_cookie.split(";")[0]
        return answer

    def do(self, elem_id: str, event: str, **values) -> list:
        """The answer to `event` of the component `elem_id`, its inputs by elem_id (- as _) or as they are at first."""
        by_id = {each["id"]: each["props"].get("elem_id") or "" for each in self.config["components"]}
        wanted = next(
            dependency
            for dependency in self.config["dependencies"]
            if any(by_id.get(where) == elem_id and what == event for where, what in dependency["targets"])
            and dependency["backend_fn"]
        )
        first = {each["id"]: each["props"].get("value") for each in self.config["components"]}
        given = [values.get(by_id[each].replace("-", "_"), first[each]) for each in wanted["inputs"]]
        return self.call(wanted["id"], given)

    def call(self, number: int, data: list) -> list:
        """The answer of the page's own function `number`, and after it what the function said on the way."""
        asked = {"data": data, "fn_index": number, "session_hash": self.session, "trigger_id": None}
        headers = {"Cookie": self.cookie}
        joined = self.http.post(f"{self.url}/gradio_api/queue/join", json=asked, headers=headers)
        assert joined.status_code == 200, joined.text
        stream = f"{self.url}/gradio_api/queue/data?session_hash={self.session}"
        with self.http.stream("GET", stream, headers=headers) as answer:
            on_the_way: list = []
            for line in answer.iter_lines():
                got = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if got.get("msg") == "process_generating" and got.get("event_id") == joined.json()["event_id"]:
                    on_the_way += got["output"].get("data") or []
                if got.get("msg") == "process_completed" and got.get("event_id") == joined.json()["event_id"]:
                    return [*(got["output"].get("data") or [got["output"].get("error")]), *on_the_way]
        raise AssertionError("The studio closed the connection without an answer.")


def words(answer: list) -> str:
    """All text of an answer, without its markup."""
    return re.sub(r"<[^>]+>", " ", json.dumps(answer, ensure_ascii=False))
