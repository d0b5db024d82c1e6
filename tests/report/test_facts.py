"""Each number has one label and one explanation, and the terminal, the page and the studio print the same."""

from html import escape

import pytest

from app.inspect import numbers, other_pairs_view, position_view, reliability_view
from app.train import estimate as estimate_view
from app.train.where import HERE, Place
from simct.estimate.records import Estimate
from simct.inspection.records import KindTokens, PairReport, PairRow, Splits
from simct.report import estimates, facts, formats, text
from simct.report.html import html_report
from tests.support.records import INSPECT, MACHINE, MEASURED, RELIABILITY

REPORT = PairReport.from_dict(INSPECT | {"recovered_tokens": 1})
PAIR = PairRow(teacher="t", student="s", shared_tokens=3, jaccard=0.1, of_smaller=0.2, strict=0.5, recovered=0.25)
ESTIMATE = Estimate.from_dict(
    {
        "teacher": {"model": "t", "parameters": 9}, "student": {"model": "s", "parameters": 5, "trainable": 5},
        "steps": 100, "prompt_tokens": 256, "peak": 3 << 30, "parts": {"loss": 1 << 30}, "phases": {"loss": 3 << 30},
        "hardware": [MACHINE.to_dict()],
    }
)  # fmt: skip
ALL = [
    *facts.coverage_facts(REPORT),
    *facts.vocabulary_facts(REPORT),
    *facts.kind_facts(KindTokens(11, 9, 1, 1)),
    *facts.pair_facts(PAIR),
    *facts.reliability_facts(RELIABILITY),
    *facts.split_facts(Splits(1, 2, 3)),
    *facts.position_facts(MEASURED),
    *facts.candidate_facts(MEASURED.rest),
    *estimates.estimate_facts(ESTIMATE),
    *estimates.machine_facts(MACHINE),
]


def test_a_label_has_one_explanation_and_an_explanation_one_label():
    assert len({(fact.label, fact.explanation) for fact in ALL}) == len({fact.label for fact in ALL})
    assert len({fact.label for fact in ALL}) == len({fact.explanation for fact in ALL})
    assert all(fact.label and fact.explanation for fact in ALL)


@pytest.mark.parametrize(("rows", "printed", "studio"), [
    (facts.coverage_facts(REPORT), text.format_report(REPORT), numbers.headline(REPORT)),
    (facts.reliability_facts(RELIABILITY), text.format_reliability(RELIABILITY), reliability_view.draw(RELIABILITY)),
    (facts.position_facts(MEASURED), text.format_candidates(MEASURED), position_view.draw(MEASURED)),
    (facts.pair_facts(PAIR), text.format_pairs([PAIR]), other_pairs_view.draw([PAIR], "student")),
    (estimates.machine_facts(MACHINE), text.format_estimate(ESTIMATE), estimate_view.view(ESTIMATE, Place(HERE))),
])  # fmt: skip
def test_the_terminal_and_the_studio_print_the_facts(rows, printed, studio):
    for fact in rows:
        assert fact.label in printed and fact.text in printed, fact
        assert escape(fact.label) in studio and escape(fact.text) in studio, fact


def test_the_page_prints_the_facts():
    report = PairReport.from_dict(
        REPORT.to_dict()
        | {"reliability": RELIABILITY.to_dict(), "candidates": MEASURED.to_dict(), "comparison": [PAIR.to_dict()]}
    )
    page = html_report(report)
    shown = [*facts.coverage_facts(REPORT), *facts.reliability_facts(RELIABILITY), *facts.position_facts(MEASURED)]
    for fact in [*shown, *facts.pair_facts(PAIR), *facts.candidate_facts(MEASURED.rest)]:
        for part in (fact.label, fact.text, fact.explanation):
            assert escape(part).replace("&#x27;", "&#39;") in page, fact


def test_what_is_not_covered_is_said_only_where_there_is_some():
    assert "Not covered" in {fact.label for fact in facts.coverage_facts(REPORT)}
    assert "Not covered" not in {fact.label for fact in facts.coverage_facts(PairReport.from_dict(INSPECT))}


@pytest.mark.parametrize(
    ("form", "value", "written"),
    [
        (formats.share, 0, "0%"),
        (formats.share, 0.00001, "<0.01%"),
        (formats.share, 0.0012, "0.12%"),
        (formats.share, 0.456, "45.6%"),
        (formats.share, 1.2, "120.0%"),
        (formats.number, 1234.6, "1,235"),
        (formats.number, 0.00012, "1.2e-04"),
        (formats.size, 880 << 20, "880 MiB"),
        (formats.size, 20 << 20, "20 MiB"),
        (formats.size, int(22.5 * formats.GIB), "22.5 GiB"),
        (formats.size, 140 * formats.GIB, "140 GiB"),
        (formats.hours, 0.01, "36 s"),
        (formats.hours, 0.5, "30 min"),
        (formats.hours, 30.25, "30.2 h"),
        (formats.dollars, 0, "nothing"),
        (formats.dollars, 0.004, "under $0.01"),
        (formats.dollars, 1234.5, "$1,234.50"),
    ],
)
def test_numbers_as_people_read_them(form, value, written):
    assert form(value) == written


def test_numbers_that_are_not_known():
    unknown = PairRow(teacher="t", student="s")
    assert {fact.text for fact in facts.pair_facts(unknown)} == {"unknown"}
    cosine = next(fact for fact in facts.reliability_facts(RELIABILITY) if fact.label == "Gradient cosine")
    assert cosine.text == "none"
