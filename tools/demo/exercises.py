"""Exercises: drawn without repetition and never held-out ones, saved, loaded and checked."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from simct.errors import DataError


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


def load_exercises(path: Path | str) -> list[dict[str, str]]:
    """The {"prompt", "answer"} records of a JSON-lines file. Raises DataError if the file is missing or broken."""
    try:
        records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"prompt": record["prompt"], "answer": record["answer"]} for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file of demo exercises ({error}): run python -m tools.demo.build.") from error


def check_answer(completion: str, answer: str) -> bool:
    """Whether the completion is the answer, ignoring white space."""
    return completion.split() == answer.split()
