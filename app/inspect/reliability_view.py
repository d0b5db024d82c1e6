"""What `reliability.measure_pair` found, drawn: the verdict in words with its numbers, and each number as a plot."""

from app.page import bar_charts, markup, saving
from app.page.line_charts import mass, number
from app.server import model_facts as models
from simct.config import RunConfig, set_option
from simct.errors import ConfigError, DataError
from simct.inspection.text_kinds import TITLES


def keep(teacher: str, student: str, report: dict) -> dict:
    """What the browser keeps of a measured pair, and the Train step reads."""
    return {
        "teacher": teacher,
        "student": student,
        "method": report["method"],
        "method_options": report["method_options"],
        "settings": report["settings"],
        "words": report["verdict"],
        "report": report,
    }


def measured(known: dict | None, teacher: str, student: str) -> dict | None:
    """The report that is kept of this pair, or None."""
    known = known or {}
    return known.get("report") if (known.get("teacher"), known.get("student")) == (teacher, student) else None


def settled(config: RunConfig, known: dict | None) -> RunConfig:
    """The run with the method and the settings that were recommended; those it does not know are left out."""
    for name, value in ((known or {}).get("settings") or {}).items():
        try:
            set_option(config, name, value)
        except ConfigError:
            continue
    return config


def draw(report: dict) -> str:
    """Everything about a measured pair."""
    return (
        _verdict(report)
        + _tiles(report)
        + f'<div class="charts loose">{"".join(_charts(report))}</div>'
        + _kinds(report)
    )


def _verdict(report: dict) -> str:
    settings = {name: value for name, value in report["settings"].items() if value not in ({}, [], None)}
    words = report["verdict"].removeprefix(f"Use {report['method']}. ")
    rows = [(name, str(value)) for name, value in settings.items()]
    sample = f"Measured on {report['answers']:,} answers of the student"
    sample += " (canceled early)." if report.get("stopped") else "."
    if report["excluded"]:
        left = "; ".join(f"{count:,} × {reason}" for reason, count in report["excluded"].items())
        sample += f" Left out: {left}."
    return (
        f'<div class="verdict"><b>Use {markup.escape(str(report["method"]))}</b>'
        f"<p>{markup.escape(words)}</p>{markup.table(('Setting', 'Recommended'), rows)}</div>"
        f'<p class="under">{markup.escape(sample)}</p>'
    )


def _tiles(report: dict) -> str:
    cosine = report["gradient_cosine"]
    return markup.tiles(
        [
            (f"{report['mass_teacher']:.1%}", "teacher's mass on shared tokens", "Mean over units"),
            (f"{report['mass_student']:.1%}", "student's mass on shared tokens", "Mean over units"),
            (
                f"{report.get('prefix_conflict_mass', 0):.1%}",
                "prefix conflicts",
                "Student's mass on shared tokens that are only the first piece of a heavier teacher token",
            ),
            (
                f"{report.get('hindsight_mass', 0):.1%}",
                "hindsight",
                "Once the teacher's token is written, the share of what it could have meant that goes on past it",
            ),
            (
                "none" if cosine is None else f"{cosine:+.2f}",
                "gradient cosine",
                "Between the gradients of exact matches and of recovered units; none where nothing is recovered",
            ),
        ]
    )


def _charts(report: dict) -> list[str]:
    z_t, kl = report["z_t"], report["kl_quantiles"]
    places = [
        ("shared, teacher", [report["mass_teacher"]], "Teacher's mass on shared tokens"),
        ("shared, student", [report["mass_student"]], "Student's mass on shared tokens"),
        ("candidates", [report["candidate_mass"]], "Teacher's mass on SimCT's candidates (Z_T)"),
        ("prefix conflict", [report.get("prefix_conflict_mass")], "Student's mass on first pieces"),
        ("hindsight", [report.get("hindsight_mass")], "Teacher's mass past its own boundary"),
    ]
    divergences = [
        (
            f"{told}, {place}",
            [None if quantiles is None else quantiles[index]],
            f"{place} of {report[f'units_{name}']:,} units",
        )
        for name, told in (("shared", "1:1"), ("recovered", "recovered"))
        for index, place in ((0, "10 %"), (1, "median"), (2, "90 %"))
        for quantiles in (kl[name],)
    ]
    means = f"means {number(report['kl_shared'])} on 1:1 units and {number(report['kl_recovered'])} on recovered ones"
    cosine = report["gradient_cosine"]
    cosines = [("exact · recovered", [cosine], "below 0: the two parts pull apart")]
    return [
        bar_charts.bars("Where the probability is", places, ("mass",), mass, top=1.0),
        bar_charts.histogram(
            "Z_T: teacher's mass on candidates",
            z_t["edges"],
            {"1:1 units": z_t["shared"], "recovered units": z_t["recovered"]},
            f"{z_t['below_half']:.1%} of units below 0.5; above 1 where a unit counts besides its first piece",
        ),
        bar_charts.bars("KL of a unit, nats", divergences, ("KL",), number, told=means),
        bar_charts.bars("Gradient cosine", cosines, ("cosine",), lambda value: f"{value:+.2f}", top=1.0, low=-1.0),
    ]


def _kinds(report: dict) -> str:
    if not report["recovered_kinds"]:
        return ""
    rows = [
        (TITLES.get(kind, kind), *(f"{row[name]:,}" for name in ("student_splits", "teacher_splits", "both_split")))
        for kind, row in report["recovered_kinds"].items()
    ]
    headers = ("Recovered units", "student splits", "teacher splits", "both split")
    return f"<h3>What is split, by kind of text</h3>{markup.table(headers, rows, numeric=(1, 2, 3))}"


def given(known: dict | None, teacher: str, student: str) -> dict:
    report = measured(known, teacher, student)
    if report is None:
        raise DataError("This pair has not been measured yet.")
    return {"teacher": models.display_name(teacher), "student": models.display_name(student), **report}


def report_csv(report: dict) -> str:
    """The single numbers, one a line."""
    rows = [(name, value) for name, value in report.items() if isinstance(value, int | float | str)]
    return saving.as_csv(("name", "value"), rows)
