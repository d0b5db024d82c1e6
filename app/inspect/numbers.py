"""What a report of `coverage.inspect_pair` says: headline numbers, charts, tables, and the same to take away."""

from app.page import bar_charts, markup, saving
from app.page.line_charts import mass
from app.server import model_facts as models
from simct.inspection.text_kinds import KINDS, TITLES

UNIT_KINDS = ("shared", "recovered", "outside")


def headline(report: dict) -> str:
    strict, recovered = report["student_strict_coverage"], report["student_recovered_coverage"]
    return markup.tiles(
        [
            (
                f"{report['shared_tokens']:,}",
                "shared tokens",
                "Tokens of both vocabularies with exactly the same bytes",
            ),
            (f"{report['jaccard']:.1%}", "vocabulary overlap", "Shared tokens over all tokens of both (Jaccard)"),
            (f"{strict:.1%}", "matched exactly", "Share of the student's tokens that the teacher cuts the same way"),
            (f"{recovered:.1%}", "recovered by SimCT", "Share of the student's tokens exact matching would lose"),
        ]
    )


def disagreements(report: dict) -> str:
    """The texts that the two sides cut differently, most frequent first."""
    if not report["top_disagreements"]:
        return "<h3>Where they disagree</h3>" + markup.empty("Nowhere: every token of this text is shared.")
    rows = [
        (
            markup.visible(row["text"]),
            *(markup.chips(map(markup.visible, row[f"{side}_tokens"])) for side in ("student", "teacher")),
            f"{row['count']:,}",
        )
        for row in report["top_disagreements"]
    ]
    table = markup.table(("Text", "Student", "Teacher", "Count"), rows, numeric=(3,), raw=(1, 2))
    return f"<h3>Where they disagree most</h3>{table}"


def shapes(report: dict) -> str:
    return bar_charts.heat_map(report["unit_shapes"])


def kinds(report: dict) -> str:
    """Shares of the student's tokens in shared, recovered and outside units, by kind of text."""
    rows = []
    for kind in KINDS:
        row = report["by_kind"].get(kind)
        if row:
            total = row["student_tokens"]
            parts = [row[name] / total for name in ("strict", "recovered", "outside")]
            rows.append((TITLES[kind], parts, f"{total:,}"))
    return bar_charts.stacked("Student tokens by kind", rows, UNIT_KINDS)


def vocabularies(report: dict) -> str:
    """How much of each vocabulary the other one has."""
    shared = report["shared_tokens"]
    rows = [
        (side, [shared / max(1, report[f"{side}_vocabulary"])], f"{report[f'{side}_vocabulary']:,} tokens")
        for side in ("student", "teacher")
    ]
    return bar_charts.bars("Vocabulary that both have", rows, ("shared",), mass, top=1.0)


def named(report: dict, teacher: str, student: str) -> dict:
    """The report with the pair it is about."""
    return {"teacher": models.display_name(teacher), "student": models.display_name(student), **report}


def disagreements_csv(report: dict) -> str:
    rows = [
        (row["text"], row["bytes"], " | ".join(row["student_tokens"]), " | ".join(row["teacher_tokens"]), row["count"])
        for row in report["top_disagreements"]
    ]
    return saving.as_csv(("text", "bytes", "student tokens", "teacher tokens", "count"), rows)
