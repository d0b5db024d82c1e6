"""Conversations as each model reads them: in its own chat template, or as plain text if it has none.

No text may be lost: what a template writes is compared with its input. If it refuses or loses something, the same
conversation is tried in the other forms that templates support: content as a list of parts, the arguments of tool calls
as text, consecutive user turns joined, the system text inside the user's message.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from simct.data.conversations import Message
from simct.data.tools import Tool, names_of
from simct.errors import DataError, LimitError, TemplateLosesText, brief
from simct.tokenization.chat_templates import apply_template, chat_template_of

# The date for templates that write today's date, so that a seed gives the same prompts every day.
TEMPLATE_DATE = datetime(2026, 1, 1, 12)
MERGED, FOLDED, UNTOOLED = "merged", "folded", "without tools"
# what a person who chooses the data of a run can do
USE_PROMPTS = "Use a prompt column without a system text, or a chat model."
USE_ANOTHER = "Use a model whose template keeps all of it."


@dataclass(frozen=True)
class Rendering:
    """The text that a model reads, and the changes that the template needed: MERGED, FOLDED, UNTOOLED."""

    text: str
    changes: tuple[str, ...] = ()


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], enable_thinking: bool | None = None) -> str:
    """The text a model reads before it answers, by its own chat template. Raises DataError as rendering does."""
    return rendering(tokenizer, messages, enable_thinking).text


def rendering(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    enable_thinking: bool | None = None,
    tools: Sequence[Tool] = (),
) -> Rendering:
    """The text a model reads before it answers, and what was changed for its template.

    `tools` are given to a template that writes them: the one in use, else the one called tool_use.

    Raises DataError if there is no template and the conversation is more than one user message, or if the template
    fails on every form of the conversation; TemplateLosesText if it loses text in every form; LimitError if it takes
    too long or writes too much.
    """
    template = chat_template_of(tokenizer)
    if template is None:
        if len(messages) == 1:
            return Rendering(messages[0]["content"], (UNTOOLED,) if tools else ())
        raise DataError(
            f"{tokenizer.name_or_path!r} has no chat template, so only single user messages can be rendered, and "
            f"this conversation has {len(messages)} messages. {USE_PROMPTS}"
        )
    if not tools:
        return _rendered(tokenizer, template, messages, enable_thinking)
    several = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
    try:
        plain: Rendering | None = _rendered(tokenizer, template, messages, enable_thinking)
    except DataError:
        plain = None
    for each in filter(None, (template, several.get("tool_use"))):
        try:
            found = _rendered(tokenizer, each, messages, enable_thinking, tools)
        except DataError:
            continue
        before = plain.text if plain else ""
        if all(found.text.count(name) > before.count(name) for name in names_of(tools)):
            return found
    plain = plain or _rendered(tokenizer, template, messages, enable_thinking)
    return Rendering(plain.text, (*plain.changes, UNTOOLED))


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    messages: Sequence[Message],
    enable_thinking: bool | None,
    tools: Sequence[Tool] = (),
) -> Rendering:
    """One template's rendering of a conversation, in the first form that it accepts. Raises as rendering does."""
    options: dict[str, Any] = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    if tools:
        options["tools"] = list(tools)
    if template != tokenizer.chat_template or "strftime_now" in template:
        options["chat_template"] = _FIXED_DATE + template if "strftime_now" in template else template
    lost: str | None = None
    failed: Exception | None = None
    for changes, form, given in _forms(messages):
        try:
            text = apply_template(tokenizer, given, add_generation_prompt=True, **options)
        except LimitError:
            raise
        except Exception as error:  # a template is a program, and may raise anything
            failed = error if form == "text" else failed
            continue
        loss = lost_text(given, text)
        if loss is None:
            return Rendering(text, changes)
        lost = lost or (loss if form == "text" else None)
    raise _refusal(tokenizer.name_or_path, messages, lost, failed) from failed


def _refusal(name: str, messages: Sequence[Message], lost: str | None, failed: Exception | None) -> DataError:
    reason = brief(failed) if isinstance(failed, jinja2.TemplateError) else brief(f"{type(failed).__name__}: {failed}")
    if any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
        why = f"it {lost}" if lost else reason.rstrip(".")
        return DataError(f"The chat template of {name!r} cannot take a conversation with tool calls: {why}.")
    if lost:
        return TemplateLosesText(f"The chat template of {name!r} {lost}. {USE_ANOTHER}")
    verb = "refuses" if isinstance(failed, jinja2.TemplateError) else "fails on"
    return DataError(f"The chat template of {name!r} {verb} a conversation: {reason.rstrip('.')}.")


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    enable_thinking: bool | None = None,
    tools: Sequence[Tool] = (),
) -> list[int]:
    """Token ids of the rendered conversation. Special tokens come from the template; the fallback adds BOS itself.

    They never end with an EOS that the template did not write, although some tokenizers would add one to every text.
    """
    return ids_of(tokenizer, rendering(tokenizer, messages, enable_thinking, tools).text)


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a Rendering."""
    template = chat_template_of(tokenizer)
    ids = list(tokenizer(text, add_special_tokens=template is None)["input_ids"])
    eos = getattr(tokenizer, "eos_token", None)
    if eos and not (template and text.rstrip().endswith(eos)):
        while ids and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
    return ids


# The same conversation in other forms


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with system texts at the start of the user's next message, for templates without them."""
    waiting: list[str] = []
    folded: list[Message] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
        elif waiting and message["role"] == "user":
            folded.append({**message, "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            folded.append(message)
    return list(messages) if waiting else folded


def merge_turns(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with neighboring messages of a user, or of an assistant, as one."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else {}
        if message["role"] != last.get("role") or message["role"] not in ("user", "assistant"):
            merged.append(message)
            continue
        texts = [text for text in (last["content"], message["content"]) if text]
        merged[-1] = {**last, **message, "content": "\n\n".join(texts)}
        if calls := [*last.get("tool_calls", ()), *message.get("tool_calls", ())]:
            merged[-1]["tool_calls"] = calls
    return merged


def _variants(messages: Sequence[Message]) -> Iterator[tuple[tuple[str, ...], list[Message]]]:
    """The conversation unchanged and in every changed form, each with its changes."""
    plain, folded = list(messages), fold_system(messages)
    merged = merge_turns(plain)
    yield (), plain
    if merged != plain:
        yield (MERGED,), merged
    if folded != plain:
        yield (FOLDED,), folded
        both = merge_turns(folded)
        if both != folded:
            yield (FOLDED, MERGED), both


def _forms(messages: Sequence[Message]) -> Iterator[tuple[tuple[str, ...], str, list[Message]]]:
    """The changes, the form and the messages of every way to pass a conversation to a template.

    Forms are "text" as it is, "arguments" with those of tool calls as JSON text, and "parts" with content as lists.
    """
    for changes, changed in _variants(messages):
        yield changes, "text", changed
        if any(message.get("tool_calls") for message in changed):
            yield changes, "arguments", [_with_text_arguments(message) for message in changed]
        parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in changed]
        yield changes, "parts", parts


def _with_text_arguments(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


# Whether all text arrives

_OWNERS = {"user": "a user's text", "assistant": "an assistant's text", "tool": "a tool's result"}


def lost_text(messages: Sequence[Message], text: str) -> str | None:
    """What a template did to the text of these messages, such as "drops a user's text"; None if all of it arrived.

    Messages must arrive whole and in order, except for white space. A system text may be anywhere, as some templates
    put it next to the last question. The thinking in an assistant's earlier turns may be missing, as many templates
    leave it out on purpose.
    """
    if any(isinstance(message["content"], list) for message in messages):
        if re.search(r"""['"]type['"]: ?['"]text['"]""", text):
            return "writes messages as lists"
        messages = [{**message, "content": message["content"][0]["text"]} for message in messages]
    return _lost(messages, text) and _lost(messages, text, squeezed=True)


def _lost(messages: Sequence[Message], text: str, squeezed: bool = False) -> str | None:
    def plain(value: str) -> str:
        return "".join(value.split()) if squeezed else value.strip()

    text = plain(text) if squeezed else text
    place = 0
    for message in messages:
        spellings = [plain(spelling) for spelling in _spellings(message)]
        system = message["role"] == "system"
        ends = [found + len(each) for each in spellings if (found := text.find(each, 0 if system else place)) >= 0]
        if not ends:
            owner = "the system text" if system else _OWNERS[message["role"]]
            return f"{_what_was_done(spellings[0], text)} {owner}"
        place = place if system else min(ends)
        for call in message.get("tool_calls", ()):
            if any(not any(plain(each) in text for each in _escaped(value)) for value in _call_texts(call)):
                return "drops a tool call"
    return None


def _what_was_done(wanted: str, text: str) -> str:
    if wanted in text:
        return "reorders"
    return "cuts off" if len(wanted) > 16 and wanted[:12] in text else "drops"


def _spellings(message: Message) -> list[str]:
    content = message["content"]
    spellings = _escaped(content)
    if message["role"] == "assistant" and "</think>" in content:
        spellings += _escaped(content.rpartition("</think>")[2])
    return spellings


def _escaped(text: str) -> list[str]:
    """A text, and the same text as it is escaped in JSON."""
    return list(dict.fromkeys((text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])))


def _call_texts(call: dict[str, Any]) -> list[str]:
    """The texts of a tool call that must arrive: its name, and the texts among its arguments."""
    arguments = call["function"]["arguments"]
    found, waiting = [call["function"]["name"]], [json.loads(arguments) if isinstance(arguments, str) else arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


# The clock


def _fixed_date() -> str:
    """A macro that replaces strftime_now and writes TEMPLATE_DATE in any format.

    It ends with a line break, which Jinja removes, so that the template after it begins at the start of a line.
    """
    directives = [f"%-{each}" for each in "dmHIMSjy"] + [f"%{each}" for each in "aAwdbBmyYHIpMSfzZjUWcxXGuVeDTFRhs"]
    values = {each: TEMPLATE_DATE.strftime(each) for each in directives} | {"%%": "%"}
    replaced = "".join(f" | replace({json.dumps(each)}, {json.dumps(value)})" for each, value in values.items())
    return "{%- macro strftime_now(format) -%}{{ format" + replaced + " }}{%- endmacro %}\n"


_FIXED_DATE = _fixed_date()
