"""The benchmark of what an evaluation costs runs, and compares like with like."""

from benchmarks import distance as benchmark
from simct import demo


def test_an_evaluation_is_compared_with_its_bare_passes(monkeypatch):
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    row = benchmark.measure(str(demo.TEACHER), str(demo.STUDENT), str(demo.EVAL), answers=6, tokens=12)
    assert row["answers"] == 6 and 0 < row["tokens_written"] <= 72
    assert row["ratio"] == row["evaluation"] / row["bare passes"] > 0
