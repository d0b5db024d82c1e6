"""What the loopback Hub answers to requests that only read: who, search, info, tree, files."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

import yaml

from tests.support.hub_repos import Refused, User

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

KIND = r"(?P<kind>models|datasets|spaces)"
# Ids have one segment (gpt2) or two.
REPO = r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)"
REVISION = r"(?P<revision>[^/]+)"


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    user: User | None = None

    def json(self) -> dict:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, "Invalid JSON") from error

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[-1].lower() in ("1", "true")

    def values(self, name: str) -> list[str]:
        return self.query.get(name, []) + self.query.get(f"{name}[]", [])


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Callable | None = None

    @classmethod
    def of(cls, data, status: int = 200, **headers) -> "Answer":
        return cls(status, json.dumps(data).encode(), {"Content-Type": "application/json", **headers})


ROUTES: list[tuple[str, re.Pattern, Callable]] = []


def route(methods: str, pattern: str):
    def add(function: Callable) -> Callable:
        for method in methods.split():
            ROUTES.append((method, re.compile(pattern + r"/?\Z"), function))
        return function

    return add


@route("GET", "/_state")
def _state(hub: "HubServer", request: Request) -> Answer:
    return Answer.of(hub.state())


@route("GET", "/api/agent-harnesses")
def _harnesses(hub: "HubServer", request: Request) -> Answer:
    raise Refused(404, "Not found")


@route("GET", "/api/whoami-v2")
def _whoami(hub: "HubServer", request: Request) -> Answer:
    user = request.user
    if user is None:
        raise Refused(401, "Invalid username or password.")
    return Answer.of(
        {
            "type": "user",
            "id": hashlib.md5(user.name.encode()).hexdigest()[:24],
            "name": user.name,
            "fullname": user.name.title(),
            "isPro": False,
            "canPay": True,
            "orgs": [{"type": "org", "name": org, "fullname": org, "roleInOrg": "write"} for org in user.orgs],
            "auth": {"type": "access_token", "accessToken": {"displayName": "loopback", "role": user.role}},
        }
    )


@route("POST", "/api/validate-yaml")
def _validate_yaml(hub: "HubServer", request: Request) -> Answer:
    """The Hub's check of a card's metadata, as far as it can be checked without its lists."""
    errors = []
    content = request.json()["content"]
    parts = content.split("---\n", 2)
    try:
        card = yaml.safe_load(parts[1]) if content.startswith("---\n") and len(parts) == 3 else {}
    except yaml.YAMLError as error:
        card, errors = {}, [{"message": str(error)}]
    if not isinstance(card, dict):
        card, errors = {}, [{"message": "Metadata must be a mapping"}]
    for key in ("license", "library_name", "pipeline_tag", "base_model_relation", "sdk"):
        if key in card and not isinstance(card[key], str):
            errors.append({"message": f'"{key}" must be a string'})
    if card.get("base_model_relation", "finetune") not in ("finetune", "adapter", "merge", "quantized"):
        errors.append({"message": '"base_model_relation" must be one of [finetune, adapter, merge, quantized]'})
    for model in card.get("model-index") or []:
        if not model.get("name") or not all("task" in result and "metrics" in result for result in model["results"]):
            errors.append({"message": '"model-index" is malformed'})
    warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer.of({"errors": errors, "warnings": warnings}, 400 if errors else 200)


@route("GET", f"/api/{KIND}")
def _search(hub: "HubServer", request: Request, kind: str) -> Answer:
    query = request.query
    first = lambda name: query.get(name, [""])[-1]  # noqa: E731
    found = []
    for repo in hub.repos.values():
        if repo.kind + "s" != kind or (repo.private and not (request.user and request.user.may_read(repo.namespace))):
            continue
        got = repo.info(repo.head)
        wanted = [*request.values("filter")] + ([first("pipeline_tag")] if first("pipeline_tag") else [])
        have = {*got["tags"], got.get("pipeline_tag"), got.get("library_name")}
        if (
            all(word in repo.id.lower() for word in first("search").lower().split())
            and (not first("author") or repo.namespace == first("author"))
            and all(tag in have for value in wanted for tag in value.split(","))
            and (not first("gated") or bool(repo.gated) == (first("gated").lower() == "true"))
            and within(first("num_parameters"), (got.get("safetensors") or {}).get("total"))
        ):
            found.append(got)
    order = first("sort") or "downloads"
    found.sort(key=lambda got: got.get(order) or 0, reverse=True)
    start, limit = int(first("cursor") or 0), int(first("limit") or 1000)
    page = found[start : start + limit]
    headers = {}
    if start + limit < len(found):
        following = urlencode({**query, "cursor": [start + limit]}, doseq=True)
        headers["Link"] = f'<{hub.url}{request.path}?{following}>; rel="next"'
    brief = {
        "_id",
        "id",
        "modelId",
        "likes",
        "downloads",
        "tags",
        "private",
        "pipeline_tag",
        "library_name",
        "createdAt",
    }
    keep = brief | {"author", "sha", "gated", "siblings", "lastModified"} if request.flag("full") else brief
    if expanded := request.values("expand"):
        keep = {"_id", "id", "modelId", *expanded}
    return Answer.of([{k: v for k, v in got.items() if k in keep} for got in page], **headers)


def within(bounds: str, count: int | None) -> bool:
    """Whether a number of parameters is in `min:1B,max:9B`, both ends included."""
    found = re.fullmatch(r"(?:min:(\d+)B)?,?(?:max:(\d+)B)?", bounds)
    if found is None:
        raise Refused(400, f"Invalid num_parameters: {bounds}")
    low, high = (int(part) * 10**9 if part else None for part in found.groups())
    return not bounds or (count is not None and (low or 0) <= count <= (high if high is not None else count))


@route("GET", rf"/api/{KIND}/{REPO}/tree/{REVISION}(?:/(?P<folder>.+))?")
def _tree(hub: "HubServer", request: Request, kind: str, repo: str, revision: str, folder: str) -> Answer:
    found = hub.repo(kind, repo, request.user)
    return Answer.of(found.tree(found.at(revision), folder, request.flag("recursive")))


@route("POST", rf"/api/{KIND}/{REPO}/paths-info/{REVISION}")
def _paths_info(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    found = hub.repo(kind, repo, request.user)
    if "json" in request.headers.get("content-type", ""):
        paths = request.json()["paths"]
    else:
        paths = parse_qs(request.body.decode()).get("paths", [])
    wanted = {path.strip("/") for path in paths}
    entries = found.tree(found.at(revision), "", recursive=True)
    return Answer.of([entry for entry in entries if entry["path"] in wanted])


@route("GET", rf"/api/{KIND}/{REPO}/refs")
def _refs(hub: "HubServer", request: Request, kind: str, repo: str) -> Answer:
    found = hub.repo(kind, repo, request.user)
    got = lambda refs, way: [{"name": n, "ref": f"refs/{way}/{n}", "targetCommit": s} for n, s in refs.items()]  # noqa: E731
    return Answer.of({"branches": got(found.refs, "heads"), "tags": got(found.tag_refs, "tags"), "converts": []})


@route("GET", rf"/api/{KIND}/{REPO}/commits/{REVISION}")
def _commits(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    found = hub.repo(kind, repo, request.user)
    found.at(revision)
    start, count = (int(request.query.get(name, [default])[0]) for name, default in (("p", "0"), ("limit", "50")))
    got = [
        {"id": c.sha, "title": c.title, "message": "", "date": c.date, "authors": [{"user": c.author}]}
        for c in reversed(found.commits.values())
    ]
    return Answer.of(got[start * count : (start + 1) * count])


@route("GET", rf"/api/{KIND}/{REPO}/discussions")
def _discussions(hub: "HubServer", request: Request, kind: str, repo: str) -> Answer:
    hub.repo(kind, repo, request.user)
    return Answer.of({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})


@route("GET", rf"/api/{KIND}/{REPO}/auth-check(?P<write>/write)?")
def _auth_check(hub: "HubServer", request: Request, kind: str, repo: str, write: str) -> Answer:
    hub.repo(kind, repo, request.user, write=bool(write), content=True)
    return Answer.of({})


@route("GET HEAD", rf"/(?P<kind>datasets/|spaces/)?{REPO}/resolve/{REVISION}/(?P<path>.+)")
def _resolve(hub: "HubServer", request: Request, kind: str, repo: str, revision: str, path: str) -> Answer:
    found = hub.repo(kind.rstrip("/") or "model", repo, request.user, content=True)
    commit, blob = found.blob(revision, path)
    data = blob.read()
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": f'"{blob.etag}"',
        "X-Repo-Commit": commit.sha,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path)}",
    }
    if blob.lfs:
        headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted:
        start, end = int(wanted[1]), min(int(wanted[2] or blob.size), blob.size - 1)
        if start >= blob.size:
            raise Refused(416, "Range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{end}/{blob.size}"
        return Answer(206, data[start : end + 1], headers)
    if request.method == "GET":
        found.downloads += 1
    return Answer(200, data, {**headers, "Content-Length": str(blob.size)})


@route("GET", rf"/api/{KIND}/{REPO}(?:/revision/{REVISION})?")
def _info(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    found = hub.repo(kind, repo, request.user)
    got = found.info(found.at(revision or None), blobs=request.flag("blobs"))
    if expanded := request.values("expand"):
        got = {key: value for key, value in got.items() if key in {"_id", "id", "modelId", *expanded}}
    return Answer.of(got)
