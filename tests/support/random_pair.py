"""Random models with trained tokenizers that disagree, for tests that are about code, not about learning."""

import argparse
import inspect
import textwrap

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|user|>", "<|assistant|>", "<|system|>"]


def trained_tokenizer(module, vocabulary: int, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the source of a standard module; its specials come last."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator([inspect.getsource(module)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.chat_template = template
    return tokenizer


def teacher_tokenizer(**options) -> PreTrainedTokenizerFast:
    return trained_tokenizer(textwrap, 700, **options)


def student_tokenizer(**options) -> PreTrainedTokenizerFast:
    return trained_tokenizer(argparse, 600, **options)


def random_model(tokenizer, seed: int, hidden: int = 16) -> LlamaForCausalLM:
    """Two layers; the lm_head has three rows more than the tokenizer has ids."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def save_pair(folder) -> tuple[str, str]:
    """A teacher and a student folder under `folder`; returns their paths."""
    paths = []
    for name, tokenizer, seed in (("teacher", teacher_tokenizer(), 1), ("student", student_tokenizer(), 2)):
        path = folder / name
        random_model(tokenizer, seed).save_pretrained(path)
        tokenizer.save_pretrained(path)
        paths.append(str(path))
    return paths[0], paths[1]
