"""The kind of text of a unit: words, digits, white space, punctuation, LaTeX, CJK, emoji, or something else.

Every character, and so every byte, has one kind; the counts of any division of a text therefore add up to its totals.
Shapes: N characters, B bytes, U units.
"""

import re
import unicodedata

import numpy as np

KINDS = ("words", "digits", "whitespace", "punctuation", "latex", "cjk", "emoji", "other")
WORDS, DIGITS, WHITESPACE, PUNCTUATION, LATEX, CJK, EMOJI, OTHER = range(len(KINDS))
TITLES = {
    "words": "words",
    "digits": "digits",
    "whitespace": "white space",
    "punctuation": "punctuation, code",
    "latex": "LaTeX",
    "cjk": "CJK",
    "emoji": "emoji",
    "other": "other",
}
# signs for invisible characters, and the Unicode categories of further invisible characters
DRAWN = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")

# commands, display marks, and $…$ that holds a command, a sub- or a superscript (so that prices are not formulas)
_LATEX = re.compile(r"\$[^$\n]*[\\^_][^$\n]*\$|\\[A-Za-z]{2,}|\\[\[\]()]")
_CJK = re.compile(
    r"[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]"
)
_EMOJI = re.compile(r"[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d\u20e3\U000e0020-\U000e007f]")
_CATEGORY = {"L": WORDS, "M": WORDS, "N": DIGITS, "P": PUNCTUATION, "S": PUNCTUATION, "Z": WHITESPACE}

# kind by code point, filled in when a character is first seen
_kind_of_character = np.full(0x110000, -1, np.int8)


def kinds_of_bytes(text: str) -> np.ndarray:
    """int8 [B]: index into KINDS for every UTF-8 byte of `text` (lone surrogates are three bytes, as elsewhere)."""
    point_N = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kind_N = _kind_of_character[point_N]
    if (kind_N < 0).any():
        for point in np.unique(point_N[kind_N < 0]).tolist():
            _kind_of_character[point] = _kind_of(chr(point))
        kind_N = _kind_of_character[point_N]
    for match in _LATEX.finditer(text):
        kind_N[match.start() : match.end()] = LATEX
    size_N = 1 + (point_N >= 0x80).astype(np.int64) + (point_N >= 0x800) + (point_N >= 0x10000)
    return np.repeat(kind_N, size_N)


def kinds_of_spans(kind_B: np.ndarray, start_U: np.ndarray, end_U: np.ndarray) -> np.ndarray:
    """int64 [U]: the kind of each span of bytes: that of its first byte that is not white space, if it has one."""
    solid_B = np.where(kind_B != WHITESPACE, np.arange(len(kind_B)), len(kind_B))
    next_solid_B = np.append(np.minimum.accumulate(solid_B[::-1])[::-1], len(kind_B))
    first_U = next_solid_B[start_U]
    padded_B = np.append(kind_B, WHITESPACE)
    return np.where(first_U < end_U, padded_B[np.minimum(first_U, len(kind_B))], WHITESPACE).astype(np.int64)


def _kind_of(character: str) -> int:
    if character.isspace():
        return WHITESPACE
    if _CJK.match(character):
        return CJK
    if _EMOJI.match(character):
        return EMOJI
    return _CATEGORY.get(unicodedata.category(character)[0], OTHER)


def drawn(text: str) -> str:
    """`text` with visible signs for white space and invisible characters; unescaped."""
    return "".join(
        DRAWN.get(char) or (f"⟨{ord(char):X}⟩" if unicodedata.category(char) in INVISIBLE else char) for char in text
    )
