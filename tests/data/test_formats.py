"""Every kind of file gives the same rows; what cannot be read is one row, or one line."""

import bz2
import gzip
import json
import lzma
import resource
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from simct.config.sections import DataConfig
from simct.data import formats
from simct.data.csv_rows import delimiter_of
from simct.data.formats import FileNotes, Unreadable, encoding_of, rows_in, rows_of_file, suffix_of
from simct.data.prompts import read_prompts
from simct.errors import DataError
from tests.support import hostile

ROWS = [{"prompt": "What is 2+2?", "answer": "4"}, {"prompt": "Naïve 日本 🙂?", "answer": "5"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TABLE = 'prompt,answer\nWhat is 2+2?,4\n"Naïve 日本 🙂?",5\n'.encode()
CELLS = "prompt{0}answer\nWhat is 2+2?{0}4\nNaïve 日本 🙂?{0}5\n"


def rows_of(path) -> list:
    return list(rows_of_file(path, FileNotes()))


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


FILES = {
    "p.jsonl": LINES,
    "p.JSONL": LINES,
    "p.ndjson": LINES,
    "windows.jsonl": LINES.replace(b"\n", b"\r\n"),
    "blank lines.jsonl": b"\n" + LINES.replace(b"\n", b"\n\n"),
    "p.jsonl.gz": gzip.compress(LINES),
    "two members.jsonl.gz": b"".join(gzip.compress(line + b"\n") for line in LINES.splitlines()),
    "p.jsonl.zst": zstd(LINES),
    "p.jsonl.bz2": bz2.compress(LINES),
    "p.jsonl.xz": lzma.compress(LINES),
    "compressed under a plain name.jsonl": gzip.compress(LINES),
    "a list.json": json.dumps(ROWS).encode(),
    "a list.jsonl": json.dumps(ROWS, indent=1).encode(),
    "lines.json": LINES,
    "data.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "rows.json": json.dumps(
        {"features": [{"name": "x"}], "rows": [{"row_idx": 0, "row": row} for row in ROWS]}
    ).encode(),
    "splits.json": json.dumps({"test": ROWS * 3, "train": ROWS}).encode(),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(),
    "pandas.json": json.dumps({n: {str(i): row[n] for i, row in enumerate(ROWS)} for n in ROWS[0]}).encode(),
    "ids.json": json.dumps({"a": ROWS[0], "b": ROWS[1]}).encode(),
    "p.csv": TABLE,
    "p.csv.gz": gzip.compress(TABLE),
    "excel.csv": b"\xef\xbb\xbf" + TABLE.replace(b"\n", b"\r\n"),
    "p.tsv": CELLS.format("\t").encode(),
    **{f"delimiter {ord(mark)}.csv": CELLS.format(mark).encode() for mark in ";|\t^~§\x01"},
    "utf-16.csv": CELLS.format(";").encode("utf-16"),
    "utf-16.jsonl": LINES.decode().encode("utf-16"),
    "utf-16 without a mark.jsonl": LINES.decode().encode("utf-16-le"),
    "utf-32.jsonl": LINES.decode().encode("utf-32"),
    "marked.jsonl": b"\xef\xbb\xbf" + LINES,
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_has_the_same_rows(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    assert rows_of(path) == ROWS


def test_parquet_and_arrow(tmp_path):
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    with pyarrow.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pyarrow.OSFile(str(tmp_path / "s.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("p.parquet", "file.arrow", "s.arrow"):
        assert rows_of(tmp_path / name) == ROWS


def test_text_has_a_prompt_on_every_line_that_is_not_blank(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"One?\r\n\n  \nTwo? \n")
    (tmp_path / "texts.json").write_text('["One?", "Two? "]')
    for name in ("p.txt", "texts.json"):
        assert rows_of(tmp_path / name) == [{"prompt": "One?"}, {"prompt": "Two? "}]


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("plain", "ascii", "utf-8"),
        ("Naïve café", "utf-8", "utf-8"),
        ("Naïve café", "utf-8-sig", "utf-8-sig"),
        ("Naïve café", "utf-16", "utf-16"),
        ("Naïve café", "cp1252", "cp1252"),
        ("Naïve café\n" * 50, "latin-1", "cp1252"),
        ("Le garçon a mangé des gâteaux « français » à l’hôtel – c’était très bon.\n" * 9, "cp1252", "cp1252"),
        ("Съешь же ещё этих мягких французских булок, да выпей чаю.\n" * 9, "cp1251", "cp1251"),
        ("我們正在寫一些中文句子。這是一個測試。\n" * 9, "big5", "big5"),
        ("It’s a “smart” quote – that’s all. Naïve café.\n", "cp1252", "cp1252"),
        ("Die Mädchen möchten über die Straße gehen.\n" * 9, "cp1252", "cp1252"),
        ("私は日本語の文章を書いています。これはテストです。\n" * 9, "shift_jis", "cp932"),
    ],
)
def test_encodings_are_found(text, encoding, found):
    assert encoding_of(text.encode(encoding)) == found


def test_one_bad_byte_in_utf_8_costs_one_row_and_not_the_encoding(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(LINES + b'{"prompt": "caf\xe9"}\n' + LINES)
    found = read_prompts(DataConfig(prompts=str(path)))
    assert found.summary.encodings == ["utf-8"] and len(found.prompts) == 4
    assert found.summary.skipped["text that is not valid Unicode"].row == 3


@pytest.mark.parametrize(
    ("sample", "delimiter"),
    [
        ("prompt\nHello, you; there\nBye, now", ","),
        ("prompt;answer\nOne, two, three;4\nFive, six;5\n", ";"),
        ('question|level|answer\n"a | b, c; d"|1|2\nx, y|1|3\n', "|"),
        ("a:b\n1:2\n", ":"),
        ("only a header", ","),
        ("", ","),
    ],
)
def test_delimiters_are_found(sample, delimiter):
    assert delimiter_of(sample) == delimiter


def test_cells_may_hold_line_breaks_quotes_and_delimiters(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('prompt,answer\n"One,\n""two""",3\n')
    assert rows_of(path) == [{"prompt": 'One,\n"two"', "answer": "3"}]


def test_rows_of_another_width_are_not_guessed_at(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt,answer\nWhat is\n2+2?,4\nOne, two?,3\nFine?,1,,\n")
    width = Unreadable("a row and the header have different numbers of cells")
    assert rows_of(path) == [width, {"prompt": "2+2?", "answer": "4"}, width, {"prompt": "Fine?", "answer": "1"}]


@pytest.mark.parametrize("answer", ['"it is ""7"""', "7"])
def test_a_quotation_mark_that_is_not_closed_costs_one_row(tmp_path, answer):
    path = tmp_path / "p.csv"
    good = [f"a {number},{answer}" for number in range(20)]
    path.write_text("\n".join(["prompt,answer", *good[:5], '"a 17 inch screen,4', *good[5:]]) + "\n")
    rows = rows_of(path)
    assert [row["prompt"] for row in rows if isinstance(row, dict)] == [f"a {number}" for number in range(20)]
    assert [row.reason for row in rows if not isinstance(row, dict)] == ["a quotation mark in a row is not closed"]


def test_lines_of_a_text_are_not_taken_for_rows(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('prompt,answer,id\n"one\ntwo, too\nthree",4\nx,y,1\n')
    unreadable, row = rows_of(path)
    assert isinstance(unreadable, Unreadable) and row == {"prompt": "x", "answer": "y", "id": "1"}


def test_columns_of_one_name_are_all_kept(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt,prompt,,prompt 2\na,b,c,d\n")
    assert rows_of(path) == [{"prompt": "a", "prompt 2": "b", "": "c", "prompt 2 2": "d"}]


def test_lines_that_are_not_json_are_rows_that_cannot_be_read(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "One?"}\n{"prompt": \n[1, 2]\n7\n' + "[" * 100_000 + '\n{"prompt": "Two?"}\n')
    one, broken, *_, deep, two = rows_of(path)
    assert (one, two) == ({"prompt": "One?"}, {"prompt": "Two?"})
    assert broken == deep == Unreadable("a line is not valid JSON")
    assert rows_of(path)[2:4] == [Unreadable("a row is not a JSON object")] * 2


def test_a_line_that_is_too_long_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LONGEST_LINE", 1000)
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "One?"}\n' + '{"prompt": "' + "x" * 5000 + '"}\n{"prompt": "Two?"}\n')
    assert rows_of(path) == [
        {"prompt": "One?"},
        Unreadable("a line has more than 1,000 characters"),
        {"prompt": "Two?"},
    ]
    path = tmp_path / "p.csv"
    path.write_text('prompt,answer\n"' + "x" * 5000 + '",1\nTwo?,2\n')
    assert rows_of(path) == [Unreadable("a row is not valid CSV"), {"prompt": "Two?", "answer": "2"}]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([1], [1]),
        ({"prompt": "x"}, [{"prompt": "x"}]),
        ({"messages": [{"role": "user", "content": "x"}]}, [{"messages": [{"role": "user", "content": "x"}]}]),
        ({"a": [{"n": 1}], "b": [{"n": 1}, {"n": 2}]}, [{"n": 1}, {"n": 2}]),
        ({"data": {"train": [{"n": 1}, {"n": 2}]}}, [{"n": 1}, {"n": 2}]),
        ({}, [{}]),
    ],
)
def test_rows_within_a_json_value(value, rows):
    assert rows_in(value) == rows


def test_suffixes_tell_how_a_file_is_read():
    assert [suffix_of(name) for name in ("a.b.JSONL.GZ", "x.csv", "x", "x.gz")] == [".jsonl.gz", ".csv", "", ".gz"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.jsonl.gz", gzip.compress(LINES * 500)[:-20], "Cannot load prompts"),
        ("noise.parquet", b"PAR1" + bytes(100), "Cannot load prompts"),
        ("noise.json", b'{"prompt": ', "Cannot load prompts"),
        ("deep.json", b"[" * 200_000, "nested too deeply"),
        ("noise.csv", bytes(range(256)) * 4, "noise.csv"),
        ("header.csv", b"prompt,answer\n", "no rows"),
        ("zeros.jsonl", bytes(1000), "zeros.jsonl"),
        ("list.json", b"[]", "no rows"),
        ("broken.jsonl", b'{"prompt": \n{"prompt": \n', "2 × a line is not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_prompts(DataConfig(prompts=str(path)))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_what_was_found_is_reported(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes("prompt;answer\nCombien coûte le café?;5\n".encode("cp1252"))
    summary = read_prompts(DataConfig(prompts=str(path))).summary
    assert summary.read_as == "CSV, cp1252, delimiter ';'"
    assert summary.notices() == ["The text is read as cp1252. Convert it to UTF-8 if letters look wrong."]


def test_json_values_one_after_another(tmp_path):
    for name in ("a.json", "a.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS) + "\n")
        assert rows_of(path) == ROWS
    (tmp_path / "b.json").write_text(json.dumps(ROWS[0], indent=1) + '{"prompt": ')
    with pytest.raises(DataError, match="Cannot load prompts"):
        read_prompts(DataConfig(prompts=str(tmp_path / "b.json")))


def test_a_table_of_one_column_has_no_delimiter(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt\nWhat, really, is it?\nSay; so\n")
    assert rows_of(path) == [{"prompt": "What, really, is it?"}, {"prompt": "Say; so"}]


# a sentence in each language, and what its files are written in
WRITTEN = {
    "Der Käufer trägt die Kosten. Größere Mengen müssen übermorgen geprüft werden.": "cp1252 mac_roman cp850",
    "Où est passée la clé de l’été ? Ça coûte très cher, mais l'élève préfère rester ici.": "cp1252 mac_roman",
    "Quanto custa o pão? Não sei, mas amanhã às três horas vamos à feira. A avó não está.": "cp1252",
    "Zażółć gęślą jaźń. Proszę obliczyć średnią prędkość pociągu między Łodzią a Wrocławiem.": "cp1250 iso8859_2",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Kolik stojí lístek na vlak? Řekněte mi to.": "cp1250 iso8859_2",
    "Öğrenci kaç yaşında? Işık hızı ne kadardır, lütfen açıklayın.": "cp1254",
    "Сколько лет капитану? Пожалуйста, объясните решение задачи подробно.": "cp1251 koi8_r cp866",
    "Πόσων ετών είναι ο καπετάνιος; Παρακαλώ εξηγήστε τη λύση αναλυτικά.": "cp1253 iso8859_7",
    "בן כמה רב החובל? אנא הסבירו את הפתרון בפירוט.": "cp1255",
    "كم عمر القبطان؟ يرجى شرح الحل بالتفصيل.": "cp1256",
    "船長は何歳ですか。答えを詳しく説明してください。カタカナも使います。": "cp932 euc_jp iso2022_jp",
    "船长多大年纪？请详细解释答案，并写出计算过程。": "gb18030",
    "선장은 몇 살입니까? 풀이 과정을 자세히 설명해 주세요.": "cp949",
    "กัปตันอายุเท่าไหร่ กรุณาอธิบายคำตอบโดยละเอียด": "cp874",
    "It costs 50 €, said the “captain” – x² ± 0.5 °C": "cp1252",
    "naïve café": "cp1252",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_legacy_encodings_are_detected(tmp_path, text):
    for encoding in WRITTEN[text].split():
        path = tmp_path / f"{encoding}.jsonl"
        path.write_bytes(json.dumps({"prompt": text}, ensure_ascii=False).encode(encoding))
        notes = FileNotes()
        assert list(rows_of_file(path, notes)) == [{"prompt": text}], (encoding, notes.encodings)
        assert list(notes.encodings) != ["utf-8"]


# Files that expand


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path, suffix):
    with pytest.raises(DataError, match="expands to more than 200 times its size"):
        rows_of(Path(hostile.zipped_bomb(tmp_path, suffix)))


def test_a_parquet_bomb_is_refused_before_it_is_in_memory(tmp_path):
    bomb = Path(hostile.parquet_bomb(tmp_path))
    assert bomb.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="expands to more than 200 times its size"):
        rows_of(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_data_that_merely_repeats_itself_is_read(tmp_path):
    path = tmp_path / "same.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"prompt": "the same again and again"}\n' * 20_000)
    assert len(rows_of(path)) == 20_000


def test_json_nested_50_000_deep_is_one_line(tmp_path):
    with pytest.raises(DataError, match="nested too deeply"):
        rows_of(Path(hostile.deep_json(tmp_path)))
