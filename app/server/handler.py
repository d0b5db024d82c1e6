"""How events of the page call their handlers: the visitor first, inputs by name, updates by component."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from app.server.studio import Studio

# new values or properties by component; other components stay as they are
Updates = dict[Any, Any]
Component = gr.blocks.Block

# not part of the public API
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
# updates without a spinner; without a component that shows progress, the browser does not go through all outputs
# whenever a request of any handler begins, runs or ends
QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden", "show_progress_on": []}
# updates after every input; a later input waits for the earlier one, so that none is lost. Not for events with data
# (gr.EventData): for the later one, Gradio repeats the data of the earlier one
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
# started once; runs until it ends or is canceled, at the same time as anything else
LONG: dict[str, Any] = {**QUIET, "trigger_mode": "once", "concurrency_limit": None}


def in_turn(name: str) -> dict[str, Any]:
    """Updates to the same place, which end in the order in which they began, so that the last one stays."""
    return {**LATEST, "concurrency_id": name, "concurrency_limit": 1}


def each_in_turn(name: str) -> dict[str, Any]:
    """As `in_turn`, for events with data, such as what was clicked: every one of them is handled."""
    return {**in_turn(name), "trigger_mode": "multiple"}


def new_value(value: Any, before: Any) -> dict[str, Any]:
    """The `value` of an update to a field that had the value `before`, if it is another one.

    A value that stays is not sent again, because the visitor may have changed the field in the meantime.
    """
    return {} if value == before else {"value": value}


class Handler:
    """A function with the components that it reads, by parameter name, and the components that it may change.

    The function takes the Visitor first if it has a parameter `visitor`. It returns or yields Updates.
    """

    def __init__(
        self,
        studio: Studio,
        function: Callable[..., Updates | Iterator[Updates]],
        inputs: Mapping[str, Component] | None = None,
        outputs: Sequence[Component] = (),
        how: Mapping[str, Any] = QUIET,
    ) -> None:
        self.function = as_gradio_calls_it(studio, _never_empty(function))
        self.inputs, self.outputs, self.how = dict(inputs or {}), list(outputs), how

    def on(self, *triggers: Any, how: Mapping[str, Any] | None = None) -> Any:
        """Call the function on these events. Returns the object whose `then` is the event after the function has
        finished.
        """
        options = {"inputs_kwargs": self.inputs, "outputs": self.outputs, **(self.how if how is None else how)}
        if len(triggers) == 1:
            return triggers[0](self.function, **options)
        return gr.on(list(triggers), self.function, **options)


def _never_empty(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with "no updates" in Gradio's form, because Gradio would take an empty dict for a value."""

    @functools.wraps(function)
    def answered(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named) or gr.skip()

    @functools.wraps(function)
    def streamed(*arguments: Any, **named: Any) -> Iterator[Any]:
        for updates in function(*arguments, **named):
            yield updates or gr.skip()

    return streamed if inspect.isgeneratorfunction(function) else answered


def as_gradio_calls_it(studio: Studio, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(visitor, ...)` with the parameters that Gradio fills in about who has signed in, instead of the
    visitor.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].name != "visitor":
        return function

    def answered(token: Any, profile: Any, *arguments: Any, **named: Any) -> Any:
        return function(studio.visitor(token, profile), *arguments, **named)

    def streamed(token: Any, profile: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
        yield from function(studio.visitor(token, profile), *arguments, **named)

    called: Any = streamed if inspect.isgeneratorfunction(function) else answered
    signed_in = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for name, kind in {"oauth_token": gr.OAuthToken | None, "oauth_profile": gr.OAuthProfile | None}.items()
    ]
    described = signature.replace(parameters=[*signed_in, *parameters[1:]])
    called.__name__, called.__doc__ = function.__name__, function.__doc__
    called.__signature__ = described
    called.__annotations__ = {
        name: each.annotation
        for name, each in described.parameters.items()
        if each.annotation is not inspect.Parameter.empty
    }
    if signature.return_annotation is not inspect.Signature.empty:
        called.__annotations__["return"] = signature.return_annotation
    return called
