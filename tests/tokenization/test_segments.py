"""Answers with control tokens: text that both templates can place is supervised, byte for byte, the rest counted."""

import random
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from simct.data.exclusions import CUT_BYTES, PART
from simct.data.samples import PreparedPrompt, Sample, samples_of_teacher, to_samples
from simct.models.rollout import Rollout
from simct.tokenization.answer_layout import answer_layout
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import SPECIAL_INSIDE
from simct.tokenization.segments import NO_PLACE
from simct.tokenization.token_bytes import TokenBytes
from tests.support.marked_templates import (
    channels,
    dropped_thinks,
    ids_of,
    opened_thinks,
    plain,
    thinks,
    worded_thinks,
)

# templates of models, where the package is installed that has them
_TRL = find_spec("trl")
KINDS = {
    "channels": channels,
    "thinks": thinks,
    "opened": opened_thinks,
    "worded": worded_thinks,
    "dropped": dropped_thinks,
    "plain": plain,
}
HARMONY = (
    "<|channel|>analysis<|message|>let me think<|end|><|start|>assistant<|channel|>final<|message|>the answer<|return|>"
)


def pair_of(teacher: str, student: str) -> TokenizerPair:
    return TokenizerPair(KINDS[teacher](), KINDS[student]())


def supervised(pair: TokenizerPair, ids: list[int]) -> tuple[Sample | None, Counter]:
    excluded: Counter = Counter()
    rollout = Rollout([], ids, bool(ids) and ids[-1] in pair.student.end_ids)
    samples = to_samples(pair, [PreparedPrompt(None, [1], [1])], [rollout], excluded)
    check(pair, samples)
    return (samples[0] if samples else None), excluded


def check(pair: TokenizerPair, samples: list[Sample]) -> None:
    """Every piece spells the same bytes on both sides and ends on both or on neither; pieces are in order."""
    for sample in samples:
        assert sample.student_spans == sorted(sample.student_spans) and sample.teacher_spans == sorted(
            sample.teacher_spans
        )
        for teacher, student in zip(sample.teacher_pieces, sample.student_pieces, strict=True):
            assert student and teacher
            units = pair.align(teacher, student)  # raises where the bytes differ
            assert sum(units.student_tokens) == len(student) and sum(units.teacher_tokens) == len(teacher)


def texts(tokens: TokenBytes, pieces: list[list[int]]) -> list[str]:
    """Each piece's text, with $ for the end of turn."""
    return [
        "".join("$" if i in tokens.end_ids else tokens.bytes_of[i].decode("latin-1") for i in piece) for piece in pieces
    ]


# What a template writes


def test_layouts_are_learned_from_templates():
    teacher, student = pair_of("thinks", "channels").sides
    assert student.layout.opening == "<|channel|>analysis<|message|>"
    assert student.layout.turning == "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert student.layout.plain == "<|channel|>final<|message|>"
    assert {"<|channel|>", "<|call|>"} <= student.inside
    assert (teacher.layout.opening, teacher.layout.turning) == ("<think>\n", "\n</think>\n\n")
    assert teacher.layout.plain == ""
    opened = pair_of("plain", "opened").sides
    assert (opened[1].layout.opening, opened[1].layout.turning) == ("", "\n</think>\n\n")
    assert opened[1].layout.plain is None  # an answer without reasoning does not follow this generation prompt
    assert opened[0].layout.opening is None and opened[0].layout.plain == ""


def test_a_template_that_fails_leaves_no_layout():
    tokens = plain()
    tokens.tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert TokenizerPair(tokens, channels()).sides[0].layout.plain is None


@pytest.mark.parametrize(
    ("name", "opening", "turning", "plain"),
    [
        ("gptoss", "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>",
         "<|channel|>final<|message|>"),
        ("qwen3", "<think>\n", "\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("qwen3_5_think", "", "\n</think>\n\n", "\n</think>\n\n"),
        ("deepseek_r1_distill", "", "\n</think>\n\n", None),
        ("glm4moe", "\n<think>", "</think>\n", "\n<think></think>\n"),
        ("gemma4", "<|channel>thought\n", "\n<channel|>", ""),  # which writes reasoning only with tool calls
        ("llama3_1", None, None, ""),
    ],
)  # fmt: skip
@pytest.mark.skipif(_TRL is None, reason="trl is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
def test_layouts_of_the_templates_of_models(name, opening, turning, plain):
    tokens = worded_thinks()
    template = Path(_TRL.submodule_search_locations[0], "chat_templates", f"{name}.jinja")
    tokens.tokenizer.chat_template = template.read_text()
    tokens.tokenizer.add_special_tokens({"bos_token": "<s>"})
    layout = answer_layout(tokens)
    assert (layout.opening, layout.turning, layout.plain) == (opening, turning, plain)


# Placing


def test_channels_are_read_as_a_think_block():
    pair = pair_of("thinks", "channels")
    ids = ids_of(pair.student, HARMONY)
    sample, excluded = supervised(pair, ids)
    assert sample.student_ids == ids and not excluded
    assert texts(pair.student, sample.student_pieces) == ["let me think", "the answer$"]
    assert texts(pair.teacher, sample.teacher_pieces) == ["let me think", "the answer$"]
    read = pair.teacher.tokenizer.decode(sample.teacher_ids)
    assert read == "<think>\nlet me think\n</think>\n\nthe answer<|done|>"


def test_a_think_block_is_read_as_channels():
    pair = pair_of("channels", "thinks")
    ids = ids_of(pair.student, "<think>\nlet me think\n</think>\n\nthe answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert sample.student_ids == ids and not excluded
    assert "".join(texts(pair.student, sample.student_pieces)).replace("\n", "") == "let me thinkthe answer$"
    read = pair.teacher.tokenizer.decode(sample.teacher_ids)
    assert read.replace("\n", "") == HARMONY


def test_reasoning_that_the_prompt_opened_is_placed():
    pair = pair_of("channels", "opened")
    ids = ids_of(pair.student, "let me think\n</think>\n\nthe answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert not excluded
    assert pair.teacher.tokenizer.decode(sample.teacher_ids).replace("\n", "") == HARMONY


def test_think_marks_that_are_text_are_read_as_channels():
    pair = pair_of("channels", "worded")
    assert all(map(pair.student.is_text, ids_of(pair.student, "<think></think>")))
    ids = ids_of(pair.student, "<think>\nlet me think\n</think>\n\nthe answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert sample.student_ids == ids and not excluded
    assert pair.teacher.tokenizer.decode(sample.teacher_ids).replace("\n", "") == HARMONY
    # the way back, and a plain answer behind the empty block that the template writes
    pair = pair_of("worded", "channels")
    sample, excluded = supervised(pair, ids_of(pair.student, HARMONY))
    read = "<think>\nlet me think\n</think>\n\nthe answer<|done|>"
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == read and not excluded
    sample, _ = supervised(pair, ids_of(pair.student, "<|channel|>final<|message|>the answer<|return|>"))
    read = "<think>\n\n</think>\n\nthe answer<|done|>"
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == read


@pytest.mark.parametrize("teacher", ["worded", "plain"])
def test_think_marks_that_are_text_stay_text_where_nothing_else_is_known(teacher):
    pair = pair_of(teacher, "worded")
    ids = ids_of(pair.student, "<think>\nlet me think\n</think>\n\nthe answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert sample.spans is None and sample.teacher_ids == pair.teacher_ids_for(ids).ids and not excluded


@pytest.mark.parametrize("text", ["let me think\n</think>\n\nthe answer<|done|>", "let me th"])
def test_reasoning_is_placed_that_the_history_would_drop(text):
    pair = pair_of("channels", "dropped")
    sample, excluded = supervised(pair, ids_of(pair.student, text))
    read = pair.teacher.tokenizer.decode(sample.teacher_ids).replace("\n", "")
    assert read == (HARMONY if "answer" in text else "<|channel|>analysis<|message|>let me th") and not excluded
    # the teacher's prompt opens the block already
    pair = pair_of("dropped", "worded")
    ids = ids_of(pair.student, "<think>\nlet me think\n</think>\n\nthe answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == "let me think\n</think>\n\nthe answer<|done|>"


def test_reasoning_without_a_place_is_counted_and_the_answer_supervised():
    pair = pair_of("plain", "channels")
    sample, excluded = supervised(pair, ids_of(pair.student, HARMONY))
    assert texts(pair.student, sample.student_pieces) == ["the answer$"]
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == "the answer<|done|>"
    assert excluded == {f"{PART}{NO_PLACE}": 1}


def test_the_final_channel_alone_is_an_answer():
    pair = pair_of("thinks", "channels")
    sample, excluded = supervised(pair, ids_of(pair.student, "<|channel|>final<|message|>the answer<|return|>"))
    assert texts(pair.student, sample.student_pieces) == ["the answer$"] and not excluded
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == "the answer<|done|>"


def test_an_answer_cut_in_its_reasoning_is_supervised_that_far():
    pair = pair_of("thinks", "channels")
    sample, excluded = supervised(pair, ids_of(pair.student, "<|channel|>analysis<|message|>let me th"))
    assert texts(pair.teacher, sample.teacher_pieces) == ["let me th"] and not excluded


def test_a_character_that_is_cut_short_is_left_out():
    pair = pair_of("thinks", "channels")
    ids = ids_of(pair.student, "<|channel|>analysis<|message|>ok ")
    sample, excluded = supervised(pair, [*ids, pair.student.byte_ids[0xE2], pair.student.byte_ids[0x82]])
    assert texts(pair.teacher, sample.teacher_pieces) == ["ok "] and excluded == {CUT_BYTES: 1}
    assert sample.student_ids == ids


def test_an_answer_that_is_only_markup_ends_as_a_shared_event():
    pair = pair_of("thinks", "channels")
    sample, _ = supervised(pair, ids_of(pair.student, "<|channel|>final<|message|><|return|>"))
    assert texts(pair.student, sample.student_pieces) == texts(pair.teacher, sample.teacher_pieces) == ["$"]


# What has no place


def test_text_before_an_unknown_control_token_is_supervised_and_the_token_named():
    pair = pair_of("channels", "thinks")
    sample, excluded = supervised(pair, ids_of(pair.student, "look here<|image|>and there<|done|>"))
    assert texts(pair.student, sample.student_pieces) == ["look here"]
    assert excluded == {f"{PART}<|image|>": 1}


def test_a_tool_call_is_left_out_and_the_text_around_it_kept():
    pair = pair_of("thinks", "channels")
    call = "<|end|><|start|>assistant<|channel|>commentary json<|message|>{}<|end|>"
    text = HARMONY.replace("<|end|>", call, 1)
    sample, excluded = supervised(pair, ids_of(pair.student, text))
    assert texts(pair.student, sample.student_pieces)[0] == "let me think"
    assert texts(pair.student, sample.student_pieces)[-1] == "the answer$"
    assert "{}" not in "".join(texts(pair.student, sample.student_pieces))
    assert set(excluded) <= {f"{PART}{name}" for name in ("<|end|>", "<|start|>", "<|channel|>", "<|message|>")}


def test_between_models_of_one_template_nothing_is_left_out():
    pair = pair_of("channels", "channels")
    for text in (HARMONY, "<|channel|>analysis<|message|>a<|channel|>b<|message|>c<|end|>"):
        ids = ids_of(pair.student, text)
        sample, excluded = supervised(pair, ids)
        assert not excluded
        assert sample.teacher_ids[: len(sample.student_ids)] == sample.student_ids


def test_an_answer_without_any_place_is_excluded_by_token():
    pair = pair_of("plain", "thinks")
    sample, excluded = supervised(pair, ids_of(pair.student, "<|image|>there<|done|>"))
    assert sample is None and excluded == {f"{SPECIAL_INSIDE}: <|image|>": 1}


# Answers without control tokens


def test_answers_without_control_tokens_are_as_they_were():
    pair = pair_of("plain", "thinks")
    ids = ids_of(pair.student, "the answer<|done|>")
    sample, excluded = supervised(pair, ids)
    assert sample.spans is None and sample.teacher_ids == pair.teacher_ids_for(ids).ids and not excluded


def test_a_plain_answer_is_read_in_the_teachers_final_channel():
    pair = pair_of("channels", "plain")
    sample, _ = supervised(pair, ids_of(pair.student, "the answer<|done|>"))
    assert pair.teacher.tokenizer.decode(sample.teacher_ids) == "<|channel|>final<|message|>the answer<|return|>"
    assert texts(pair.teacher, sample.teacher_pieces) == ["the answer$"]


def test_a_teachers_plain_answer_is_learned_in_the_students_final_channel():
    pair = pair_of("plain", "channels")
    rollout = Rollout([], ids_of(pair.teacher, "the answer<|done|>"), True)
    [sample] = samples_of_teacher(pair, [PreparedPrompt(None, [1], [1])], [rollout], Counter())
    check(pair, [sample])
    assert sample.teacher_ids == rollout.completion_ids
    assert pair.student.tokenizer.decode(sample.student_ids) == "<|channel|>final<|message|>the answer<|return|>"


def test_a_character_that_a_teachers_answer_cuts_short_is_left_out():
    pair = pair_of("plain", "plain")
    whole = pair.teacher.encode(b"the answer ")
    cut = [*whole, pair.teacher.byte_ids[0xE2], pair.teacher.byte_ids[0x82]]
    excluded: Counter = Counter()
    prompts = [PreparedPrompt(None, [1], [1])] * 3
    rollouts = [
        Rollout([], cut, False),
        Rollout([], cut[-2:], False),
        Rollout([], [*cut, pair.teacher.end_ids[0]], True),
    ]
    samples = samples_of_teacher(pair, prompts, rollouts, excluded)
    check(pair, samples)
    assert [sample.teacher_ids for sample in samples] == [whole, rollouts[2].completion_ids]
    assert excluded == {CUT_BYTES: 2, "off-policy: nothing to supervise": 1}


def test_what_a_teacher_wrote_in_channels_is_learned_as_a_think_block():
    pair = pair_of("channels", "thinks")
    excluded: Counter = Counter()
    rollout = Rollout([], ids_of(pair.teacher, HARMONY), True)
    [sample] = samples_of_teacher(pair, [PreparedPrompt(None, [1], [1])], [rollout], excluded)
    check(pair, [sample])
    assert sample.teacher_ids == rollout.completion_ids and not excluded
    assert pair.student.tokenizer.decode(sample.student_ids) == "<think>\nlet me think\n</think>\n\nthe answer<|done|>"


@pytest.mark.parametrize("teacher", KINDS)
@pytest.mark.parametrize("student", KINDS)
def test_any_ids_are_placed_exactly_or_counted(teacher, student):
    pair = pair_of(teacher, student)
    controls = list(pair.sides[1].controls.values())
    markup = [ids_of(pair.student, text) for text in ("<|channel|>analysis<|message|>", "<think>\n", "\n</think>\n\n")]
    draw = random.Random(f"{teacher}{student}")
    for _ in range(150):
        ids: list[int] = []
        for _ in range(draw.randrange(8)):
            kind = draw.random()
            if kind < 0.3:
                ids.append(draw.choice(controls))
            elif kind < 0.5:
                ids += draw.choice(markup)
            else:
                ids += pair.student.encode(draw.choice(["the answer", " ", "\n", "é", "12.\n"]).encode())
        stop = next((place for place, i in enumerate(ids) if i in pair.student.end_ids), None)
        ids = ids if stop is None else ids[: stop + 1]
        sample, excluded = supervised(pair, ids)
        assert sample is not None or excluded
