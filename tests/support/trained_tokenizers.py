"""Tiny tokenizers of each family, trained in a moment, for the tests that need odd settings or no packages."""

from __future__ import annotations

import inspect
import json
import textwrap
from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    inspect.getsource(textwrap),
    inspect.getsource(inspect)[:30_000],
    "数学は楽しい。 naïve café \U0001f600 12345",
]
BYTE_PIECES = [f"<0x{value:02X}>" for value in range(256)]


def wrap(tokenizer: Tokenizer, eos: str = "</s>", **settings: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, **settings)


def edited(tokenizer: Tokenizer, **parts: object) -> Tokenizer:
    """A copy of the tokenizer with parts of its JSON replaced."""
    spec = json.loads(tokenizer.to_str())
    spec.update(parts)
    return Tokenizer.from_str(json.dumps(spec))


@lru_cache(maxsize=4)
def byte_level_backend(size: int = 800) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level(size: int = 800) -> PreTrainedTokenizerFast:
    return wrap(byte_level_backend(size))


@lru_cache(maxsize=4)
def sentencepiece_bpe_backend(fallback: bool = True) -> Tokenizer:
    """The Llama-2 layout: control pieces, byte pieces, then merges over text whose spaces are U+2581."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=fallback, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    control = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=control + (BYTE_PIECES if fallback else []), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    added = [token for token in json.loads(tokenizer.to_str())["added_tokens"] if token["content"] in control]
    return edited(tokenizer, added_tokens=added)


def sentencepiece_bpe(prefix: str = "never", fallback: bool = True) -> PreTrainedTokenizerFast:
    """prefix: never, prepend (a normalizer), first or always (Metaspace)."""
    tokenizer = edited(sentencepiece_bpe_backend(fallback))
    if prefix == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif prefix != "never":
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    return wrap(tokenizer, unk_token="<unk>", bos_token="<s>")


@lru_cache(maxsize=2)
def unigram_backend(fallback: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    spec = json.loads(tokenizer.to_str())
    if fallback:
        spec["model"]["byte_fallback"] = True
        spec["model"]["vocab"] += [[piece, -20.0] for piece in BYTE_PIECES]
    return Tokenizer.from_str(json.dumps(spec))


def unigram(fallback: bool = True) -> PreTrainedTokenizerFast:
    return wrap(unigram_backend(fallback), unk_token="<unk>")


def with_text_tokens(tokens: list[AddedToken]) -> PreTrainedTokenizerFast:
    """Byte-level with further added tokens."""
    tokenizer = edited(byte_level_backend())
    tokenizer.add_tokens(tokens)
    return wrap(tokenizer)


EXACT = {
    "byte-level": byte_level,
    "byte-level, small": lambda: byte_level(300),
    "sentencepiece bpe": sentencepiece_bpe,
    "sentencepiece bpe, prepend": lambda: sentencepiece_bpe("prepend"),
    "sentencepiece bpe, metaspace first": lambda: sentencepiece_bpe("first"),
    "sentencepiece bpe, metaspace always": lambda: sentencepiece_bpe("always"),
    "unigram": unigram,
}
