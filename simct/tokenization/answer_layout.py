"""Where a chat template places reasoning and answers, found by rendering probes and never by names.

A conversation is rendered with reasoning and an answer that occur in no other text; whatever comes before, between and
after them is the template's own markup, such as "<think>\\n", or the channels of harmony.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from simct.errors import LimitError
from simct.tokenization.chat_templates import apply_template, chat_template_of
from simct.tokenization.token_bytes import TokenBytes

ANSWER, REASONING = "answer-probe-4711", "reasoning-probe-0815"
_USER = {"role": "user", "content": "hello"}
# templates use different names for it
_REASONED = {name: REASONING for name in ("reasoning_content", "thinking", "reasoning")}
_TOOL_CALL = {"id": "callprobe", "type": "function", "function": {"name": "probe", "arguments": {"key": "value"}}}
_ANSWERS: dict[str, dict[str, Any]] = {
    "plain": {"content": ANSWER},
    "reasoned": {"content": ANSWER, **_REASONED},
    "tools": {"content": "", "tool_calls": [_TOOL_CALL]},
    "reasoned tools": {"content": "", "tool_calls": [_TOOL_CALL], **_REASONED},
}


@dataclass(frozen=True)
class AnswerLayout:
    """What a template writes after its generation prompt; None for parts that it does not have.

    plain: before an answer without reasoning. opening: before reasoning, empty if the prompt has opened it. turning:
    between reasoning and the answer. written: all that it writes into assistant messages, tool calls included.
    """

    plain: str | None = None
    opening: str | None = None
    turning: str | None = None
    written: str = ""

    @property
    def reasoning(self) -> tuple[str, str] | None:
        """The markup around reasoning without white space, for comparisons; None if there is no place for reasoning."""
        if self.opening is None or self.turning is None:
            return None
        return "".join(self.opening.split()), "".join(self.turning.split())


@dataclass(frozen=True)
class Marker:
    """A piece of markup: its ids, and the text before its first and after its last control token.

    `core` are the ids between these two texts, empty for markup without control tokens (all of it is then `before`).
    """

    ids: list[int]
    core: list[int]
    before: bytes
    after: bytes


def answer_layout(tokens: TokenBytes, enable_thinking: bool | None = None) -> AnswerLayout:
    """The layout of a tokenizer's template, with its generation prompt as `enable_thinking` makes it."""
    prompt = _rendered(tokens.tokenizer, [_USER], enable_thinking, add_generation_prompt=True)
    if prompt is None:
        return AnswerLayout()
    answers = {
        name: _rendered(tokens.tokenizer, [_USER, {"role": "assistant", **message}], enable_thinking)
        for name, message in _ANSWERS.items()
    }
    after = {name: text.removeprefix(prompt) for name, text in answers.items() if text and text.startswith(prompt)}
    plain, answered, _ = after.get("plain", "").partition(ANSWER)
    opening, turning = _around_reasoning(after, plain)
    written = "".join([plain, opening or "", turning or "", after.get("tools", "")])
    if opening is not None:
        return AnswerLayout(plain if answered else None, opening, turning, written)
    closing = None if answered else _closing(tokens, prompt, answers["plain"] or "")
    if closing is not None:
        return AnswerLayout(None, "", f"\n{closing}\n\n", closing)
    return AnswerLayout(plain if answered else None, written=written)


def _around_reasoning(after: Mapping[str, str], plain: str) -> tuple[str | None, str | None]:
    """What a template writes before reasoning, and between it and an answer; None if it writes no reasoning."""
    opening, reasoned, rest = after.get("reasoned", "").partition(REASONING)
    turning, turned, _ = rest.partition(ANSWER)
    if reasoned and turned:
        return opening, turning
    # some templates keep reasoning only in messages that call tools
    opening, reasoned, rest = after.get("reasoned tools", "").partition(REASONING)
    turning, turned, _ = rest.partition(after.get("tools") or ANSWER)
    return (opening, turning + plain) if reasoned and turned else (None, None)


def _closing(tokens: TokenBytes, prompt: str, answered: str) -> str | None:
    """The token that ends the reasoning which a generation prompt opens, for templates that drop earlier reasoning."""
    head, found, _ = answered.partition(ANSWER)
    if not found or not prompt.startswith(head):
        return None
    opened, names = prompt[len(head) :], added_ids(tokens)
    for name in names:
        closing = f"{name[:1]}/{name[1:]}"
        if closing in names and opened.rfind(name) > opened.rfind(closing):
            return closing
    return None


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    enable_thinking: bool | None,
    add_generation_prompt: bool = False,
) -> str | None:
    options: dict[str, Any] = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    try:
        options["chat_template"] = chat_template_of(tokenizer)
        return apply_template(tokenizer, messages, add_generation_prompt=add_generation_prompt, **options)
    except LimitError:
        raise
    except Exception:  # templates may raise anything, and a base model has none
        return None


def added_ids(tokens: TokenBytes) -> dict[str, int]:
    """The tokens that were added to a vocabulary, by name, such as <think>."""
    try:
        added = tokens.tokenizer.added_tokens_decoder
    except AttributeError:  # some slow tokenizers lack this table
        return {}
    return {token.content: token_id for token_id, token in added.items() if token.content.strip()}


def read_marker(tokens: TokenBytes, literal: str, controls: Mapping[str, int]) -> Marker:
    """The markup as this model reads it, cut at `controls` (ids by name).

    Raises AlignmentError for text that its vocabulary cannot spell.
    """
    names = sorted(controls, key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, names))})", literal) if names else [literal]
    pieces = [[controls[part]] if part in controls else tokens.encode(part.encode()) for part in parts if part]
    ids = [token_id for piece in pieces for token_id in piece]
    if len(parts) == 1:
        return Marker(ids, [], literal.encode(), b"")
    before, after = parts[0].encode(), parts[-1].encode()
    first, last = len(tokens.encode(before)), len(ids) - len(tokens.encode(after))
    return Marker(ids, ids[first:last], before, after)
