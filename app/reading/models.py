"""A model or a pair, read from its small files: its kind, its tokenizer, and how it reads a conversation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.reading.records import ModelReading, PairReading, PromptReading, ShownToken, Source
from simct.config.yaml_text import MOST_CHARACTERS, read_yaml
from simct.data.conversations import Message, with_system
from simct.data.prompts import Prompt
from simct.data.templates import prompt_ids
from simct.data.tools import Tool
from simct.errors import ConfigError, DataError, LimitError, ModelError
from simct.hub.model_files import ADAPTER_CONFIG, adapter_of, check_model_files, model_files_problem
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes
from simct.workers.child import Worker

MOST_TOKENS = 700


def tokens_of(worker: Worker, source: Source) -> TokenBytes:
    """The model's tokenizer, cached. Raises a one-line SimCTError."""
    worker.step(f"The tokenizer of {source.name!r}")
    return worker.kept(load_tokens, source.model, source.revision, source.token, source.chat_template)


def pair_of(worker: Worker, teacher: Source, student: Source) -> TokenizerPair:
    """Both tokenizers as a pair, cached. Raises a one-line SimCTError."""
    sides = tokens_of(worker, teacher), tokens_of(worker, student)
    worker.step(f"The pair of {teacher.name!r} and {student.name!r}")
    return worker.kept(TokenizerPair, *sides, size=2)


def read_pair(worker: Worker, teacher: Source, student: Source) -> PairReading:
    """The shared tokens of a pair."""
    pair = pair_of(worker, teacher, student)
    same = pair.teacher.fingerprint == pair.student.fingerprint
    return PairReading(pair.shared_tokens, pair.jaccard, same)


def read_folder(worker: Worker, source: Source) -> ModelReading:
    """A model in a folder. Raises a one-line SimCTError."""
    folder = Path(source.model)
    if any(folder.glob("*.gguf")) or (folder / ADAPTER_CONFIG).is_file():
        check_model_files(str(folder))
    adapter = adapter_of(str(folder))
    try:
        config = {} if adapter else json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family = f"adapter of {adapter.base}" if adapter else str(config.get("model_type", "unknown"))[:80]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{source.model!r} has no readable config.json: it is not a Transformers model folder."
        ) from error
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        problem = model_files_problem(str(folder))
        missing = f"{source.model!r} holds no *.safetensors weights. Save the model with save_pretrained()."
        raise ModelError(problem or missing)
    tokens = tokens_of(worker, source)
    return ModelReading(
        family=family,
        tokenizer=tokenizer_kind(tokens.tokenizer),
        vocabulary=len(tokens.bytes_of),
        license=_card_license(folder / "README.md"),
        size=sum(path.stat().st_size for path in weights),
    )


def _card_license(card: Path) -> str:
    try:
        with open(card, encoding="utf-8") as file:
            _, front, _ = file.read(MOST_CHARACTERS).split("---\n", 2)
        return str(read_yaml(front).get("license", ""))[:80]
    except (OSError, ValueError, AttributeError, ConfigError):
        return ""


def read_hub_model(worker: Worker, source: Source) -> ModelReading:
    """A model on the Hub, at the given revision. Raises a one-line SimCTError."""
    worker.step(f"The model {source.name!r}")
    adapter = check_model_files(source.model, source.revision, source.token)
    tokens = tokens_of(worker, source)
    return ModelReading(
        family=f"adapter of {adapter.base}" if adapter else None,
        tokenizer=tokenizer_kind(tokens.tokenizer),
        vocabulary=len(tokens.bytes_of),
    )


def tokenizer_kind(tokenizer: Any) -> str:
    """The kind of a tokenizer, with its class if that adds something: byte-level BPE (Qwen2)."""
    name = type(tokenizer).__name__.removesuffix("Fast")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return name
    spelled = "byte-level " if "ByteLevel" in str(backend.decoder) else ""
    generic = name in ("TokenizersBackend", "PreTrainedTokenizer")
    family = "" if generic else f" ({name.removesuffix('Tokenizer')})"
    return f"{spelled}{type(backend.model).__name__}{family}"


def read_prompt(worker: Worker, source: Source, messages: list[Message], tools: Sequence[Tool] = ()) -> list[int]:
    """The ids of a conversation, with its tools, in the model's own template. Raises a one-line SimCTError."""
    tokens = tokens_of(worker, source)
    worker.step(f"The chat template of {source.name!r}")
    return prompt_ids(tokens.tokenizer, with_system(messages, source.system), source.enable_thinking, tools)


def prompt_reading(worker: Worker, side: str, source: Source, prompt: Prompt) -> PromptReading:
    """A prompt as one side reads it, to be shown."""
    tokens = tokens_of(worker, source)
    try:
        ids = read_prompt(worker, source, list(prompt.messages), prompt.tools)
    except (DataError, LimitError) as error:
        return PromptReading(side, error=str(error))
    return PromptReading(side, tuple(_shown(tokens, token_id) for token_id in ids[:MOST_TOKENS]), len(ids))


def _shown(tokens: TokenBytes, token_id: int) -> ShownToken:
    data = tokens.bytes_of[token_id] if token_id < len(tokens.bytes_of) else None
    name = "" if data is not None else str(tokens.tokenizer.convert_ids_to_tokens(token_id))[:200]
    return ShownToken(token_id, data, name)
