"""The report of a pair as one HTML page that needs nothing else: opened from disk, sent by mail, light or dark.

Every text from outside is escaped here or set as text by the page's script; the page forbids itself any request.
"""

import json
from html import escape
from pathlib import Path

from simct.inspection.text_kinds import TITLES, drawn
from simct.report import charts

FOLDER = Path(__file__).parent / "templates"
KINDS = ("shared", "recovered", "outside")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


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
    `reliability`. segments: of `coverage.segments`; none leaves the lanes out. scores: of `candidates.score_units` over
    the same text. candidates: of `candidates_at`, with the unit's `index`. comparison: of `compare_pairs`.
    """
    teacher, student = escape(str(report.get("teacher", "teacher"))), escape(str(report.get("student", "student")))
    reliability = report.get("reliability")
    chosen = candidates.get("index", -1) if candidates else -1
    data = {"units": _units(segments, scores), "chosen": chosen, "report": report}
    sections = [
        _verdict(reliability) if reliability else "",
        _tiles(report),
        _lanes(bool(scores)) if segments else "",
        _candidates(candidates) if candidates else "",
        _charts(report, reliability),
        _kinds(report),
        _disagreements(report),
        _reliability(reliability) if reliability else "",
        _comparison(comparison) if comparison else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{teacher} → {student}</title>\n<style>\n{_page('page.css')}</style>\n</head>\n<body>\n"
        f'<header><span class="save"><button data-save="json">Save JSON</button></span><h1>{teacher} → {student}</h1>'
        '<p class="dim">Where the two tokenizers cut the same text in the same places, and what SimCT recovers where '
        f"they do not. {_extent(report)}</p></header>\n"
        f"{''.join(filter(None, sections))}\n"
        f'<script type="application/json" id="data">{_json(data)}</script>\n<script>\n{_page("page.js")}</script>\n'
        "</body>\n</html>\n"
    )


def _page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _json(data: dict) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _units(segments: list[dict], scores: list[dict] | None) -> list[list]:
    """What the script draws, one list a unit."""
    rows = []
    for index, segment in enumerate(segments):
        row = [
            KINDS.index(segment["kind"]),
            segment["student_ids"],
            segment["teacher_ids"],
            [drawn(piece) for piece in segment["student_pieces"]],
            [drawn(piece) for piece in segment["teacher_pieces"]],
            segment["bytes"],
            segment["byte_start"],
            segment["reason"],
        ]
        if scores and index < len(scores):
            row.append([round(scores[index][name], 5) for name in ("student_logprob", "teacher_logprob", "kl", "z_t")])
        rows.append(row)
    return rows


def _extent(report: dict) -> str:
    words = f"{report['texts']:,} texts, {report['bytes']:,} bytes, {report['student_tokens']:,} student and "
    words += f"{report['teacher_tokens']:,} teacher tokens."
    if report.get("stopped"):
        words += " Stopped before the end."
    for reason, count in report["excluded"].items():
        words += f" Left out: {count:,}, {reason}."
    return escape(words)


def _verdict(reliability: dict) -> str:
    head, _, reasons = reliability["verdict"].partition(". ")
    settings = {name: value for name, value in reliability.get("settings", {}).items() if value not in ({}, None)}
    told = "".join(
        f"<li><code>{escape(name)}: {escape(value if isinstance(value, str) else json.dumps(value))}</code></li>"
        for name, value in settings.items()
    )
    return f'<div class="verdict"><b>{escape(head)}.</b>{escape(reasons)}<ul>{told}</ul></div>'


def _tiles(report: dict) -> str:
    tiles = (
        (f"{report['shared_tokens']:,}", "shared tokens (the same bytes)"),
        (_percent(report["jaccard"]), "vocabulary overlap (Jaccard)"),
        (_percent(report["student_strict_coverage"]), "of student tokens matched exactly"),
        (_percent(report["student_recovered_coverage"]), "more recovered by SimCT"),
    )
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)
    return f'<div class="tiles">{cells}</div>'


def _lanes(scored: bool) -> str:
    with_scores = " Both models' log-probabilities and the KL of a unit are in its details." if scored else ""
    return (
        '<h2>The text, cut by both</h2><div class="legend"><span class="shared"><i></i>shared: one token on each side'
        '</span><span class="recovered"><i></i>recovered: lost to exact matching, one unit to SimCT</span>'
        '<span class="outside"><i></i>outside: not supervised</span><span>upper lane: student, lower lane: teacher'
        '</span></div><div class="pager"><button id="back">← Page</button><span id="where"></span>'
        '<button id="on">Page →</button><button id="previous">← Disagreement</button>'
        '<button id="next">Disagreement →</button>'
        '<label>byte <input id="go" type="number" min="0"></label></div>'
        '<div class="lanes" role="group" aria-label="Aligned units; arrow keys move between them, n and p between '
        'disagreements"></div><p class="told" aria-live="polite">Point at a unit, or use the arrow keys, for its ids '
        f"and bytes.{with_scores}</p><noscript>The lanes need the page's own script.</noscript>"
    )


def _charts(report: dict, reliability: dict | None) -> str:
    figures = [
        ("coverage", "Student tokens", charts.coverage_bars(report), ("strict", "recovered", "outside")),
        ("shapes", "Unit shapes", charts.shape_map(report["unit_shapes"]), ()),
        ("vocabulary", "Vocabularies", charts.vocabulary_bars(report), ()),
    ]
    if reliability:
        kinds = ("shared", "recovered")
        figures += [
            ("z_t", "Teacher mass on the candidates (Z_T), units", charts.mass_histogram(reliability["z_t"]), kinds),
            ("kl", "KL of a unit (nats): 10–90 %, median, mean", charts.kl_ranges(reliability), kinds),
        ]
    return f'<h2>Charts</h2><div class="charts">{"".join(_figure(*figure) for figure in figures)}</div>'


def _figure(name: str, title: str, svg: str, keys: tuple[str, ...]) -> str:
    colors = {"strict": "--gray", "shared": "--gray", "recovered": "--blue", "outside": "--orange"}
    words = {"strict": "matched exactly"}
    legend = "".join(f'<span><i style="background:var({colors[key]})"></i>{words.get(key, key)}</span>' for key in keys)
    return (
        f'<figure data-name="{name}"><figcaption>{escape(title)}<span class="save">'
        '<button data-save="svg">SVG</button><button data-save="png">PNG</button></span></figcaption>'
        f'{svg}<div class="legend">{legend}</div></figure>'
    )


def _kinds(report: dict) -> str:
    rows = []
    for kind, row in report["by_kind"].items():
        count = row["student_tokens"]
        rows.append(
            [TITLES[kind], _number(count)]
            + [cell for name in KINDS_OF_TOKENS for cell in (_number(row[name]), _share(row[name] / count))]
        )
    head = ("kind of text", "student tokens", "matched exactly", "share", "recovered", "share", "outside", "share")
    return _section("by-kind", "By kind of text", head, rows, numeric=range(1, 8))


KINDS_OF_TOKENS = ("strict", "recovered", "outside")


def _disagreements(report: dict) -> str:
    rows = [
        [
            f'<td class="text" data-value="{escape(row["text"])}">{escape(drawn(row["text"]))}</td>',
            _chips(row["student_tokens"]),
            _chips(row["teacher_tokens"]),
            _number(row["count"]),
        ]
        for row in report["top_disagreements"]
    ]
    if not rows:
        return "<h2>Most frequent disagreements</h2><p>None: every token of this text is shared.</p>"
    lost = report.get("disagreements_lost", 0)
    note = f"Rare ones were dropped on the way: a count may be too low by up to {lost:,}." if lost else ""
    return _section(
        "disagreements", "Most frequent disagreements", ("text", "student", "teacher", "count"), rows, (3,), note
    )


def _candidates(candidates: dict) -> str:
    unit = candidates["unit"]
    place = f"“{drawn(unit['text'])}”, byte {unit['byte_start']:,}"
    title = f"Candidates at {place}"
    if "Z_T" not in candidates:
        return (
            f"<h2>{escape(title)}</h2><p>{candidates['candidates']:,} candidates: "
            f"{candidates['shared_candidates']:,} shared tokens"
            f"{' and the unit itself' if candidates['rows'] else ''}. Their masses need both models' weights.</p>"
        )
    lost = candidates["thrown_away_by_strict"]
    words = (
        f"{candidates['candidates']:,} candidates with {candidates['Z_S']:.1%} of the student's and "
        f"{candidates['Z_T']:.1%} of the teacher's mass (Z_S, Z_T); KL {candidates['kl']:.4f} nats. "
    )
    words += (
        f"Exact matching throws this row away: {lost['student_tokens']} student and {lost['teacher_tokens']} teacher "
        f"tokens, on which the models put {lost['student_mass']:.2%} and {lost['teacher_mass']:.2%}."
        if lost["row"]
        else "Exact matching keeps this row."
    )
    rows = [_candidate(row) for row in candidates["rows"]]
    rest = candidates["rest"]
    if rest["candidates"]:
        rows.append(_candidate(rest | {"text": f"{rest['candidates']:,} others", "kind": "", "written": False}))
    columns = ("text", "student p", "teacher p", "student q", "teacher q")
    outside = [
        [
            f'<td class="text" data-value="{escape(row["text"])}">{escape(drawn(row["text"]))}</td>',
            _number(row["teacher_id"]),
            _share(row["mass"], 3),
            _chips(row["student_tokens"]),
        ]
        for row in candidates["teacher_outside"]
    ]
    return _section(
        "candidates", title, columns, rows, (3, 4), "q is p over the mass of all candidates.", words
    ) + _section(
        "teacher-outside",
        "The teacher's heaviest tokens that the student has not",
        ("text", "teacher id", "teacher p", "as the student would spell it"),
        outside,
        (1, 2),
    )


def _candidate(row: dict) -> list[str]:
    marks = [word for word, here in (("unit", row["kind"] == "unit"), ("written", row["written"])) if here]
    text = drawn(row["text"]) if row.get("bytes") else row["text"]
    told = f' <small class="dim">{", ".join(marks)}</small>' if marks else ""
    return [
        f'<td class="text" data-value="{escape(row["text"])}">{escape(text)}{told}</td>',
        *(_mass(side, row[f"{side}_mass"]) for side in ("student", "teacher")),
        *(_share(row[f"{side}_q"], 3) for side in ("student", "teacher")),
    ]


def _mass(side: str, value: float) -> str:
    return (
        f'<td data-value="{value!r}"><span class="mass {side}"><span class="num">{value:.3%}</span>'
        f'<i style="width:{100 * min(max(value, 0.0), 1.0):.2f}%"></i></span></td>'
    )


def _reliability(report: dict) -> str:
    cosine, total = report["gradient_cosine"], report["units_shared"] + report["units_recovered"]
    rows = [
        ("answers of the student", report.get("answers", ""), f"{total:,} units"),
        ("student mass on shared tokens", report["mass_student"], "mean over units"),
        ("teacher mass on shared tokens", report["mass_teacher"], "mean over units"),
        (
            "teacher mass on the candidates (Z_T)",
            report["candidate_mass"],
            f"{report['z_t']['below_half']:.1%} below ½",
        ),
        (
            "prefix conflicts",
            report.get("prefix_conflict_mass", 0.0),
            "student mass on shared tokens that are first pieces of heavier teacher tokens",
        ),
        (
            "hindsight",
            report.get("hindsight_mass", 0.0),
            "of what the teacher could mean once its token is written, what goes on past it",
        ),
        ("KL, shared units", report["kl_shared"], f"nats, {report['units_shared']:,} units"),
        ("KL, recovered units", report["kl_recovered"], f"nats, {report['units_recovered']:,} units"),
        ("gradient cosine", "none" if cosine is None else cosine, "between exact matches and recovered units"),
    ]
    cells = [
        [f"<td>{escape(name)}</td>", f'<td class="num">{_plain(value)}</td>', f"<td>{escape(note)}</td>"]
        for name, value, note in rows
    ]
    return _section("reliability", "Measured with weights", ("what", "value", ""), cells, (1,))


def _comparison(rows: list[dict]) -> str:
    cells = []
    for row in rows:
        names = [f"<td>{escape(row['teacher'])}</td>", f"<td>{escape(row['student'])}</td>"]
        if row["error"]:
            cells.append([*names, f'<td class="error" colspan="5">{escape(row["error"])}</td>'])
            continue
        numbers = [_number(row["shared_tokens"]), *(_share(row[name]) for name in ("jaccard", "strict", "recovered"))]
        cells.append([*names, *numbers, f"<td>{escape(row['method'] or '')}</td>"])
    head = ("teacher", "student", "shared tokens", "Jaccard", "matched exactly", "recovered", "method")
    verdicts = "".join(
        f"<li><b>{escape(row['teacher'])} → {escape(row['student'])}</b> {escape(row['verdict'])}</li>"
        for row in rows
        if row["verdict"]
    )
    table = _section("comparison", "Compared pairs", head, cells, range(2, 6))
    return table + (f'<ul class="verdicts">{verdicts}</ul>' if verdicts else "")


def _section(name: str, title: str, head, rows: list[list[str]], numeric=(), note: str = "", intro: str = "") -> str:
    """A table with its title and a button that saves it. A cell is HTML of this module, or text."""
    columns = "".join(
        f"<th{' class=num' if column in numeric else ''}>{escape(text)}</th>" for column, text in enumerate(head)
    )
    body = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    words = f"<p>{escape(intro)}</p>" if intro else ""
    under = f'<p class="dim">{escape(note)}</p>' if note else ""
    return (
        f'<section data-name="{name}"><span class="save"><button data-save="csv">CSV</button></span>'
        f"<h2>{escape(title)}</h2>{words}"
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{under}</section>"
    )


def _chips(pieces: list[str]) -> str:
    chips = "".join(f"<i>{escape(drawn(piece))}</i>" for piece in pieces)
    return f'<td data-value="{escape(" ".join(map(repr, pieces)))}"><span class="chips">{chips}</span></td>'


def _number(value: int) -> str:
    return f'<td class="num" data-value="{value}">{value:,}</td>'


def _share(value: float, digits: int = 1) -> str:
    return f'<td class="num" data-value="{value!r}">{value:.{digits}%}</td>'


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _plain(value) -> str:
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
