"""Facts about a model before it is used: whether it can be read, its kind and its size."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.reading import embedded
from app.reading.records import ModelReading, PairReading, Source
from app.reading.setup import explicit_token
from app.server import paths
from app.server.studio import STUDENT_NAME, TEACHER_NAME, Studio
from simct import demo
from simct.config import RunConfig
from simct.config.sections import ModelConfig
from simct.errors import ModelError
from simct.files import expanded
from simct.hub.repo_ids import is_folder, no_folder, split_revision
from simct.report.formats import human_size

if TYPE_CHECKING:
    from simct.hub.search import ModelHit
    from simct.tokenization.pair import TokenizerPair

EMBEDDED = {str(demo.TEACHER): TEACHER_NAME, str(demo.STUDENT): STUDENT_NAME} | {
    str(getattr(pair, side)): f"Embedded {side}, {name.replace('_', ' ')}"
    for name, pair in demo.STRESS.items()
    for side in ("teacher", "student")
}


@dataclass(frozen=True)
class Facts:
    """One model as the Pair step shows it. `size` is in bytes of safetensors, None if unknown.

    `revision` is the commit, and `hit` is what the Hub says about the model; both are None for a folder.
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


def display_name(model: str) -> str:
    """The display name of a model: embedded models by role, folders by their last part; several are joined by " + "."""
    if " + " in model:
        return " + ".join(map(display_name, model.split(" + ")))
    if model in EMBEDDED:
        return EMBEDDED[model]
    name, revision = split_revision(model)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return f"{name}@{revision[:8]}"
    return Path(model).name if model.startswith(("/", "~", ".")) else model


def joined(model: str, revision: str | None) -> str:
    """A model and its revision, joined as in the fields of the pair."""
    return f"{model}@{revision}" if revision and model not in EMBEDDED and not is_folder(model) else model


def location(model: str) -> str:
    """Where to load a model named in a field from: its folder, or its id without the revision."""
    return str(expanded(model)) if is_folder(model) else split_revision(model)[0]


def allowed(studio: Studio, model: str) -> str:
    """`model` trimmed, if this studio may read it. Raises ModelError for an empty name, or for a folder in public."""
    return paths.check_model(studio, model)


def source(studio: Studio, model: str, token: str | bool | None, settings: ModelConfig | None = None) -> Source:
    """Where a worker reads a chosen model, and how a run with these `settings` renders prompts for it.

    Raises ModelError for a model that this studio may not read.
    """
    model = allowed(studio, model)
    if model in EMBEDDED or is_folder(model):
        found = Source(display_name(model), location(model))
    else:
        found = Source(model, *split_revision(model), explicit_token(token))
    if settings is None:
        return found
    return replace(
        found,
        chat_template=settings.chat_template,
        enable_thinking=settings.enable_thinking,
        system=settings.system,
    )


def facts(studio: Studio, model: str, token: str | bool | None) -> Facts:
    """Everything the Pair step shows. Raises a one-line ModelError, TokenizerError or HubError."""
    model = allowed(studio, model)
    if model in EMBEDDED or is_folder(model):
        return _folder_facts(studio, model)
    return _hub_facts(studio, model, token)


def _folder_facts(studio: Studio, model: str) -> Facts:
    folder = expanded(model)
    if not os.path.isdir(folder):
        raise ModelError(no_folder(model))
    read = embedded.MODELS.get(model)
    if read is None:
        read = studio.kept(_read_folder, 16)(studio, source(studio, model, None), _changed(folder))
    return Facts(
        name=display_name(model),
        where="embedded" if model in EMBEDDED else "local folder",
        family=read.family or "unknown",
        tokenizer=read.tokenizer,
        vocabulary=read.vocabulary,
        license=read.license or ("apache-2.0" if model in EMBEDDED else ""),
        gated=False,
        size=read.size,
        revision=None,
    )


def _changed(folder: Path) -> int:
    """When a file of the folder was last changed, so that a changed folder is read again."""
    try:
        return max((path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()), default=0)
    except OSError:
        return 0


def _read_folder(studio: Studio, where: Source, changed: int) -> ModelReading:
    from app.reading import models

    return studio.workers.run(models.read_folder, where, what=f"The model {where.name!r}", near=where)


def _hub_facts(studio: Studio, model: str, token: str | bool | None) -> Facts:
    from simct.hub import search

    name, revision = split_revision(model)
    found = search.model_facts(name, token, revision)
    read = studio.kept(_read_hub_model, 32)(studio, Source(name, name, found.revision, explicit_token(token)))
    return Facts(
        name=name,
        where=f"Hub, {revision[:20]}" if revision else "Hub",
        family=read.family or found.model_type or "unknown",
        tokenizer=read.tokenizer,
        vocabulary=read.vocabulary,
        license=found.license or "",
        gated=found.gated,
        size=found.size,
        revision=found.revision,
        hit=found,
    )


def _read_hub_model(studio: Studio, where: Source) -> ModelReading:
    from app.reading import models

    return studio.workers.run(models.read_hub_model, where, what=f"The model {where.name!r}", near=where)


def read_pair(studio: Studio, teacher: str, student: str, token: str | bool | None) -> PairReading:
    """What two chosen models have in common, read by a worker. Raises a one-line SimCTError."""
    if (teacher, student) == embedded.SIDES:
        return embedded.PAIR
    sides = source(studio, teacher, token), source(studio, student, token)
    return studio.kept(_read_pair, 32)(studio, *sides)


def _read_pair(studio: Studio, teacher: Source, student: Source) -> PairReading:
    from app.reading import models

    return studio.workers.run(models.read_pair, teacher, student, what="This pair", near=(teacher, student))


def accept(studio: Studio, teacher: str, student: str, token: str | bool | None, run: RunConfig | None = None) -> None:
    """Let a worker read both models' small files, before this process does. Raises a one-line SimCTError."""
    from app.reading import runs

    settings = (run.teacher, run.student) if run else (None, None)
    sides = [source(studio, *each) for each in zip((teacher, student), (token, token), settings, strict=True)]
    studio.workers.run(runs.accept, *sides, what="This pair", near=tuple(sides))


def pair_of(
    studio: Studio, teacher: str, student: str, token: str | bool | None, run: RunConfig | None = None
) -> "TokenizerPair":
    """The pair of two chosen models, with the chat templates that `run` names, for work with their weights.

    A worker must accept both first. Raises a one-line SimCTError.
    """
    accept(studio, teacher, student, token, run)
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
