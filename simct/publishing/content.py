"""The files of a run's student that are published: those of its merged model, or of its adapter alone."""

import json
from fnmatch import fnmatch
from pathlib import Path

from simct.errors import ModelError, RunError
from simct.hub.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_of
from simct.hub.repo_ids import hub_id
from simct.runs.folder import RunFolder

# What a published model consists of; nothing else in model/ (optimizer states, pickles, code) is uploaded.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "*.jinja",
)
# The keys in which transformers records the folder from which something was loaded.
_PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")


def model_files(run: RunFolder) -> dict[str, Path]:
    """The files of the run's model to publish, by name. Raises RunError if the run has no whole model yet."""
    status = run.status()
    if status.active:
        raise RunError(f"Run {run.id} is {status.state}. Wait until it has finished, or stop it, then publish.")
    folder = run.model_dir
    found = {path.name: path for path in sorted(folder.glob("*")) if path.is_file() and _is_model_file(path.name)}
    weights = [name for name in found if name.endswith(".safetensors")]
    if "config.json" not in found or not weights:
        raise RunError(f"Run {run.id} has no trained model in model/ (config.json and *.safetensors) to publish.")
    for index in (name for name in found if name.endswith(".safetensors.index.json")):
        listed = json.loads(found[index].read_text(encoding="utf-8")).get("weight_map", {})
        missing = sorted(set(listed.values()) - set(weights))
        if missing:
            raise RunError(f"The model of run {run.id} lacks {missing[0]}, which {index} names. Save the model again.")
    return found


def _is_model_file(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in MODEL_FILES)


def is_published_file(name: str) -> bool:
    """Whether a file of this name is part of a published model or adapter."""
    return _is_model_file(name) or name == ADAPTER_CONFIG


def adapter_files(run: RunFolder, token: str | bool | None = None) -> dict[str, Path]:
    """The files of the run's adapter to publish, by name, with the tokenizer of its student.

    Raises RunError if the run has none, or if no one else could load it, because its base is not on the Hub.
    """
    whole = model_files(run)
    found = {name: run.adapter_dir / name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    if not all(path.is_file() for path in found.values()):
        raise RunError(
            f"Run {run.id} has no adapter: it was not trained with LoRA, or by an older version. Publish the merged "
            "model."
        )
    base = run.config().student
    if not hub_id(base.model):
        raise RunError(
            f"The adapter of run {run.id} is loaded onto its student, {Path(base.model).name!r}, which is a folder of "
            "this machine and not on the Hub. Publish the merged model."
        )
    try:
        stacked = adapter_of(base.model, base.revision, token) is not None
    except ModelError:
        stacked = True
    if stacked:
        raise RunError(
            f"The student {base.model} is an adapter itself, and adapters do not stack. Publish the merged model."
        )
    kept = {
        name: path for name, path in whole.items() if not name.endswith((".safetensors", ".safetensors.index.json"))
    }
    return {name: path for name, path in kept.items() if name not in ("config.json", "generation_config.json")} | found


def public_json(path: Path) -> bytes | Path:
    """The file itself, or, for JSON that says where on this machine it was loaded from, its content without that."""
    if path.suffix != ".json" or path.name.endswith(".index.json") or path.name in ("tokenizer.json", "vocab.json"):
        return path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path.name} of the student is not valid JSON. Save the model again.") from error
    if not isinstance(record, dict):
        return path
    kept = {key: value for key, value in record.items() if key not in _PATH_KEYS or hub_id(str(value))}
    if kept == record:
        return path
    return (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode()
