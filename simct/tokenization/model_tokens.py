"""The tokens of a model, given by Hub id or folder: its tokenizer as exact bytes, within the rows of its embedding."""

from __future__ import annotations

from safetensors import safe_open

from simct.config import local_path
from simct.hub.client import hub_api
from simct.hub.model_config import load_config
from simct.hub.model_files import ADAPTER_WEIGHTS, adapter_of
from simct.tokenization.end_of_turn import generation_ends
from simct.tokenization.token_bytes import TokenBytes, load_tokenizer, token_bytes

# the names of an adapter's own embedding
EMBEDDINGS = ("embed_tokens.weight", "embed_tokens.modules_to_save.weight", "wte.weight", "embed_in.weight")


def load_tokens(
    model: str, revision: str | None = None, token: str | bool | None = None, chat_template: str | None = None
) -> TokenBytes:
    """The tokens of a model or of an adapter. Raises one-line ModelErrors and TokenizerErrors."""
    tokenizer = load_tokenizer(model, revision, token, chat_template)
    adapter = adapter_of(model, revision, token)
    base, base_revision = (adapter.base, adapter.base_revision) if adapter else (model, revision)
    ends = generation_ends(model, revision, token) or (generation_ends(base, base_revision, token) if adapter else [])
    rows = embedding_rows(base, base_revision, token)
    if adapter is not None and rows is not None and len(tokenizer) > rows:
        rows = adapter_rows(model, revision, token) or rows
    return token_bytes(tokenizer, ends, rows)


def embedding_rows(model: str, revision: str | None = None, token: str | bool | None = None) -> int | None:
    """How many ids the model's config.json gives its embedding; None if it cannot be read."""
    try:
        config = load_config(model, revision, token)
        rows = config.get_text_config().vocab_size
    except Exception:  # there are many kinds of configs, and a tokenizer may come without one
        return None
    return rows if isinstance(rows, int) and rows > 0 else None


def adapter_rows(adapter: str, revision: str | None = None, token: str | bool | None = None) -> int | None:
    """How many rows an adapter's own embedding has; None if it has none."""
    path = local_path(adapter)
    try:
        if path is not None:
            with safe_open(path / ADAPTER_WEIGHTS, "pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
        else:
            found = hub_api(token).parse_safetensors_file_metadata(adapter, ADAPTER_WEIGHTS, revision=revision)
            shapes = {name: tensor.shape for name, tensor in found.tensors.items()}
    except Exception:  # loading the weights reports what is wrong with them
        return None
    return max((shape[0] for name, shape in shapes.items() if name.endswith(EMBEDDINGS)), default=None)
