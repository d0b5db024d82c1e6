"""`simct check`: all checks that are possible before a run starts, as a checklist. `distill` also runs them first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simct.cli import jobs as cli_jobs
from simct.cli.common import add_run_options, described_run, prepare_hub
from simct.cli.terminal import passing_line
from simct.errors import ConfigError

if TYPE_CHECKING:
    # these are imported when they are used, because `simct --help` does not need them
    from simct.config import RunConfig
    from simct.preflight.planned import PlannedRun
    from simct.preflight.records import Check, Preflight

MARKS = {"ok": "✓", "warning": "!", "problem": "✕"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="check everything that can be known before a run starts, and say how to fix it (no weights)",
        description="The exit status is 2 if there is a problem that would end the run, and 0 otherwise.",
    )
    check.add_argument("run_yaml", nargs="?", metavar="run.yaml", help="the same as --config")
    add_run_options(check)
    check.add_argument("--json", action="store_true", help="print the checklist as JSON")
    cli_jobs.add_where_options(check)
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    if options.run_yaml and options.config:
        raise ConfigError("Give run.yaml or --config, not both.")
    options.config = options.config or options.run_yaml
    found = checked(options, _described(options))
    if options.json:
        print(json.dumps(as_json(found), indent=1, ensure_ascii=False))
    else:
        print(format_checklist(found))
    return 2 if found.problems else 0


def _described(options: argparse.Namespace) -> RunConfig | ConfigError:
    """The run that the options describe; rules between settings are left to the checks."""
    try:
        return described_run(options)
    except ConfigError as error:
        return error


def checked(options: argparse.Namespace, config: RunConfig | ConfigError) -> Preflight:
    """The checklist of a run at the place that the options name."""
    from simct.preflight.checklist import run_checks
    from simct.preflight.records import Preflight, from_error

    if isinstance(config, ConfigError):
        return Preflight([from_error(config)])
    data = config.data
    prepare_hub(*(model.model for model in config.models), data.prompts, data.held_out_prompts)
    with _progress() as on_progress:
        return run_checks(planned_run(options, config), on_progress)


def planned_run(options: argparse.Namespace, config: RunConfig) -> PlannedRun:
    from simct.preflight.planned import Place, PlannedRun

    cli_jobs.check_where(options)

    place = Place(
        on_jobs=options.on == cli_jobs.JOBS,
        runs_dir=options.runs,
        gpus=options.gpus,
        flavor=options.flavor,
        namespace=options.namespace,
        push_to=tuple(filter(None, [getattr(options, "push_to", None)])),
    )
    return PlannedRun(config, place=place)


def refuse_problems(options: argparse.Namespace, config: RunConfig) -> None:
    """Run the checks before a run starts: print the data summary and the warnings, and raise the first problem."""
    found = checked(options, config)
    for each in found.checks:
        if each.state == "warning":
            print(f"warning: {each.text}", flush=True)
        elif each.state == "ok" and each.subject == "Prompts":
            print(each.text, flush=True)
    for each in found.problems[1:]:
        print(f"problem: {each.text}", flush=True)
    found.refuse()


def as_json(found: Preflight) -> dict:
    """The checklist for scripts."""
    counts = {"problems": len(found.problems), "warnings": len(found.warnings)}
    return {"ready": not found.problems, **counts, **found.to_dict()}


def format_checklist(found: Preflight) -> str:
    """The checklist for a terminal: a line for each check under its subject, and the remedy below it."""
    lines: list[str] = []
    subject = None
    for each in found.checks:
        if each.subject and each.subject != subject:
            lines.append(("\n" if lines else "") + each.subject)
        subject = each.subject
        lines += _lines(each)
    return "\n".join([*lines, "", summary(found)])


def _lines(check: Check) -> list[str]:
    return [f"  {MARKS[check.state]} {check.message}", *([f"      {check.remedy}"] if check.remedy else [])]


def summary(found: Preflight) -> str:
    """One line: whether the run can start."""
    from simct.report.formats import plural

    warnings = plural(len(found.warnings), "warning")
    if found.problems:
        return f"{plural(len(found.problems), 'problem')}, {warnings}: the run cannot start until you fix this."
    return f"Ready to start, {warnings}." if found.warnings else "Ready to start."


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """The current check, on standard error if it is a terminal; removed at the end."""
    with passing_line() as write:
        yield lambda subject, done, total: write(f"Checking {done + 1} of {total}: {subject.lower()}")
