"""From rows of data to prompts, which are conversations that need an answer, with a summary of all rows.

The command and the studio use the same functions, so a preview shows what a run trains on. A row that cannot be used
is skipped and counted by its reason; only a source without any prompt is an error.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from simct.config.sections import CHECKERS, MOST_EXCLUDED, DataConfig
from simct.data.columns import Columns, answer_of, asked_in, recognize, text_of
from simct.data.conversations import LONGEST_TEXT, Message, Unusable
from simct.data.formats import Row, Unreadable
from simct.data.selection import Duplicates, ExcludedRows
from simct.data.sources import RowSource, open_rows
from simct.data.tools import Tool, is_empty, tools_in
from simct.errors import DataError, quoted

RECOGNIZED_ROWS = 100  # rows that decide the roles of the columns
MOST_CHARACTERS = 2_000_000_000  # the most characters of all prompts, because they are all in memory
SHOWN_REASONS = 6
PARTS = ("system", "tools", "answer", "completion", "checker", "teacher")
REPLY = "the reply in the conversation"


@dataclass(frozen=True)
class Prompt:
    """A conversation that needs an answer, and the reference answer if the data has one.

    row: its row in the data, counted from 1; None if it has none. completion: a whole answer to learn from, if the data
    has one. checker: the checker of this row's answers, if the data names one. tools: the functions that the model may
    call, for templates that support them. route: the value that chooses the row's teacher, if the data has one.
    """

    messages: tuple[Message, ...]
    answer: str | None = None
    row: int | None = None
    completion: str | None = None
    checker: str | None = None
    tools: tuple[Tool, ...] = ()
    route: str | None = None

    @property
    def text(self) -> str:
        """The text of the last message."""
        return self.messages[-1]["content"]


@dataclass
class RowCount:
    """A number of rows with something in common, the first of them, counted from 1, and up to MOST_EXCLUDED of them."""

    count: int = 0
    row: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, row: int) -> None:
        self.count += 1
        self.row = self.row or row
        if len(self.rows) < MOST_EXCLUDED:
            self.rows.append(row)


@dataclass
class DataSummary:
    """What was read, and how. `rows` counts all rows, usable or not.

    columns: what each part of the prompts was read from, such as {"prompt": "instruction + input"}. used: the columns
    that were read. skipped: rows left out, by reason. unread: unused columns of text, each with its first row
    that has text. unread_files: data files of a folder that are not read because most files have another format.
    left_out: how many prompts the settings leave out, by what they are. alternatives: other columns that could be read
    as a part, by their names. templates: by unread column, a data.template that also reads its text, if there is one.
    """

    source: str
    format: str
    columns: dict[str, str]
    rows: int = 0
    prompts: int = 0
    answers: int = 0
    files: int = 0
    file_formats: list[str] = field(default_factory=list)
    encodings: list[str] = field(default_factory=list)
    delimiters: list[str] = field(default_factory=list)
    skipped: dict[str, RowCount] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    unread_files: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    alternatives: dict[str, list[str]] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)

    @property
    def read_as(self) -> str:
        """How the file was read, such as "CSV, cp1252, delimiter ';'"."""
        files = f" of {self.files:,} files" if self.files > 1 else ""
        parts = [" and ".join(self.file_formats) + files, *self.encodings]
        parts += [f"delimiter {delimiter!r}" for delimiter in self.delimiters]
        return ", ".join(filter(None, parts))

    @property
    def mapping(self) -> str:
        """Which columns are read, such as "prompt: instruction + input, answer: output"."""
        return ", ".join(f"{part}: {columns}" for part, columns in self.columns.items())

    @property
    def left_out_line(self) -> str:
        """What the settings leave out, such as "12 duplicates, 3 excluded rows"."""
        return ", ".join(
            f"{count:,} {name.removesuffix('s') if count == 1 else name}" for name, count in self.left_out.items()
        )

    def notices(self) -> list[str]:
        """Warnings, each as one sentence: skipped rows, unused text, a guessed encoding."""
        return [*filter(None, [self.skipped_line, self.unread_line]), *self.file_notices()]

    @property
    def skipped_line(self) -> str:
        """How many rows are skipped, and why; empty if none is."""
        if not self.skipped:
            return ""
        count = sum(each.count for each in self.skipped.values())
        verb = "is" if count == 1 else "are"
        return f"{_rows(count)} of {self.rows:,} {verb} skipped: {reasons(self.skipped)}."

    @property
    def unread_line(self) -> str:
        """Which columns of text are not used; empty if there are none."""
        if not self.unread:
            return ""
        return f"Nothing uses the text in {', '.join(self.unread)}. Use data.template to include it in the prompt."

    def file_notices(self) -> list[str]:
        """Warnings about the files: a guessed encoding, files that are not read."""
        lines = []
        guessed = [name for name in self.encodings if not name.startswith("utf-8")]
        if guessed:
            lines.append(f"The text is read as {' and '.join(guessed)}. Convert it to UTF-8 if letters look wrong.")
        if self.unread_files:
            names = ", ".join(self.unread_files[:3])
            more = f" and {len(self.unread_files) - 3:,} more" if len(self.unread_files) > 3 else ""
            lines.append(f"Other files of the folder are not read: {names}{more}.")
        return lines

    def lines(self) -> list[str]:
        """The summary for a terminal: what was read, then the notices."""
        counted = "1 prompt" if self.prompts == 1 else f"{self.prompts:,} prompts"
        answers = f", {self.answers:,} with an answer" if self.answers else ""
        out = f"; left out: {self.left_out_line}" if self.left_out else ""
        return [
            f"{counted} from {self.source} ({self.read_as}): {self.format}; {self.mapping}{answers}{out}",
            *self.notices(),
        ]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def reasons(skipped: dict[str, RowCount], most: int = SHOWN_REASONS) -> str:
    """Reasons with their counts, the most frequent first, such as "3 × an empty prompt (first: row 7)"."""
    ordered = sorted(skipped.items(), key=lambda item: -item[1].count)
    described = [f"{each.count:,} × {reason} (first: row {each.row:,})" for reason, each in ordered[:most]]
    if len(ordered) > most:
        described.append(f"{sum(each.count for _, each in ordered[most:]):,} for other reasons")
    return ", ".join(described)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a source, and the summary of how they were read."""

    prompts: list[Prompt]
    summary: DataSummary


def load_prompts(data: DataConfig, token: str | bool | None = None) -> list[Prompt]:
    """The prompts that `data` names. Raises DataError or HubError (one line), as read_prompts."""
    return read_prompts(data, token).prompts


def read_prompts(data: DataConfig, token: str | bool | None = None) -> PromptSet:
    """Read the prompts that `data` names, with a summary of its rows.

    Raises DataError or HubError (one line) for a source that is missing or cannot be read, for missing columns, and
    for a source without any usable prompt.
    """
    source = open_rows(data, token)
    return prompts_in(source.rows, data, source)


def prompts_in(rows: Iterable[Row | Unreadable], data: DataConfig, source: RowSource | None = None) -> PromptSet:
    """The prompts of these rows. Raises DataError as read_prompts."""
    iterator = iter(rows)
    head = list(islice(iterator, RECOGNIZED_ROWS))
    readable = [row for row in head if not isinstance(row, Unreadable)]
    if not head:
        raise DataError(f"{data.prompts!r} has no rows. Give a file or dataset with at least one prompt.")
    reader = _Reader(data, recognize(readable, data) if readable else None)
    prompts: list[Prompt] = []
    characters = 0
    for prompt in reader.read(chain(head, iterator)):
        prompts.append(prompt)
        characters += sum(len(message["content"]) for message in prompt.messages)
        if characters > MOST_CHARACTERS:
            raise DataError(
                f"{quoted(data.prompts)} has more than {MOST_CHARACTERS:,} characters in its first {len(prompts):,} "
                "prompts. Use fewer with data.limit."
            )
        if data.limit and len(prompts) == data.limit:
            break
    if not prompts:
        why = reasons(reader.skipped) or f"all of them are left out ({reader.summary([], source).left_out_line})"
        if not readable:
            raise DataError(f"Cannot load prompts from {data.prompts!r}: {why}. Check the file.")
        raise DataError(f"{data.prompts!r} has no prompt that can be used: {why}.")
    return PromptSet(prompts, reader.summary(prompts, source))


class _Reader:
    """Turns rows into prompts and counts the skipped rows."""

    def __init__(self, data: DataConfig, columns: Columns | None) -> None:
        self.data, self.columns = data, columns
        self.rows = 0
        self.skipped: dict[str, RowCount] = {}
        self.unread: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()
        self.excluded = ExcludedRows(data.exclude_rows)
        self.duplicates = Duplicates(data.deduplicate) if data.deduplicate else None
        self.used: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
        self._known: set[str] = set()
        if columns:
            named = filter(None, (columns.completion, columns.checker, columns.teacher))
            self._known = {*columns.asked, *columns.system, *columns.answers, *columns.ignored, *columns.tools, *named}

    def read(self, rows: Iterable[Row | Unreadable]) -> Iterator[Prompt]:
        for row in rows:
            self.rows += 1
            if self.rows in self.excluded:
                self.left_out["excluded rows"] += 1
                continue
            if isinstance(row, Unreadable):
                self._skip(row.reason)
                continue
            self._look_for_unread(row)
            try:
                prompt = self._prompt(row)
            except Unusable as error:
                self._skip(str(error))
                continue
            if self.duplicates and self.duplicates.again(prompt.messages, prompt.tools):
                self.left_out["duplicates"] += 1
                continue
            yield prompt

    def _prompt(self, row: Row) -> Prompt:
        columns = self.columns
        if columns is None:
            raise Unusable("its columns come too late to be recognized")
        messages, said = asked_in(row, columns)
        answer = self._answer(row, columns) or said
        if said and answer == said:
            self.used["answer"][REPLY] += 1
        if messages[0]["role"] != "system" and (system := self._system(row, columns)):
            messages.insert(0, {"role": "system", "content": system})
        texts = [message["content"] for message in messages]
        if sum(map(len, texts)) > LONGEST_TEXT:
            raise Unusable(f"a conversation of more than {LONGEST_TEXT:,} characters")
        completion = self._named("completion", columns.completion, row) or said or answer
        tools = self._tools(row, columns)
        offered = json.dumps(tools, ensure_ascii=False, default=str)
        if not all(map(_is_unicode, [*texts, offered, answer or "", completion or ""])):
            raise Unusable("text that is not valid Unicode")
        checker = self._named("checker", columns.checker, row)
        if checker is not None and (checker := checker.strip().lower()) not in CHECKERS:
            raise Unusable(f"a checker that is none of {', '.join(CHECKERS)}")
        route = (self._named("teacher", columns.teacher, row) or "").strip() or None
        return Prompt(tuple(messages), answer, self.rows, completion, checker, tuple(tools), route)

    def _named(self, part: str, name: str | None, row: Row) -> str | None:
        """The text in a column that the settings name for one part; counts it."""
        text = None if name is None else answer_of(row.get(name))
        if text is not None:
            self.used[part][str(name)] += 1
        return text

    def _system(self, row: Row, columns: Columns) -> str | None:
        for name in columns.system:
            if cell := text_of(row.get(name), f"its {name}"):
                self.used["system"][name] += 1
                return cell
        return self.data.system

    def _tools(self, row: Row, columns: Columns) -> list[Tool]:
        for name in columns.tools:
            if is_empty(row.get(name)):
                continue
            tools = tools_in(row[name])
            if tools is None:
                raise Unusable(f"its {name} are not functions with names")
            self.used["tools"][name] += 1
            return tools
        return []

    def _answer(self, row: Row, columns: Columns) -> str | None:
        for name in columns.answers:
            if (answer := answer_of(row.get(name))) is not None:
                self.used["answer"][name] += 1
                return answer
        return None

    def _look_for_unread(self, row: Row) -> None:
        for name in row.keys() - self._known:
            # a column without a name is the index that pandas writes
            if name.strip() and _holds_text(row[name]):
                self.unread[name] = self.rows
                self._known.add(name)

    def _skip(self, reason: str) -> None:
        self.skipped.setdefault(reason, RowCount()).add(self.rows)

    def summary(self, prompts: list[Prompt], source: RowSource | None) -> DataSummary:
        columns = self.columns
        asked = columns.asked if columns else ()
        described = {"prompt": " + ".join(asked)}
        described |= {part: " or ".join(counts) for part, counts in self.used.items() if counts}
        summary = DataSummary(
            source=self.data.prompts,
            format=columns.format if columns else "",
            columns=described,
            rows=self.rows,
            prompts=len(prompts),
            answers=sum(prompt.answer is not None for prompt in prompts),
            skipped=self.skipped,
            used=list(
                dict.fromkeys([*asked, *(name for part in self.used.values() for name in part if name != REPLY)])
            ),
            unread=self.unread,
            left_out=dict(self.left_out),
            alternatives=columns.alternatives if columns else {},
            templates={name: found for name in self.unread if columns and (found := columns.template_with(name))},
        )
        if source:
            notes = source.notes
            summary.files, summary.file_formats = len(source.files), list(notes.formats)
            summary.encodings, summary.delimiters = list(notes.encodings), list(notes.delimiters)
            summary.unread_files = [file.name for file in source.unread]
        return summary


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _holds_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return any(isinstance(each, str) and each.strip() for each in value)
    return False
