"""A setting: its type, limits, label and help, and the error message for a wrong value.

Settings are fields of pydantic models (`Section`), declared with `setting(...)`. Everything that shows or checks a
setting reads this declaration: run.yaml, `--set`, the form, `simct settings`, the documentation.
"""

import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from simct.errors import ConfigError, quoted

# The context in which a whole run is validated: required names must be given, rules between settings must hold.
WHOLE = "whole"
KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
# pydantic's types of errors about names.
UNKNOWN = ("extra_forbidden", "invalid_key")


class _Misread(ValueError):
    """A value has the wrong type."""


class _NotAllowed(ValueError):
    """A value is not one of the choices, or is missing."""


def setting(
    title: str,
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    empty: str = "",
    allowed: str = "",
    required: bool = False,
    **limits: float,
) -> Any:
    """A field of a `Section`. `title` is its label; `help` says what it means, its usual range, when to change it.

    `empty` says what an empty value means, `allowed` replaces the description of the limits, a `required` text must be
    given in a whole run. `limits` are pydantic's: ge, gt, le, lt, min_length, max_length.
    """
    extra = {"choices": choices, "empty": empty, "allowed": allowed, "required": required}
    return Field(default, title=title, description=help, json_schema_extra=extra, **limits)  # type: ignore[call-overload]


class Section(BaseModel):
    """Settings that belong together. Values are read as they come from YAML or the command line: "1e-6" is a number.

    They may be changed in place; nothing checks that until `simct.config.validate` does.
    """

    model_config = ConfigDict(extra="forbid", revalidate_instances="always", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        return settings_of(cls)[str(info.field_name)].read(value, whole=info.context == WHOLE)


@dataclass(frozen=True)
class Setting:
    """The type and limits of a field.

    `kinds` are the types of a value: bool, int, float, str, list, dict or a Section.
    """

    title: str
    help: str
    default: Any
    kinds: tuple[type, ...]
    optional: bool
    limits: str
    choices: tuple[str, ...]
    empty: str
    required: bool
    lowest: float | None = None
    highest: float | None = None
    # the section that each entry of a list is
    entries: type[Section] | None = None

    @property
    def section(self) -> type[Section] | None:
        return self.kinds[0] if issubclass(self.kinds[0], Section) else None

    @property
    def allowed(self) -> str:
        """What a value must be, in words: "empty or 1 or more", "one of cosine, linear"."""
        words = [KIND_NAMES[bool]] if bool in self.kinds else []
        if self.choices:
            words.append(f"one of {', '.join(self.choices)}")
        elif self.limits:
            words.append(self.limits)
        return " or ".join(["empty"] * self.optional + [", or ".join(words)] * bool(words))

    @property
    def expected(self) -> str:
        """The kind of value, in words."""
        if self.section or dict in self.kinds:
            return "a mapping of settings"
        return ", or ".join(KIND_NAMES[kind] for kind in self.kinds)

    def nearest(self, value: Any) -> int | float | None:
        """The allowed number nearest to `value`; None if it is not a number or is within the limits."""
        number = _read_number(value)
        if number is None or math.isnan(number):
            return None
        if self.lowest is not None and number < self.lowest:
            limit = self.lowest
        elif self.highest is not None and number > self.highest:
            limit = self.highest
        else:
            return None
        return int(limit) if int in self.kinds else limit

    def read(self, value: Any, whole: bool = False) -> Any:
        """`value` as one of `kinds`, or None where it is empty. Raises ValueError if it cannot be read."""
        if self.section or self.entries:
            return value
        if self.optional and (value is None or (isinstance(value, str) and value.lower() in ("", "none", "null"))):
            return None
        found = next((read for kind in self.kinds if (read := READERS[kind](value)) is not None), None)
        if found is None:
            raise _Misread
        if (self.choices and found not in self.choices) or (whole and self.required and not found):
            raise _NotAllowed
        return found


def _read_switch(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _read_number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _read_whole(value: Any) -> int | None:
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    number = _read_number(value)
    return int(number) if number is not None and math.isfinite(number) and number.is_integer() else None


def _read_text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        text = str(value)
    except ValueError:  # a number with thousands of digits
        return None
    return None if "\0" in text else text


def _read_list(value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    parts = [_read_text(part) for part in value] if isinstance(value, list) else [None]
    return None if None in parts else typing.cast(list[str], parts)


def _read_mapping(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, dict) else None


READERS: dict[type, Callable[[Any], Any]] = {
    bool: _read_switch,
    int: _read_whole,
    float: _read_number,
    str: _read_text,
    list: _read_list,
    dict: _read_mapping,
}


@lru_cache
def settings_of(section: type[Section]) -> dict[str, Setting]:
    """The settings of a section by name, in order."""
    return {name: _described(field) for name, field in section.model_fields.items()}


def every_setting(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """(dotted name, setting) of every setting that is not a section itself."""
    for name, each in settings_of(section).items():
        if each.section:
            yield from every_setting(each.section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _described(field: FieldInfo) -> Setting:
    parts: list[Any] = [field.annotation]
    metadata = list(field.metadata)
    if isinstance(field.annotation, types.UnionType) or typing.get_origin(field.annotation) is typing.Union:
        parts = list(typing.get_args(field.annotation))
    kinds: list[type] = []
    for part in parts:
        if typing.get_origin(part) is Annotated:
            part, *more = typing.get_args(part)
            metadata += [each for info in more for each in getattr(info, "metadata", [info])]
        if part is not type(None):
            kinds.append(typing.get_origin(part) or part)
    inner = typing.get_args(field.annotation)
    listed = inner[0] if kinds == [list] and inner and isinstance(inner[0], type) else None
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    notes: dict[str, Any] = {"choices": (), "empty": "", "allowed": "", "required": False, **extra}
    return Setting(
        title=field.title or "",
        help=field.description or "",
        default=field.get_default(call_default_factory=True) if field.default_factory is None else None,
        kinds=tuple(kinds),
        optional=type(None) in parts,
        limits=notes["allowed"] or _limits(metadata, list in kinds),
        choices=tuple(notes["choices"]),
        empty=notes["empty"],
        required=notes["required"],
        lowest=_limit(metadata, "ge"),
        highest=_limit(metadata, "le"),
        entries=listed if listed is not None and issubclass(listed, Section) else None,
    )


def _limit(metadata: list[Any], name: str) -> float | None:
    return next((value for limit in metadata if (value := getattr(limit, name, None)) is not None), None)


def _limits(metadata: list[Any], is_list: bool) -> str:
    """The limits of a field in words: "1 or more and at most 10,000"."""
    words = {}
    for limit in metadata:
        for name in ("ge", "gt", "lt", "le", "max_length"):
            if (value := getattr(limit, name, None)) is not None:
                words[name] = f"{value:,.0f}" if value == int(value) else f"{value:g}"
    patterns = {"ge": "{} or more", "gt": "above {}", "lt": "below {}", "le": "at most {}"}
    patterns["max_length"] = "a list of at most {} entries" if is_list else "a text of at most {} characters"
    return " and ".join(pattern.format(words[name]) for name, pattern in patterns.items() if name in words)


def _is_misread(detail: Any) -> bool:
    return detail["type"] in ("model_type", "list_type") or isinstance(detail.get("ctx", {}).get("error"), _Misread)


def _named_by(path: list[str], section: type[Section]) -> tuple[str, Setting | None, dict[str, Setting], bool]:
    """What pydantic's path names: its dotted name, the setting (None if unknown), the settings next to it, and whether
    it is a whole entry of a list.
    """
    known, found, name, rest = settings_of(section), None, "", list(path)
    while rest:
        part = rest.pop(0)
        name, found = f"{name}.{part}" if name else part, known.get(part)
        if found is None:
            break
        inner = found.section
        if found.entries and rest:
            name, inner = f"{name}[{rest.pop(0)}]", found.entries
            if not rest:
                return name, found, known, True
        if inner is None or not rest:
            break
        known = settings_of(inner)
    return name, found, known, False


def problem(error: ValidationError, section: type[Section], prefix: str = "") -> ConfigError:
    """A ValidationError of `section` as one line: the setting (its name after `prefix`), its value, what is allowed.

    Settings that are unknown or of the wrong kind come before values out of their limits.
    """
    first = min(error.errors(include_url=False), key=lambda each: not (each["type"] in UNKNOWN or _is_misread(each)))
    path, value = [str(part) for part in first["loc"]], first["input"]
    if isinstance(rule := first.get("ctx", {}).get("error"), ConfigError):
        return rule
    name, found, known, whole_entry = _named_by(path, section)
    name = prefix + name or "The run configuration"
    if not path:
        return ConfigError(f"{name}: expected a mapping of settings, got {quoted(value)}.")
    if first["type"] in UNKNOWN or found is None:
        return ConfigError(f"Unknown setting {quoted(name)}. Known here: {', '.join(known)}.")
    if _is_misread(first):
        expected = "a mapping of settings" if whole_entry else found.expected
        return ConfigError(f"{name}: expected {expected}, got {quoted(value)}.")
    refused = ConfigError(f"{name} is {quoted(value)}; it must be {found.allowed or found.expected}.")
    refused.fix = found.nearest(value)
    return refused
