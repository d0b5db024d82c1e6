"""What the loopback Hub answers to requests that change it: create, delete, upload, commit, settings."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from tests.support.hub_repos import PREFIXES, Blob, Refused, Repo, is_lfs
from tests.support.hub_routes import KIND, REPO, REVISION, Answer, Request, route

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer


@route("POST", "/api/repos/create")
def _create(hub: "HubServer", request: Request) -> Answer:
    asked, user = request.json(), request.user
    if user is None:
        raise Refused(401, "Invalid username or password.")
    kind, name = asked.get("type") or "model", asked.get("name", "")
    namespace = asked.get("organization") or user.name
    key = f"{PREFIXES[kind]}{namespace}/{name}"
    if not user.may_write(namespace):
        raise Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
    if key in hub.repos:
        raise Refused(409, f"You already created this {kind} repo", url=f"{hub.url}/{key}")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repo = Repo(kind, f"{namespace}/{name}", private=private, sdk=asked.get("sdk"))
    repo.secrets |= {secret["key"]: secret["value"] for secret in asked.get("secrets") or []}
    hub.repos[key] = repo
    return Answer.of({"url": f"{hub.url}/{key}", "name": repo.id, "private": private})


@route("DELETE", "/api/repos/delete")
def _delete(hub: "HubServer", request: Request) -> Answer:
    asked = request.json()
    kind = asked.get("type") or "model"
    namespace = asked.get("organization") or (request.user.name if request.user else "")
    repo = hub.repo(kind, f"{namespace}/{asked['name']}", request.user, write=True)
    del hub.repos[PREFIXES[kind] + repo.id]
    return Answer.of({})


@route("PUT", rf"/api/{KIND}/{REPO}/settings")
def _settings(hub: "HubServer", request: Request, kind: str, repo: str) -> Answer:
    found, asked = hub.repo(kind, repo, request.user, write=True), request.json()
    if "visibility" in asked or "private" in asked:
        found.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    if "gated" in asked:
        found.gated = asked["gated"]
    return Answer.of({"private": found.private, "gated": found.gated})


@route("POST DELETE", rf"/api/{KIND}/{REPO}/branch/(?P<name>[^/]+)")
def _branch(hub: "HubServer", request: Request, kind: str, repo: str, name: str) -> Answer:
    found = hub.repo(kind, repo, request.user, write=True)
    if request.method == "DELETE":
        if found.refs.pop(name, None) is None:
            raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
    elif name in found.refs:
        raise Refused(409, f"Reference already exists: {name}")
    else:
        found.refs[name] = found.at(request.json().get("startingPoint")).sha
    return Answer.of({})


@route("POST", rf"/api/{KIND}/{REPO}/tag/{REVISION}")
def _tag(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    found, name = hub.repo(kind, repo, request.user, write=True), request.json()["tag"]
    if name in found.tag_refs:
        raise Refused(409, f"Tag reference exists already: {name}")
    found.tag_refs[name] = found.at(revision).sha
    return Answer.of({})


@route("POST", r"/api/spaces/(?P<repo>[\w.-]+/[\w.-]+)/(?P<what>secrets|variables)")
def _space_secret(hub: "HubServer", request: Request, repo: str, what: str) -> Answer:
    found, asked = hub.repo("space", repo, request.user, write=True), request.json()
    found.secrets[asked["key"]] = asked["value"]
    return Answer.of({})


@route("POST", rf"/api/{KIND}/{REPO}/preupload/{REVISION}")
def _preupload(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    found = hub.repo(kind, repo, request.user, write=True)
    held = found.at(revision).files
    got = []
    for file in request.json()["files"]:
        path = file["path"]
        mode = "lfs" if is_lfs(path, file["size"]) else "regular"
        got.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
        if path in held and held[path].lfs == (mode == "lfs"):
            got[-1]["oid"] = held[path].etag
    return Answer.of({"files": got})


@route("POST", rf"/(?P<kind>datasets/|spaces/)?{REPO}\.git/info/lfs/objects/batch")
def _lfs_batch(hub: "HubServer", request: Request, kind: str, repo: str) -> Answer:
    found = hub.repo(kind.rstrip("/") or "model", repo, request.user, write=True)
    asked = request.json()["objects"]
    held = sum(blob.size for blob in found.head.files.values())
    if hub.storage_limit is not None and held + sum(item["size"] for item in asked) > hub.storage_limit:
        what = "Private repository storage" if found.private else "Storage"
        raise Refused(403, f"{what} limit reached, please upgrade your plan to increase your storage limit")
    objects = []
    for item in asked:
        got = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in hub.lfs:
            got["actions"] = {
                "upload": {"href": f"{hub.url}/_lfs/{item['oid']}", "header": {}},
                "verify": {"href": f"{hub.url}/_lfs/verify", "header": {}},
            }
        objects.append(got)
    return Answer.of({"transfer": "basic", "objects": objects})


@route("PUT", r"/_lfs/(?P<oid>[0-9a-f]{64})")
def _lfs_upload(hub: "HubServer", request: Request, oid: str) -> Answer:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refused(400, "The content does not have this sha256")
    hub.lfs[oid] = Blob(request.body, lfs=True)
    return Answer()


@route("POST", "/_lfs/verify")
def _lfs_verify(hub: "HubServer", request: Request) -> Answer:
    asked = request.json()
    if asked["oid"] not in hub.lfs or hub.lfs[asked["oid"]].size != asked["size"]:
        raise Refused(404, "Object does not exist")
    return Answer.of({})


@route("POST", rf"/api/{KIND}/{REPO}/commit/{REVISION}")
def _commit(hub: "HubServer", request: Request, kind: str, repo: str, revision: str) -> Answer:
    """One commit from newline-delimited JSON: a header, files, LFS pointers, deletions; all of it or nothing."""
    found = hub.repo(kind, repo, request.user, write=True)
    head = found.at(revision)
    files, title = dict(head.files), ""
    for line in request.body.splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        path = value.get("path", "")
        if key == "header":
            title = value["summary"]
            if value.get("parentCommit") and not head.sha.startswith(value["parentCommit"]):
                raise Refused(412, "The parent commit is not the head of the branch any more")
        elif key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in hub.lfs:
                raise Refused(400, f"LFS object {value['oid']} was not uploaded")
            files[path] = hub.lfs[value["oid"]]
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]
            if not gone:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise Refused(400, f"Unknown operation {key}")
    assert request.user is not None  # hub.repo(write=True) saw to it
    made = found.commit(revision, files, title, request.user.name)
    url = f"{hub.url}/{PREFIXES[found.kind]}{found.id}/commit/{made.sha}"
    return Answer.of({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})
