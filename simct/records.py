"""Typed records that are kept as JSON, under the names of their fields."""

from dataclasses import fields
from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from simct.errors import DataError

# marks a field that is left out of the JSON while it is None
ABSENT = {"absent": True}


class Record:
    """The base of dataclasses that are written as JSON and read back. Records may hold records, lists and dicts."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in the order of the fields."""
        found = {each: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        return {
            each.name: _plain(value)
            for each, value in found.items()
            if not (value is None and each.metadata.get("absent"))
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The record that `to_dict` wrote; names it does not know are ignored. Raises DataError (one line)."""
        try:
            return _reader(cls).validate_python(data)  # type: ignore[arg-type]  # classes are hashable
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise DataError(f"This is not a {cls.__name__}: {place}: {first['msg']}.") from error


@cache
def _reader(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
