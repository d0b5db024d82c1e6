"""What is known of a model before it is used: whether it can be read, what it is, how large it is."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from app.server.studio import STUDENT_NAME, TEACHER_NAME, Studio
from simct import demo
from simct.config import RunConfig
from simct.errors import ModelError
from simct.hub.repo_ids import is_folder, split_revision

if TYPE_CHECKING:
    from simct.hub.search import ModelHit
    from simct.tokenization.pair import TokenizerPair
    from simct.tokenization.token_bytes import TokenBytes

EMBEDDED = {str(demo.TEACHER): TEACHER_NAME, str(demo.STUDENT): STUDENT_NAME} | {
    str(getattr(pair, side)): f"Embedded {side}, {name.replace('_', ' ')}"
    for name, pair in demo.STRESS.items()
    for side in ("teacher", "student")
}


@dataclass(frozen=True)
class Facts:
    """One model as the Pair step shows it. `size` is in bytes of safetensors, None where unknown.

    `revision` is the commit, `hit` what the Hub says of the model; both are None for a folder.
    """

    name: str
    where: str
    family: str
    tokenizer: str
    vocabulary: int
    license: str
    gated: bool
    size: int | None
    revision: str | None
    hit: "ModelHit | None" = None

    def line(self) -> str:
        parts = [self.where, f"{self.vocabulary:,} tokens", self.family, self.license]
        if self.size:
            parts.append(human_size(self.size))
        if self.gated:
            parts.append("gated, you have access")
        return " · ".join(part for part in parts if part)


def human_size(size: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def display_name(model: str) -> str:
    """A model as people name it: the embedded ones by role, folders by their last part."""
    if model in EMBEDDED:
        return EMBEDDED[model]
    name, revision = split_revision(model)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return f"{name}@{revision[:8]}"
    return Path(model).name if model.startswith(("/", "~", ".")) else model


def joined(model: str, revision: str | None) -> str:
    """A model and its revision as the fields of the pair hold them."""
    return f"{model}@{revision}" if revision and model not in EMBEDDED and not is_folder(model) else model


def location(model: str) -> str:
    """Where to load a model of the fields from: its folder, or its id without the revision."""
    return str(Path(model).expanduser()) if is_folder(model) else split_revision(model)[0]


def allowed(studio: Studio, model: str) -> str:
    """`model` trimmed, if this studio may read it. Raises ModelError for an empty name, or for a folder in public."""
    model = (model or "").strip()
    if not model:
        raise ModelError("Choose a model: type to search the Hub, or give the path of a local folder.")
    if studio.public and model not in EMBEDDED and is_folder(model):
        raise ModelError("A public studio reads models from the Hub only. Give a Hub id like owner/name.")
    return model


def facts(studio: Studio, model: str, token: str | bool | None) -> Facts:
    """Everything the Pair step shows. Raises a one-line ModelError, TokenizerError or HubError."""
    model = allowed(studio, model)
    if model in EMBEDDED or is_folder(model):
        return _folder_facts(studio, model)
    return _hub_facts(studio, model, token)


def _folder_facts(studio: Studio, model: str) -> Facts:
    from simct.hub.model_files import ADAPTER_CONFIG, adapter_of, check_model_files, model_files_problem

    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ModelError(f"There is no folder {model!r}. Check the path, or give a Hub id like owner/name.")
    if any(folder.glob("*.gguf")) or (folder / ADAPTER_CONFIG).is_file():
        check_model_files(str(folder))
    adapter = adapter_of(str(folder))
    try:
        config = {} if adapter else json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{model!r} has no readable config.json: it is not a Transformers model folder.") from error
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        problem = model_files_problem(str(folder))
        raise ModelError(problem or f"{model!r} holds no *.safetensors weights. Save the model with save_pretrained().")
    tokens = tokenizer_bytes(studio, model, None, None)
    return Facts(
        name=display_name(model),
        where="embedded" if model in EMBEDDED else "local folder",
        family=f"adapter of {adapter.base}" if adapter else str(config.get("model_type", "unknown")),
        tokenizer=tokenizer_kind(tokens.tokenizer),
        vocabulary=len(tokens.bytes_of),
        license=_card_license(folder / "README.md") or ("apache-2.0" if model in EMBEDDED else ""),
        gated=False,
        size=sum(path.stat().st_size for path in weights),
        revision=None,
    )


def _card_license(card: Path) -> str:
    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        return str(yaml.safe_load(front).get("license", ""))
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return ""


def _hub_facts(studio: Studio, model: str, token: str | bool | None) -> Facts:
    from simct.hub import search
    from simct.hub.model_files import check_model_files

    name, revision = split_revision(model)
    found = search.model_facts(name, token, revision)
    adapter = check_model_files(name, found.revision, token)
    tokens = tokenizer_bytes(studio, name, found.revision, token)
    return Facts(
        name=name,
        where=f"Hub, {revision[:20]}" if revision else "Hub",
        family=f"adapter of {adapter.base}" if adapter else found.model_type or "unknown",
        tokenizer=tokenizer_kind(tokens.tokenizer),
        vocabulary=len(tokens.bytes_of),
        license=found.license or "",
        gated=found.gated,
        size=found.size,
        revision=found.revision,
        hit=found,
    )


def tokenizer_kind(tokenizer: Any) -> str:
    """How a tokenizer works, and its class where that says more: byte-level BPE (Qwen2)."""
    name = type(tokenizer).__name__.removesuffix("Fast")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return name
    spelled = "byte-level " if "ByteLevel" in str(backend.decoder) else ""
    generic = name in ("TokenizersBackend", "PreTrainedTokenizer")
    family = "" if generic else f" ({name.removesuffix('Tokenizer')})"
    return f"{spelled}{type(backend.model).__name__}{family}"


def tokenizer_bytes(studio: Studio, model: str, revision: str | None, token: str | bool | None) -> "TokenBytes":
    """TokenBytes of `model`, kept for the next time. The token is in the key: access is not lent on."""
    with studio.reading:
        return studio.kept(_tokenizer_bytes, 16)(model, revision, token)


def _tokenizer_bytes(model: str, revision: str | None, token: str | bool | None) -> "TokenBytes":
    # transformers takes seconds to import, and the page must not wait for it
    from simct.tokenization.model_tokens import load_tokens

    return load_tokens(location(model), revision, token)


def pair_of(
    studio: Studio, teacher: str, student: str, token: str | bool | None, run: RunConfig | None = None
) -> "TokenizerPair":
    """The pair of two chosen models, with the chat templates that `run` names. Raises a one-line SimCTError."""
    teacher, student = allowed(studio, teacher), allowed(studio, student)
    templates = (run.teacher.chat_template, run.student.chat_template) if run else (None, None)
    with studio.reading:
        return studio.kept(_pair)(teacher, student, templates, token)


def _pair(
    teacher: str, student: str, templates: tuple[str | None, str | None], token: str | bool | None
) -> "TokenizerPair":
    from simct.tokenization.pair import TokenizerPair

    return TokenizerPair.from_pretrained(
        location(teacher),
        location(student),
        teacher_revision=split_revision(teacher)[1],
        student_revision=split_revision(student)[1],
        teacher_template=templates[0],
        student_template=templates[1],
        token=token,
    )
