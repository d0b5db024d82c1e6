"""The inputs and results of this folder's functions: plain records that import none of the reading libraries."""

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simct.config import local_path
from simct.config.sections import DataConfig

if TYPE_CHECKING:
    from simct.data.prompts import DataSummary, Prompt
    from simct.inspection.coverage import Spelled
    from simct.inspection.records import PairReport

# settings of `data` in run.yaml: which rows to read, and how they become prompts
SOURCE_FIELDS = ("prompts", "split", "config_name", "revision")
FIELDS = (
    *SOURCE_FIELDS, "column", "answer_column", "system_column", "template", "system", "limit", "completion_column",
    "checker_column", "teacher_column", "exclude_rows", "deduplicate", "min_tokens", "max_tokens", "held_out",
    "held_out_seed", "held_out_prompts", "held_out_split",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a model is read from, and with which token; `name` is the name to show.

    The rest is how a run renders prompts for it: the name of its chat template, thinking, and its own system text.
    """

    name: str
    model: str
    revision: str | None = None
    token: str | bool | None = None
    chat_template: str | None = None
    enable_thinking: bool | None = None
    system: str | None = None


@dataclass(frozen=True)
class ServerAt:
    """The address of a server and how to connect to it: with which key, for whose Hub login, and whether only if
    `public`.
    """

    address: str
    listed: int
    key: str | None = field(default=None, repr=False)
    token: str | bool | None = field(default=None, repr=False)
    public: bool = False


@dataclass(frozen=True)
class ModelReading:
    """A model according to its small files.

    `family` is None if the Hub knows it; `size`: bytes of a folder's weights.
    """

    family: str | None
    tokenizer: str
    vocabulary: int
    license: str = ""
    size: int | None = None


@dataclass(frozen=True)
class PairReading:
    """What two vocabularies have in common; `same`: they are the same one."""

    shared_tokens: int
    jaccard: float
    same: bool = False


@dataclass(frozen=True)
class ShownToken:
    """A token to show: its id, its bytes, and its name if it has no bytes."""

    id: int
    data: bytes | None
    name: str = ""


@dataclass(frozen=True)
class PromptReading:
    """A prompt as one side reads it: its first tokens, their total number, and in `error` the reason if it cannot be
    read.
    """

    side: str
    tokens: tuple[ShownToken, ...] = ()
    count: int = 0
    error: str = ""


@dataclass(frozen=True)
class TextTokens:
    """The bytes of the ids that occur on one side of a text."""

    bytes_of: dict[int, bytes | None]


@dataclass(frozen=True)
class TextPair:
    """The data of a pair that is needed to show one text."""

    teacher: TextTokens
    student: TextTokens


@dataclass(frozen=True, eq=False)
class TextReading:
    """One text on both sides, and the numbers about it."""

    pair: TextPair
    spelled: "Spelled"
    report: "PairReport"


@dataclass(frozen=True)
class TextsAt:
    """Where texts are: a file or a dataset, its column, split and configuration; at most `limit` of them."""

    source: str
    column: str | None = None
    split: str = "train"
    config_name: str | None = None
    limit: int | None = None
    token: str | bool | None = None


@dataclass(frozen=True)
class RowsReading:
    """The first rows of a source, ready to show, its columns, and its number of rows if known."""

    rows: tuple[dict[str, str | None], ...]
    columns: tuple[str, ...]
    total: int | None


@dataclass(frozen=True, eq=False)
class PromptsReading:
    """The prompts of a source: how many (`count`), the first of them, and a summary of all rows."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str | None], ...]
    count: int
    prompts: "tuple[Prompt, ...]"
    total: int | None
    summary: "DataSummary"


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as it was read from a row, ready to show: its text, with roles if there are several messages, and its
    answer.
    """

    row: int
    text: str
    answer: str | None


@dataclass(frozen=True)
class DataAt:
    """Which prompts to read: the `data` of run.yaml as JSON, when its file was last changed, and the token to read it
    with.
    """

    fields: str
    changed: int
    token: str | bool | None

    @classmethod
    def of(cls, data: DataConfig, token: str | bool | None) -> "DataAt":
        path = local_path(data.prompts)
        changed = path.stat().st_mtime_ns if path is not None else 0
        return cls(json.dumps([getattr(data, name) for name in FIELDS]), changed, token)

    @property
    def source(self) -> "DataAt":
        """The same rows, without the settings that turn them into prompts."""
        plain = DataConfig(**{name: getattr(self.config, name) for name in SOURCE_FIELDS})
        return replace(self, fields=json.dumps([getattr(plain, name) for name in FIELDS]))

    @property
    def config(self) -> DataConfig:
        return DataConfig(**dict(zip(FIELDS, json.loads(self.fields), strict=True)))
