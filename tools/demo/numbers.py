"""The task of the stress pairs: write numbers in words, or in digits.

Its answers consist of text that one tokenizer has as single tokens (" 12", " twelve") and the other splits, and the
first pieces (" ", " tw") are in both vocabularies: the case in which comparing models on shared tokens is least
reliable.
"""

import random
from dataclasses import dataclass

WORDS = {
    0: "zero", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
    10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen",
    17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty",
    60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety",
}  # fmt: skip
TO_WORDS = "Write in words:"
TO_DIGITS = "Write in digits:"


@dataclass(frozen=True)
class Exercise:
    """A few numbers to write in words or in digits."""

    to_words: bool
    numbers: tuple[int, ...]

    @property
    def key(self) -> tuple[bool, tuple[int, ...]]:
        return self.to_words, self.numbers

    @property
    def prompt(self) -> str:
        return f"{TO_WORDS if self.to_words else TO_DIGITS} {_write(self.numbers, in_words=not self.to_words)}."

    @property
    def answer(self) -> str:
        return f"It is {_write(self.numbers, in_words=self.to_words)}."

    def draft(self, mistaken: dict[tuple[int, bool], tuple[float, int]], rng: random.Random) -> str:
        """The answer of someone who confuses numbers: `mistaken` maps (number, in words) to (how often, with which)."""
        numbers = []
        for number in self.numbers:
            rate, other = mistaken[number, self.to_words]
            numbers.append(other if rng.random() < rate else number)
        return f"It is {_write(numbers, in_words=self.to_words)}."


def _write(numbers: tuple[int, ...] | list[int], in_words: bool) -> str:
    return " and ".join(WORDS[number] if in_words else str(number) for number in numbers)


def make_exercise(rng: random.Random) -> Exercise:
    """One to three random numbers, to words or to digits."""
    count = rng.choice((1, 2, 2, 3))
    return Exercise(rng.random() < 0.5, tuple(rng.choice(list(WORDS)) for _ in range(count)))


def mistakes(seed: int, low: float = 0.1, high: float = 0.65) -> dict[tuple[int, bool], tuple[float, int]]:
    """For each number in words and in digits, how often it is confused and with which other number."""
    rng = random.Random(seed)
    numbers = list(WORDS)
    table = {}
    for in_words in (False, True):
        rng.shuffle(numbers)
        for i, number in enumerate(numbers):
            table[number, in_words] = (high if i % 3 == 0 else low, rng.choice([n for n in numbers if n != number]))
    return table
