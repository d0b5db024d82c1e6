"""Conversations as each model reads them: by its own chat template, or as plain text where it has none."""

import jinja2

from simct.errors import DataError


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
