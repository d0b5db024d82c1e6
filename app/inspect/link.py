"""The address of what is being inspected: the place in the query, the text in the fragment (page/static/address.js)."""

from collections.abc import Mapping

PARTS = ("text", "position", "corpus", "reliability", "other_pairs")
# the form of older links
FORMER = {"several": "other_pairs"}


def place(query: Mapping[str, str]) -> tuple[str, int]:
    """The part and the unit that the query of an address names; by default the text and its first unit."""
    part, at = str(query.get("part", "")), str(query.get("at", ""))
    return (FORMER.get(part, part) if is_part(part) else PARTS[0]), (int(at) if is_unit(at) else 0)


def is_unit(at: str) -> bool:
    """Whether an address may name this unit; the text may still have fewer."""
    return at.isascii() and at.isdecimal() and len(at) < 10


def is_part(part: str) -> bool:
    """Whether an address may name this part."""
    return part in PARTS or part in FORMER
