"""What the licenses of a teacher and a student mean for a student made of both, as far as their names tell.

Summaries of well-known terms for people who are about to read them, not legal advice. A license that is not known here
is called unknown, and nothing is concluded from it.
"""

import re
from typing import Protocol

NOT_ADVICE = "Not legal advice."
# Family of licenses (ids as the Hub has them), what a teacher's says of a student, what a student's says of the new
# one; an empty text is nothing to look up. The first that matches counts.
_FAMILIES = [
    (
        r"apache-2\.0|mit(-0)?|bsd(-\d-clause.*)?|isc|zlib|unlicense|0bsd|wtfpl|bsl-1\.0|ms-pl|ncsa|postgresql|afl-3\.0"
        r"|cc0-1\.0|cc-by-\d\.\d|cdla-permissive-\d\.\d|odc-by|pddl",
        "",
        "",
    ),
    (
        r"cc-by(-nc)?-nd-.*",
        "forbids sharing adaptations; whether a student is one is not settled.",
        "forbids sharing changed weights: keep the result private.",
    ),
    (
        r".*-nc(-.*)?|.*non-?commercial.*|.*research.*|apple-amlr",
        "allows no commercial use, which may bind the student too.",
        "allows no commercial use of the new student either.",
    ),
    (
        r"llama-?[23]",
        "forbids using its outputs to improve language models of other families.",
        "stays with the new student.",
    ),
    (
        r"llama-?\d.*",
        "asks that models trained on its outputs have names that begin with “Llama” and say “Built with Llama”.",
        "stays with the new student.",
    ),
    (
        r"gemma.*",
        "counts a model distilled from it as a derivative, so its terms go along.",
        "stays with the new student.",
    ),
    (
        r".*rail(\+\+|-m)?|.*openrail.*",
        "restricts uses and may ask that the student passes this on.",
        "stays with the new student, restrictions of use included.",
    ),
    (
        r"[al]?gpl.*|gfdl|cc-by-sa-.*|mpl-2\.0|epl-.*|eupl-.*|osl-3\.0|odbl|cdla-sharing-.*",
        "is share-alike; whether outputs carry it on is not settled.",
        "is share-alike: it stays with the new student.",
    ),
]


class Licensed(Protocol):
    """A model with a license: its id on the Hub, as a card gives it, or None."""

    @property
    def license(self) -> str | None: ...


def license_concerns(teacher: Licensed, student: Licensed) -> list[str]:
    """What to look up before a student is published, the teacher's terms first; empty where both are permissive."""
    taught, learnt = ((model.license or "").strip().lower() for model in (teacher, student))
    if taught == learnt and re.fullmatch(r"llama-?[23]", taught):
        return [f"Both are under {taught}, which stays with the new student."]
    return [
        f"The {role}'s license {told}"
        for role, told in (("teacher", _say(taught, 0)), ("student", _say(learnt, 1)))
        if told
    ]


def license_compatibility(teacher: Licensed, student: Licensed) -> str:
    """One line on whether a student made of both may be shared, and how. Unknown licenses stay unknown."""
    concerns = license_concerns(teacher, student)
    if concerns:
        return f"{' '.join(concerns)} {NOT_ADVICE}"
    names = f"teacher {teacher.license}, student {student.license}"
    return f"Both licenses are permissive ({names}): keep their notices. {NOT_ADVICE}"


def _say(name: str, side: int) -> str:
    wanted = (
        "read whether its outputs may train another model."
        if side == 0
        else "read whether changed weights may be shared."
    )
    if name in ("", "unknown"):
        return f"is not stated: {wanted}"
    if name == "other":
        return f"is one of its own: {wanted}"
    for pattern, *texts in _FAMILIES:
        if re.fullmatch(pattern, name):
            return texts[side] and f"({name}) {texts[side]}"
    return f"({name}) is not known here: {wanted}"
