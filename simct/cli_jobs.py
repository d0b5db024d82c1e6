"""`simct jobs`: list runs, and stop, kill, delete or read the log of one."""

from simct.cli_common import RUNS, find_run
from simct.errors import ConfigError


def add_parser(commands) -> None:
    jobs = commands.add_parser("jobs", help="list runs, or stop, kill or delete one")
    jobs.add_argument("action", nargs="?", choices=("list", "stop", "kill", "delete", "log"), default="list")
    jobs.add_argument("folder", metavar="RUN", nargs="?")
    jobs.add_argument("--runs", default=RUNS)
    jobs.set_defaults(run=run_jobs)


def run_jobs(options) -> int:
    from simct.jobs import local_job
    from simct.jobs.run_folder import list_runs

    if options.action == "list":
        for run in list_runs(options.runs):
            status = local_job.refresh(run)
            progress = f"{status.get('step', 0)}/{status.get('total_steps', 0)}"
            told = status.get("error") or status.get("message")
            print(f"{run.id:44} {status.get('state', '?'):9} {progress:>11}  {told}")
        return 0
    if not options.folder:
        raise ConfigError(f"`simct jobs {options.action}` needs a run id. See `simct jobs` for the list.")
    run = find_run(options.folder, options.runs)
    if options.action == "log":
        print(run.log_tail())
    elif options.action == "delete":
        local_job.refresh(run)
        run.delete()
    else:
        status = (local_job.stop if options.action == "stop" else local_job.kill)(run)
        print(f"{run.id}: {status['state']}")
    return 0
