"""`simct jobs`: list runs, and act on one; and, for the commands that start runs, where they start."""

import argparse
import json
import re
import time

from simct.cli.common import RUNS, find_run, follow
from simct.errors import ConfigError, SimCTError

ACTIONS = {
    "list": "all runs, newest first",
    "stop": "write a checkpoint and end; a run that waits is taken out of the queue",
    "kill": "end at once",
    "resume": "go on from the last checkpoint",
    "retry": "the same run.yaml from the start, as a new run",
    "duplicate": "a new run with changes, given by --set",
    "delete": "remove a run that is over, and its private repository if it was on Jobs",
    "log": "the end of what it printed",
    "watch": "follow it until it is over",
    "sync": "make run folders of Jobs that were started elsewhere",
}
HERE, JOBS = "here", "hf-jobs"


def add_parser(commands) -> None:
    told = "\n".join(f"  {name:10} {what}" for name, what in ACTIONS.items())
    jobs = commands.add_parser(
        "jobs",
        help="list runs, or act on one",
        description=f"actions:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs.add_argument("action", nargs="?", choices=tuple(ACTIONS), default="list", metavar="ACTION")
    jobs.add_argument("folder", metavar="RUN", nargs="?", help="run folder or id")
    jobs.add_argument("--runs", default=RUNS, help="where runs are kept (default: %(default)s)")
    jobs.add_argument("--json", action="store_true", help="list as JSON")
    jobs.add_argument("--state", help="list only runs in this state")
    jobs.add_argument("--lines", type=int, default=200, help="of the log (default: %(default)s)")
    jobs.add_argument("--set", action="append", default=[], metavar="A.B=C", help="what a duplicate changes")
    add_rental_options(jobs)
    jobs.set_defaults(run=run_jobs)


def add_where_options(parser: argparse.ArgumentParser) -> None:
    """Where a new run starts, for the commands that start one."""
    parser.add_argument("--on", choices=(HERE, JOBS), default=HERE, help="this machine or Hugging Face Jobs")
    parser.add_argument("--gpus", type=int, help="GPUs of this machine to take (default: 1)")
    add_rental_options(parser)


def add_rental_options(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_argument_group("Hugging Face Jobs")
    jobs.add_argument("--flavor", help="the machine; without it the machines are listed with what the run would cost")
    jobs.add_argument("--namespace", help="user or organization that pays (default: the token's own)")
    jobs.add_argument("--timeout", type=hours, metavar="TIME", help="end the Job after this, such as 90m or 4h")
    jobs.add_argument("--spend-limit", type=float, metavar="USD", help="what it may cost at the most; required")


def hours(text: str) -> float:
    """`90m`, `4h`, `2d` or a number of hours, in hours."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; give one such as 90m, 4h or 2d")
    return float(found[1]) * {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0, "": 1.0}[found[2]]


def start(options, config):
    """Start `config` where `options` say, or let it wait its turn; returns the run. Raises a one-line SimCTError."""
    from simct.jobs import actions

    if options.on == HERE:
        return actions.start_here(options.runs, config, gpus=options.gpus)
    rental = rental_from(options, config)
    run = actions.start_on_jobs(options.runs, config, rental)
    print(f"on Hugging Face Jobs: {rental.line()}  ({run.status().get('job_url')})", flush=True)
    return run


def rental_from(options, config):
    """The machine that the options name, with what it may cost. Raises ConfigError for what was not decided."""
    from simct.jobs.actions import Rental
    from simct.jobs.hf.hardware import chosen_hours, offers

    offered = offers(config)
    if not options.flavor:
        for each in offered:
            print(f"  {each.line()}" + ("" if each.fits else f"  [{each.why or 'does not fit'}]"))
        raise ConfigError("Choose a machine with --flavor, and what it may cost with --spend-limit.")
    offer = next((each for each in offered if each.machine.name == options.flavor), None)
    if offer is None:
        names = ", ".join(each.machine.name for each in offered)
        raise ConfigError(f"There is no machine {options.flavor!r}. Offered: {names}.")
    if offer.fits is False:
        raise ConfigError(f"The run does not fit {options.flavor}: it {offer.why}. See all without --flavor.")
    if options.spend_limit is None:
        raise ConfigError(f"Confirm what it may cost with --spend-limit. {offer.line()}.")
    time_limit = chosen_hours(offer.machine, options.timeout, options.spend_limit)
    if offer.hours is not None and offer.hours > time_limit:
        print(f"note: the run is estimated at {offer.hours:.1f} h, more than it is given; it can be resumed.")
    return Rental(offer.machine.name, time_limit, offer.machine.price, options.namespace)


def run_jobs(options) -> int:
    from simct.jobs import actions
    from simct.jobs.local import queue

    if options.action == "sync":
        return sync(options)
    if options.action == "list":
        queue.advance(options.runs)
        return list_jobs(options)
    if not options.folder:
        raise ConfigError(f"`simct jobs {options.action}` needs a run id. See `simct jobs` for the list.")
    run = find_run(options.folder, options.runs)
    queue.advance(run.path.parent)
    if options.action == "log":
        print_log(run, options.lines)
    elif options.action == "watch":
        return follow(run)
    elif options.action == "delete":
        print(actions.delete(run))
    elif options.action in ("stop", "kill"):
        told = {"stop": actions.stop, "kill": actions.kill}[options.action](run)
        print(f"{run.id}: {run.status()['state']}. {told}")
    elif options.action == "resume":
        print(f"{run.id}: {actions.resume(run, rental=renewed(options, run))}")
    elif options.action == "retry":
        started(actions.retry(run, rental=renewed(options, run)))
    else:
        config = actions.duplicate(run, dict(change(text) for text in options.set))
        rental = renewed(options, run, config)
        if rental:
            started(actions.start_on_jobs(run.path.parent, config, rental))
        else:
            started(actions.start_here(run.path.parent, config, gpus=run.status().get("gpus")))
    return 0


def started(run) -> None:
    from simct.jobs import actions

    print(f"run folder: {run.path}; it starts{actions.waiting_line(run) or ' now'}")


def change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes a.b=value, got {text!r}.")
    return name.strip(), value


def renewed(options, run, config=None):
    """For a run on Jobs, what it is given this time, which is confirmed anew; None for one of this machine."""
    from simct.jobs import actions

    if not actions.on_jobs(run):
        return None
    last = actions.rental_of(run)
    if last is not None:
        options.flavor = options.flavor or last.flavor
        options.namespace = options.namespace or last.namespace
        options.timeout = options.timeout or last.hours or None
    return rental_from(options, config or run.config())


def list_jobs(options) -> int:
    """Runs with their state, newest first; Jobs are asked about, and told as last known when they cannot be."""
    from simct.jobs import actions
    from simct.jobs.local import queue
    from simct.runs.folder import ACTIVE_STATES
    from simct.runs.listing import list_statuses

    trouble = None
    rows = []
    for run, status in list_statuses(options.runs):
        if status.get("backend") == "hf" and status.get("state") in ACTIVE_STATES:
            try:
                status = actions.refresh(run)
            except SimCTError as error:
                trouble = trouble or error
        rows.append((run, status))
    places = {run.id: place for place, (run, _) in enumerate(queue.in_order(rows), start=1)}
    rows = [(run, status) for run, status in rows if options.state in (None, status.get("state"))]
    if options.json:
        print(json.dumps([as_json(run, status, places.get(run.id)) for run, status in rows], indent=1))
    for run, status in rows if not options.json else ():
        told = queue.place_line(places[run.id], len(places)) if run.id in places else told_line(run, status)
        progress = f"{status.get('step', 0)}/{status.get('total_steps', 0)}"
        where = status.get("flavor", "Jobs") if status.get("backend") == "hf" else ""
        print(f"{run.id:44} {status.get('state', '?'):9} {progress:>11}  {where:12} {told}")
    if trouble is not None:
        raise trouble
    return 0


def told_line(run, status: dict) -> str:
    from simct.jobs.local import job as local_job

    quiet = local_job.silence(run, status)
    if quiet is not None:
        return f"No word for {quiet / 60:.0f} min; last: {status.get('message')}"
    return status.get("error") or status.get("message") or ""


def as_json(run, status: dict, place: int | None) -> dict:
    """What scripts are told of a run: stable names, nothing of this machine's processes."""
    names = ["state", "step", "total_steps", "method", "teacher", "student", "owner"]
    names += ["created_at", "started_at", "finished_at", "message", "error"]
    remote = ["namespace", "flavor", "job_id", "job_url", "hours", "price"] if status.get("backend") == "hf" else []
    told = {"id": run.id, "path": str(run.path), "on": JOBS if remote else HERE, "place": place}
    return told | {name: status.get(name) for name in names + remote}


def print_log(run, lines: int) -> None:
    """The trainer's own log, or of a Job that has told none yet what it printed."""
    text = run.log_tail(lines)
    if not text and run.status().get("job_id"):
        from simct.jobs.hf import job as hf_job

        text = "\n".join(list(hf_job.log_lines(run))[-lines:])
    print(text)


def sync(options) -> int:
    from simct.jobs.hf import history as hf_history

    began = time.monotonic()
    names = [options.namespace] if options.namespace else hf_history.namespaces_of()
    made = hf_history.rebuild(options.runs, names)
    for run in made:
        print(f"{run.id}: {run.status()['state']}")
    print(f"{len(made)} runs made from the Jobs of {', '.join(names)} in {time.monotonic() - began:.1f} s")
    return 0
