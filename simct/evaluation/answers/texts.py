"""Texts as answers, compared without case, spaces, quotes, emphasis and closing punctuation."""

import re

from simct.evaluation.answers.markup import bare, plain, without_emphasis
from simct.evaluation.answers.statements import sentences, statements

_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_TRUTH = ("yes", "no", "true", "false")


def same_text(one: str, other: str) -> bool:
    """Whether two texts are the same apart from case, spaces, markup, quotes and closing punctuation."""
    return _folded(one) == _folded(other)


def states_text(text: str, wanted: str) -> bool:
    """Whether a text (without its reasoning) gives `wanted`: as its last statement, its last words or a leading yes."""
    answer = _folded(wanted)
    if not answer or same_text(text, wanted):
        return bool(answer)
    stated = statements(text)
    said = stated[-1].sentence if stated else "".join(sentences(text))
    if not stated and [_folded(bold) for bold in _BOLD.findall(text)] == [answer]:
        return True
    folded = _folded(said)
    first = re.match(r"\w+", folded)
    if answer in _TRUTH and first and first[0] in _TRUTH:
        return first[0] == answer
    if re.search(rf"(?<!\w){re.escape(answer)}$", folded):
        return not re.search(rf"\bnot (?:\w+ )?{re.escape(answer)}$", folded)
    # a full stop may be part of the answer: St. Louis
    return bool(stated) and bool(re.match(rf"{re.escape(answer)}(?:[.!?][\"'*)]*\s|$)", _folded(stated[-1].text)))


def _folded(text: str) -> str:
    return " ".join(bare(without_emphasis(plain(text))).split()).casefold()


def squeezed(text: str) -> str:
    """An expression without parts that do not change it: spaces, delimiters, sizes of brackets and fractions."""
    text = re.sub(r"\\[dtc]frac", r"\\frac", plain(text))
    return re.sub(r"\s|\$", "", bare(text))
