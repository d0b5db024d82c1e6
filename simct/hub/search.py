"""Finding models and datasets on the Hub, what is known of them before a download, and whether they may be read.

Every call is one request with a time limit and no silent retries, since a person waits for it.
"""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import DatasetInfo, HfApi, ModelInfo, constants
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id

import simct
from simct.errors import HubError, ModelError
from simct.hub.errors_from_hub import hub_error

SEARCH_SECONDS = 10.0
# An upload's answer can take long: the Hub checks a commit of large files before it replies.
CALL_SECONDS = 180.0
_DETAILS = ["author", "cardData", "config", "downloads", "gated", "library_name", "likes", "pipeline_tag", "private"]
_MODEL_DETAILS = [*_DETAILS, "safetensors", "sha", "tags"]
_DATASET_DETAILS = ["author", "cardData", "downloads", "gated", "likes", "private", "sha", "tags", "description"]
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
    """A model as the Hub describes it; `parameters` and `size` (bytes of weights) are None where it does not know."""

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


def hub_api(token: str | bool | None = None) -> HfApi:
    """A client of the Hub that gives up on a silent connection; without it the client would wait for ever.

    `token`: a token, None for the one stored on this machine, False for none at all.
    """
    get_session().timeout = CALL_SECONDS
    return HfApi(
        endpoint=constants.ENDPOINT, token=token, library_name="simct-studio", library_version=simct.__version__
    )


def search_models(
    query: str,
    token: str | bool | None = None,
    limit: int = 20,
    *,
    task: str | None = "text-generation",
    max_parameters: int | None = None,
) -> list[ModelHit]:
    """Models with safetensors weights whose id contains `query`, most downloaded first. Raises a one-line HubError.

    `task` filters by pipeline tag (None: any); `max_parameters` leaves out larger models and those of unknown size.
    """
    filters = {"pipeline_tag": task} if task else {}
    if max_parameters is not None:
        filters["num_parameters"] = f"max:{max_parameters}"
    params = {"search": query.strip(), "filter": ["transformers", "safetensors"], "expand": _MODEL_DETAILS, **filters}
    hits = [_model_hit(ModelInfo(**item)) for item in _search("models", params, token, limit)]
    if max_parameters is not None:
        hits = [hit for hit in hits if hit.parameters is not None and hit.parameters <= max_parameters]
    return hits


def search_datasets(query: str, token: str | bool | None = None, limit: int = 20) -> list[DatasetHit]:
    """Datasets whose id contains `query`, most downloaded first. Raises a one-line HubError."""
    items = _search("datasets", {"search": query.strip(), "expand": _DATASET_DETAILS}, token, limit)
    return [_dataset_hit(DatasetInfo(**item)) for item in items]


def model_facts(repo_id: str, token: str | bool | None = None, revision: str | None = None) -> ModelHit:
    """One model, its access checked and its revision resolved. Raises a one-line ModelError or HubError."""
    check_access(repo_id, token)
    try:
        return _model_hit(hub_api(token).model_info(repo_id, revision=revision, timeout=SEARCH_SECONDS))
    except Exception as error:
        raise hub_error(error, repo_id) from error


def check_access(repo_id: str, token: str | bool | None = None, kind: str = "model") -> None:
    """Return if the files of `repo_id` may be read; a local folder always may.

    Raises a one-line ModelError, DataError or HubError: unknown, gated (with the page to ask at), bad token, offline.
    """
    if not repo_id.strip():
        raise ModelError(f"The {kind} is empty. Give a Hub id like owner/name, or a local folder.")
    if Path(repo_id).expanduser().exists():
        return
    try:
        validate_repo_id(repo_id)
        hub_api(token).auth_check(repo_id, repo_type=kind)
    except Exception as error:
        raise hub_error(error, repo_id, kind=kind) from error


def resolve_revision(
    repo_id: str, revision: str | None = None, token: str | bool | None = None, kind: str = "model"
) -> str:
    """The commit that `revision` (a branch, tag or commit; None: main) names now, to pin a run to."""
    try:
        info = hub_api(token).repo_info(repo_id, repo_type=kind, revision=revision, timeout=SEARCH_SECONDS)
    except Exception as error:
        raise hub_error(error, repo_id, kind=kind) from error
    if not info.sha:
        raise HubError(f"The Hub does not tell the commit of {repo_id}. Try again.")
    return info.sha


def licence_notes(teacher: ModelHit, student: ModelHit) -> list[str]:
    """What to look up about the two licences before publishing a student; facts and pointers, not legal advice."""
    notes = []
    for role, model in (("teacher", teacher), ("student", student)):
        name = (model.license or "").lower()
        if not name:
            notes.append(f"The {role} {model.id} states no licence: ask its author before publishing.")
        elif "-nc" in name or "noncommercial" in name or "non-commercial" in name:
            notes.append(f"The {role} {model.id} is under {name}: no commercial use, which may bind the student too.")
        elif name.startswith(("llama", "gemma")):
            notes.append(f"The {role} {model.id} is under {name}: its terms also bind models trained on its outputs.")
        elif name in ("other", "unknown"):
            notes.append(
                f"The {role} {model.id} has a licence of its own: read whether outputs may train other models."
            )
    return notes


def _search(what: str, params: dict, token: str | bool | None, limit: int) -> list[dict]:
    """One page of a search. The client's own listing would retry for half a minute before telling of a failure."""
    try:
        response = get_session().get(
            f"{constants.ENDPOINT}/api/{what}",
            params={**params, "sort": "downloads", "limit": limit},
            headers=build_hf_headers(token=token, library_name="simct-studio", library_version=simct.__version__),
            timeout=SEARCH_SECONDS,
        )
        hf_raise_for_status(response)
        return response.json()[:limit]
    except Exception as error:
        raise hub_error(error, kind="search") from error


def _license(tags: list[str] | None, card: object) -> str | None:
    tagged = next((tag.removeprefix("license:") for tag in tags or [] if tag.startswith("license:")), None)
    stated = getattr(card, "license", None)
    return tagged or (str(stated) if stated else None)


def _model_hit(info: ModelInfo) -> ModelHit:
    counts = info.safetensors.parameters if info.safetensors else {}
    bases = getattr(info.card_data, "base_model", None)
    return ModelHit(
        id=info.id,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        gated=bool(info.gated),
        private=bool(info.private),
        license=_license(info.tags, info.card_data),
        parameters=info.safetensors.total if info.safetensors else None,
        size=sum(count * _ITEM_BYTES.get(dtype, 4) for dtype, count in counts.items()) or None,
        model_type=(info.config or {}).get("model_type"),
        base_model=bases[0] if isinstance(bases, list) and bases else bases or None,
        revision=info.sha,
    )


def _dataset_hit(info: DatasetInfo) -> DatasetHit:
    return DatasetHit(
        id=info.id,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        gated=bool(info.gated),
        private=bool(info.private),
        license=_license(info.tags, info.card_data),
        description=" ".join((getattr(info, "description", None) or "").split())[:300],
        revision=info.sha,
    )
