"""The benchmark of growth runs at every kind of size, and its table compares each cell with the one before it."""

import pytest

from benchmarks import growth


@pytest.mark.parametrize(
    ("kind", "size", "what"),
    [
        ("answer", 24, "write eight"),
        ("answer", 24, "train on one"),
        ("corpus", 3_000, "count"),
        ("runs", 7, "list first"),
        ("runs", 7, "list again"),
    ],
)
def test_every_kind_of_cell_runs(kind, size, what):
    found = growth.cell(kind, size, what)
    assert found["seconds"] > 0 and found["peak_mib"] >= 0


@pytest.mark.long
def test_steps_of_several_processes_are_timed():
    found = growth.processes_cell(2, "64 answers each", steps=3)
    assert found["seconds"] > 0 and found["peak_mib"] > 0


def test_losses_grow_by_rows_or_by_vocabulary():
    assert [growth.loss_settings("rows", rows, "simct")["rows"] for rows in (512, 32_768)] == [512, 32_768]
    sizes = [
        growth.loss_settings("vocabulary", size, "simct")["vocabularies"] for size in growth.GROWTH["vocabulary"][1]
    ]
    assert sizes == ["16384x16384", "65536x65536", "262144x262144"]


def test_the_table_gives_the_growth_beside_that_of_the_size():
    rows = [
        {"kind": "runs", "size": size, "what": "list first", "seconds": seconds, "peak_mib": 1.0}
        for size, seconds in ((100, 0.5), (1_000, 4.0))
    ]
    lines = growth.table(rows).splitlines()
    assert lines[0].startswith("| run folders |")
    assert lines[-1] == "| 1,000 | list first | 4.000 | 8.0 | 10 | 1 |"
