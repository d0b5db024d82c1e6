"""Records are written as the JSON that earlier versions wrote, and read back."""

import json
from dataclasses import dataclass, field, replace

import pytest

from simct.errors import DataError
from simct.estimate.records import Estimate, StudentSize, TeacherSize
from simct.inspection.records import (
    Candidate,
    Candidates,
    Disagreement,
    KindTokens,
    PairReport,
    PairRow,
    Reliability,
)
from simct.records import ABSENT, Record
from tests.support.records import INSPECT, MACHINE, MEASURED, RELIABILITY, UNIT

# as inspect.json of a run has it


def through_json(record):
    return type(record).from_dict(json.loads(json.dumps(record.to_dict())))


def test_the_file_of_a_run_is_read_and_written_as_it_was():
    report = PairReport.from_dict(INSPECT)
    assert report.by_kind["words"] == KindTokens(11, 9, 2, 0) and report.uncovered_tokens == 0
    assert report.top_disagreements == [Disagreement("in", "696e", ["i", "n"], ["in"], 1)]
    assert json.dumps(report.to_dict()) == json.dumps(INSPECT)


@pytest.mark.parametrize("record", [
    PairReport(),
    UNIT,
    Candidates(4, UNIT, 2, 3, [Candidate("in", "696e", None, None, "unit")]),
    MEASURED,
    RELIABILITY,
    PairRow(teacher="t", student="s", error="a reason"),
    PairRow(teacher="t", student="s", strict=0.5, method="simct", reliability=RELIABILITY),
    PairReport(
        teacher="t", student="s", texts=1, stopped=True, texts_remembered=1, source="notes", candidates=MEASURED,
        reliability=RELIABILITY, comparison=[PairRow(teacher="t", student="s")],
    ),
    PairReport(candidates=Candidates(4, UNIT, 2, 3, [])),
    Estimate(TeacherSize("t", 9), StudentSize("s", 5, 5), None, 256, 10, {"loss": 1}, {"loss": 10}, [MACHINE]),
    Estimate(
        TeacherSize("t", 9), StudentSize("s", 5, 1), 100, 256, 10, {"loss": 1}, {"loss": 10}, [MACHINE],
        replace(MACHINE, peak=10),
    ),
])  # fmt: skip
def test_what_was_written_is_read_back(record):
    assert through_json(record) == record


def test_only_what_is_marked_is_left_out_while_it_is_none():
    row, report = PairRow(teacher="t", student="s").to_dict(), PairReport().to_dict()
    assert row["error"] is row["strict"] is None
    assert not {"teacher", "stopped", "candidates", "reliability", "comparison"} & report.keys()
    assert Reliability().to_dict()["gradient_cosine"] is None
    assert "peak" not in MACHINE.to_dict() and MACHINE.to_dict()["hours"] is None


def test_what_is_not_a_record_is_a_line():
    for data, got in (({"texts": "many"}, "texts"), ([], "the whole"), (None, "the whole")):
        with pytest.raises(DataError, match=f"not a PairReport: {got}") as caught:
            PairReport.from_dict(data)
        assert "\n" not in str(caught.value)
    assert PairReport.from_dict({"texts": 3, "of a later version": 1}).texts == 3


def test_records_hold_records():
    @dataclass(frozen=True)
    class Inner(Record):
        value: int | None = field(default=None, metadata=ABSENT)

    @dataclass(frozen=True)
    class Outer(Record):
        listed: list[Inner]
        named: dict[str, Inner]

    record = Outer([Inner(), Inner(1)], {"a": Inner(2)})
    assert record.to_dict() == {"listed": [{}, {"value": 1}], "named": {"a": {"value": 2}}}
