"""The address of what is being inspected: the place in the query, the text in the fragment (page/static/address.js)."""

from collections.abc import Mapping

PARTS = ("text", "position", "corpus", "reliability", "other_pairs")
# the form of older links
FORMER = {"several": "other_pairs"}


def place(query: Mapping[str, str]) -> tuple[str, int]:
    """The part and the unit that the query of an address names; by default the text and its first unit."""
    part, at = str(query.get("part", "")), str(query.get("at", ""))
    part = FORMER.get(part, part)
    return (part if part in PARTS else PARTS[0]), (int(at) if at.isdecimal() and len(at) < 10 else 0)
