"""Number fields. Gradio's own limits are not used, because Gradio refuses the whole event with a message that does not
name the field.
"""

from typing import Any

import gradio as gr

from simct.errors import ConfigError


def field(value: float | None, label: str, **options: Any) -> gr.Number:
    """A field whose value is checked by the code that reads it, with `whole` or `real`."""
    return gr.Number(value, label=label, **options)


def whole(label: str, value: float | None, default: int, lowest: int, highest: int) -> int:
    """The whole number in a field, or `default` if it is empty. Raises ConfigError with the field's label."""
    if value is None:
        return default
    if not lowest <= value <= highest or value != int(value):
        raise ConfigError(f"“{label}” is {value:,}; it must be a whole number from {lowest:,} to {highest:,}.")
    return int(value)


def real(label: str, value: float | None, default: float, lowest: float, highest: float) -> float:
    """The number in a field, or `default` if it is empty. Raises ConfigError with the field's label."""
    if value is None:
        return default
    if not lowest <= value <= highest:
        raise ConfigError(f"“{label}” is {value:,}; it must be a number from {lowest:g} to {highest:g}.")
    return float(value)
