"""Search for models and datasets on the Hub, what is known about them before a download, and access to them.

Every call is one request with a time limit and without retries, because a person waits for it. Authors can write
anything into the metadata of a repository, so a field of the wrong type counts as absent.
"""

import math
from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils import validate_repo_id

from simct.errors import HubError, ModelError
from simct.hub import client
from simct.hub.client import ask, hub_api
from simct.hub.errors import hub_error
from simct.hub.repo_ids import is_here

# sort orders by their label, with the Hub's name
SORTS = {"downloads": "downloads", "likes": "likes", "trending": "trendingScore"}
_DETAILS = ["author", "cardData", "downloads", "gated", "likes", "private", "sha", "tags"]
_MODEL_DETAILS = [*_DETAILS, "config", "library_name", "pipeline_tag", "safetensors"]
_DATASET_DETAILS = [*_DETAILS, "description"]
# tokenizer classes that say nothing about the tokenizer
_GENERIC = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "AutoTokenizer")
_MADE = {"merge": "merged", "quantized": "quantized", "adapter": "adapted"}
_ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
}


@dataclass(frozen=True)
class ModelHit:
    """A model as the Hub describes it; None for what is unknown.

    `parameters` is a count and `size` the bytes of the weights. `tokenizer` is the class of the tokenizer, `base_model`
    the model it was made from and `base_relation` how (finetune, quantized, adapter, merge).
    """

    id: str
    downloads: int
    likes: int
    gated: bool
    private: bool
    license: str | None
    parameters: int | None
    size: int | None
    model_type: str | None
    base_model: str | None
    revision: str | None
    tokenizer: str | None = None
    base_relation: str | None = None
    task: str | None = None
    quantized: str | None = None

    @property
    def family(self) -> str | None:
        """The tokenizer's family: the tokenizer's class, or else the model's architecture."""
        return self.tokenizer or self.model_type


@dataclass(frozen=True)
class DatasetHit:
    id: str
    downloads: int
    likes: int
    gated: bool
    private: bool
    license: str | None
    description: str
    revision: str | None
    size: str | None = None  # number of rows according to its author, such as 10K<n<100K


def search_models(
    query: str,
    token: str | bool | None = None,
    limit: int = 20,
    *,
    task: str | None = "text-generation",
    license: str | None = None,
    gated: bool | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
    sort: str = "downloads",
) -> list[ModelHit]:
    """Models with safetensors weights whose id contains `query`. Raises a one-line HubError.

    `task` is a pipeline tag, `license` a license id of the Hub, `gated` True for gated models only and False for others
    only, `sort` one of SORTS; None means any. A bound on parameters excludes models of unknown size.
    """
    params: dict[str, Any] = {"filter": ["transformers", "safetensors"], "expand": _MODEL_DETAILS}
    if task:
        params["pipeline_tag"] = task
    bounds = _parameter_bounds(min_parameters, max_parameters)
    if bounds:
        params["num_parameters"] = bounds
    found = [_model_hit(item) for item in _search("models", query, token, limit, license, gated, sort, params)]
    low, high = min_parameters or 0, max_parameters if max_parameters is not None else math.inf
    return [hit for hit in found if not bounds or (hit.parameters is not None and low <= hit.parameters <= high)]


def search_datasets(
    query: str,
    token: str | bool | None = None,
    limit: int = 20,
    *,
    license: str | None = None,
    gated: bool | None = None,
    task: str | None = None,
    language: str | None = None,
    size: str | None = None,
    sort: str = "downloads",
) -> list[DatasetHit]:
    """Datasets whose id contains `query`. Raises a one-line HubError.

    `task` is a task category (such as text-generation), `language` a code (such as en), `size` a size category (such as
    10K<n<100K); the rest as in search_models.
    """
    named = {"task_categories": task, "language": language, "size_categories": size}
    tags = [f"{name}:{value}" for name, value in named.items() if value]
    params = {"filter": tags, "expand": _DATASET_DETAILS}
    return [_dataset_hit(item) for item in _search("datasets", query, token, limit, license, gated, sort, params)]


def model_facts(repo_id: str, token: str | bool | None = None, revision: str | None = None) -> ModelHit:
    """One model, its access checked and its revision resolved to a commit. Raises a one-line ModelError or HubError."""
    check_access(repo_id, token)
    at = f"/revision/{_quoted(revision)}" if revision else ""
    try:
        return _model_hit(ask(f"/api/models/{repo_id}{at}", {"expand": _MODEL_DETAILS}, token))
    except Exception as error:
        raise hub_error(error, repo_id) from error


def check_access(repo_id: str, token: str | bool | None = None, kind: str = "model") -> None:
    """Return if the files of `repo_id` can be read; those of a local folder always can.

    Raises a one-line ModelError, DataError or HubError: unknown, gated (with the page to request access), bad token,
    offline.
    """
    if not repo_id.strip():
        raise ModelError(f"The {kind} is empty. Give a Hub id like owner/name, or a local folder.")
    if is_here(repo_id):
        return
    try:
        validate_repo_id(repo_id)
        hub_api(token).auth_check(repo_id, repo_type=kind)
    except Exception as error:
        raise hub_error(error, repo_id, kind=kind) from error


def resolve_revision(
    repo_id: str, revision: str | None = None, token: str | bool | None = None, kind: str = "model"
) -> str:
    """The commit that `revision` (a branch, tag or commit; None: main) names now, to pin a run to it."""
    try:
        info = hub_api(token).repo_info(repo_id, repo_type=kind, revision=revision, timeout=client.SEARCH_SECONDS)
    except Exception as error:
        raise hub_error(error, repo_id, kind=kind) from error
    if not info.sha:
        raise HubError(f"The Hub did not return the commit of {repo_id}. Try again.")
    return info.sha


def list_revisions(
    repo_id: str, token: str | bool | None = None, kind: str = "model", limit: int = 20
) -> list[tuple[str, str]]:
    """(label, revision) of branches, tags, and the newest commits of main. Raises as check_access."""
    base = f"/api/{kind}s/{repo_id}"
    try:
        validate_repo_id(repo_id)
        refs = ask(f"{base}/refs", {}, token)
        commits = ask(f"{base}/commits/main", {"limit": limit}, token)
    except Exception as error:
        raise hub_error(error, repo_id, kind=kind) from error
    named = [
        (f"{way} {ref['name']} · {ref['targetCommit'][:8]}", ref["name"])
        for way, refs_of_kind in (("branch", refs.get("branches")), ("tag", refs.get("tags")))
        for ref in refs_of_kind or []
    ]
    return named + [
        (f"{commit['date'][:10]} · {commit['id'][:8]} · {commit['title'][:60]}", commit["id"])
        for commit in commits[:limit]
    ]


def base_model_line(teacher: ModelHit, student: ModelHit) -> str | None:
    """One sentence about the models' origins if they matter for distillation, else None."""
    for role, model in (("teacher", teacher), ("student", student)):
        if model.task and model.task not in ("text-generation", "image-text-to-text"):
            return (
                f"The {role} is listed for {model.task}, not for text generation: it may not load as a language model."
            )
    if student.quantized:
        return f"The student's weights are quantized ({student.quantized}) and cannot be trained. Use its base model."
    shared = {teacher.id, teacher.base_model} & {student.id, student.base_model} - {None}
    if shared:
        return f"Both come from {shared.pop()}. If they have the same tokenizer, every method is ordinary distillation."
    if student.base_model and student.base_relation != "finetune":
        how = _MADE.get(student.base_relation or "", "made")
        return f"The student was {how} from {student.base_model}, whose license may bind it too."
    return None


def _search(
    what: str,
    query: str,
    token: str | bool | None,
    limit: int,
    license: str | None,
    gated: bool | None,
    sort: str,
    params: dict[str, Any],
) -> list[dict]:
    """One page of a search."""
    if sort not in SORTS:
        raise HubError(f"Results cannot be sorted by {sort!r}: choose {', '.join(SORTS)}.")
    request = {**params, "search": " ".join(query.split()), "sort": SORTS[sort], "limit": limit}
    if license:
        request["filter"] = [*params["filter"], f"license:{license}"]
    if gated is not None:
        request["gated"] = "true" if gated else "false"
    try:
        found = ask(f"/api/{what}", request, token)
    except Exception as error:
        raise hub_error(error, kind="search") from error
    return [item for item in found if isinstance(item, dict) and item.get("id")][:limit]


def _parameter_bounds(low: int | None, high: int | None) -> str | None:
    """The bounds in whole billions, as the Hub expects them, never narrower than requested."""
    bounds = [f"min:{low // 10**9}B"] if low else []
    if high is not None:
        bounds.append(f"max:{max(1, -(-high // 10**9))}B")
    return ",".join(bounds) or None


def _quoted(revision: str) -> str:
    return revision.replace("/", "%2F")


def _of(expected: type, value: object) -> Any:
    """`value` if it has the expected type, else an empty value of that type."""
    return value if isinstance(value, expected) else expected()


def _common(item: dict) -> dict[str, Any]:
    """The fields that models and datasets have in common."""
    card, tags = _of(dict, item.get("cardData")), _of(list, item.get("tags"))
    tagged = next((tag.removeprefix("license:") for tag in tags if str(tag).startswith("license:")), None)
    stated = card.get("license")
    return {
        "id": str(item["id"]),
        "downloads": _of(int, item.get("downloads")),
        "likes": _of(int, item.get("likes")),
        "gated": bool(item.get("gated")),
        "private": bool(item.get("private")),
        "license": tagged or (stated if isinstance(stated, str) and stated else None),
        "revision": item.get("sha") if isinstance(item.get("sha"), str) else None,
    }


def _model_hit(item: dict) -> ModelHit:
    card, config = _of(dict, item.get("cardData")), _of(dict, item.get("config"))
    weights = _of(dict, item.get("safetensors"))
    counts = {kind: count for kind, count in _of(dict, weights.get("parameters")).items() if isinstance(count, int)}
    base, relation = _base(card, _of(list, item.get("tags")))
    named = _of(str, _of(dict, config.get("tokenizer_config")).get("tokenizer_class"))
    method = _of(str, _of(dict, config.get("quantization_config")).get("quant_method"))
    return ModelHit(
        **_common(item),
        parameters=weights.get("total") if isinstance(weights.get("total"), int) else sum(counts.values()) or None,
        size=sum(count * _ITEM_BYTES.get(dtype, 4) for dtype, count in counts.items()) or None,
        model_type=_of(str, config.get("model_type")) or None,
        base_model=base,
        base_relation=relation,
        tokenizer=None if named in _GENERIC else named.removesuffix("Fast").removesuffix("Tokenizer") or None,
        task=_of(str, item.get("pipeline_tag")) or None,
        quantized=method or None,
    )


def _base(card: dict, tags: list) -> tuple[str | None, str | None]:
    """(base model, relation) by the card, or by the Hub's own tags `base_model:relation:owner/name`."""
    stated = card.get("base_model")
    first = stated[0] if isinstance(stated, list) and stated else stated
    relation = _of(str, card.get("base_model_relation")) or None
    for tag in tags:
        parts = str(tag).split(":")
        if parts[0] == "base_model" and len(parts) == 3:
            return (first if isinstance(first, str) and first else parts[2]), relation or parts[1]
    return (first if isinstance(first, str) and first else None), relation


def _dataset_hit(item: dict) -> DatasetHit:
    sizes = [
        str(tag).removeprefix("size_categories:")
        for tag in _of(list, item.get("tags"))
        if "size_categories:" in str(tag)
    ]
    return DatasetHit(
        **_common(item),
        description=" ".join(_of(str, item.get("description")).split())[:300],
        size=next(iter(sizes), None),
    )
