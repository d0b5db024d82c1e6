"""`simct jobs`: list runs, or act on one; and the flags for where a run starts."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from simct.cli.arguments import dollars, rows, whole_number
from simct.cli.common import RUNS, find_run, follow, refuse_unused
from simct.errors import ConfigError, RunError, SimCTError, quoted
from simct.runs.status import State

if TYPE_CHECKING:
    # these are imported when they are used, because `simct --help` does not need them
    from simct.config import RunConfig
    from simct.jobs.backend import Rental
    from simct.runs.folder import RunFolder
    from simct.runs.labels import RunLabel
    from simct.runs.status import RunStatus

ACTIONS = {
    "list": "all runs, newest first",
    "stop": "write a checkpoint and end; a waiting run is removed from the queue",
    "kill": "end at once",
    "resume": "continue from the last checkpoint",
    "retry": "the same run.yaml from the start, as a new run",
    "duplicate": "a new run with changes, given by --set",
    "delete": "remove a run that has ended, and its private repository if it was on Jobs",
    "log": "the last lines of its log",
    "watch": "follow it until it ends",
    "label": "show its name, note, tags and star, or change them with the options below",
    "sync": "create run folders for Jobs that were started elsewhere",
}
HERE, JOBS = "here", "hf-jobs"
RENTAL = ("flavor", "namespace", "timeout", "spend_limit")
# the flags that each action reads, besides --runs
READ: dict[str, tuple[str, ...]] = {
    "list": ("json", "state", "tag", "star"),
    "log": ("lines",),
    "label": ("name", "note", "tag", "untag", "star", "unstar"),
    "duplicate": ("set", *RENTAL),
    "resume": RENTAL,
    "retry": RENTAL,
    "sync": ("namespace",),
}
FLAGS = tuple(dict.fromkeys(flag for flags in READ.values() for flag in flags))
LOG_LINES = 200


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    actions = "\n".join(f"  {name:10} {what}" for name, what in ACTIONS.items())
    jobs = commands.add_parser(
        "jobs",
        help="list runs, or act on one",
        description=f"actions:\n{actions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs.add_argument("action", nargs="?", choices=tuple(ACTIONS), default="list", metavar="ACTION")
    jobs.add_argument("folder", metavar="RUN", nargs="?", help="run folder or id")
    jobs.add_argument("--runs", default=RUNS, help="where runs are kept (default: %(default)s)")
    jobs.add_argument("--json", action="store_true", help="list as JSON")
    jobs.add_argument("--state", choices=get_args(State), help="list only runs in this state")
    jobs.add_argument("--lines", type=rows, help=f"lines of the log (default: {LOG_LINES})")
    jobs.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="a setting that the duplicate changes"
    )
    add_label_options(jobs)
    add_rental_options(jobs)
    jobs.set_defaults(run=run_jobs)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    label = parser.add_argument_group("label")
    label.add_argument("--name", help="the run's name in lists; empty removes it")
    label.add_argument("--note", help="a note about the run; empty removes it")
    label.add_argument("--tag", action="append", default=[], help="add a tag; also: list only runs that have it")
    label.add_argument("--untag", action="append", default=[], metavar="TAG", help="remove a tag")
    star = label.add_mutually_exclusive_group()
    star.add_argument("--star", action="store_true", help="star it; also: list starred runs only")
    star.add_argument("--unstar", action="store_true", help="remove the star")


def add_where_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for where a new run starts."""
    parser.add_argument("--on", choices=(HERE, JOBS), default=HERE, help="this machine or Hugging Face Jobs")
    parser.add_argument("--gpus", type=whole_number(1, 1024), help="GPUs of this machine to take (default: 1)")
    add_rental_options(parser)


def add_rental_options(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_argument_group("Hugging Face Jobs")
    jobs.add_argument("--flavor", help="the machine; without it the machines are listed with the run's estimated cost")
    jobs.add_argument("--namespace", help="user or organization that pays (default: the token's own)")
    jobs.add_argument(
        "--timeout",
        type=time_limit,
        metavar="TIME",
        help="end the Job after this time, such as 90m or 4h; a bare number is in seconds",
    )
    jobs.add_argument(
        "--spend-limit", type=dollars, metavar="USD", help="the most that the Job may cost, in US dollars; required"
    )


SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


MOST_HOURS = 24 * 365


class TimeLimit(float):
    """A number of hours, with the text that it was given as."""

    text: str

    def line(self) -> str:
        unit = next((unit for unit, seconds in SECONDS.items() if self * 3600 >= seconds), "s")
        return f"--timeout {self.text} is {self * 3600 / SECONDS[unit]:.4g} {'min' if unit == 'm' else unit}"


def time_limit(text: str) -> TimeLimit:
    """`90m`, `4h`, `2d` or a number of seconds, as `hf jobs` reads it, in hours."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; give one such as 90m, 4h, 2d or 3600 (seconds)")
    limit = TimeLimit(float(found[1]) * SECONDS[found[2] or "s"] / 3600)
    if not 0 < limit <= MOST_HOURS:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {MOST_HOURS // 24} days, got {text[:80]!r}")
    limit.text = text.strip()
    return limit


def start(options: argparse.Namespace, config: RunConfig) -> RunFolder:
    """Start or queue `config` where `options` say; returns the run. Raises a one-line SimCTError."""
    from simct.jobs import actions

    check_where(options)
    if options.on == HERE:
        return actions.start_here(options.runs, config, gpus=options.gpus)
    rental = rental_from(options, config)
    run = actions.start_on_jobs(options.runs, config, rental)
    print(f"on Hugging Face Jobs: {rental.line()}  ({run.status().job_url})", flush=True)
    return run


def check_where(options: argparse.Namespace) -> None:
    """Raise ConfigError for a flag that is about the other place, where nothing would read it."""
    if options.on == HERE:
        refuse_unused(options, RENTAL, f"is about a run on Hugging Face Jobs. Add --on {JOBS}, or leave it out.")
    else:
        refuse_unused(options, ["gpus"], "is about this machine. Choose a machine of Jobs with --flavor.")


def rental_from(options: argparse.Namespace, config: RunConfig) -> Rental:
    """The machine that the options name, with its spending limit. Raises ConfigError if an option is missing."""
    from simct.jobs.backend import Rental
    from simct.jobs.hf.hardware import offers
    from simct.jobs.hf.spending import chosen_hours

    offered = offers(config)
    if not options.flavor:
        for each in offered:
            print(f"  {each.line()}" + ("" if each.fits else f"  [{each.why or 'does not fit'}]"))
        raise ConfigError("Choose a machine with --flavor, and the most it may cost with --spend-limit.")
    offer = next((each for each in offered if each.machine.name == options.flavor), None)
    if offer is None:
        names = ", ".join(each.machine.name for each in offered)
        raise ConfigError(f"There is no machine {options.flavor!r}. Choose one of: {names}.")
    if offer.fits is False:
        raise ConfigError(
            f"The run does not fit {options.flavor}: it {offer.why}. Leave out --flavor to see all machines."
        )
    if options.spend_limit is None:
        raise ConfigError(f"Set the most it may cost with --spend-limit. {offer.line()}.")
    longest = chosen_hours(offer.machine, options.timeout, options.spend_limit)
    if isinstance(options.timeout, TimeLimit):
        print(options.timeout.line())
    if offer.hours is not None and offer.hours > longest:
        print(f"note: the run is estimated at {offer.hours:.1f} h, longer than the time limit; it can be resumed.")
    return Rental(offer.machine.name, longest, offer.machine.price, options.namespace)


def run_jobs(options: argparse.Namespace) -> int:
    unread = [flag for flag in FLAGS if flag not in READ.get(options.action, ())]
    refuse_unused(options, unread, f"is not read by `simct jobs {options.action}`. See `simct jobs --help`.")
    if options.folder and options.action in ("list", "sync"):
        raise ConfigError(f"`simct jobs {options.action}` takes no run, got {quoted(options.folder)}.")
    if options.action == "sync":
        return sync(options)
    if options.action == "list":
        advance(options.runs)
        return list_jobs(options)
    if not options.folder:
        raise ConfigError(f"`simct jobs {options.action}` needs a run id. See `simct jobs` for the list.")
    run = find_run(options.folder, options.runs)
    advance(run.path.parent)
    return act(options, run)


def advance(runs_dir: str | Path) -> None:
    """Start the runs that are due. If the disk cannot be written to, runs can still be listed."""
    from simct.jobs import actions

    try:
        actions.advance(runs_dir)
    except RunError as error:
        print(f"note: {error}", file=sys.stderr)


def act(options: argparse.Namespace, run: RunFolder) -> int:
    """Carry out the requested action on one run; returns the exit status."""
    from simct.jobs import actions

    match options.action:
        case "watch":
            return follow(run)
        case "label":
            print_label(options, run)
        case "log":
            print(actions.log(run, options.lines or LOG_LINES))
        case "delete":
            print(actions.delete(run))
        case "stop" | "kill":
            message = {"stop": actions.stop, "kill": actions.kill}[options.action](run)
            print(f"{run.id}: {run.status().state}. {message}")
        case "resume":
            print(f"{run.id}: {actions.resume(run, rental=rental_again(options, run))}")
        case "retry":
            print_started(actions.retry(run, rental=rental_again(options, run)))
        case "duplicate":
            config = actions.duplicate(run, dict(change(text) for text in options.set))
            rental = rental_again(options, run, config)
            if rental:
                print_started(actions.start_on_jobs(run.path.parent, config, rental))
            else:
                print_started(actions.start_here(run.path.parent, config, gpus=run.status().gpus))
    return 0


def print_label(options: argparse.Namespace, run: RunFolder) -> None:
    """Change the run's label according to the options, and print it."""
    from simct.runs.labels import change_label, read_label

    star = True if options.star else False if options.unstar else None
    wanted = (options.name, options.note, star)
    if any(each is not None for each in wanted) or options.tag or options.untag:
        label = change_label(run, options.name, options.note, options.tag, options.untag, star)
    else:
        label = read_label(run)
    print(f"{run.id}: {label.line or 'no name, tags or star'}")
    if label.note:
        print(label.note)


def print_started(run: RunFolder) -> None:
    from simct.jobs import actions

    print(f"run folder: {run.path}; it starts{actions.waiting_line(run) or ' now'}")


def change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes a.b=value, got {text!r}.")
    return name.strip(), value


def rental_again(options: argparse.Namespace, run: RunFolder, config: RunConfig | None = None) -> Rental | None:
    """The machine for another Job of a run, by default its last one, with a new spending limit; None for a local
    run.
    """
    from simct.jobs import actions

    if not run.status().remote:
        refuse_unused(options, RENTAL, f"is about a run on Hugging Face Jobs, and {run.id} is on this machine.")
        return None
    last = actions.rental_of(run)
    if last is not None:
        options.flavor = options.flavor or last.flavor
        options.namespace = options.namespace or last.namespace
        options.timeout = options.timeout or last.hours or None
    return rental_from(options, config or run.config())


def list_jobs(options: argparse.Namespace) -> int:
    """Print the runs, newest first. Active Jobs are updated first; if the Hub fails, their last known state is
    shown.
    """
    from simct.jobs import actions
    from simct.jobs.local import queue
    from simct.report.evaluations import distance_line
    from simct.runs.labels import read_label
    from simct.runs.listing import list_statuses

    trouble = None
    rows = []
    for run, status in list_statuses(options.runs):
        try:
            status = actions.refresh(run) if status.active else status
        except SimCTError as error:
            trouble = trouble or error
        rows.append((run, status))
    places = {run.id: place for place, (run, _) in enumerate(queue.in_order(rows), start=1)}
    rows = [(run, status) for run, status in rows if is_wanted(options, status, read_label(run))]
    if options.json:
        print(json.dumps([as_json(run, status, places.get(run.id)) for run, status in rows], indent=1))
    for run, status in rows if not options.json else ():
        message = queue.place_line(places[run.id], len(places)) if run.id in places else message_line(run, status)
        progress = f"{status.step}/{status.total_steps or 0}"
        measured = distance_line(status.distance)
        line = f"{message}  [{measured}]" if measured else message
        line = f"{read_label(run).line}  {line}".lstrip()
        print(f"{run.id:44} {status.state:9} {progress:>11}  {status.machine:12} {line}")
    if not rows and not options.json:
        chosen = options.state or options.tag or options.star
        print(f"There {'is no such run' if chosen else 'are no runs'} in {str(Path(options.runs).absolute())!r}.")
    if trouble is not None:
        raise trouble
    return 0


def is_wanted(options: argparse.Namespace, status: RunStatus, label: RunLabel) -> bool:
    """Whether a run is in the state, and has the tags and the star, that the options ask for."""
    tagged = {tag.lstrip("#") for tag in options.tag} <= {*label.tags}
    return options.state in (None, status.state) and tagged and (label.starred or not options.star)


def message_line(run: RunFolder, status: RunStatus) -> str:
    """The status in one line."""
    from simct.jobs import actions
    from simct.report.progress import progress_line

    quiet = actions.silence(run, status)
    if quiet is not None:
        return f"No update for {quiet / 60:.0f} min; last: {status.message}"
    return status.error or progress_line(status) or status.message or ""


def as_json(run: RunFolder, status: RunStatus, place: int | None) -> dict[str, Any]:
    """A run for scripts, with stable names and without this machine's process ids."""
    from simct.runs.labels import read_label

    names = ["state", "step", "total_steps", "method", "teacher", "student", "owner"]
    names += ["created_at", "started_at", "finished_at", "message", "error", "distance"]
    names += ["namespace", "flavor", "job_id", "job_url", "hours", "price"] if status.remote else []
    where, label = JOBS if status.remote else HERE, read_label(run)
    record: dict[str, Any] = {"id": run.id, "path": str(run.path), "on": where, "place": place}
    record |= {"name": label.name, "note": label.note, "tags": list(label.tags), "starred": label.starred}
    return record | {name: getattr(status, name) for name in names}


def sync(options: argparse.Namespace) -> int:
    from simct.jobs import actions
    from simct.jobs.hf.history import namespaces_of

    began = time.monotonic()
    names = [options.namespace] if options.namespace else namespaces_of()
    made = actions.sync(options.runs, names)
    for run in made:
        print(f"{run.id}: {run.status().state}")
    count = "1 run" if len(made) == 1 else f"{len(made)} runs"
    print(f"{count} created from the Jobs of {', '.join(names)} in {time.monotonic() - began:.1f} s")
    return 0
