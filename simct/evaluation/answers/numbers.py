"""Numbers in answers, exact and with their units, and the one that a text gives as its answer."""

import re
from dataclasses import dataclass
from fractions import Fraction

from simct.evaluation.answers.markup import bare, plain, without_emphasis
from simct.evaluation.answers.statements import LONGEST, Statement, sentences, statements

# longer numbers are not answers, and computing larger exponents would never finish
MAX_DIGITS = 300
MAX_EXPONENT = 300

_MONEY = r"(?:US|C|A|HK|NZ)?[$€£¥₹₩₽]|\b(?:USD|EUR|GBP|Rs\.?)"
_DIGITS = r"(?:\d{1,3}(?:[,'_]\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d{1,3}(?:[. ]\d{3}){2,}(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{{1,4}}(?!\w))?"
_SIGN = r"(?:(?<![\w)\]}.%])[+-]\s?(?=[\d.$€£¥₹]))?"
NUMBER = re.compile(
    rf"(?P<sign1>{_SIGN})(?:(?P<money>(?:{_MONEY})\s?)(?P<sign2>[+-]?))?"
    rf"(?:(?P<whole>\d+)(?:\s+|\s*(?:and|&)\s+)(?P<part>\d+/\d+)(?![\d/])"
    rf"|(?P<top>{_DECIMAL})\s?/\s?(?P<bottom>\d+(?:\.\d+)?)(?![\d/])"
    rf"|(?P<comma>\d+,\d{{1,2}})(?=\s?€)"
    rf"|(?P<plain>{_DECIMAL}))"
)
_UNITS = {
    "$": "dollars dollar usd bucks",
    "€": "euros euro eur",
    "£": "gbp",
    "¢": "cents cent",
    "%": "percent",
    "°": "degrees degree deg",
    "mm": "millimeters millimeter millimetres",
    "cm": "centimeters centimeter centimetres centimetre",
    "m": "meters meter metres metre",
    "km": "kilometers kilometer kilometres kilometre",
    "inch": "inches",
    "ft": "feet foot",
    "yd": "yards yard",
    "mile": "miles mi",
    "mg": "milligrams",
    "g": "grams gram",
    "kg": "kilograms kilogram",
    "lb": "lbs pounds pound",
    "oz": "ounces ounce",
    "ml": "milliliters milliliter",
    "l": "liters liter litres litre",
    "gallon": "gallons",
    "s": "seconds second sec secs",
    "min": "minutes minute mins",
    "h": "hours hour hr hrs",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "mph": "",
    "unit": "units",
}
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in (unit, *names.split())}
_UNIT = re.compile(
    r"\s*(?:(?P<square>sq\.?|square)\s+|(?P<cubic>cubic)\s+)?(?P<word>[%°¢$€£]|[A-Za-z]+)\.?(?:\s*\^\s*\{?(?P<power>[23])\}?)?"
)
# characters to the left and right of a number that make it part of an expression
_JOINED_LEFT = re.compile(
    r"""(?:
        [√^_*×÷·{\\π±!]\s?
        | \b(?:log|ln|sin|cos|tan)(?:_\w+)?\s?
        | (?<=\d)[:xX/-]
        | (?<=[\d)}A-Za-z]\ )[+xX-]\ ?
        | [\w)]\s?[+/=]?[+/]\s?
        | \d\s-\s
    )$""",
    re.VERBOSE,
)
# what makes a sign part of an expression: the 12 in 12 - 5, the x in x -5
_OPERAND = re.compile(r"(?:\b[A-Za-z]|\d|\))\s?$")
_JOINED_RIGHT = re.compile(
    r"""\s?(?:
        [√^*×÷·π±!]
        | \\(?:sqrt|frac|pi|pm|cdot|times|div|log|ln)
        | [+/]\s?(?:[\d\\(.]|[A-Za-z](?![A-Za-z]))
        | [-:]\d | -\s\d | [xX]\s?\d
    )
    | \((?:\d|[a-z]\b) | \} | [A-Za-z]\b | [A-Za-z]\^""",
    re.VERBOSE,
)
_SPACED = re.compile(r"[^\w\s]*\d{1,3}(?: \d{3})+(?:\.\d+)?\s*\D*")
_POWER_OF = re.compile(r"([A-Za-z]+)\s*\^\s*\{?$")
_BOLD = re.compile(r"\*\*\s*([^*\n]{1,60}?)\s*\*\*")
_CONCLUDES = re.compile(
    r"=|\b(?:so|thus|hence|therefore|then|total|altogether|in all|finally|overall)\b", re.IGNORECASE
)
# words between "the answer is" and its number
_FILLER = re.compile(
    r"""[\s"'(\[$:*=≈]*(?:(?:
        approximately|approx\.?|about|around|roughly|exactly|thus|therefore|then|now|simply|just|indeed
        |equal\ to|a\ total\ of|only|that|it|is|x|y|option|choice|[A-J]
    )\b[\s:,()\[\].*=]*)*""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Quantity:
    """An exact number and the unit after or before it, by its shortest name; empty if there is none."""

    value: Fraction
    unit: str = ""

    def agrees(self, other: "Quantity") -> bool:
        """Whether the values are equal and the units do not contradict each other: one may be missing."""
        return self.value == other.value and (not self.unit or not other.unit or self.unit == other.unit)


def _value(match: re.Match) -> Fraction | None:
    """The number that NUMBER found; None if it is too long, too large, or divided by zero."""
    if len(match[0]) > MAX_DIGITS:
        return None
    negative = "-" in (match["sign1"] or "") or match["sign2"] == "-"
    if match["whole"]:
        parts = [match["whole"], match["part"]]
    elif match["comma"]:
        parts = [match["comma"].replace(",", ".")]
    else:
        parts = [f"{_decimal(match['top'])}/{match['bottom']}" if match["top"] else _decimal(match["plain"])]
    try:
        value = sum((_fraction(part) for part in parts), Fraction(0))
    except (ValueError, ZeroDivisionError):
        return None
    return -value if negative else value


def _decimal(text: str) -> str:
    text = re.sub(r"[,'_ ]", "", text)
    return text.replace(".", "") if text.count(".") > 1 else text


def _fraction(text: str) -> Fraction:
    top, _, bottom = text.partition("/")
    exponent = top.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise ValueError("too large")
    return Fraction(top) / Fraction(bottom or "1")


def _unit_after(text: str, match: re.Match) -> tuple[str, int]:
    """The known unit right after a number, and where it ends; a currency before the number is one, too."""
    found = _UNIT.match(text, match.end())
    unit = _UNIT_OF.get(found["word"].lower(), "") if found else ""
    if found is None or not unit:
        money = re.sub(r"[A-Z\s]", "", match["money"] or "")
        return _UNIT_OF.get(money, money), match.end()
    power = "2" if found["square"] else "3" if found["cubic"] else found["power"] or ""
    return unit + power, found.end()


def quantity(text: str) -> Quantity | None:
    """The number that `text` is, with a known unit or none; None for anything else, such as 2x or 2√3."""
    shown = re.sub(r"(\d)\s*\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}\s*$", r"\1 \2", text)
    worded = shown != text
    shown = bare(plain(shown))
    shown = re.split(r"[=≈]", shown)[-1].strip()
    if _SPACED.fullmatch(shown):
        shown = re.sub(r"(?<=\d) (?=\d)", "", shown)
    match = NUMBER.match(shown)
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    unit, end = _unit_after(shown, match)
    rest = shown[end:].strip(" $.")
    if rest and not (worded and re.fullmatch(r"[A-Za-z .^23/-]*", rest)):
        return None
    return Quantity(value, unit)


def stated_number(text: str) -> Quantity | None:
    """The number that a text (without its reasoning) gives as its answer; None if it gives none.

    It is the number of the last stated answer, else one in bold that no later conclusion replaces, else the last
    number.
    """
    for statement in reversed(statements(text)):
        if re.search(r"\d", plain(statement.text)):
            return number_in(statement)
    if len(text) <= LONGEST and (whole := quantity(text)):
        return whole
    kept = sentences(text)
    for place in range(len(kept) - 1, -1, -1):
        bold = [match for match in _BOLD.finditer(kept[place]) if quantity(match[1])]
        if bold:
            after = [kept[place][bold[-1].end() :], *kept[place + 1 :]]
            replaced = any(_CONCLUDES.search(part) and re.search(r"\d", part) for part in after)
            return _last_number("".join(kept)) if replaced else quantity(bold[-1][1])
    return _last_number("".join(kept))


def number_in(statement: Statement) -> Quantity | None:
    """The number of a stated answer: all of it, or the first number if it comes before the prose, else the last."""
    whole = quantity(statement.sentence)
    if whole is not None:
        return whole
    shown = plain(statement.sentence)
    shown = re.split(r"[=≈]", shown)[-1]
    if statement.exact and not re.search(r"[A-Za-z]{2}", re.sub(r"\\[a-z]+", "", shown)):
        return None  # an expression
    start = _FILLER.match(shown)
    led = NUMBER.match(shown, start.end()) if start else None
    return _whole_number(shown, led) if led else _last_number(shown)


def _last_number(text: str) -> Quantity | None:
    shown = plain(without_emphasis(text[-LONGEST:]))
    found = None
    for match in NUMBER.finditer(shown):
        # the 2 of cm^2
        before = _POWER_OF.search(shown, max(0, match.start() - 20), match.start())
        if not (before and before[1].lower() in _UNIT_OF):
            found = match
    return _whole_number(shown, found) if found else None


def _whole_number(shown: str, match: re.Match) -> Quantity | None:
    """The number found, unless it is a part of a larger expression."""
    value = _value(match)
    unit, end = _unit_after(shown, match)
    known = end > match.end()
    left = shown[max(0, match.start() - 12) : match.start()]
    if value is None or _JOINED_LEFT.search(left) or (match["sign1"] and _OPERAND.search(left)):
        return None
    if not known and _JOINED_RIGHT.match(shown, match.end()):
        return None
    return Quantity(value, unit)
