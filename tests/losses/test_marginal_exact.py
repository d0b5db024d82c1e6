"""The teacher's target of `marginal` against the exact byte-level conditional, by summing over every tokenization.

A teacher here is a table p(token | previous token) over a tiny vocabulary, so that the probability of "the text
continues with x" can be had by enumerating all token sequences that cover it, whatever the tokenizer would have chosen.
"""

from functools import cache

import numpy as np
import pytest
import torch

from simct.losses.marginal import Rules, student_classes, teacher_target
from simct.losses.strings import pair_strings, text_rows
from simct.tokenization.units import build_units
from tests.support.loss_cases import BytesPair

START = "start"


class Teacher:
    """p(token | previous token) with exact text probabilities. Token 0 ends the text."""

    def __init__(self, strings: list[bytes], seed: int, forbidden=()):
        self.strings = [b"", *strings]
        generator = torch.Generator().manual_seed(seed)
        logits = 2.0 * torch.randn(len(self.strings) + 1, len(self.strings), generator=generator, dtype=torch.float64)
        for before, after in forbidden:
            logits[self.strings.index(before), self.strings.index(after)] = -200.0
        self.table = torch.log_softmax(logits, -1)

    def row(self, previous) -> torch.Tensor:
        return self.table[-1 if previous == START else previous]

    def covers(self, text: bytes, ended: bool = False) -> float:
        """Probability of writing a text that starts with `text` (or is exactly it, and ends)."""

        @cache
        def onward(at: int, previous) -> float:
            if at == len(text):
                return self.row(previous)[0].exp().item() if ended else 1.0
            total = 0.0
            for token, data in enumerate(self.strings[1:], 1):
                rest = text[at:]
                if rest.startswith(data) or (data.startswith(rest) and not ended):
                    # past the end of the text nothing more is asked of the teacher
                    follow = onward(at + len(data), token) if len(data) <= len(rest) else 1.0
                    total += self.row(previous)[token].exp().item() * follow
            return total

        return onward(0, START)

    def next_bytes(self, text: bytes, alphabet: list[bytes]) -> list[float]:
        """Exact P(next byte | text) over the alphabet, then P(end | text)."""
        whole = self.covers(text)
        return [self.covers(text + letter) / whole for letter in alphabet] + [self.covers(text, True) / whole]


def greedy(strings: list[bytes], text: bytes) -> list[int]:
    """Longest match, as a canonical tokenization."""
    ids = []
    while text:
        data = max((s for s in strings if text.startswith(s)), key=len)
        ids.append(strings.index(data) + 1)
        text = text[len(data) :]
    return ids


def targets(teacher: Teacher, strings: list[bytes], alphabet: list[bytes], text: bytes, bridge: bool):
    """For every byte offset: (the target's class masses, the exact ones), classes being bytes, end and the rest."""
    pair = BytesPair(strings, alphabet)
    teacher_ids = greedy(strings, text)
    student_ids = [alphabet.index(bytes([value])) + 1 for value in text]
    units = build_units(pair, [(teacher_ids, student_ids)])
    logits = torch.stack([teacher.row(previous) for previous in [START, *teacher_ids[:-1]]])
    rules = Rules(bridge, True, True, 1e-3, 0.0)
    rows, tables = text_rows(pair, units), pair_strings(pair)
    target = teacher_target(tables, rows, np.arange(len(rows)), lambda teacher_rows: logits[teacher_rows], rules)
    student = torch.full((len(rows), len(alphabet) + 2), 1.0 / (len(alphabet) + 2), dtype=torch.float64)
    classes = student_classes(tables, target, student, rules)
    assert [pair.student.bytes_of[i] for i in tables.student.id_of_rank.tolist()] == sorted(alphabet)
    result = []
    for offset in range(len(text)):
        exact = teacher.next_bytes(text[:offset], sorted(alphabet))
        member = classes.member_NK[offset]
        expected = [value if member[column] else 0.0 for column, value in enumerate(exact)]
        expected.append(1.0 - sum(expected))
        result.append((classes.teacher_NK[offset], torch.tensor(expected, dtype=torch.float64)))
    return result


def distance(pairs) -> float:
    return float(np.mean([(ours - exact).abs().sum().item() for ours, exact in pairs]))


ONE_STEP = [b"a", b"b", b"c", b"ab"]
TEXTS = [b"acab", b"abca", b"caacb", b"aaab", b"cabab"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("text", TEXTS)
def test_equals_the_exact_conditional_where_one_step_of_look_back_suffices(text, seed):
    """A teacher that never writes "b" after the token "a" (but "ab" instead) has one reading of every text."""
    teacher = Teacher(ONE_STEP, seed, forbidden=[(b"a", b"b")])
    with_bridge = targets(teacher, ONE_STEP, [b"a", b"b", b"c"], text, bridge=True)
    without = targets(teacher, ONE_STEP, [b"a", b"b", b"c"], text, bridge=False)
    for ours, exact in with_bridge:
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    after_a = any(text[i : i + 1] == b"a" and text[i + 1 : i + 2] != b"b" for i in range(len(text) - 1))
    assert (distance(without) > 1e-3) == after_a


@pytest.mark.parametrize("longer", [[b"ab"], [b"ab", b"bc", b"abc"], [b"aa", b"ca"]])
def test_bridge_brings_the_target_nearer_to_the_exact_conditional(longer):
    """Teachers that may also write other tokenizations: no longer exact, but nearer in the mean and nearly always."""
    strings = [b"a", b"b", b"c", *longer]
    generator, nearer, with_bridge, without = np.random.default_rng(0), 0, [], []
    for seed in range(60):
        text = bytes(generator.choice(list(b"abc"), size=7).tolist())
        teacher = Teacher(strings, seed)
        pair = [distance(targets(teacher, strings, [b"a", b"b", b"c"], text, bridge)) for bridge in (True, False)]
        with_bridge.append(pair[0])
        without.append(pair[1])
        nearer += pair[0] <= pair[1] + 1e-12
    assert np.mean(with_bridge) < 0.8 * np.mean(without)
    assert nearer >= 45


def test_a_token_that_may_be_a_first_piece_is_not_vetoed():
    """Teacher "12" whole, student "1" then "2": shared-token methods see no mass on "1", marginal sees all of it."""
    from simct.losses import compute

    pair = BytesPair([b"1", b"2", b"12", b" "], [b"1", b"2", b" "])
    teacher_ids, student_ids = [3], [1, 2]
    teacher = torch.full((1, 5), -9.0)
    teacher[0, 3] = 9.0
    gradients = {}
    for method in ("simct", "marginal"):
        student = torch.zeros(2, 4, requires_grad=True)
        compute(method, pair, student, teacher, student_ids, teacher_ids, "reverse_kl").loss.backward()
        gradients[method] = student.grad
    assert gradients["marginal"][0, 1] < -0.05  # descent raises "1"
    assert gradients["simct"][0, 1] > gradients["marginal"][0, 1]
    assert gradients["marginal"][1, 2] < -0.05  # and then "2"


def test_student_that_merges_what_the_teacher_splits_joins_the_class():
    """Teacher "1" then "2", student "12" whole: "12" extends "1", so both stand in one class at the first row."""
    from simct.losses import compute

    pair = BytesPair([b"1", b"2", b" "], [b"1", b"2", b"12", b" "])
    teacher = torch.full((2, 4), -9.0)
    teacher[0, 1] = teacher[1, 2] = 9.0
    student = torch.zeros(1, 5, requires_grad=True)
    result = compute("marginal", pair, student, teacher, [3], [1, 2])
    result.loss.backward()
    assert result.rows == 2  # the student's boundary and the teacher's inside "12"
    assert student.grad[0, 3] < -0.05  # "12" gains: in the class of "1", and alone in "2 after 1"
    assert student.grad[0, 2] > 0 and student.grad[0, 4] > 0
