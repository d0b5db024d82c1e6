"""Byte-level BPE tokenizers for the demo models, trained on the demo's own text and therefore really different.

Each is saved as a Hugging Face fast tokenizer with its own special tokens and chat template.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# A word with its leading space, one digit at a time, punctuation, or other white space.
WORDS_AND_DIGITS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
# As above, but a number is one piece with its leading space.
WORDS_AND_NUMBERS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"

TEACHER_MARKS = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
STUDENT_MARKS = ("<pad>", "<s>", "[INST]", "[/INST]", "</s>")

TEACHER_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
STUDENT_TEMPLATE = (
    "<s>{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}</s>"
    "{% else %}[INST]{{ message['content'] }}[/INST]{% endif %}{% endfor %}"
)


def train_bpe(texts: Iterable[str], vocabulary_size: int, marks: tuple[str, ...], pattern: str) -> Tokenizer:
    """A byte-level BPE over all 256 bytes, with `marks` as its special tokens (ids 0, 1, ...)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(marks),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def teacher_style(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A chat tokenizer that marks turns as <|user|> ... <|end|>."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEACHER_TEMPLATE
    return fast


def student_style(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A chat tokenizer that marks turns as <s>[INST] ... [/INST] ... </s>."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["[INST]", "[/INST]"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = STUDENT_TEMPLATE
    return fast
