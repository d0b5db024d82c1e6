"""The parser of the command's arguments: numbers within limits, and one-line errors."""

import argparse
import math
import re
from collections.abc import Callable
from typing import NoReturn

from simct.config.optimization import MOST_STEPS
from simct.config.sections import LARGEST_SEED, MOST_AT_ONCE, MOST_TOKENS
from simct.errors import ConfigError, brief
from simct.setting import quoted

MOST_ROWS = 1_000_000_000


class Parser(argparse.ArgumentParser):
    """Raises ConfigError for invalid arguments, instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        plain = re.sub(r"^argument (\S+): (must|expected)", r"\1 \2", brief(message)).rstrip(".")
        raise ConfigError(f"{plain}. See `{self.prog} --help`.")


def command_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command; its subcommands report errors in the same way."""
    return Parser(prog=prog, description=description)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number within limits."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {quoted(text)}") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be at least {least:,} and at most {most:,}, got {quoted(text)}")
        return number

    return read


def dollars(text: str) -> float:
    """The type of a flag that takes an amount of money."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= 1e9:
        raise argparse.ArgumentTypeError(f"expected US dollars, above 0 and at most 1,000,000,000, got {quoted(text)}")
    return amount


steps = whole_number(1, MOST_STEPS)
seed = whole_number(0, LARGEST_SEED)
tokens = whole_number(1, MOST_TOKENS)
rows = whole_number(1, MOST_ROWS)
rows_or_none = whole_number(0, MOST_ROWS)
at_once = whole_number(1, MOST_AT_ONCE)
