"""What the licenses of a teacher and a student mean for the trained student, judged by their names.

These are summaries of well-known terms for people who will read the licenses themselves, not legal advice. An unknown
license is reported as unknown.
"""

import re
from typing import Protocol

NOT_ADVICE = "Not legal advice."
# a family of licenses (Hub ids), what it means as the teacher's license and as the student's (empty: nothing to look
# up). The first match counts.
_FAMILIES = [
    (
        r"apache-2\.0|mit(-0)?|bsd(-\d-clause.*)?|isc|zlib|unlicense|0bsd|wtfpl|bsl-1\.0|ms-pl|ncsa|postgresql|afl-3\.0"
        r"|cc0-1\.0|cc-by-\d\.\d|cdla-permissive-\d\.\d|odc-by|pddl",
        "",
        "",
    ),
    (
        r"cc-by(-nc)?-nd-.*",
        "forbids sharing adaptations; it is an open question whether a student is one.",
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
        "counts a model distilled from it as a derivative, so its terms apply to the student.",
        "stays with the new student.",
    ),
    (
        r".*rail(\+\+|-m)?|.*openrail.*",
        "restricts uses and may require the student to pass this on.",
        "stays with the new student, restrictions of use included.",
    ),
    (
        r"[al]?gpl.*|gfdl|cc-by-sa-.*|mpl-2\.0|epl-.*|eupl-.*|osl-3\.0|odbl|cdla-sharing-.*",
        "is share-alike; it is an open question whether that covers outputs.",
        "is share-alike: it stays with the new student.",
    ),
]


class Licensed(Protocol):
    """A model with a license: its id on the Hub, as a card gives it, or None."""

    @property
    def license(self) -> str | None: ...


def license_concerns(teacher: Licensed, student: Licensed) -> list[str]:
    """What to look up before a student is published, the teacher's terms first; empty if both are permissive."""
    of_teacher, of_student = ((model.license or "").strip().lower() for model in (teacher, student))
    if of_teacher == of_student and re.fullmatch(r"llama-?[23]", of_teacher):
        return [f"Both are under {of_teacher}, which stays with the new student."]
    return [
        f"The {role}'s license {concern}"
        for role, concern in (("teacher", _concern(of_teacher, 0)), ("student", _concern(of_student, 1)))
        if concern
    ]


def license_compatibility(teacher: Licensed, student: Licensed) -> str:
    """One sentence on whether and how the new student may be shared."""
    concerns = license_concerns(teacher, student)
    if concerns:
        return f"{' '.join(concerns)} {NOT_ADVICE}"
    names = f"teacher {teacher.license}, student {student.license}"
    return f"Both licenses are permissive ({names}): keep their notices. {NOT_ADVICE}"


def _concern(name: str, side: int) -> str:
    """What to look up about the license `name` of the teacher (side 0) or the student (side 1), or nothing."""
    wanted = (
        "check whether its outputs may train another model."
        if side == 0
        else "check whether changed weights may be shared."
    )
    if name in ("", "unknown"):
        return f"is not stated: {wanted}"
    if name == "other":
        return f"is a custom license: {wanted}"
    for pattern, *texts in _FAMILIES:
        if re.fullmatch(pattern, name):
            return texts[side] and f"({name}) {texts[side]}"
    return f"({name}) is not known here: {wanted}"
