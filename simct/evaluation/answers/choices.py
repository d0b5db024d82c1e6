"""Letters of choices in answers: B, (B), **B**, \\boxed{B}, "Answer: B."."""

import re

from simct.evaluation.answers.markup import bare, plain, without_emphasis
from simct.evaluation.answers.statements import sentences, statements

_LETTER = r"[(\[{]?\s*([A-J])\s*[)\]}]?"
_ONLY_LETTERS = re.compile(rf"{_LETTER}(?:\s*(?:,|;|/|&|and|or|,\s*and)\s*{_LETTER})*", re.IGNORECASE)
_NAMES = r"(?:(?:option|choice|letter|answer|statement|alternative)s?\s+)?"
_REASON = r"\s+(?:because|since|as|is\s+(?:the\s+)?(?:correct|right|best|answer))\b"
# a letter at the start of a line: in brackets, or followed by something that rules out a word or a sentence
_LEADS = re.compile(
    rf"{_NAMES}(?:[(\[]\s*([A-J])\s*[)\]](?!\s+(?:is|are|was|can|would|seems|has|does|might|may|will)\b)"
    rf"|([A-J])(?=\s*[)\]:.,;\"'}}–—](?![A-Za-z])|\s*$|\s*\n|{_REASON}))",
    re.IGNORECASE,
)
_LEADS_BARELY = re.compile(rf"{_NAMES}([B-HJ])(?=\s+\S)")
_MORE = re.compile(rf"\s*(?:,\s*and\b|,|/|&|\band\b|\bor\b)\s*{_LETTER}(?![A-Za-z'])")
_CALLED_RIGHT = re.compile(
    r"[(\[]?\b([A-J])\b[)\]]?\s+(?:is|would be|must be)\s+(?:the\s+)?(?:correct|right|best|answer)(?!\W+(?:not|n't)\b)"
)
_NAMED = re.compile(r"[(\[]([A-J])[)\]]|\b(?:[Oo]ption|[Cc]hoice)\s+([A-J])\b")
_LAST = re.compile(r"(?<!\band)(?<!\bor)(?<!,)(?:^|[\s:])([A-J])$")
_DENIES = re.compile(r"\b(?:not|cannot|never|neither|nor|wrong|incorrect|except)\b|n't\b", re.IGNORECASE)


def choices(text: str) -> frozenset[str] | None:
    """The letters that `text` is, as in "B", "(B)", "B." or "A, C"; None for anything else."""
    shown = bare(plain(text))
    if not _ONLY_LETTERS.fullmatch(shown):
        return None
    return frozenset(re.findall(r"\b[A-J]\b", shown.upper()))


def labeled_choice(text: str) -> tuple[str, str] | None:
    """("B", "Paris") of "B) Paris", "(B) Paris", "B. Paris" or "B: Paris"."""
    found = re.fullmatch(r"(?:[(\[]([A-J])[)\]]|([A-J])[.):])\s+(\S.*)", bare(plain(text)), re.DOTALL)
    return (found[1] or found[2], found[3]) if found else None


def stated_choices(text: str) -> frozenset[str] | None:
    """The letters that a text (without its reasoning) gives as its answer; None if it gives none.

    They are those of its last stated answer; else the one called right, those at its start, or the one at its end.
    """
    stated = statements(text)
    if stated:
        sentence = stated[-1].sentence
        return choices(sentence) or _leading(sentence, barely=True) or _last(sentence)
    shown = without_emphasis("".join(sentences(text)))
    called = _CALLED_RIGHT.findall(plain(shown))
    if called:
        return frozenset(called[-1])
    return choices(shown) or _leading(shown) or _last(shown)


def _leading(text: str, barely: bool = False) -> frozenset[str] | None:
    """The letters a text starts with; with `barely` also if words follow ("B Paris")."""
    shown = re.sub(r"^[\s\"'*_$]+", "", plain(text))
    found = _LEADS.match(shown)
    # a single lower-case letter is a word, unless it is in brackets
    if found and not found[1] and found[2].islower() and shown[found.end() : found.end() + 1] != ")":
        found = None
    if not found and barely:
        found = _LEADS_BARELY.match(shown)
    if not found:
        return None
    letters, at = {next(filter(None, found.groups())).upper()}, found.end()
    while more := _MORE.match(shown, at):
        letters.add(more[1])
        at = more.end()
    return frozenset(letters)


def _last(text: str) -> frozenset[str] | None:
    """The letter that the last sentence ends with or names, unless the sentence denies something or names several
    letters.
    """
    shown = bare(plain([each for each in sentences(text) if each.strip()][-1])) if text.strip() else ""
    if _DENIES.search(shown):
        return None
    last = _LAST.search(shown)
    named = {a or b for a, b in _NAMED.findall(shown)}
    if last:
        return frozenset(last[1])
    return frozenset(named) if len(named) == 1 else None
