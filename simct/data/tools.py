"""The functions that a row offers to the model, in every dialect, converted to the form that chat templates read.

A tool becomes {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Tool = dict[str, Any]


def tools_in(value: Any) -> list[Tool] | None:
    """The tools in a cell: a list or a single tool, as data or as JSON, each bare or under "function".

    None if the cell is empty or holds something else.
    """
    value = _read(value)
    tools = [_tool(_read(each)) for each in (value if isinstance(value, list) else [value])]
    found = [tool for tool in tools if tool is not None]
    return found if found and len(found) == len(tools) else None


def is_empty(value: Any) -> bool:
    """Whether a cell offers no tools, in contrast to tools that cannot be read."""
    return _read(value) in (None, "", [], {})


def names_of(tools: Sequence[Tool]) -> list[str]:
    return [tool["function"]["name"] for tool in tools]


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith(("[", "{")):
        return value.strip()
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _tool(value: Any) -> Tool | None:
    inner = value.get("function") if isinstance(value, Mapping) else None
    function = inner if isinstance(inner, Mapping) else value
    if not isinstance(function, Mapping) or not isinstance(name := function.get("name"), str) or not name.strip():
        return None
    function = _without_nothing(dict(function))
    parameters = function.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {"type": "object", "properties": {}}
    elif "properties" not in parameters and all(isinstance(each, dict) for each in parameters.values()):
        parameters = {"type": "object", "properties": parameters}  # the form of xLAM
    # templates fail if these are missing
    return {"type": "function", "function": {"name": name, "description": "", **function, "parameters": parameters}}


def _without_nothing(value: Any) -> Any:
    """Remove the empty fields that a table adds because all its rows have the same fields."""
    if isinstance(value, Mapping):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nothing(each) for each in value]
    return value
