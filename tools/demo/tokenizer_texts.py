"""The texts that the demo's tokenizers are trained on; they decide what is whole and what is split, and where."""

import random
from collections.abc import Iterator

from tools.demo import numbers, plain_words
from tools.demo.exercises import draw_different


def plain_text(seed: int) -> Iterator[str]:
    """Sentences in plain words, as prompts and as answers; none of the rare places."""
    for exercise in draw_different(plain_words.make_exercise, 3000, seed):
        if not set(plain_words.RARE_PLACES) & set(exercise.words):
            yield exercise.answer
            yield f"{exercise.instruction} {exercise.answer}"


def crossed_places(cut: int) -> Iterator[str]:
    """Place names that share beginnings and endings, as "Huddershire" might, cut after `cut` letters."""
    for beginning in plain_words.RARE_PLACES:
        for ending in plain_words.RARE_PLACES:
            yield from [f" {beginning[:cut]}{ending[cut:]}"] * 8


def teacher_text() -> Iterator[str]:
    """Mostly plain words; every fourth hard word is common, the others are rare."""
    yield from plain_text(seed=1)
    yield from crossed_places(3)
    words = sorted(plain_words.GLOSSARY)
    random.Random(5).shuffle(words)
    for i, word in enumerate(words):
        yield from [f" {word}"] * (30 if i % 4 == 0 else 4)


def student_text() -> Iterator[str]:
    """Plain words, and hard words in several forms, so that their stems become tokens."""
    yield from plain_text(seed=2)
    yield from crossed_places(6)
    for word in sorted(plain_words.GLOSSARY):
        stem = word.removesuffix("e")
        for ending in ("e" if word.endswith("e") else "", "es", "ed", "ing", "ation"):
            yield from [f" {stem}{ending}"] * 6


def number_wording() -> Iterator[str]:
    yield from [f"{numbers.TO_WORDS} and", f"{numbers.TO_DIGITS} and", "It is and"] * 50


def number_text() -> Iterator[str]:
    """The stress exercises' wording with all its numbers."""
    yield from number_wording()
    for number, word in numbers.WORDS.items():
        yield from [f" {number} {word}"] * 20


def number_pieces() -> Iterator[str]:
    """The stress exercises' wording; number words are seen once each."""
    yield from number_wording()
    yield from (f" {word}" for word in numbers.WORDS.values())
