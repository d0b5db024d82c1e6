"""One exception tree: everything that a user can act on is a SimCTError.

Each class is also a subclass of the built-in exception that a caller would expect, so `except ValueError` works for bad
values and `except OSError` for things that could not be reached. Messages are one line: what is wrong, with the value,
and what to do.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence


def brief(error: BaseException | str, most: int = 300) -> str:
    """The message of another library's error on one line of at most `most` characters, cut after a whole word."""
    return textwrap.shorten(str(error), most, placeholder=" …")


# the longest value that an error quotes
SHOWN_CHARACTERS = 80
# the longest error message
LONGEST_LINE = 1500


# the name and password of an address, and the values of its query that are secrets
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.I)
_SECRET = re.compile(r"([?&][\w-]*(?:key|token|secret|password)[\w-]*=)[^&\s'\"]+", re.I)


def without_credentials(text: str) -> str:
    """`text` with the passwords and keys in its addresses replaced by an ellipsis."""
    return _SECRET.sub(r"\1…", _LOGIN.sub(r"\1…@", text))


def quoted(value: object) -> str:
    """`value` as quoted in an error: at most 80 characters, without the secrets of an address."""
    if isinstance(value, str):
        # a text may be megabytes long
        value = without_credentials(value)[: 2 * SHOWN_CHARACTERS]
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "a value too large to show"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def listed(names: Iterable[str], most: int = 12) -> str:
    """The first `most` of the names, each of readable length, and how many more there are."""
    names = list(names)
    shown = [name if len(name) <= SHOWN_CHARACTERS else f"{name[: SHOWN_CHARACTERS - 1]}…" for name in names[:most]]
    more = len(names) - most
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


class SimCTError(Exception):
    """The root of the tree. The command and the studio show its message and never a traceback.

    A message that is too long to read, for example about a file with a million columns, is cut in the middle. The
    passwords and keys of addresses are left out.
    """

    def __init__(self, *parts: object) -> None:
        if len(parts) == 1 and isinstance(parts[0], str):
            message = without_credentials(parts[0])
            kept = LONGEST_LINE // 2
            parts = (message if len(message) <= LONGEST_LINE else f"{message[:kept]} … {message[-kept:]}",)
        super().__init__(*parts)


class ConfigError(SimCTError, ValueError):
    """A setting is unknown, missing, of the wrong type or out of range.

    fix: a value that the setting may have instead, if one is known.
    """

    fix: int | float | None = None


class TokenizerError(SimCTError, ValueError):
    """A tokenizer cannot be turned into exact bytes (its family is named, with the reason)."""


class AlignmentError(SimCTError, ValueError):
    """Two token sequences do not spell the same bytes, or an id has no bytes."""


class DataError(SimCTError, ValueError):
    """A prompt file or dataset is empty, unreadable, or lacks the needed column."""


class TemplateLosesText(DataError):
    """A chat template drops, cuts off or reorders the text of a conversation; `rows`: the rows, if known."""

    rows: Sequence[int] = ()


class ModelError(SimCTError, OSError):
    """A model or tokenizer is unknown, gated, unreachable, or cannot be loaded."""


class HubError(SimCTError, OSError):
    """The Hub refused or could not be reached."""


class RunError(SimCTError, RuntimeError):
    """A run does not exist, is in the wrong state for what was asked, or stopped itself (NaN, full disk, collapse)."""


class LimitError(SimCTError, RuntimeError):
    """Reading something took more time, memory or space than is allowed, or broke the process that read it."""
