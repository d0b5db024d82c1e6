"""Rebuild the embedded pairs from nothing: data, tokenizers and weights, on two CPU cores in about ten minutes.

    python -m simct.demo.build                       # everything, into this package's folder
    python -m simct.demo.build --only default        # or student_splits, teacher_splits
    python -m simct.demo.build --output /tmp/demo    # somewhere else

What it does, in order:
1. Exercises: `plain_words.py` and `numbers.py` make the training prompts and the held-out ones; no sentence is in both.
2. Tokenizers: byte-level BPE, each trained on text of its own (`vocabularies.py`).
3. Weights: small Llamas fine-tuned from random weights on freshly drawn exercises that are not held out. Teachers learn the
   right answers. Students are smaller and learn from hasty drafts, in which some words are mostly overlooked or confused.
No downloaded model or data set is used. Data and tokenizers come out byte-identical; weights agree up to the arithmetic of the
machine. Each model's held-out accuracy is printed at the end.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from simct.demo import FOLDER, PAIRS, load_exercises, numbers, plain_words, sft, vocabularies

TRAIN_PROMPTS, HELD_OUT = 2000, 200
TRAIN_SEED, HELD_OUT_SEED, DRAFT_SEED = 12, 11, 3

Example = tuple[str, str]


@dataclass(frozen=True)
class Recipe:
    """How one model is made: its folder, tokenizer, size and what it learns from."""

    folder: str
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    examples: Callable[[random.Random], Example]
    held_out: str
    hidden_size: int
    layers: int
    steps: int
    seed: int


# Text that tokenizers are trained on.


def plain_text(seed: int) -> Iterator[str]:
    """Sentences in plain words, as prompts show them and as answers."""
    for exercise in plain_words.make_exercises(3000, seed):
        yield exercise.answer
        yield f"{exercise.instruction} {exercise.answer}"


def teacher_text() -> Iterator[str]:
    """Mostly plain words; every fourth hard word is common, the others are rare."""
    yield from plain_text(seed=1)
    words = sorted(plain_words.GLOSSARY)
    random.Random(5).shuffle(words)
    for i, word in enumerate(words):
        yield from [f" {word}"] * (30 if i % 4 == 0 else 4)


def student_text() -> Iterator[str]:
    """Plain words, and hard words in many forms, so that their stems become tokens."""
    yield from plain_text(seed=2)
    for word in sorted(plain_words.GLOSSARY):
        stem = word.removesuffix("e")
        for ending in ("e" if word.endswith("e") else "", "es", "ed", "ing", "ation"):
            yield from [f" {stem}{ending}"] * 6


def teacher_tokenizer() -> PreTrainedTokenizerFast:
    return vocabularies.teacher_style(
        vocabularies.train_bpe(teacher_text(), 850, vocabularies.TEACHER_MARKS, vocabularies.WORDS_AND_DIGITS)
    )


def student_tokenizer() -> PreTrainedTokenizerFast:
    return vocabularies.student_style(
        vocabularies.train_bpe(student_text(), 900, vocabularies.STUDENT_MARKS, vocabularies.WORDS_AND_DIGITS)
    )


def main() -> None:
    raise SystemExit("being written")


if __name__ == "__main__":
    main()
