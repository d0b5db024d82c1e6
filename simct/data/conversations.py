"""Conversations in every dialect: any names for the speakers, text as parts or JSON, tool calls and their results.

A conversation becomes a list of messages as chat templates read them: `role` (system, user, assistant, tool),
`content` (text), and `tool_calls` of an assistant as {"type": "function", "id": ..., "function": {"name": ...,
"arguments": {...}}}. What cannot be read raises Unusable, with a reason that completes "1 row is skipped: …".
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "instruction"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "bot", "chatbot", "ai", "chatgpt", "bing", "bard", "claude", "gemini", "output"),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(
        ("tool", "function", "observation", "ipython", "tool_response", "tool_result", "function_response"), "tool"
    ),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls"), "call"),
}
LONGEST_TEXT = 1_000_000  # characters of one conversation: far more than a model can learn from
TEXT_PARTS = ("text", "input_text", "output_text")


class Unusable(Exception):
    """A row that cannot be a prompt; the text says why, identically for all rows with the same problem."""


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The conversation with a system text in front, also in front of its own system text; unchanged for None."""
    if not system:
        return list(messages)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


def messages_in(value: Any) -> list[Any] | None:
    """The turns in a cell: a list, or one written as JSON or in Python's notation; None for anything else."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        # a single message, or a conversation with metadata
        inner = next((value[name] for name in ("messages", "conversations") if isinstance(value.get(name), list)), None)
        return inner if inner is not None else [value] if _role_of(value) else None
    if not isinstance(value, str) or not re.match(r"\s*\[\s*\{", value):
        return None
    named = re.match(r"\s*\[\s*\{[^{}\[\]]*?['\"](role|from)['\"]\s*:", value)
    for read in (json.loads, ast.literal_eval):
        try:
            turns = read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return (
            turns
            if isinstance(turns, list) and all(isinstance(turn, dict) and _role_of(turn) for turn in turns)
            else None
        )
    if named:
        raise Unusable("messages are not valid JSON")
    return None


def _role_of(turn: dict[str, Any]) -> Any:
    return turn.get("role") or turn.get("from")


def conversation(turns: Sequence[Any]) -> tuple[list[Message], str | None]:
    """The messages up to the place where the model has to answer, and the answer in the data.

    That place is after the user's last message, or after the last result of a tool. Raises Unusable.
    """
    messages = [_message(turn) for turn in turns]
    asked = max((i for i, message in enumerate(messages) if message["role"] in ("user", "tool")), default=-1)
    if not any(message["role"] == "user" for message in messages[: asked + 1]):
        raise Unusable("no message of a user")
    kept = _numbered(messages[: asked + 1])
    if kept[-1]["role"] == "user" and not kept[-1]["content"].strip():
        raise Unusable("an empty prompt")
    after = messages[asked + 1 : asked + 2]
    answer = after[0]["content"] if after and after[0]["role"] == "assistant" else ""
    return kept, answer if answer.strip() else None


def last_answer(turns: Sequence[Any]) -> str | None:
    """The text of the last message of an assistant; None if there is none, or if these are not messages."""
    try:
        said = [message["content"] for message in map(_message, turns) if message["role"] == "assistant"]
    except Unusable:
        return None
    return said[-1] if said and said[-1].strip() else None


def transcript(text: str) -> list[Message] | None:
    """The turns of a text such as "\\n\\nHuman: …\\n\\nAssistant: …"; None for any other."""
    pieces = re.split(r"(?:^|\n\n)(Human|Assistant|H|A): ?", text.lstrip("\n"))
    if pieces[0].strip() or len(pieces) < 5:
        return None
    roles = ["user" if name.startswith("H") else "assistant" for name in pieces[1::2]]
    return [{"role": role, "content": said} for role, said in zip(roles, pieces[2::2], strict=True)]


# One message


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise Unusable("a message is not an object with a role and text")
    name = _role_of(turn)
    if name is None or name == "":
        raise Unusable("a message has no role")
    if not isinstance(name, str):
        raise Unusable("a role is not text")
    role = ROLES.get(name.strip().lower())
    if role is None:
        raise Unusable(f"an unknown role {name.strip()[:30]!r}")
    content = next((turn[key] for key in ("content", "value", "text") if turn.get(key) is not None), None)
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(content)}
    calls = turn.get("tool_calls") or turn.get("function_call")
    message: Message = {"role": role, "content": _text(content, role, bool(calls))}
    if role == "assistant" and calls:
        message["tool_calls"] = _calls(calls)
    if role == "tool":
        message |= {key: turn[key] for key in ("name", "tool_call_id") if isinstance(turn.get(key), str)}
    return message


def _text(content: Any, role: str, calls: bool) -> str:
    if isinstance(content, str):
        return content
    if content is None and calls:
        return ""
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        content = [content]
    if isinstance(content, list) and all(isinstance(part, str | dict) for part in content) and role != "tool":
        return "".join(map(_part, content))
    if role == "tool" and content is not None:
        if isinstance(content, list) and content and all(isinstance(part, dict) and "text" in part for part in content):
            return "".join(map(_part, content))
        return json.dumps(content, ensure_ascii=False, default=str)
    raise Unusable("a message has no text")


def _part(part: str | dict[str, Any]) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") or "text"
    text = part.get("text") if part.get("text") is not None else part.get("content")
    if kind not in TEXT_PARTS:
        raise Unusable(f"a message has a part of type {str(kind)[:30]!r}")
    if not isinstance(text, str):
        raise Unusable("a message has no text")
    return text


def _calls(calls: Any) -> list[dict[str, Any]]:
    """Tool calls, however they are written, with their arguments as an object."""
    calls = _parsed(calls)
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        inner = call.get("function") if isinstance(call, dict) and isinstance(call.get("function"), dict) else call
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(name, str) or not name:
            raise Unusable("a tool call has no name")
        arguments = _parsed(next((inner[key] for key in ("arguments", "parameters") if inner.get(key)), {}))
        if not isinstance(arguments, dict):
            raise Unusable("the arguments of a tool call are not a JSON object")
        one: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
        if isinstance(call.get("id"), str) and call["id"]:
            one["id"] = call["id"]
        found.append(one)
    return found


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise Unusable("a tool call is not valid JSON")


def _numbered(messages: list[Message]) -> list[Message]:
    """The messages with an id for every tool call that lacks one; its result gets the same id.

    Ids have nine letters and digits, as strict templates require.
    """
    waiting: list[tuple[str, str]] = []
    count = 0
    for message in messages:
        for call in message.get("tool_calls", ()):
            count += 1
            call.setdefault("id", f"call{count:05d}")
            waiting.append((call["id"], call["function"]["name"]))
        if message["role"] == "tool" and waiting:
            known = message.get("tool_call_id")
            place = next((i for i, (call_id, _) in enumerate(waiting) if call_id == known), 0)
            call_id, name = waiting.pop(place)
            message.setdefault("tool_call_id", call_id)
            message.setdefault("name", name)
    return messages
