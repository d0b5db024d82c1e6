"""Small real tokenizer pairs and texts that give every shape of unit, shared by the tests of the losses."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from simct.tokenization.alignment import align_boundaries
from simct.tokenization.pair import TokenizerPair

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = [*"abcdehilorstw123", "Ġ"]


def tiny_tokenizer(merges: list[str], letters=LETTERS) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a small alphabet with exactly the given merges ("a b" joins a and b)."""
    vocabulary = {"<eos>": 0}
    for letter in letters:
        vocabulary[letter] = len(vocabulary)
    pairs = [tuple(merge.split()) for merge in merges]
    for left, right in pairs:
        vocabulary[left + right] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


@cache
def tiny_pair() -> TokenizerPair:
    """32-token vocabularies: the teacher has "ab", "cd", "the"; the student "bc", "th", "12": 1:1, 1:k, k:1 and m:n."""
    teacher = tiny_tokenizer(["a b", "c d", "t h", "th e", "1 2", "12 3", "s t", "r i", "Ġ w", "o r"])
    student = tiny_tokenizer(["b c", "t h", "1 2", "Ġ o", "e l", "s t", "i d", "o r", "or l"])
    return TokenizerPair.from_pretrained(teacher, student)


@cache
def same_pair() -> TokenizerPair:
    return TokenizerPair.from_pretrained(tiny_tokenizer(["a b", "t h", "1 2"]), tiny_tokenizer(["a b", "t h", "1 2"]))


def sequence(pair: TokenizerPair, text: str, ended: bool = True) -> tuple[list[int], list[int]]:
    """(teacher_ids, student_ids) of a text by both tokenizers, with the end of turn on both sides if it ended."""
    teacher, student = pair.teacher.encode(text.encode()), pair.student.encode(text.encode())
    if ended:
        teacher, student = [*teacher, pair.teacher.end_ids[0]], [*student, pair.student.end_ids[0]]
    return teacher, student


# 1:1, 1:k ("the", "123"), k:1 (" o", "el"), m:n ("abcd": ab|cd against a|bc|d), an end, a truncation, one token.
TEXTS = {
    "one_to_one": [("a1d", True)],
    "one_to_many": [("the123a", True)],
    "many_to_one": [("a oel", True)],
    "many_to_many": [("abcdabcd", True)],
    "mixed": [("the or abcd 123 world", True), ("held id", False)],
    "truncated": [("abcdth", False)],
    "single_token": [("a", False)],
    "only_end": [("", True)],
    "with_empty": [("", False), ("abcd", True)],
    "empty": [("", False)],
}


def case(pair: TokenizerPair, name: str, seed: int = 0, dtype=torch.float64, padding: int = 3):
    """(sequences, student logits [S, V_s] wanting gradients, teacher logits [T, V_t]) with random, peaked rows.

    The vocabularies have `padding` rows beyond the tokenizer, as padded lm_heads do.
    """
    sequences = [sequence(pair, text, ended) for text, ended in TEXTS[name]]
    generator = torch.Generator().manual_seed(seed)
    rows_t, rows_s = (sum(len(ids[side]) for ids in sequences) for side in (0, 1))
    student = 2 * torch.randn(rows_s, len(pair.student.bytes_of) + padding, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(rows_t, len(pair.teacher.bytes_of) + padding, generator=generator, dtype=torch.float64)
    return sequences, student.to(dtype).requires_grad_(), teacher.to(dtype)


class BytesPair:
    """What the losses use of a TokenizerPair, for vocabularies given outright. Id 0 ends the turn on both sides."""

    def __init__(self, teacher: list[bytes], student: list[bytes]):
        self.teacher, self.student = self._side(teacher), self._side(student)
        shared = [(teacher.index(data) + 1, number) for number, data in enumerate(student, 1) if data in teacher]
        self.shared_teacher_ids = torch.tensor([t for t, _ in shared] + [0])
        self.shared_student_ids = torch.tensor([s for _, s in shared] + [0])
        self.teacher_to_shared = self._columns(self.shared_teacher_ids, len(teacher))
        self.student_to_shared = self._columns(self.shared_student_ids, len(student))

    @staticmethod
    def _side(strings: list[bytes]) -> SimpleNamespace:
        lengths = np.array([0, *map(len, strings)], dtype=np.int64)
        return SimpleNamespace(bytes_of=[None, *strings], lengths=lengths, end_ids=(0,))

    @staticmethod
    def _columns(ids: torch.Tensor, size: int) -> torch.Tensor:
        columns = torch.full((size + 1,), -1)
        columns[ids] = torch.arange(len(ids))
        return columns

    def align(self, teacher_ids, student_ids):
        return align_boundaries(self.teacher.lengths[list(teacher_ids)], self.student.lengths[list(student_ids)])
