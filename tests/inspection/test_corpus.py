"""Corpora: the same numbers as text by text, remembered by content and tokenizer, stopped at any time, bounded."""

import csv
import itertools
import json
import os
from collections import Counter
from dataclasses import replace

import pytest
from tokenizers import pre_tokenizers

from simct.errors import DataError
from simct.inspection import corpus
from simct.inspection.corpus import dataset_texts, inspect_corpus, pieces_of
from simct.inspection.coverage import Counts, inspect_pair
from simct.inspection.records import PairReport
from simct.tokenization.pair import TokenizerPair
from tests.support import real_tokenizers as real
from tests.support import trained_tokenizers as trained
from tests.support import varied_texts


@pytest.fixture(scope="module")
def pair() -> TokenizerPair:
    return TokenizerPair.from_pretrained(trained.sentencepiece_bpe("always"), trained.byte_level(400))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    source = varied_texts.source_code()[:60_000]
    return [source[start : start + 997] for start in range(0, len(source), 997)] + [
        "12 \ud800",
        "数学 🙂",
        varied_texts.LATEX,
    ]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 5_000)


@pytest.fixture
def no_counting(monkeypatch):
    """Makes counting fail, so that whatever is reported was remembered."""

    def refuse():
        monkeypatch.setattr(Counts, "add", lambda *_: pytest.fail("counted again"))

    return refuse


def numbers(report: PairReport) -> PairReport:
    return replace(report, stopped=None, texts_remembered=None)


def test_a_stream_gives_the_numbers_of_its_texts(pair, texts, tmp_path, small_chunks):
    report = inspect_corpus(pair, iter(texts), cache_dir=tmp_path)
    assert numbers(report) == inspect_pair(pair, texts)
    assert (report.stopped, report.texts_remembered, report.disagreements_lost) == (False, 0, 0)
    assert len(list(tmp_path.glob("*.json.gz"))) > 10


def test_what_was_counted_is_remembered_by_content(pair, texts, tmp_path, small_chunks, no_counting):
    first = inspect_corpus(pair, texts, cache_dir=tmp_path)
    no_counting()
    again = inspect_corpus(pair, iter(texts), cache_dir=tmp_path)
    assert again.texts_remembered == len(texts) and numbers(again) == numbers(first)


def test_other_text_and_other_rules_are_counted_anew(pair, texts, tmp_path, small_chunks):
    inspect_corpus(pair, texts, cache_dir=tmp_path)
    changed = [*texts[:-1], f"{texts[-1]}!"]
    report = inspect_corpus(pair, changed, cache_dir=tmp_path)
    assert 0 < report.texts_remembered < len(texts)  # whatever comes before the change is known
    assert numbers(report) == inspect_pair(pair, changed)
    # the same vocabulary cut by another rule: equal bytes of every id, other tokens of a text
    backend = trained.edited(trained.byte_level_backend(400))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    other = TokenizerPair.from_pretrained(trained.sentencepiece_bpe("always"), trained.wrap(backend))
    assert other.student.fingerprint == pair.student.fingerprint
    report = inspect_corpus(other, texts, cache_dir=tmp_path)
    assert report.texts_remembered == 0 and numbers(report) == inspect_pair(other, texts)


def test_a_stopped_run_reports_what_it_counted_and_the_next_goes_on_from_there(pair, texts, tmp_path, small_chunks):
    seen = []

    def stream():
        for text in texts:
            seen.append(text)
            yield text

    report = inspect_corpus(pair, stream(), should_stop=lambda: len(seen) >= 20, cache_dir=tmp_path)
    assert report.stopped and 0 < report.texts < 20
    assert numbers(report) == inspect_pair(pair, texts[: report.texts])
    report = inspect_corpus(pair, texts, cache_dir=tmp_path)
    assert 0 < report.texts_remembered < 20 and numbers(report) == inspect_pair(pair, texts)


def test_an_endless_stream_ends_when_asked(pair, tmp_path):
    got = []
    report = inspect_corpus(
        pair,
        itertools.repeat("the same 12 words again\n"),
        on_progress=lambda done, total: got.append((done, total)),
        should_stop=lambda: len(got) > 1,
        cache_dir=tmp_path,
    )
    assert report.stopped and report.texts == got[-1][0] > 0 and got[-1][1] is None


def test_progress_ends_with_the_total(pair, texts, tmp_path):
    got = []
    inspect_corpus(pair, texts, lambda done, total: got.append((done, total)), cache_dir=tmp_path, total=len(texts))
    assert got[-1] == (len(texts), len(texts)) and [done for done, _ in got] == sorted(done for done, _ in got)


def test_files_that_cannot_be_read_or_written_only_cost_time(pair, texts, tmp_path, small_chunks):
    right = numbers(inspect_corpus(pair, texts, cache_dir=tmp_path))
    files = sorted(tmp_path.glob("*.json.gz"))
    files[0].write_bytes(files[0].read_bytes()[:50])
    files[1].write_bytes(b"not ours")
    report = inspect_corpus(pair, texts, cache_dir=tmp_path)
    assert 0 < report.texts_remembered < len(texts) and numbers(report) == right
    (tmp_path / "a file").write_text("")
    report = inspect_corpus(pair, texts, cache_dir=tmp_path / "a file" / "below")
    assert numbers(report) == right
    assert not list(tmp_path.glob("*.tmp"))


def test_the_default_folder_follows_the_environment(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path))
    inspect_corpus(pair, ["some text"])
    assert len(list((tmp_path / "corpora").glob("*.json.gz"))) == 1


def test_the_oldest_files_go_first(pair, texts, tmp_path, small_chunks, monkeypatch):
    inspect_corpus(pair, texts, cache_dir=tmp_path)
    files = sorted(tmp_path.glob("*.json.gz"))
    for age, file in enumerate(files):
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    monkeypatch.setattr(corpus, "KEPT_BYTES", sum(file.stat().st_size for file in files[:3]))
    inspect_corpus(pair, [], cache_dir=tmp_path)
    assert sorted(tmp_path.glob("*.json.gz")) == files[:3]


def test_memory_is_bounded_and_the_error_is_reported(pair, texts, tmp_path, small_chunks, monkeypatch):
    def key(row):
        return (row.bytes, *row.student_tokens, "|", *row.teacher_tokens)

    exact = {key(row): row.count for row in inspect_pair(pair, texts, top=10_000).top_disagreements}
    monkeypatch.setattr(corpus, "MOST_DISAGREEMENTS", 400)
    largest = []
    join = Counts.join

    def watch(self, other):
        join(self, other)
        largest.append(len(self.disagreements))

    monkeypatch.setattr(Counts, "join", watch)
    report = inspect_corpus(pair, texts, cache_dir=tmp_path, top=5)
    assert len(exact) > 2_000 and max(largest) < 2 * 400 + 500  # twice the limit, and a chunk
    assert 0 < report.disagreements_lost < report.top_disagreements[0].count / 3
    for row in report.top_disagreements:
        assert exact[key(row)] - report.disagreements_lost <= row.count <= exact[key(row)]


def test_texts_of_files(tmp_path):
    rows = [{"id": 1, "text": "one"}, {"id": 2, "text": ""}, {"id": 3, "text": "three"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    import datasets

    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert list(dataset_texts(str(tmp_path / name))) == ["one", "three"], name
        assert list(dataset_texts(str(tmp_path / name), "text", limit=1)) == ["one"], name
    chats = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "12"}]}]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    assert list(dataset_texts(str(tmp_path / "chat.jsonl"))) == ["Hi\n12"]
    (tmp_path / "odd.jsonl").write_text(json.dumps({"n": 1, "remark": "words"}))
    assert list(dataset_texts(str(tmp_path / "odd.jsonl"))) == ["words"]


def test_a_text_file_comes_in_pieces_cut_at_line_ends(tmp_path):
    text = "".join(f"line {number} 数\r\n" for number in range(9_000)) + "x" * 50_000
    (tmp_path / "t.txt").write_text(text, encoding="utf-8", newline="")
    pieces = list(dataset_texts(str(tmp_path / "t.txt")))
    assert "".join(pieces) == text == "".join(pieces_of(text))
    assert len(pieces) > 5 and max(map(len, pieces)) <= 2 * corpus.PIECE_CHARACTERS
    assert all(piece.endswith("\n") for piece in pieces[:4])


def test_a_text_file_in_another_encoding_is_read(tmp_path):
    (tmp_path / "latin.txt").write_bytes("café, naïve".encode("cp1252"))
    assert list(dataset_texts(str(tmp_path / "latin.txt"))) == ["café, naïve"]


def test_sources_that_cannot_be_read_are_a_line(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "numbers.jsonl").write_text('{"n": 1}')
    (tmp_path / "broken.jsonl").write_text('{"text": \n{"text": ')
    (tmp_path / "nothing.txt").write_text("")
    (tmp_path / "mixed.jsonl").write_text('{"text": {"a": 1}}')
    for name, words in {
        "empty.jsonl": "is empty",
        "numbers.jsonl": "no column of text; it has n",
        "broken.jsonl": "has no text.*2 × row skipped: a line is not valid JSON",
        "nothing.txt": "has no text",
        "mixed.jsonl": "has no text.*1 × row skipped: no text in the column 'text'",
        "none.jsonl": "no file",
        "./none": "no file",
    }.items():
        source = name if name.startswith("./") else str(tmp_path / name)
        with pytest.raises(DataError, match=words) as raised:
            list(dataset_texts(source))
        assert "\n" not in str(raised.value)
    (tmp_path / "book.pdf").write_text("x")
    with pytest.raises(DataError, match="Convert it"):
        dataset_texts(str(tmp_path / "book.pdf"))
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    with pytest.raises(DataError, match="no column 'body'; it has text"):
        list(dataset_texts(str(tmp_path / "a.jsonl"), "body"))


def test_rows_that_cannot_be_read_are_skipped_and_counted(tmp_path):
    lines = ['{"text": "one"}', '{"text": ', '{"text": {"a": 1}}', "[1]", '{"text": "two"}', '{"text": null}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    skipped = Counter()
    assert list(dataset_texts(str(tmp_path / "a.jsonl"), skipped=skipped)) == ["one", "two"]
    assert skipped == {
        "row skipped: a line is not valid JSON": 1,
        "row skipped: a row is not a JSON object": 1,
        "row skipped: no text in the column 'text'": 1,
    }


def test_real_tokenizers_over_a_stream(tmp_path):
    pair = TokenizerPair.from_pretrained(real.llama3(), real.qwen25())
    stream = (f"Item {number}: {number * 7919} apples.\n" for number in range(500))
    report = inspect_corpus(pair, stream, cache_dir=tmp_path)
    assert report.by_kind["digits"].recovered > 500 and report.texts == 500
    assert inspect_corpus(pair, ["again"], cache_dir=tmp_path).texts_remembered == 0
    counts = [row.count for row in report.top_disagreements]
    assert counts == sorted(counts, reverse=True) and counts[0] > 1
