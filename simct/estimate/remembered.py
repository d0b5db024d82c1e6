"""A cache for measurements of models."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from simct.config import RunConfig
from simct.config.sections import ModelConfig

Measure = TypeVar("Measure", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Question:
    key: str
    arguments: tuple[Any, ...] = field(compare=False)


def remembered(measure: Measure) -> Measure:
    """`measure` with its latest results cached: a form asks again after every change, and most changes do not affect
    this.
    """
    answer = functools.lru_cache(maxsize=256)(lambda question: measure(*question.arguments))

    def plain(argument: Any) -> Any:
        if isinstance(argument, RunConfig):
            training = argument.training
            trained = training.freeze, training.gradient_checkpointing, training.mixed_precision
            return argument.student.model_dump(), argument.lora.model_dump(), trained
        if isinstance(argument, ModelConfig):
            return argument.model_dump()
        return argument.to_dict() if hasattr(argument, "to_dict") else argument

    @functools.wraps(measure)
    def asked(*arguments: Any) -> Any:
        return answer(_Question(json.dumps([plain(each) for each in arguments], default=str), arguments))

    return cast(Measure, asked)
