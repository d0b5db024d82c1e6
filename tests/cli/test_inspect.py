"""`simct inspect` as a person uses it: sources, places, other models, files, an interrupt, and what cannot be done."""

import csv
import io
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest

from simct.cli import inspect as cli_inspect
from simct.cli import terminal
from simct.cli.main import main
from simct.demo import PAIRS
from simct.inspection import corpus
from simct.inspection.coverage import inspect_pair, show_units
from simct.inspection.text_kinds import KINDS, kinds_of_bytes
from simct.tokenization.pair import TokenizerPair
from tests.support.commands import refused
from tests.support.hub_server import HubServer

TEXT = "def wrap(text, width=70):\n    return the 日本 🙂 parser.add_argument('--x')\n"

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def tokenizers_only(folders, tmp_path_factory):
    """The same pair without weights, so that whoever loads them fails."""
    root = tmp_path_factory.mktemp("tokenizers")
    names = [str(root / side) for side in ("teacher", "student")]
    for folder, name in zip(folders, names, strict=True):
        shutil.copytree(folder, name, ignore=shutil.ignore_patterns("*.safetensors"))
    return names


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "text.txt")


@pytest.fixture
def rows_file(tmp_path):
    rows = [{"id": number, "body": f"row {number}: {TEXT}"} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "rows.jsonl")


def inspect(folders, *arguments) -> int:
    return main(["inspect", "--teacher", folders[0], "--student", folders[1], *arguments])


def test_a_column_of_a_file_is_counted_without_any_weights(tokenizers_only, rows_file, tmp_path, capsys):
    path = str(tmp_path / "r.json")
    assert inspect(tokenizers_only, "--dataset", rows_file, "--column", "body", "--limit", "7", "--json", path) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    pair = TokenizerPair.from_pretrained(*tokenizers_only)
    expected = inspect_pair(pair, [f"row {number}: {TEXT}" for number in range(7)])
    expected = expected.to_dict()
    assert {name: report[name] for name in expected} == expected
    assert (report["texts"], report["stopped"], report["teacher"]) == (7, False, tokenizers_only[0])
    out, err = capsys.readouterr()
    assert "7 texts" in out and err == ""  # no bar where no terminal is
    assert inspect(tokenizers_only, "--dataset", rows_file, "--limit", "7", "--json", path) == 0
    assert json.loads((tmp_path / "r.json").read_text())["texts_remembered"] == 7


def test_page_and_tables(tokenizers_only, text_file, tmp_path):
    page, tables = tmp_path / "r.html", tmp_path / "tables"
    assert inspect(tokenizers_only, "--text", text_file, "--html", str(page), "--csv", str(tables), "--at", "u3") == 0
    assert "Candidates at" in page.read_text(encoding="utf-8")
    pair = TokenizerPair.from_pretrained(*tokenizers_only)
    report = inspect_pair(pair, [TEXT])
    with open(tables / "by_kind.csv", newline="", encoding="utf-8") as file:
        kinds = {row["kind"]: int(row["student_tokens"]) for row in csv.DictReader(file)}
    assert kinds == {kind: row.student_tokens for kind, row in report.by_kind.items()}
    with open(tables / "unit_shapes.csv", newline="", encoding="utf-8") as file:
        units = sum(int(row["units"]) for row in csv.DictReader(file))
    assert units == len(show_units(pair, TEXT)) == sum(report.unit_shapes.values())
    with open(tables / "disagreements.csv", newline="", encoding="utf-8") as file:
        assert [row["bytes"] for row in csv.DictReader(file)] == [row.bytes for row in report.top_disagreements]


def test_places_by_byte_and_by_unit(tokenizers_only, text_file, tmp_path, capsys):
    pair = TokenizerPair.from_pretrained(*tokenizers_only)
    for index, row in enumerate(show_units(pair, TEXT)):
        if row.byte_end - row.byte_start < 2:
            continue
        for place in (f"u{index}", str(row.byte_start), str(row.byte_end - 1)):
            assert cli_inspect._unit_at(pair, TEXT, place) == index
        break
    assert inspect(tokenizers_only, "--text", text_file, "--at", "5") == 0
    assert "Their masses need both models" in capsys.readouterr().out


def test_weights_judge_the_pair_and_show_masses(text_file, tmp_path, capsys):
    pair = PAIRS["student_splits"]
    arguments = [
        "--text",
        text_file,
        "--weights",
        "3",
        "--prompts",
        str(pair.prompts),
        "--at",
        "4",
        "--before",
        "Hello",
    ]
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    assert inspect((str(pair.teacher), str(pair.student)), *arguments, *files) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["reliability"]["answers"] == 3 and report["reliability"]["verdict"].startswith("Use ")
    assert 0 < report["candidates"]["Z_T"] < 1.5
    out = capsys.readouterr().out
    assert "Verdict" in out and "Teacher p" in out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Measured with weights" in page and 'data-name="z_t"' in page


def test_weights_that_are_missing_are_a_line_only_when_asked_for(tokenizers_only, text_file, capsys):
    message = refused(
        capsys, "inspect", "--teacher", tokenizers_only[0], "--student", tokenizers_only[1], "--weights", "2"
    )
    assert tokenizers_only[0] in message


def test_other_students_and_teachers(tokenizers_only, text_file, tmp_path, capsys):
    teacher, student = tokenizers_only
    path = tmp_path / "r.json"
    more = ["--compare", "/no/such", "--compare-teacher", student, "--sort", "jaccard", "--csv", str(tmp_path / "t")]
    assert inspect(tokenizers_only, "--text", text_file, *more, "--json", str(path)) == 0
    rows = json.loads(path.read_text())["comparison"]
    assert [(row["teacher"], row["student"]) for row in rows[:2]] == [(student, student), (teacher, student)]
    assert rows[0]["strict"] == 1.0 and all(row["error"] for row in rows[2:]) and len(rows) == 4
    assert "no folder" in capsys.readouterr().out
    with open(tmp_path / "t" / "comparison.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_without_a_text_the_prompts_are_counted(tokenizers_only, tmp_path):
    prompts = ["Où est le chat ?", "What is 12345 + 678?"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    path = tmp_path / "r.json"
    assert inspect(tokenizers_only, "--prompts", str(tmp_path / "prompts.jsonl"), "--json", str(path)) == 0
    report = json.loads(path.read_text())
    expected = inspect_pair(TokenizerPair.from_pretrained(*tokenizers_only), prompts).to_dict()
    assert {name: report[name] for name in expected} == expected


def test_without_text_and_prompts_a_small_balanced_sample_is_counted(tokenizers_only, tmp_path):
    path = tmp_path / "r.json"
    assert inspect(tokenizers_only, "--json", str(path)) == 0
    report = json.loads(path.read_text())
    sample = corpus.sample_texts()
    assert report["texts"] == len(sample)
    assert sum(len(text.encode()) for text in sample) < 20_000
    sizes = np.bincount(np.concatenate([kinds_of_bytes(text) for text in sample]), minlength=len(KINDS))
    shares = dict(zip(KINDS, sizes / sizes.sum(), strict=True))
    assert set(report["by_kind"]) >= {"words", "digits", "whitespace", "punctuation", "latex", "cjk", "emoji"}
    assert shares["words"] < 0.7 and all(shares[kind] > 0.02 for kind in ("digits", "punctuation", "latex", "cjk"))


def test_rows_that_cannot_be_read_are_skipped_and_shown(tokenizers_only, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n{"text": \n{"text": "two"}\n')
    assert inspect(tokenizers_only, "--dataset", str(rows), "--json", str(tmp_path / "r.json")) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["texts"] == 2 and report["excluded"] == {"row skipped: a line is not valid JSON": 1}
    assert "1 × row skipped: a line is not valid JSON" in capsys.readouterr().out


def test_a_chat_template_is_named(tokenizers_only, capsys):
    teacher, student = tokenizers_only
    named = ("--teacher-chat-template", "x")
    assert "no chat template called 'x'" in refused(
        capsys, "inspect", "--teacher", teacher, "--student", student, *named
    )


def test_an_interrupt_gives_what_was_counted_so_far(tokenizers_only, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 400)
    before = signal.getsignal(signal.SIGINT)

    def endless(*_, **__):
        for number in range(10_000):
            if number == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield f"text {number}: {TEXT}"

    monkeypatch.setattr(corpus, "dataset_texts", endless)
    path = tmp_path / "r.json"
    more = ["--json", str(path), "--html", str(tmp_path / "r.html")]
    assert inspect(tokenizers_only, "--dataset", "some/data", "--compare", "/x", *more) == 130
    report = json.loads(path.read_text())
    assert report["stopped"] and 0 < report["texts"] <= 21 and "comparison" not in report
    out, err = capsys.readouterr()
    assert "student tokens" in out and "Stopping" in err
    assert "Stopped before the end" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_bar_on_a_terminal_and_none_elsewhere(capsys, monkeypatch):
    with terminal.progress("Reading", "texts") as show:
        show(5, 10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with terminal.progress("Reading", "texts") as show:
        show(5, 10)
        show(1234, None)
    err = capsys.readouterr().err
    assert "Reading [############            ]  50% 5 of 10 texts" in err and "Reading 1,234 texts" in err
    assert err.endswith("\r\x1b[K")


def test_what_cannot_be_done_is_a_line(tokenizers_only, text_file, rows_file, tmp_path, capsys):
    def line(*arguments):
        return refused(capsys, "inspect", "--teacher", tokenizers_only[0], "--student", tokenizers_only[1], *arguments)

    assert "not both" in line("--text", text_file, "--dataset", rows_file)
    assert "--column needs --dataset" in line("--text", text_file, "--column", "x")
    assert "no column 'x'; it has id, body" in line("--dataset", rows_file, "--column", "x")
    assert "--limit must be at least 1" in line("--dataset", rows_file, "--limit", "0")
    for place in ("here", "²", "uu7", "9" * 5000):
        assert "u7" in line("--text", text_file, "--at", place)
    assert "There is no byte 9999" in line("--text", text_file, "--at", "9999")
    assert "There is no unit 9999" in line("--text", text_file, "--at", "u9999")
    assert "no folder" in line("--text", text_file, "--html", str(tmp_path / "none" / "r.html"))
    assert "no file" in line("--dataset", str(tmp_path / "none.jsonl"))


def test_standard_input(tokenizers_only, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT))
    assert inspect(tokenizers_only, "--text", "-", "--compare", tokenizers_only[0]) == 0
    out = capsys.readouterr().out
    assert f"{len(TEXT.encode()):,} bytes" in out and "100.0%" in out


def test_a_dataset_on_the_hub_is_streamed_and_a_gated_one_is_a_line(
    tokenizers_only, rows_file, tmp_path, capsys, monkeypatch
):
    base = ["--teacher", tokenizers_only[0], "--student", tokenizers_only[1], "--column", "body", "--limit", "9"]
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(rows_file, folder / "train.jsonl")
    with HubServer() as hub:
        hub.use(monkeypatch)
        hub.add_dataset("open/texts", folder)
        hub.add_dataset("gated/texts", folder, gated="manual")
        assert main(["inspect", *base, "--dataset", "open/texts"]) == 0
        assert "9 texts" in capsys.readouterr().out
        assert "gated" in refused(capsys, "inspect", *base, "--dataset", "gated/texts")
        assert "open/no" in refused(capsys, "inspect", *base, "--dataset", "open/no")
