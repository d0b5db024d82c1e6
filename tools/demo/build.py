"""Rebuild the embedded pairs from nothing: exercises, tokenizers and weights, on two CPU cores in about ten minutes.

    python -m tools.demo.build                   # everything, into simct/demo
    python -m tools.demo.build --only default    # or student_splits, or teacher_splits
    python -m tools.demo.build --output DIR      # somewhere else

What it does, in order:
1. Exercises: plain_words.py and numbers.py make the training prompts and the held-out ones; no exercise is in both.
2. Tokenizers: byte-level BPE, each trained on its own text (tokenizer_texts.py, vocabularies.py).
3. Weights: small Llamas, fine-tuned from random weights (sft.py) on freshly drawn exercises that are not held out.
   Teachers learn from right answers. Students are smaller and learn from hasty drafts, in which some words are mostly
   overlooked or confused.

No downloaded model or dataset is used. Exercises and tokenizers come out byte-identical; weights agree up to the
arithmetic of the machine. Each model's held-out accuracy is printed as it is finished.
"""

import argparse
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from simct.demo import FOLDER, PAIRS
from tools.demo import numbers, plain_words, sft
from tools.demo import tokenizer_texts as texts
from tools.demo.exercises import Exercise, draw_different, draw_outside, load_exercises, save_exercises
from tools.demo.vocabularies import (
    STUDENT_MARKS,
    TEACHER_MARKS,
    WORDS_AND_DIGITS,
    WORDS_AND_NUMBERS,
    student_style,
    teacher_style,
    train_bpe,
)

HELD_OUT_SEED, TRAIN_SEED, DRAFT_SEED = 11, 12, 3
HELD_OUT, TRAIN_PROMPTS = 200, 2000


def teacher_words() -> PreTrainedTokenizerFast:
    return teacher_style(train_bpe(texts.teacher_text(), 900, TEACHER_MARKS, WORDS_AND_DIGITS))


def student_words() -> PreTrainedTokenizerFast:
    return student_style(train_bpe(texts.student_text(), 950, STUDENT_MARKS, WORDS_AND_DIGITS))


def whole_numbers(marks: tuple[str, ...]) -> Tokenizer:
    """ " 12" and " twelve" are one token each."""
    return train_bpe(texts.number_text(), 420, marks, WORDS_AND_NUMBERS)


def split_numbers(marks: tuple[str, ...]) -> Tokenizer:
    """Digits one by one and number words in pieces."""
    return train_bpe(texts.number_pieces(), 300, marks, WORDS_AND_DIGITS)


def hasty_words(exercise: plain_words.Exercise, rng: random.Random) -> str:
    return exercise.draft(plain_words.missed_rates(DRAFT_SEED), rng)


def hasty_numbers(exercise: numbers.Exercise, rng: random.Random) -> str:
    return exercise.draft(numbers.mistakes(DRAFT_SEED), rng)


def right_answer(exercise: Exercise, rng: random.Random) -> str:
    return exercise.answer


@dataclass(frozen=True)
class Recipe:
    """How one model is made: its pair, tokenizer and answers, its size, and the steps of fine-tuning."""

    pair: str
    role: str
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    make_exercise: Callable[[random.Random], Exercise]
    answer: Callable[[Any, random.Random], str]  # to an exercise that make_exercise made
    hidden_size: int
    layers: int
    steps: int


def teacher_of_whole() -> PreTrainedTokenizerFast:
    return teacher_style(whole_numbers(TEACHER_MARKS))


def student_of_split() -> PreTrainedTokenizerFast:
    return student_style(split_numbers(STUDENT_MARKS))


def teacher_of_split() -> PreTrainedTokenizerFast:
    return teacher_style(split_numbers(TEACHER_MARKS))


def student_of_whole() -> PreTrainedTokenizerFast:
    return student_style(whole_numbers(STUDENT_MARKS))


RECIPES = (
    Recipe("default", "teacher", teacher_words, plain_words.make_exercise, right_answer, 96, 4, 400),
    Recipe("default", "student", student_words, plain_words.make_exercise, hasty_words, 80, 3, 500),
    Recipe("student_splits", "teacher", teacher_of_whole, numbers.make_exercise, right_answer, 64, 3, 400),
    Recipe("student_splits", "student", student_of_split, numbers.make_exercise, hasty_numbers, 64, 3, 500),
    Recipe("teacher_splits", "teacher", teacher_of_split, numbers.make_exercise, right_answer, 64, 3, 500),
    Recipe("teacher_splits", "student", student_of_whole, numbers.make_exercise, hasty_numbers, 64, 3, 400),
)


def held_out(make_exercise: Callable[[random.Random], Exercise]) -> list[Exercise]:
    return draw_different(make_exercise, HELD_OUT, HELD_OUT_SEED)


def train_prompts(make_exercise: Callable[[random.Random], Exercise]) -> list[Exercise]:
    exclude = frozenset(exercise.key for exercise in held_out(make_exercise))
    return draw_different(make_exercise, TRAIN_PROMPTS, TRAIN_SEED, exclude)


def place(path: Path, output: Path) -> Path:
    """Where a path of simct/demo goes under `output`."""
    target = output / path.relative_to(FOLDER)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def write_exercises(pair: str, output: Path) -> None:
    """Write the pair's prompts.jsonl and eval.jsonl."""
    make_exercise = next(recipe.make_exercise for recipe in RECIPES if recipe.pair == pair)
    save_exercises(train_prompts(make_exercise), place(PAIRS[pair].prompts, output))
    save_exercises(held_out(make_exercise), place(PAIRS[pair].eval, output))


def build_model(recipe: Recipe, output: Path) -> str:
    """Train and save one model with its tokenizer; returns a summary in one line."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    tokenizer = recipe.tokenizer()
    exclude = frozenset(exercise.key for exercise in held_out(recipe.make_exercise))

    def draw_example(rng: random.Random) -> tuple[str, str]:
        exercise = draw_outside(recipe.make_exercise, rng, exclude)
        return exercise.prompt, recipe.answer(exercise, rng)

    seed = RECIPES.index(recipe)
    model = sft.new_model(tokenizer, recipe.hidden_size, recipe.layers, seed)
    loss = sft.fine_tune(model, tokenizer, sft.seeded_batches(draw_example, seed), recipe.steps)
    folder = place(getattr(PAIRS[recipe.pair], recipe.role), output)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    accuracy = sft.accuracy(model, tokenizer, load_exercises(place(PAIRS[recipe.pair].eval, output)))
    return (
        f"{recipe.pair} {recipe.role}: {model.num_parameters():,} parameters, {len(tokenizer)} tokens, "
        f"last loss {loss:.4f}, held-out accuracy {accuracy:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the embedded pairs.")
    parser.add_argument("--only", choices=sorted(PAIRS), help="build one pair (default: all)")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write into (default: simct/demo)")
    arguments = parser.parse_args()
    recipes = [recipe for recipe in RECIPES if arguments.only in (None, recipe.pair)]
    for pair in {recipe.pair: None for recipe in recipes}:
        write_exercises(pair, arguments.output)
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as processes:
        for line in processes.map(build_model, recipes, [arguments.output] * len(recipes)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
