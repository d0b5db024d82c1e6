"""The models that a studio keeps in memory: one pair under inspection, and a few that answer prompts."""

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
    """Both models in evaluation mode. `key` is who asked for which pair: access is not lent on."""

    key: tuple[str, str, str | bool | None]
    pair: "TokenizerPair"
    teacher: "PreTrainedModel"
    student: "PreTrainedModel"


@dataclass
class Models:
    """`turn` is held by the one task that reads weights: two would need the memory of both."""

    pair: LoadedPair | None = None
    answering: "OrderedDict[tuple[object, ...], PreTrainedModel]" = field(default_factory=OrderedDict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def pair_of(self, teacher: str, student: str, token: str | bool | None) -> LoadedPair | None:
        """The pair's weights, if they are the ones in memory."""
        return self.pair if self.pair is not None and self.pair.key == (teacher, student, token) else None

    def forget_pair(self) -> None:
        """Free the pair's weights, before something else loads its own."""
        self.pair = None
        gc.collect()

    def make_room_to_answer(self) -> None:
        """Free the pair, and of the models that answer those unused longest, for one more."""
        while len(self.answering) >= MOST_ANSWERING:
            self.answering.popitem(last=False)
        self.forget_pair()
