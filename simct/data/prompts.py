"""Dataset columns -> chat messages -> each model's own template -> prompt ids.

Teacher and student each read the conversation in their own rendering; only the completion is common to both. A
tokenizer without a chat template gets the plain fallback: the user's text as it is, with the tokenizer's own BOS where
it adds one. Conversations that the fallback cannot express (several turns, a system message) are refused.
"""

from dataclasses import dataclass

from simct.config.sections import DataConfig
from simct.data.formats import load_rows, prompt_and_answer
from simct.errors import DataError

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


def prompt_of(row: dict, number: int, column: str, answer_column: str | None, data: DataConfig) -> Prompt | None:
    """The prompt of row `number`, None where it is empty. Raises DataError for what is neither text nor messages."""
    messages = _messages(row[column], data, number)
    answer = row[answer_column] if answer_column else None
    return Prompt(tuple(messages), None if answer is None else str(answer)) if messages else None


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
