"""Small tokenizers with chat templates that write reasoning: channels, think blocks of control tokens, and none."""

from tokenizers import AddedToken

from simct.tokenization.token_bytes import TokenBytes, token_bytes
from tests.support import trained_tokenizers as trained

CHANNELS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% if m.get('tool_calls') %}<|start|>assistant to=functions.{{ m['tool_calls'][0]['function']['name'] }}"
    "<|channel|>commentary json<|message|>{{ m['tool_calls'][0]['function']['arguments'] }}<|call|>{% else %}"
    "{% if m.get('thinking') %}<|start|>assistant<|channel|>analysis<|message|>{{ m['thinking'] }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}{% if loop.last %}<|return|>{% else %}<|end|>"
    "{% endif %}{% endif %}{% else %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
THINKS = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{% if m.get('reasoning_content') %}<think>\n"
    "{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}{{ m['content'] }}<|done|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|done|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
EMPTY = "<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}"
CHANNEL_TOKENS = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>"]
THINK_TOKENS = ["<|turn|>", "<|done|>", "<think>", "</think>", "<|image|>"]


def _tokens(
    names: list[str], template: str, eos: str, sentencepiece: bool = False, words: tuple[str, ...] = ()
) -> TokenBytes:
    backend = trained.edited(trained.sentencepiece_bpe_backend() if sentencepiece else trained.byte_level_backend())
    backend.add_special_tokens([AddedToken(name, special=True) for name in names if name not in words])
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in words])
    tokenizer = trained.wrap(backend, eos)
    tokenizer.chat_template = template
    return token_bytes(tokenizer)


def channels() -> TokenBytes:
    return _tokens(CHANNEL_TOKENS, CHANNELS, "<|return|>")


def thinks() -> TokenBytes:
    return _tokens(THINK_TOKENS, THINKS, "<|done|>", sentencepiece=True)


def opened_thinks() -> TokenBytes:
    """As thinks, with a generation prompt that opens the think block."""
    return _tokens(
        THINK_TOKENS, THINKS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"), "<|done|>"
    )


def worded_thinks() -> TokenBytes:
    """As thinks, with <think> and </think> as added tokens that are text, and an empty block before plain answers."""
    template = THINKS.replace("{% endif %}{{ m['content'] }}", "{% elif m['role'] == 'assistant' %}" + EMPTY, 1)
    return _tokens(THINK_TOKENS, template, "<|done|>", words=("<think>", "</think>"))


def dropped_thinks() -> TokenBytes:
    """A generation prompt that opens a think block, a history without any, and marks that are text."""
    template = PLAIN.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    return _tokens(THINK_TOKENS, template, "<|done|>", words=("<think>", "</think>"))


def plain() -> TokenBytes:
    return _tokens(["<|turn|>", "<|done|>"], PLAIN, "<|done|>", sentencepiece=True)


def ids_of(tokens: TokenBytes, text: str) -> list[int]:
    """The ids of a text with control tokens in it, as the tokenizer reads it."""
    return tokens.tokenizer.encode(text, add_special_tokens=False)
