"""What the loopback Hub holds: users, repositories and commits, and the JSON with which the real Hub describes them."""

import hashlib
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

import yaml

PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}
LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".parquet", ".arrow", ".pt", ".onnx", ".zip", ".gz"}
LFS_BYTES = 10_000_000
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Refused(Exception):
    """An answer with an error status, as the Hub words it: X-Error-Code and X-Error-Message headers, JSON body."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra):
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra


@dataclass
class User:
    """Who a token speaks for. `role` is what the token may do: write, read, or none (expired or revoked)."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()

    def may_write(self, namespace: str | None) -> bool:
        return self.role == "write" and namespace in (self.name, *self.orgs)

    def may_read(self, namespace: str) -> bool:
        return namespace in (self.name, *self.orgs)


@dataclass(eq=False)
class Blob:
    """The content of one file, in memory or on disk."""

    source: bytes | Path
    lfs: bool = False

    def read(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @cached_property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()

    @cached_property
    def git_oid(self) -> str:
        data = self.pointer if self.lfs else self.read()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid

    def entry(self, path: str) -> dict:
        found = {"type": "file", "path": path, "size": self.size, "oid": self.git_oid}
        if self.lfs:
            found["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return found


@dataclass
class Commit:
    sha: str
    title: str
    files: dict[str, Blob]
    author: str = "system"
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z")


def is_lfs(path: str, size: int) -> bool:
    return PurePosixPath(path).suffix in LFS_SUFFIXES or size > LFS_BYTES


@dataclass
class Repo:
    """One repository: a line of commits by branch. `files` is what the head of main holds, by path."""

    kind: str
    id: str
    private: bool = False
    gated: bool | str = False
    downloads: int = 0
    likes: int = 0
    trending: int = 0
    tags: list[str] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tag_refs: dict[str, str] = field(default_factory=dict)
    sdk: str | None = None
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.created = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        self.refs["main"] = self.commit("main", {}, "initial commit", "system").sha

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["main"]]

    @property
    def files(self) -> dict[str, bytes]:
        return {path: blob.read() for path, blob in self.head.files.items()}

    def commit(self, branch: str, files: dict[str, Blob], title: str, author: str) -> Commit:
        text = json.dumps(
            [self.kind, self.id, len(self.commits), title, sorted((p, b.sha256) for p, b in files.items())]
        )
        made = Commit(hashlib.sha1(text.encode()).hexdigest(), title, files, author)
        self.commits[made.sha] = made
        self.refs[branch] = made.sha
        return made

    def at(self, revision: str | None) -> Commit:
        """The commit that a branch, tag or (abbreviated) sha names."""
        revision = revision or "main"
        sha = self.refs.get(revision) or self.tag_refs.get(revision)
        if sha is None and len(revision) >= 7:
            sha = next((known for known in self.commits if known.startswith(revision)), None)
        if sha is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def blob(self, revision: str, path: str) -> tuple[Commit, Blob]:
        commit = self.at(revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        return commit, commit.files[path]

    def add_files(self, files: dict[str, Blob], title: str = "Add files") -> Commit:
        return self.commit("main", {**self.head.files, **files}, title, self.namespace)

    def card_data(self, commit: Commit) -> dict | None:
        readme = commit.files.get("README.md")
        if readme is None:
            return None
        parts = readme.read().decode("utf-8", errors="replace").split("---\n", 2)
        if len(parts) < 3 or parts[0].strip():
            return None
        try:
            return yaml.safe_load(parts[1])
        except yaml.YAMLError:
            return None

    def info(self, commit: Commit, blobs: bool = False) -> dict:
        """What GET /api/<kind>s/<id> answers."""
        card = self.card_data(commit) or {}
        got = {
            "_id": hashlib.md5(self.id.encode()).hexdigest()[:24],
            "id": self.id,
            "author": self.namespace,
            "sha": commit.sha,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "downloads": self.downloads,
            "likes": self.likes,
            "trendingScore": self.trending,
            "createdAt": self.created,
            "lastModified": commit.date,
            "tags": self._tags(card),
            "cardData": card or None,
            "siblings": [self._sibling(path, blob, blobs) for path, blob in sorted(commit.files.items())],
            "usedStorage": sum(blob.size for blob in commit.files.values()),
        }
        if self.kind == "model":
            got["modelId"] = self.id
            got["library_name"] = card.get("library_name") or (
                "transformers" if "config.json" in commit.files else None
            )
            got["pipeline_tag"] = card.get("pipeline_tag") or ("text-generation" if got["library_name"] else None)
            got["config"] = self._config(commit)
            got["safetensors"] = parameter_counts(commit.files)
            got["model-index"] = card.get("model-index")
        if self.kind == "space":
            got["sdk"] = self.sdk or card.get("sdk")
            got["runtime"] = {"stage": "BUILDING", "hardware": None, "storage": None}
        return {key: value for key, value in got.items() if value is not None or key in ("sdk",)}

    def _tags(self, card: dict) -> list[str]:
        tags = list(self.tags) + list(card.get("tags") or [])
        if "config.json" in self.head.files:
            tags.append("transformers")
        if any(path.endswith(".safetensors") for path in self.head.files):
            tags.append("safetensors")
        language = "language:" if self.kind == "dataset" else ""
        prefixes = {"license": "license:", "datasets": "dataset:", "language": language}
        prefixes |= {name: f"{name}:" for name in ("task_categories", "size_categories")}
        for key, prefix in prefixes.items():
            values = card.get(key) or []
            tags += [prefix + str(value) for value in ([values] if isinstance(values, str) else values)]
        if card.get("base_model"):
            bases = card["base_model"]
            relation = card.get("base_model_relation") or "finetune"
            for base in [bases] if isinstance(bases, str) else bases:
                tags += [f"base_model:{base}", f"base_model:{relation}:{base}"]
        return list(dict.fromkeys(tags))

    @staticmethod
    def _sibling(path: str, blob: Blob, blobs: bool) -> dict:
        got = {"rfilename": path}
        if blobs:
            got |= {"size": blob.size, "blobId": blob.git_oid}
            if blob.lfs:
                got["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        return got

    @staticmethod
    def _config(commit: Commit) -> dict | None:
        if "config.json" not in commit.files:
            return None
        config = json.loads(commit.files["config.json"].read())
        got = {key: config[key] for key in ("architectures", "model_type", "quantization_config") if key in config}
        if "tokenizer_config.json" in commit.files:
            tokenizer = json.loads(commit.files["tokenizer_config.json"].read())
            kept = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
            got["tokenizer_config"] = {key: tokenizer[key] for key in kept if key in tokenizer}
        return got

    def tree(self, commit: Commit, folder: str, recursive: bool) -> list[dict]:
        """Entries under `folder`: files and, as the Hub does, the folders between."""
        base = folder.strip("/")
        prefix = f"{base}/" if base else ""
        found: dict[str, dict] = {}
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                name = prefix + "/".join(parts[:depth])
                if recursive or depth == 1:
                    oid = hashlib.sha1(name.encode()).hexdigest()
                    found.setdefault(name, {"type": "directory", "path": name, "size": 0, "oid": oid})
            if recursive or len(parts) == 1:
                found[path] = blob.entry(path)
        if base and not found:
            raise Refused(404, f"{base} does not exist on this revision", "EntryNotFound")
        return list(found.values())


def parameter_counts(files: dict[str, Blob]) -> dict | None:
    """Parameters by dtype, read from the safetensors headers, as the Hub shows them."""
    counts: Counter = Counter()
    for path, blob in files.items():
        if path.endswith(".safetensors"):
            head = blob.source[:8] if isinstance(blob.source, bytes) else _head(blob.source, 8)
            if len(head) < 8:
                continue
            length = struct.unpack("<Q", head)[0]
            raw = blob.source[8 : 8 + length] if isinstance(blob.source, bytes) else _head(blob.source, 8 + length)[8:]
            try:
                header = json.loads(raw)
            except ValueError:
                continue
            for name, tensor in header.items():
                if name != "__metadata__":
                    start, end = tensor["data_offsets"]
                    counts[tensor["dtype"]] += (end - start) // ITEM_BYTES.get(tensor["dtype"], 4)
    return {"parameters": dict(counts), "total": sum(counts.values())} if counts else None


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def folder_blobs(folder: str | Path) -> dict[str, Blob]:
    """Every file of a folder, by its path inside it. Content is kept in memory, except of very large files."""
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {folder} to serve")
    blobs = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not {".git", "__pycache__"} & set(path.parts):
            size = path.stat().st_size
            source = path if size > LFS_BYTES * 5 else path.read_bytes()
            blobs[path.relative_to(root).as_posix()] = Blob(source, is_lfs(path.name, size))
    return blobs
