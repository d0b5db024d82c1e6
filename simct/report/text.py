"""Reports of a pair as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simct.inspection.candidates import _percents
from simct.inspection.text_kinds import TITLES


def format_report(report: dict) -> str:
    """The report as text for a terminal."""
    lines = [
        f"Shared tokens   {report['shared_tokens']:,} byte-equal, of {report['student_vocabulary']:,} (student) and "
        f"{report['teacher_vocabulary']:,} (teacher); Jaccard {report['jaccard']:.2%}",
        f"Student tokens  {report['student_strict_coverage']:.2%} matched exactly, "
        f"{report['student_recovered_coverage']:.2%} more recovered by SimCT",
        f"Teacher tokens  {report['teacher_strict_coverage']:.2%} matched exactly",
        f"Text            {report['texts']:,} texts, {report['bytes']:,} bytes, {report['student_tokens']:,} student "
        f"and {report['teacher_tokens']:,} teacher tokens",
    ]
    if report["unit_shapes"]:
        shapes = ", ".join(f"{shape}: {n:,}" for shape, n in list(report["unit_shapes"].items())[:8])
        lines.append(f"Unit shapes     {shapes} (student x teacher tokens)")
    if report["excluded"]:
        lines += [f"Left out        {n:,} texts: {reason}" for reason, n in report["excluded"].items()]
    else:
        lines.append("Left out        nothing")
    if report["by_kind"]:
        lines += ["", f"{'By kind of text':<18}{'student tokens':>15}{'exact':>10}{'recovered':>11}"]
        for kind, row in report["by_kind"].items():
            n = row["student_tokens"]
            lines.append(f"  {TITLES[kind]:<16}{n:>15,}{row['strict'] / n:>10.2%}{row['recovered'] / n:>11.2%}")
    if report["top_disagreements"]:
        lines += ["", "Most frequent disagreements (student | teacher)"]
        for row in report["top_disagreements"]:
            student, teacher = (quoted(row[f"{side}_tokens"]) for side in ("student", "teacher"))
            lines.append(f"  {row['count']:>7,}  {student} | {teacher}")
    return "\n".join(lines)


def format_reliability(report: dict) -> str:
    """The numbers and the verdict, for a terminal."""
    cosine, z_t, quantiles = report["gradient_cosine"], report["z_t"], report["kl_quantiles"]
    counts = [shared + recovered for shared, recovered in zip(z_t["shared"], z_t["recovered"], strict=True)]
    lines = [
        (
            "Answers",
            f"{report['answers']} of the student, {report['units_shared'] + report['units_recovered']:,} units",
        ),
        (
            "On shared tokens",
            f"{report['mass_teacher']:.1%} of the teacher, {report['mass_student']:.1%} of the student",
        ),
        ("SimCT's candidates", f"{report['candidate_mass']:.3f} of the teacher's mass"),
        ("Z_T of units", f"0 {_bars(counts)} 1 and above; {z_t['below_half']:.1%} of the units are below 0.5"),
        ("Prefix conflicts", f"{report.get('prefix_conflict_mass', 0):.1%} of the student's mass"),
        ("Hindsight", f"{report.get('hindsight_mass', 0):.1%} of the teacher's mass"),
        ("KL of a unit", _kl_words("shared", report["kl_shared"], quantiles["shared"])),
        ("", _kl_words("recovered", report["kl_recovered"], quantiles["recovered"])),
        ("Gradient cosine", "none" if cosine is None else f"{cosine:+.2f} between exact matches and recovered units"),
    ]
    table = "\n".join(f"{name:18} {value}" for name, value in lines)
    return f"{table}\nVerdict            {report['verdict']}"


def _kl_words(name: str, mean: float, quantiles: list[float] | None) -> str:
    if quantiles is None:
        return f"no {name} units"
    low, middle, high = quantiles
    return f"{mean:.3f} {name} (nats; median {middle:.3f}, from {low:.3f} at 10 % to {high:.3f} at 90 %)"


def _bars(counts: list[int]) -> str:
    """A histogram in one line; whatever is not empty is seen."""
    most = max([*counts, 1])
    return "".join("·▁▂▃▄▅▆▇█"[-(-8 * count // most)] for count in counts)


def format_comparison(rows: Sequence[dict]) -> str:
    """The table for a terminal, with verdicts and reasons under it."""
    names = [f"{row['teacher']} → {row['student']}" for row in rows]
    width = min(max(map(len, names), default=4), 72)
    lines = [f"{'pair':<{width}}{'shared':>10}{'Jaccard':>10}{'exact':>10}{'recovered':>11}  method"]
    notes = []
    for name, row in zip(names, rows, strict=True):
        shown = name if len(name) <= width else f"…{name[1 - width :]}"
        if row["error"]:
            lines.append(f"{shown:<{width}}  {row['error']}")
            continue
        shares = f"{row['jaccard']:>10.2%}{row['strict']:>10.2%}{row['recovered']:>11.2%}"
        lines.append(f"{shown:<{width}}{row['shared_tokens']:>10,}{shares}  {row['method'] or ''}".rstrip())
        if row["verdict"]:
            notes.append(f"{name}: {row['verdict']}")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def format_candidates(found: dict) -> str:
    """What `candidates_at` found, for a terminal."""
    unit = found["unit"]
    student, teacher = (quoted(unit[f"{side}_pieces"]) for side in ("student", "teacher"))
    lines = [
        f"At unit {found['index']} (byte {unit['byte_start']:,}), {unit['kind']}: {student} (student) | {teacher} "
        "(teacher)",
        f"Candidates      {found['candidates']:,}: {found['shared_candidates']:,} shared tokens"
        f"{' and the unit' if found['candidates'] > found['shared_candidates'] else ''}",
    ]
    if "Z_T" not in found:
        return "\n".join([*lines, "                their masses need both models: add --weights"])
    lost = found["thrown_away_by_strict"]
    lines += [
        f"Their mass      {found['Z_S']:.2%} of the student (Z_S), {found['Z_T']:.2%} of the teacher (Z_T); "
        f"KL {found['kl']:.4f} nats",
        f"Exact matching  throws this row away: {lost['student_tokens']} student and {lost['teacher_tokens']} teacher "
        f"tokens, mass {lost['student_mass']:.2%} and {lost['teacher_mass']:.2%}"
        if lost["row"]
        else "Exact matching  keeps this row",
        "",
        f"  {'candidate':<24}{'student p':>11}{'teacher p':>11}{'student q':>11}{'teacher q':>11}",
    ]
    for row in found["rows"]:
        marks = ("  unit" if row["kind"] == "unit" else "") + ("  written" if row["written"] else "")
        lines.append(f"  {quoted([row['text']]):<24}{_percents(row)}{marks}")
    if found["rest"]["candidates"]:
        lines.append(f"  {found['rest']['candidates']:,} others".ljust(26) + _percents(found["rest"]))
    if found["teacher_outside"]:
        lines += ["", "  The teacher's heaviest tokens that the student has not, as the student would spell them"]
        lines += [
            f"  {quoted([row['text']]):<24}{row['mass']:>11.3%}  {quoted(row['student_tokens']) or 'not at all'}"
            for row in found["teacher_outside"]
        ]
    return "\n".join(lines)


def quoted(pieces: Iterable[str]) -> str:
    """Pieces for a terminal, each in quotes; bytes that are no character stand as \\xNN there too."""
    return " ".join(repr(piece).replace("\\\\x", "\\x") for piece in pieces)
