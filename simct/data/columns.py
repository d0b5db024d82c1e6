"""Which columns hold prompts, system texts and answers: named ones, a template over several, or known names."""

import dataclasses
import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simct.config.sections import DataConfig
from simct.data.conversations import Unusable, conversation, last_answer, messages_in, transcript
from simct.data.formats import Row
from simct.data.tools import tools_in
from simct.errors import DataError, listed, quoted

PROMPT_COLUMNS = (
    "messages", "prompt", "question", "problem", "instruction", "conversations", "conversation", "query", "input",
    "inputs", "chosen",
)  # fmt: skip
# read as prompts only if there is an answer column
WEAK_PROMPT_COLUMNS = ("input", "inputs", "chosen")
CONTEXT_COLUMNS = ("input", "context")  # of an instruction
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
ANSWER_COLUMNS = (
    "answer", "final_answer", "solution", "completion", "response", "output", "chosen", "target", "targets",
    "reference_answer", "ground_truth", "answers",
)  # fmt: skip
TOOL_COLUMNS = ("tools", "functions")
# settings of data that name a column
NAMED_COLUMNS = (
    "column", "answer_column", "system_column", "completion_column", "checker_column", "teacher_column",
)  # fmt: skip
BRACES = "Write {{ and }} for braces that are text."
# formats whose prompts are conversations, which a template cannot hold
MESSAGES, SHAREGPT, PREFERENCES = "chat messages", "ShareGPT conversations", "preference pairs"


@dataclass(frozen=True)
class Columns:
    """The role of each column. Optional columns are looked up in every row, because rows may differ.

    format: the usual name of the dialect. prompt: the column of a text or a conversation, None with a template.
    context: columns whose text follows the prompt's. system, answers: the first of them that a row has is used.
    completion, checker, teacher: the columns named for them. tools: columns of functions that the model
    may call. ignored: columns that are known to have no text for the model. alternatives: other columns that could be a
    part, by their names.
    """

    format: str
    prompt: str | None
    context: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    template: str | None = None
    fields: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    completion: str | None = None
    checker: str | None = None
    teacher: str | None = None
    tools: tuple[str, ...] = ()
    alternatives: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that the user's text comes from."""
        return self.fields if self.template is not None else (*filter(None, [self.prompt]), *self.context)

    def template_with(self, name: str) -> str | None:
        """A template for the prompt as it is read now, followed by the text of another column.

        None if the prompts are conversations, or if a template cannot contain the name.
        """
        now = [self.template] if self.template is not None else [f"{{{each}}}" for each in self.asked]
        template = "\n\n".join([*now, f"{{{name}}}"])
        if self.template is None and self.format in (MESSAGES, SHAREGPT, PREFERENCES):
            return None
        try:
            held = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except ValueError:
            return None
        return template if dict.fromkeys(held) == dict.fromkeys([*self.asked, name]) else None


def recognize(rows: Sequence[Row], data: DataConfig) -> Columns:
    """The roles of the columns of these first rows. Raises DataError with the columns and the setting to use."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for setting in NAMED_COLUMNS:
        named = getattr(data, setting)
        if named and named not in names:
            raise DataError(f"{data.prompts!r} has no column {quoted(named)} (data.{setting}); it has {listed(names)}.")
    found = _recognized(rows, names, data)
    read = {*found.asked, *found.system, *found.answers}
    tools = [name for name in names if name.strip().lower() in TOOL_COLUMNS and name not in read]
    offered = tuple(name for name in tools if any(tools_in(row.get(name)) for row in rows))
    known = {name.strip().lower(): name for name in reversed(names)}
    could_be = {"prompt": (PROMPT_COLUMNS, found.asked), "answer": (ANSWER_COLUMNS, found.answers[:1])}
    others = {part: [n for n in _named(known, some) if n not in used] for part, (some, used) in could_be.items()}
    named = {"completion": data.completion_column, "checker": data.checker_column, "teacher": data.teacher_column}
    alternatives = {part: names for part, names in others.items() if names}
    return replace(found, tools=offered, alternatives=alternatives, **named)


def _recognized(rows: Sequence[Row], names: list[str], data: DataConfig) -> Columns:
    filled = [name for name in names if any(row.get(name) not in (None, "", []) for row in rows)]
    known = {name.strip().lower(): name for name in reversed(filled or names)}
    system = (data.system_column,) if data.system_column else tuple(_named(known, SYSTEM_COLUMNS))
    answers = (data.answer_column,) if data.answer_column else tuple(_named(known, ANSWER_COLUMNS))
    if data.template:
        fields = template_fields(data.template, names, data)
        answers = tuple(name for name in answers if name not in fields or data.answer_column)
        return Columns("template", None, (), system, answers, _newlines(data.template), fields)
    prompt = data.column or next(_prompts(known, answers), None)
    if prompt is None and not any(names):
        raise DataError(f"{data.prompts!r} has rows without any column. Give one with prompts.")
    if prompt is None:
        raise DataError(
            f"{data.prompts!r} has none of the columns {', '.join(PROMPT_COLUMNS)}; it has {listed(names)}. Name "
            "the prompt column with data.column, or join several with data.template."
        )
    answers = tuple(name for name in answers if name != prompt)
    instructed = prompt.strip().lower() == "instruction" and not data.column
    context = tuple(name for name in _named(known, CONTEXT_COLUMNS) if instructed and name not in answers)
    ignored = tuple(_named(known, ("rejected",))) if "chosen" in known else ()
    columns = Columns("", prompt, context, system, answers, ignored=ignored)
    return Columns(_format(columns, known, rows), prompt, context, system, answers, ignored=ignored)


def _named(known: dict[str, str], names: Sequence[str]) -> list[str]:
    return [known[name] for name in names if name in known]


def _prompts(known: dict[str, str], answers: Sequence[str]) -> Iterator[str]:
    for name in PROMPT_COLUMNS:
        if name in known and (name not in WEAK_PROMPT_COLUMNS or answers):
            yield known[name]


def _format(columns: Columns, known: dict[str, str], rows: Sequence[Row]) -> str:
    """The dialect's name, by how turns are written or else by the columns."""
    prompt = str(columns.prompt)
    cell = next((row[prompt] for row in rows if row.get(prompt) not in (None, "", [])), None)
    if "rejected" in known and "chosen" in known:
        return PREFERENCES
    turns = _quietly(cell)
    if turns and isinstance(turns[0], dict):
        return SHAREGPT if "from" in turns[0] else MESSAGES
    name = prompt.strip().lower()
    if name == "instruction":
        return "Dolly" if "context" in known and "input" not in known else "Alpaca"
    if name == "question" and "system_prompt" in known and "response" in known:
        return "OpenOrca"
    return f"{prompt} and {columns.answers[0]}" if columns.answers else f"{prompt}s"


def _quietly(cell: Any) -> list[Any] | None:
    try:
        return messages_in(cell)
    except Unusable:
        return None


# A template over columns


def _newlines(template: str) -> str:
    """The template with \\n as a line break, which a command line cannot write otherwise."""
    return template if "\n" in template else template.replace("\\n", "\n")


def template_fields(template: str, names: Sequence[str], data: DataConfig) -> tuple[str, ...]:
    """The columns that a template names. Raises DataError for a column that does not exist, or for a lone brace."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise DataError(f"data.template: {error}. {BRACES}") from error
    missing = next((field for field in fields if field not in names), None)
    if missing is not None:
        raise DataError(
            f"data.template names a column {quoted(missing)}, and {data.prompts!r} has {listed(names)}. {BRACES}"
        )
    if not fields:
        raise DataError(f"data.template names no column. {data.prompts!r} has {listed(names)}.")
    return tuple(dict.fromkeys(fields))


def filled_template(template: str, row: Row) -> str:
    """The template with a row's cells; a missing cell is empty, a list becomes one line per entry."""
    parts = []
    for text, field, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if field is not None:
            cell = row.get(field)
            lines = cell if isinstance(cell, list) else [cell]
            parts.append("\n".join(str(line) for line in lines if not _is_missing(line)))
    return "".join(parts).strip()


# What a row holds


def answer_of(value: Any) -> str | None:
    """The reference answer in a cell: a text or number, the last turn of a conversation, the first of several.

    None if the cell is empty or has something else, because a prompt needs no answer.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        turns = transcript(value) or _quietly(value)
        return last_answer(turns) if turns else value
    if isinstance(value, dict):
        # the forms of SQuAD and TriviaQA, and a single message
        inner = next((value[name] for name in ("value", "text", "answer", "content") if value.get(name)), None)
        return answer_of(inner)
    if isinstance(value, list):
        if value and all(isinstance(each, dict) for each in value):
            return last_answer(value)
        return next((answer_of(each) for each in value if each is not None), None)
    return None if _is_missing(value) else str(value)


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty; pandas writes NaN for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def asked_in(row: Row, columns: Columns) -> tuple[list[dict[str, Any]], str | None]:
    """The messages of a row to answer, without the system column's, and the answer that follows them.

    Raises Unusable for a row that holds none.
    """
    if columns.template is not None:
        return _as_user(filled_template(columns.template, row)), None
    value = row.get(str(columns.prompt))
    turns = messages_in(value)
    if turns is None and isinstance(value, str):
        turns = transcript(value) if str(columns.prompt).strip().lower() == "chosen" else None
    if turns is not None:
        if not turns:
            raise Unusable("an empty prompt")
        return conversation(turns)
    if _is_missing(value):
        raise Unusable("an empty prompt")
    if not isinstance(value, str):
        raise Unusable(f"a prompt must be text or messages, and one is {_kind(value)}")
    more = [text for name in columns.context if (text := text_of(row.get(name), f"its {name}"))]
    return _as_user("\n\n".join([value, *more])), None


def text_of(value: Any, what: str) -> str:
    """The text in a cell that comes with the prompt: a text or number, the text of messages or parts, lines of a list.

    Empty for an empty cell. Raises Unusable, which calls the cell `what`, for anything else: no text is left out.
    """
    if _is_missing(value):
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return "\n".join(filter(None, (text_of(each, what) for each in value)))
    if isinstance(value, dict) and isinstance(inner := value.get("content", value.get("text")), str | list):
        return text_of(inner, what)
    raise Unusable(f"{what} is {_kind(value)}, not text")


def _as_user(text: str) -> list[dict[str, Any]]:
    if not text.strip():
        raise Unusable("an empty prompt")
    return [{"role": "user", "content": text}]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    known = {int: "a number", float: "a number", dict: "a record", list: "a list", bytes: "binary data"}
    return known.get(type(value), f"of type {type(value).__name__}")
