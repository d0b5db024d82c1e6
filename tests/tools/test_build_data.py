"""The data script, on local stand-ins for its sources."""

import json

import pytest

from simct.errors import DataError
from tools.build_data import SOURCES, Source, build, main


@pytest.fixture
def stand_ins(tmp_path):
    """Sources as the real ones are, with few rows: math 30 and 10 (5 of them in both), code 8 and 40."""
    counts = {"gsm8k": 30, "orca": 10, "mbpp": 8, "alpaca": 40}
    sources = []
    for (name, count), real in zip(counts.items(), SOURCES, strict=True):
        rows = [{real.column: f"{name} {number}", real.answer_column: f"a{number}"} for number in range(count)]
        if name == "orca":
            for number in range(5):
                rows[number][real.column] = f"GSM8K  {number}"
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(Source(str(path), real.kind, real.share, real.column, real.answer_column))
    return tuple(sources)


def test_the_mix_has_both_kinds_and_each_prompt_once(stand_ins):
    rows = build(40, seed=1, sources=stand_ins)
    assert len(rows) == 40 and sum(row["kind"] == "maths" for row in rows) == 20
    assert len({" ".join(row["prompt"].split()).lower() for row in rows}) == 40
    by_source = {source.dataset: sum(row["source"] == source.dataset for row in rows) for source in stand_ins}
    # Orca cannot give its ten once what GSM8K has too is gone, and GSM8K makes up for it
    assert list(by_source.values()) == [15, 5, 2, 18]
    assert all(row["answer"].startswith("a") for row in rows)


def test_the_mix_is_decided_by_the_seed(stand_ins):
    assert build(40, 1, stand_ins) == build(40, 1, stand_ins) != build(40, 2, stand_ins)
    with pytest.raises(DataError, match="35 different prompts, 36 were asked for"):
        build(72, 1, stand_ins)


def test_the_script_writes_what_a_run_reads(stand_ins, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tools.build_data.SOURCES", stand_ins)
    monkeypatch.setattr(build, "__defaults__", (0, stand_ins, None))
    output = tmp_path / "data" / "mix.jsonl"
    assert main(["--output", str(output), "--size", "30"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 30 and set(rows[0]) == {"prompt", "answer", "kind", "checker", "source"}
    assert main(["--output", str(output), "--size", "1000"]) == 2
    assert "Ask for fewer" in capsys.readouterr().err
