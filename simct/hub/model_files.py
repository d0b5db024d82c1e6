"""The files in a model's folder or repository, checked before anything is downloaded or started.

Weights are read from safetensors only. A LoRA or other PEFT adapter stands for its base model with the adapter merged
into it. Anything else that cannot be loaded is reported, with what to do.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from simct.config import local_path
from simct.errors import ModelError, brief
from simct.hub.client import hub_api
from simct.hub.errors import known_hub_error
from simct.hub.repo_ids import is_path, no_folder

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1_000_000
CONVERT = "https://huggingface.co/spaces/safetensors/convert"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_OTHER_FORMATS = {".onnx": "ONNX", ".h5": "TensorFlow", ".msgpack": "Flax", ".npz": "MLX", ".mlmodel": "Core ML"}


@dataclass(frozen=True)
class Adapter:
    """The model that an adapter was trained on, and the commit or branch of it (None for its newest)."""

    base: str
    base_revision: str | None


@dataclass(frozen=True)
class _Held:
    """The files at the top of a folder or repository, and the model that its card names as its origin."""

    names: frozenset[str]
    origin: str | None = None

    def endings(self, *endings: str) -> list[str]:
        return sorted(name for name in self.names if name.endswith(endings))

    @property
    def whole(self) -> bool:
        """Whether there are safetensors of a whole model."""
        return any(not name.startswith("adapter_") for name in self.endings(".safetensors"))


def adapter_of(model: str, revision: str | None = None, token: str | bool | None = None) -> Adapter | None:
    """The base of an adapter; None for any other model, and for one that cannot be read (its loader says why).

    Raises ModelError for an adapter that does not name its base, or names a folder that is not on this machine.
    """
    path = local_path(model)
    if path is not None:
        file = path / ADAPTER_CONFIG
        if not file.is_file():
            return None
    else:
        try:
            file = Path(hf_hub_download(model, ADAPTER_CONFIG, revision=revision, token=token))
        except (EntryNotFoundError, OSError, ValueError):
            return None
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        settings = json.loads(file.read_text(encoding="utf-8"))
        base, base_revision = settings.get("base_model_name_or_path"), settings.get("revision")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"Cannot read {ADAPTER_CONFIG} of {model!r}: {brief(error)}") from error
    if not isinstance(base, str) or not base.strip():
        raise ModelError(f"The adapter {model!r} does not name its base model: set base_model_name_or_path in it.")
    here = local_path(base) is not None
    # a repository must not decide which folder of this machine is read
    if (here and path is None) or (not here and base.startswith(("/", "~", "."))):
        raise ModelError(
            f"The adapter {model!r} names the folder {base!r} as its base model. Merge it where that folder is, or set "
            f"base_model_name_or_path in its {ADAPTER_CONFIG} to the base model's Hub id."
        )
    return Adapter(base, base_revision if isinstance(base_revision, str) else None)


def check_model_files(model: str, revision: str | None = None, token: str | bool | None = None) -> Adapter | None:
    """The adapter that `model` is, None for a whole model; raises ModelError, with what to do, if it cannot be loaded.

    It takes one request per repository (also for an adapter's base) and downloads only an adapter's config. If the Hub
    does not answer, the model is accepted, because it may be cached.
    """
    problem = model_files_problem(model, revision, token)
    if problem:
        raise ModelError(problem)
    adapter = adapter_of(model, revision, token)
    if adapter is not None:
        problem = model_files_problem(adapter.base, adapter.base_revision, token)
        if problem:
            raise ModelError(f"The base model of the adapter {model!r} cannot be loaded. {problem}")
        if adapter_of(adapter.base, adapter.base_revision, token) is not None:
            raise ModelError(
                f"The base model of the adapter {model!r} is {adapter.base!r}, an adapter itself, and adapters do not "
                "stack. Merge that one first, or give the merged model of its run."
            )
    return adapter


def model_files_problem(model: str, revision: str | None = None, token: str | bool | None = None) -> str | None:
    """Why the files of `model` cannot be loaded and what to do, in one line; None if no problem is found.

    Raises ModelError or HubError for a repository that is absent, gated or refused.
    """
    path = local_path(model)
    if path is not None and not path.is_dir():
        kind = "a GGUF file" if path.suffix == ".gguf" else "a file"
        return f"{model!r} is {kind}. Give the folder or the Hub id of the whole model."
    if path is None and is_path(model):
        return no_folder(model)
    held = _Held(frozenset(each.name for each in path.iterdir())) if path else _held_on_hub(model, revision, token)
    return _problem(model, held, path is not None) if held is not None else None


def _held_on_hub(model: str, revision: str | None, token: str | bool | None) -> _Held | None:
    try:
        info = hub_api(token).model_info(model, revision=revision)
    except Exception as error:
        reason = known_hub_error(error, model)
        if isinstance(reason, ModelError):
            raise reason from error
        return None
    card = info.card_data.to_dict() if info.card_data else {}
    origin = card.get("base_model")
    origin = origin[0] if isinstance(origin, list) and origin else origin
    names = (sibling.rfilename for sibling in info.siblings or [])
    return _Held(_at_top(names), origin if isinstance(origin, str) else None)


def _at_top(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if len(PurePosixPath(name).parts) == 1)


def _problem(model: str, held: _Held, local: bool) -> str | None:
    if ADAPTER_CONFIG in held.names:
        return _adapter_problem(model, held, local)
    if held.whole and "config.json" in held.names:
        return None
    if held.whole:
        return f"{model!r} has no config.json: save the model with save_pretrained(), or give its Transformers version."
    origin = f", {held.origin}" if held.origin else ""
    if held.endings(".gguf"):
        return f"{model!r} holds only GGUF files, which cannot be trained: give the original repository{origin}."
    if held.endings(*_PICKLED):
        return _pickled(model, held, local)
    other = sorted({_OTHER_FORMATS[ending] for ending in _OTHER_FORMATS if held.endings(ending)})
    if other:
        return f"{model!r} holds its weights only as {' and '.join(other)}: give the original repository{origin}."
    if "config.json" in held.names:
        return f"{model!r} holds no *.safetensors weights. Save the model there with save_pretrained()."
    tokenizer = "" if any("token" in name for name in held.names) else "no tokenizer, "
    return f"{model!r} holds {tokenizer}no config.json and no *.safetensors. Check the name."


def _adapter_problem(model: str, held: _Held, local: bool) -> str | None:
    if ADAPTER_WEIGHTS in held.names:
        if local and held.whole:
            return f"{model!r} holds both a whole model and an adapter: move one of them to another folder."
        return None
    if held.endings(*_PICKLED):
        return _pickled(model, held, local)
    return f"{model!r} is an adapter without weights: it has no {ADAPTER_WEIGHTS}."


def _pickled(model: str, held: _Held, local: bool) -> str:
    example = held.endings(*_PICKLED)[0]
    if local:
        advice = "load it with transformers if you trust it, and save it with save_pretrained()"
    else:
        advice = f"convert it with {CONVERT}, or choose one that has *.safetensors"
    return f"{model!r} holds its weights only as pickled files ({example}), which can run code when read: {advice}."
