"""SimCT Studio: on-policy distillation between language models that tokenize text differently (arXiv 2605.07711).

The public names are imported when they are first used, so that `import simct` and `simct --help` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simct import losses
    from simct.config import RunConfig
    from simct.evaluation.distance import distance
    from simct.inspection.coverage import inspect_pair
    from simct.inspection.reliability import measure_pair
    from simct.tokenization.pair import TokenizerPair

__version__ = "0.1.0"
__all__ = ["RunConfig", "TokenizerPair", "distance", "inspect_pair", "losses", "measure_pair"]

_MODULES = {
    "RunConfig": "simct.config",
    "TokenizerPair": "simct.tokenization.pair",
    "distance": "simct.evaluation.distance",
    "inspect_pair": "simct.inspection.coverage",
    "measure_pair": "simct.inspection.reliability",
}


def __getattr__(name: str) -> Any:
    if name == "losses":
        return import_module("simct.losses")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
