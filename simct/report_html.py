"""The report of a pair as one HTML page that needs nothing else: opened from disk, sent by mail, light or dark."""

from html import escape


def html_report(
    report: dict,
    segments: list[dict],
    *,
    scores: list[dict] | None = None,
    candidates: dict | None = None,
    comparison: list[dict] | None = None,
) -> str:
    """One self-contained page.

    report: of `inspect_pair` or `inspect_corpus`, with `teacher` and `student` (names) and, where measured,
    `reliability`. segments: of `coverage.segments`. scores: of `candidates.score_units` over the same text. candidates:
    of `candidates_at`. comparison: of `compare_pairs`.
    """
    return f"<!doctype html><title>{escape(str(report.get('teacher', '')))}</title>"
