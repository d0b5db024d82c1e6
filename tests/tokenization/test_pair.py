"""TokenizerPair: shared vocabulary by bytes, the teacher's spelling of any sampled ids, the bridge, the cache."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from simct.errors import AlignmentError, ModelError, TokenizerError
from simct.tokenization import vocabulary_cache
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import BEYOND_VOCABULARY, SPECIAL_INSIDE, TEACHER_CANNOT_SPELL
from simct.tokenization.token_bytes import token_bytes
from tests.support import real_tokenizers as real
from tests.support import trained_tokenizers as trained
from tests.support import varied_texts as texts

PAIRS = {
    "bytes from sentencepiece": (trained.byte_level, trained.sentencepiece_bpe),
    "sentencepiece from bytes": (lambda: trained.sentencepiece_bpe("always"), trained.byte_level),
    "large from small": (trained.byte_level, lambda: trained.byte_level(300)),
    "bytes from unigram": (trained.byte_level, trained.unigram),
    "unigram from bytes": (trained.unigram, trained.byte_level),
    "itself": (trained.byte_level, trained.byte_level),
}
_known: dict[str, TokenizerPair] = {}


@pytest.fixture(autouse=True)
def empty_memory(own_cache):
    vocabulary_cache._memory.clear()


def pair_of(name: str) -> TokenizerPair:
    if name not in _known:
        _known[name] = TokenizerPair.from_pretrained(*(build() for build in PAIRS[name]))
    return _known[name]


# Shared vocabulary


def test_qwen_and_llama_share_what_the_literature_counts():
    """arXiv 2610.08448, Table 1: 109,566 tokens and 64.32 %, over 151,665 and 128,256 entries with special tokens."""
    pair = TokenizerPair.from_pretrained(real.qwen25(), real.llama3())
    assert (pair.teacher.vocabulary, pair.student.vocabulary) == (151_665, 128_256)
    assert pair.shared_tokens == 109_566
    assert round(100 * pair.jaccard, 2) == 64.32


@pytest.mark.parametrize(
    ("teacher", "student", "shared"),
    [("cl100k", "o200k", 85_033), ("cl100k", "qwen25", 99_156), ("qwen25", "o200k", 98_863)],
)
def test_the_ranks_of_openai_overlap_with_each_other_and_with_qwen(teacher, student, shared):
    pair = TokenizerPair.from_pretrained(getattr(real, teacher)(), getattr(real, student)())
    assert pair.shared_tokens == shared
    assert shared == len(pair.teacher.id_of.keys() & pair.student.id_of.keys())


def test_bytes_find_what_strings_miss():
    """Strings: 10,566. Bytes: 29,237 if Mistral's three control strings, which Qwen holds as text, counted as text."""
    mistral, qwen = real.mistral_v1(), real.qwen25()
    pair = TokenizerPair.from_pretrained(mistral, qwen)
    assert len(mistral.get_vocab().keys() & qwen.get_vocab().keys()) == 10_566
    control = [text for text in ("<unk>", "<s>", "</s>") if text.encode() in pair.student.id_of]
    assert pair.shared_tokens + len(control) == 29_237
    assert pair.shared_tokens == 29_234


@pytest.mark.parametrize("name", PAIRS)
def test_columns_are_equal_bytes_and_the_last_is_the_bridge(name):
    pair = pair_of(name)
    teacher_ids, student_ids = pair.shared_teacher_ids.tolist(), pair.shared_student_ids.tolist()
    assert len(teacher_ids) == len(student_ids) == pair.shared_tokens + 1
    assert (teacher_ids[-1], student_ids[-1]) == (pair.teacher.end_ids[0], pair.student.end_ids[0])
    assert len(set(teacher_ids)) == len(set(student_ids)) == len(teacher_ids)
    for t, s in zip(teacher_ids[:-1], student_ids[:-1], strict=True):
        assert pair.teacher.bytes_of[t] == pair.student.bytes_of[s] is not None
    shared = {d for d in pair.teacher.bytes_of if d} & {d for d in pair.student.bytes_of if d}
    assert len(shared) == pair.shared_tokens > 255
    for ids, to_shared in ((teacher_ids, pair.teacher_to_shared), (student_ids, pair.student_to_shared)):
        assert to_shared[ids].tolist() == list(range(len(ids)))
        assert int((to_shared >= 0).sum()) == len(ids)


def test_every_end_id_maps_to_the_bridge_and_lies_within_the_tables():
    tokenizer = trained.with_text_tokens([AddedToken("<stop>", special=True)])
    stop = tokenizer.convert_tokens_to_ids("<stop>")
    beyond = len(tokenizer) + 5  # an end id that only the lm_head has
    pair = TokenizerPair(token_bytes(trained.sentencepiece_bpe()), token_bytes(tokenizer, [stop, beyond]))
    bridge = len(pair.shared_student_ids) - 1
    assert [int(pair.student_to_shared[i]) for i in (tokenizer.eos_token_id, stop, beyond)] == [bridge] * 3
    assert pair.shared_student_ids[-1] == tokenizer.eos_token_id
    for end in (stop, beyond):
        spelled = pair.teacher_ids_for([*pair.student.encode(b"done"), end])
        assert spelled.ids[-1] == pair.teacher.end_ids[0]


def test_a_side_without_an_end_of_turn_is_refused():
    endless = Tokenizer(models.BPE({"a": 0}, []))
    with pytest.raises(TokenizerError, match="The student's tokenizer has no end-of-turn token"):
        TokenizerPair.from_pretrained(trained.byte_level(), PreTrainedTokenizerFast(tokenizer_object=endless))
    with pytest.raises(ModelError, match="no folder"):
        TokenizerPair.from_pretrained("/no/such/folder", trained.byte_level())


# The teacher's spelling of what the student sampled


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 40), ended=st.booleans())
def test_any_sampled_ids_are_spelled_exactly_or_excluded_with_a_reason(name, seed, length, ended):
    pair = pair_of(name)
    draw = random.Random(seed)
    ids = [draw.randrange(len(pair.student.bytes_of) + (seed % 50 == 0)) for _ in range(length)]
    ids += [pair.student.end_ids[0]] * ended
    text_ids = ids[:-1] if ids and ids[-1] in pair.student.end_ids else ids
    ended = len(text_ids) < len(ids)
    spelled = pair.teacher_ids_for(ids)
    if any(i >= len(pair.student.bytes_of) for i in text_ids):
        assert spelled.excluded == BEYOND_VOCABULARY
    elif any(pair.student.bytes_of[i] is None for i in text_ids):
        assert spelled.excluded == SPECIAL_INSIDE
    else:
        data = pair.student.decode(text_ids)
        assert spelled.excluded is None
        kept = ids[: spelled.n_student]
        assert (spelled.ids[-1:] == [pair.teacher.end_ids[0]]) == ended
        teacher_text = spelled.ids[:-1] if ended else spelled.ids
        assert pair.teacher.decode(teacher_text) == data[: len(data) - spelled.cut_bytes]
        assert len(kept) == len(ids) or not ended
        units = pair.align(spelled.ids, kept)
        assert sum(units.student_tokens) == len(kept)
        assert sum(units.teacher_tokens) == len(spelled.ids)
        if ended:
            assert units[-1].byte_start == units[-1].byte_end == len(data)
            assert spelled.cut_bytes == 0


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=40))
def test_canonical_text_is_spelled_canonically(name, text):
    pair = pair_of(name)
    spelled = pair.teacher_ids_for([*pair.student.encode(text.encode()), pair.student.end_ids[0]])
    assert spelled.ids == [*pair.teacher.encode(text.encode()), pair.teacher.end_ids[0]]


def test_a_truncated_character_is_cut_and_counted_and_an_ended_one_kept():
    pair = pair_of("sentencepiece from bytes")
    whole, (byte0, byte1) = pair.student.encode(b"ok "), [pair.student.byte_ids[b] for b in (0xE2, 0x82)]
    cut = pair.teacher_ids_for([*whole, byte0, byte1])
    assert (cut.n_student, cut.cut_bytes, pair.teacher.decode(cut.ids)) == (len(whole), 2, b"ok ")
    lone = pair.teacher_ids_for([*whole, byte1])
    assert (lone.n_student, lone.cut_bytes) == (len(whole), 1)
    ended = pair.teacher_ids_for([*whole, byte0, byte1, pair.student.end_ids[0]])
    assert (ended.n_student, ended.cut_bytes) == (len(whole) + 3, 0)
    assert pair.teacher.decode(ended.ids[:-1]) == b"ok \xe2\x82"
    inside = pair.teacher_ids_for([byte1, *whole])
    assert (inside.cut_bytes, pair.teacher.decode(inside.ids)) == (0, b"\x82ok ")
    nothing = pair.teacher_ids_for([byte0])
    assert (nothing.ids, nothing.n_student, nothing.cut_bytes, nothing.excluded) == ([], 0, 1, None)


def test_text_the_teacher_lacks_is_excluded_with_a_reason():
    pair = TokenizerPair.from_pretrained(trained.unigram(fallback=False), trained.byte_level())
    spelled = pair.teacher_ids_for(pair.student.encode("rune ᚠ".encode()))
    assert (spelled.ids, spelled.excluded) == ([], TEACHER_CANNOT_SPELL)


def test_a_32k_token_completion():
    pair = pair_of("bytes from sentencepiece")
    ids = pair.student.encode((texts.source_code() * 4).encode())[:32_768]
    assert len(ids) == 32_768
    spelled = pair.teacher_ids_for(ids)
    assert spelled.excluded is None
    assert len(pair.align(spelled.ids, ids[: spelled.n_student])) > 5_000


@pytest.mark.parametrize("kind", texts.KINDS)
def test_real_pairs_align_varied_text(kind):
    pair = TokenizerPair.from_pretrained(real.mistral_v1(), real.deepseek())
    data = texts.KINDS[kind]().encode()
    student_ids = [*pair.student.encode(data), pair.student.end_ids[0]]
    spelled = pair.teacher_ids_for(student_ids)
    units = pair.align(spelled.ids, student_ids)
    assert units.byte_start.tolist()[1:] == units.byte_end.tolist()[:-1]
    assert (units[0].byte_start, units[-1].byte_end) == (0, len(data))
    for unit in list(units)[:200]:
        if unit.byte_end > unit.byte_start:
            piece = data[unit.byte_start : unit.byte_end]
            assert pair.teacher.decode(spelled.ids[unit.teacher_start : unit.teacher_end]) == piece
            assert pair.student.decode(student_ids[unit.student_start : unit.student_end]) == piece


def test_aligning_different_bytes_or_one_sided_ends_is_an_error():
    pair = pair_of("large from small")
    same = pair.teacher.encode(b"abc"), pair.student.encode(b"abc")
    assert len(pair.align(*same)) >= 1
    with pytest.raises(AlignmentError, match="different bytes"):
        pair.align(pair.teacher.encode(b"abd"), same[1])
    with pytest.raises(AlignmentError, match="One side ends"):
        pair.align([*same[0], pair.teacher.end_ids[0]], same[1])
    with pytest.raises(AlignmentError, match="special or unused"):
        pair.align([pair.teacher.end_ids[0], *same[0]], same[1])


# Speed and cache


def test_two_large_vocabularies_are_joined_in_a_few_times_what_reading_them_takes():
    teacher, student = real.qwen25(), real.llama3()
    TokenizerPair.from_pretrained(trained.byte_level(), trained.byte_level(300))  # imports
    start = time.process_time()
    assert len(teacher.get_vocab()) > 150_000 and len(student.get_vocab()) > 128_000
    read = time.process_time() - start
    start = time.process_time()
    TokenizerPair.from_pretrained(teacher, student)
    # some four times; the rest is room, to notice only a change of kind. benchmarks/alignment.py measures
    assert time.process_time() - start < 50 * read


def test_the_bridge_is_kept_by_content_and_checked(own_cache, monkeypatch):
    def build() -> TokenizerPair:
        vocabulary_cache._memory.clear()
        return TokenizerPair.from_pretrained(trained.byte_level(), trained.sentencepiece_bpe())

    first = build()
    (file,) = (own_cache / "shared_vocabularies").glob("*.npz")
    written = file.stat().st_mtime_ns
    assert build().shared_student_ids.tolist() == first.shared_student_ids.tolist()
    assert file.stat().st_mtime_ns == written

    np.savez(file, teacher=first.shared_teacher_ids[:-1].numpy()[::-1], student=first.shared_student_ids[:-1].numpy())
    assert build().shared_teacher_ids.tolist() == first.shared_teacher_ids.tolist()  # wrong pairs are found out
    file.write_bytes(b"cut short")
    assert build().shared_teacher_ids.tolist() == first.shared_teacher_ids.tolist()

    larger = trained.with_text_tokens([AddedToken("<new>", special=False)])
    TokenizerPair.from_pretrained(larger, trained.sentencepiece_bpe())
    assert len(list((own_cache / "shared_vocabularies").glob("*.npz"))) == 2  # other content, another entry
    monkeypatch.setenv("SIMCT_CACHE", "/proc/nowhere")
    assert build().shared_tokens == first.shared_tokens  # a folder that cannot be written is no error
