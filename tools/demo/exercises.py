"""Drawing exercises: different ones, and never a held-out one."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar


class Exercise(Protocol):
    """A prompt with its one right answer; `key` is what must not be both trained on and held out."""

    @property
    def prompt(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def key(self) -> object: ...


E = TypeVar("E", bound=Exercise)


def draw_different(
    make: Callable[[random.Random], E], count: int, seed: int, exclude: frozenset[object] = frozenset()
) -> list[E]:
    """`count` exercises with different keys, none in `exclude`; the same for the same arguments."""
    rng = random.Random(seed)
    found: dict[object, E] = {}
    while len(found) < count:
        exercise = make(rng)
        if exercise.key not in exclude:
            found.setdefault(exercise.key, exercise)
    return list(found.values())


def draw_outside(make: Callable[[random.Random], E], rng: random.Random, exclude: frozenset[object]) -> E:
    """One exercise whose key is not in `exclude`."""
    while (exercise := make(rng)).key in exclude:
        pass
    return exercise


def save_exercises(exercises: Iterable[Exercise], path: Path) -> None:
    """Write {"prompt", "answer"} records as JSON lines."""
    lines = [json.dumps({"prompt": exercise.prompt, "answer": exercise.answer}) for exercise in exercises]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
