"""Dataset columns -> chat messages -> each model's own template -> prompt ids.

Teacher and student each read the conversation in their own rendering; only the completion is common to both. A
tokenizer without a chat template gets the plain fallback: the user's text as it is, with the tokenizer's own BOS where
it adds one. Conversations that the fallback cannot express (several turns, a system message) are refused.
"""

from dataclasses import dataclass
from pathlib import Path

import jinja2

from simct.config import DataConfig, local_path
from simct.errors import DataError, brief
from simct.hub.errors import hub_error

PROMPT_COLUMNS = ("messages", "prompt", "question", "problem", "instruction", "conversations")
ANSWER_COLUMNS = ("answer", "final_answer", "solution")
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with the user, and the reference answer where the data has one."""

    messages: tuple[dict, ...]
    answer: str | None = None

    @property
    def text(self) -> str:
        return self.messages[-1]["content"]


def load_prompts(data: DataConfig, token: str | None = None) -> list[Prompt]:
    """Read the prompts that `data` names. Raises DataError (one line) for a missing, empty or mis-columned source."""
    rows = load_rows(data, token)
    if len(rows) == 0:
        raise DataError(f"{data.prompts!r} has no rows. Give a file or dataset with at least one prompt.")
    columns = prompt_and_answer(rows.column_names, data)
    prompts = []
    for number, row in enumerate(rows):
        prompt = prompt_of(row, number, *columns, data)
        if prompt:
            prompts.append(prompt)
        if data.limit and len(prompts) == data.limit:
            break
    if not prompts:
        raise DataError(f"Column {columns[0]!r} of {data.prompts!r} has no prompt that is not empty.")
    return prompts


def prompt_and_answer(columns: list[str], data: DataConfig) -> tuple[str, str | None]:
    """The columns that hold prompt and answer: those `data` names, else those found by name. Raises DataError."""
    column = data.column or next((name for name in PROMPT_COLUMNS if name in columns), None)
    if column is None or column not in columns:
        wanted = f"no column {column!r}" if column else f"none of the columns {', '.join(PROMPT_COLUMNS)}"
        raise DataError(
            f"{data.prompts!r} has {wanted}; it has {', '.join(columns)}. Name the prompt column with data.column."
        )
    answer_column = data.answer_column or next((name for name in ANSWER_COLUMNS if name in columns), None)
    if data.answer_column and data.answer_column not in columns:
        raise DataError(f"{data.prompts!r} has no column {data.answer_column!r}; it has {', '.join(columns)}.")
    return column, answer_column


def prompt_of(row: dict, number: int, column: str, answer_column: str | None, data: DataConfig) -> Prompt | None:
    """The prompt of row `number`, None where it is empty. Raises DataError for what is neither text nor messages."""
    messages = _messages(row[column], data, number)
    answer = row[answer_column] if answer_column else None
    return Prompt(tuple(messages), None if answer is None else str(answer)) if messages else None


def load_rows(data: DataConfig, token: str | None = None):
    """The `datasets.Dataset` that `data` names, its rows as they are. Raises DataError or HubError (one line)."""
    import datasets

    path = local_path(data.prompts)
    try:
        if path is None:
            if Path(data.prompts).suffix in READERS or data.prompts.startswith(("/", "./", "../", "~")):
                raise DataError(f"There is no file {data.prompts!r}. Check the path.")
            return datasets.load_dataset(
                data.prompts, data.config_name, split=data.split, revision=data.revision, token=token
            )
        if path.is_dir():
            return datasets.load_dataset(str(path), split=data.split)
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{data.prompts!r} is not JSONL, CSV, Parquet or text. Convert it to one of these.")
        if path.stat().st_size == 0:
            raise DataError(f"{data.prompts!r} is empty. Give a file with at least one prompt.")
        rows = datasets.load_dataset(reader, data_files=str(path), split="train")
        return rows.rename_column("text", "prompt") if reader == "text" else rows
    except DataError:
        raise
    except Exception as error:
        # datasets raises a dozen unrelated types here (pyarrow, JSON, httpx, its own), each a reason to tell
        if path is None:
            raise hub_error(error, data.prompts, kind="dataset") from error
        reason = brief(error.__cause__ or error)
        raise DataError(f"Cannot load prompts from {data.prompts!r}: {reason}") from error


def _messages(value, data: DataConfig, number: int) -> list[dict]:
    """The conversation up to its last user message; empty when there is none."""
    if isinstance(value, str):
        messages = [{"role": "user", "content": value}] if value.strip() else []
    elif isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        messages = []
        for turn in value:
            role = ROLES.get(turn.get("role") or turn.get("from"))
            content = turn.get("content") if turn.get("content") is not None else turn.get("value")
            if role is None or not isinstance(content, str):
                raise DataError(
                    f"Row {number} of {data.prompts!r}: each message needs a role (system, user, assistant) and text "
                    f"content, got {str(turn)[:120]!r}."
                )
            messages.append({"role": role, "content": content})
        while messages and messages[-1]["role"] != "user":
            messages.pop()
    elif value is None:
        messages = []
    else:
        raise DataError(
            f"Row {number} of {data.prompts!r}: a prompt must be text or messages, got {str(value)[:120]!r}."
        )
    if messages and data.system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": data.system})
    return messages


def fold_system(messages) -> list[dict]:
    """The same conversation with its system text at the head of the first user message, for templates without one."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def render(tokenizer, messages, enable_thinking: bool | None = None) -> str:
    """The text a model reads before it answers, by its own chat template.

    Raises DataError when there is no template and the conversation is more than one user message, or when the template
    refuses the conversation even with the system text folded into the user's.
    """
    if not tokenizer.chat_template:
        if len(messages) != 1:
            raise DataError(
                f"{tokenizer.name_or_path!r} has no chat template, so only single user messages can be rendered, and "
                f"this conversation has {len(messages)} messages. Use a prompt column without a system text, or a chat "
                "model."
            )
        return messages[0]["content"]
    options = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **options)
    except jinja2.TemplateError as error:
        folded = fold_system(messages)
        if folded != list(messages):
            return render(tokenizer, folded, enable_thinking)
        raise DataError(f"The chat template of {tokenizer.name_or_path!r} refuses a conversation: {error}.") from error


def prompt_ids(tokenizer, messages, enable_thinking: bool | None = None) -> list[int]:
    """Token ids of the rendered conversation. Special tokens come from the template; the fallback adds BOS itself."""
    text = render(tokenizer, messages, enable_thinking)
    return tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
