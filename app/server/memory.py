"""The models that a studio keeps in memory: one inspected pair, and a few models that answer prompts."""

import gc
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from simct.tokenization.pair import TokenizerPair

MOST_ANSWERING = 3


@dataclass(frozen=True, eq=False)
class LoadedPair:
    """Both models in evaluation mode. `key` says who loaded which pair, because access differs by visitor."""

    key: tuple[str, str, str | bool | None]
    pair: "TokenizerPair"
    teacher: "PreTrainedModel"
    student: "PreTrainedModel"


@dataclass
class Models:
    """Only the task that holds `turn` may load weights, because two tasks would need the memory of both."""

    pair: LoadedPair | None = None
    answering: "OrderedDict[tuple[object, ...], PreTrainedModel]" = field(default_factory=OrderedDict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def pair_of(self, teacher: str, student: str, token: str | bool | None) -> LoadedPair | None:
        """The weights of the pair, if they are in memory."""
        return self.pair if self.pair is not None and self.pair.key == (teacher, student, token) else None

    def forget_pair(self) -> None:
        """Free the pair's weights before others are loaded."""
        self.pair = None
        gc.collect()

    def make_room_to_answer(self) -> None:
        """Free the pair and the least recently used answering models, to make room for one more."""
        while len(self.answering) >= MOST_ANSWERING:
            self.answering.popitem(last=False)
        self.forget_pair()
