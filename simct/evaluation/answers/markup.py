"""Markup in answers: one form for minus signs, quotes, digits and separators, and simple LaTeX as plain text."""

import re
import unicodedata

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\ufe63\uff0d\u2010\u2011", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u200b\u200e\u200f\u2060\ufeff", ""),
        "\uff04": "$",
        "\uff05": "%",
        "²": "^2",
        "³": "^3",
    }
)
_THIN_SPACE = "\u00a0\u2009\u202f\u2007\u2008"
_FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5"}
_FRACTIONS |= {"⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}

_WORDED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)
_TERM = r"(?:\{\s*([+-]?[\d.,]+)\s*\}|(\d))"
_FRACTION = re.compile(rf"\\[dtc]?frac\s*{_TERM}\s*{_TERM}")
_LATEX = (
    (re.compile(r"<<[^<>]*>>"), ""),  # the calculator annotations of GSM8K
    (re.compile(r"\\!|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle(?![a-z])|\\big[lr]?(?![a-z])|\{\}"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(rf"(?<=\d)(?:\\[,;: ]|~|[{_THIN_SPACE}])(?=\d{{3}}(?!\d))"), ","),
    # not the end of a matrix's row
    (re.compile(rf"(?<!\\)\\[,;: ]|\\q?quad(?![a-z])|~|[{_THIN_SPACE}]"), " "),
    (re.compile(r"\\\(|\\\)|\\\[|\\\]|\$\$"), " "),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree(?![a-z])"), "°"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-z])"), "×"),
    (re.compile(r"\\(?:approx|simeq)(?![a-z])"), "≈"),
    (re.compile(r"\\(?:dollar|textdollar)(?![a-z])"), "$"),
    (re.compile(r"\\(?:euro|texteuro)(?![a-z])"), "€"),
    (re.compile(r"\\(?:pounds|textsterling)(?![a-z])"), "£"),
)
_SCIENTIFIC = re.compile(r"(?<=\d)\s*[×xX*]\s*10\s*\^\s*\{?\s*([+-]?\d{1,4})\s*\}?")
_DASH_AS_MINUS = re.compile(r"(?<![\w)\]])[\u2012\u2013](?=[\d.$€£¥₹\\])")


# bold and code marks, but not the power of 2**3
_EMPHASIS = re.compile(r"(?<!\w)(?:\*\*|__)|(?:\*\*|__)(?!\w)|`+(?:\w*\n)?")

_BRACKETS = ("()", "[]", "{}", "<>")
_BRACKETED = re.compile(r"[,()\[\]{}<>]")


def plain(text: str) -> str:
    """The text with one form for minus signs, quotes, digits and separators, and simple LaTeX as plain text."""
    text = "".join(_character(char) for char in text).translate(_CHARACTERS)
    text = _DASH_AS_MINUS.sub("-", text)
    for _ in range(3):
        text = _WORDED.sub(r" \1 ", text)
    for pattern, shown in _LATEX:
        text = pattern.sub(shown, text)
    # -\frac{1}{2} and 2\frac{1}{2}
    text = _FRACTION.sub(_divided, text)
    return _SCIENTIFIC.sub(r"e\1", text)


def _character(char: str) -> str:
    if char < "\u0080":
        return char
    if char in _FRACTIONS:
        return f" {_FRACTIONS[char]}"
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return chr(ord(char) - 0xFEE0) if "\uff01" <= char <= "\uff5e" else char


def _divided(found: re.Match) -> str:
    top, bottom = found[1] or found[2], found[3] or found[4]
    before = found.string[found.start() - 1 : found.start()] if found.start() else ""
    return f" {top}/{bottom}" if before.isdigit() else f"{top}/{bottom}"


def bare(text: str) -> str:
    """The text without quotes, emphasis, math delimiters and closing punctuation around it."""
    text = text.strip()
    while True:
        stripped = text.lstrip("\"'`*_ \t\r\n").rstrip("\"'`*_.!?,;: \t\r\n")
        if len(stripped) > 1 and stripped[0] == stripped[-1] == "$":
            stripped = stripped[1:-1]
        if stripped.endswith("$") and stripped.count("$") == 1:
            stripped = stripped[:-1]
        # (1, 2) keeps its brackets
        if stripped[:1] + stripped[-1:] in _BRACKETS and not _BRACKETED.search(stripped[1:-1]):
            stripped = stripped[1:-1]
        if stripped == text:
            return text
        text = stripped


def without_emphasis(text: str) -> str:
    """The text without the marks of bold text and of code."""
    return _EMPHASIS.sub("", text)
