"""What a run will take, beside the form: memory, time and cost, here and on machines of Hugging Face Jobs."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from app.data import source as data_source
from app.page import markup
from app.page.markup import duration, one_line
from app.server import model_facts as models
from app.server import work
from app.server.settings import Settings
from simct.config import RunConfig
from simct.errors import ConfigError, SimCTError

GIB = 1 << 30
HEAD = "<h3>What it will take</h3>"
ASSUMED_PROMPT = 256


def prompt_facts(
    settings: Settings, config: RunConfig, token: str | bool | None, rows: int | None
) -> tuple[int, int | None]:
    """(tokens of the longest prompt that is read here, how many prompts there are), as far as can be told."""
    teacher, student = (models.joined(each.model, each.revision) for each in (config.teacher, config.student))
    try:
        source, report = data_source.report(settings, teacher, student, config.data, config, token)
    except SimCTError:
        return ASSUMED_PROMPT, rows
    known = source.total or rows or len(source.prompts)
    return report.longest or ASSUMED_PROMPT, min(known, config.data.limit or known)


def estimate(settings: Settings, config: RunConfig, token: str | bool | None, rows: int | None = None) -> dict:
    """simct.estimate.time_and_cost's report, with this machine as "here". Raises a one-line SimCTError.

    `rows` is how many the dataset has, where that is known.
    """
    from simct.estimate.machines import MACHINES
    from simct.estimate.memory import load_shape_config
    from simct.estimate.time_and_cost import estimate_run

    prompt_tokens, count = prompt_facts(settings, config, token, rows)
    configs = tuple(load_shape_config(model, token) for model in (config.teacher, config.student))
    shared = {"prompt_tokens": prompt_tokens, "n_prompts": count, "token": token, "configs": configs}
    report = estimate_run(config, **shared)
    if settings.trains_here:
        here = _this_machine()
        if here.name in ("cpu", *(machine.name for machine in MACHINES)):
            local = estimate_run(config, here.name, **shared)
            report["here"] = {**local["hardware"][0], "peak": local["peak"]}
    return report


@lru_cache(maxsize=1)
def _this_machine():
    """The GPU of this machine as the estimate knows it, else its CPU."""
    import torch

    from simct.estimate.machines import MACHINES, this_cpu

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name().lower()
        return next((machine for machine in MACHINES if machine.name in name), this_cpu())
    return this_cpu()


def views(
    settings: Settings, describe: Callable[[], RunConfig], token: str | bool | None, rows: int | None
) -> Iterator[str]:
    """The estimate of the run that `describe()` gives as HTML; if it takes a while, first that it does."""

    def estimated(task: work.Work) -> str:
        try:
            config = describe()
        except ConfigError:
            # which stands beside its field
            return f"{HEAD}{markup.note('quiet', 'Told when all settings fit.')}"
        try:
            return view(estimate(settings, config, token, rows))
        except SimCTError as error:
            return f"{HEAD}{markup.note('quiet', one_line(error))}"

    for now in work.follow_if_long(estimated):
        busy, failed = markup.note("busy", "Estimating…"), markup.note("error", now.error)
        yield f"{HEAD}{busy}" if now.running else now.result or f"{HEAD}{failed}"


def view(report: dict) -> str:
    """Tiles for this machine (or the cheapest that fits), and the table of the others."""
    rows = report["hardware"]
    first = report.get("here") or min(
        (row for row in rows if row["fits"]), key=lambda row: row["cost"] or float("inf"), default=None
    )
    if first is None:
        head = markup.note("error", f"Needs {size(report['peak'])}: more than any one machine known here has.")
        return f"{HEAD}{head}{_table(rows)}"
    where = "this machine" if "here" in report else first["name"]
    tiles = [
        (
            size(first.get("peak", report["peak"])),
            f"of {size(first['memory'])} on {where}",
            "Peak memory: " + ", ".join(f"{name} {size(part)}" for name, part in report["phases"].items()),
        ),
        (hours(first["hours"]), "time, about", "An order of magnitude: completions of full length, without scoring"),
        (money(first["cost"]), "cost" if first["cost"] else "to pay", "US dollars, list price"),
    ]
    fits = "" if first["fits"] else markup.note("warn", f"Does not fit {where}. Choose another machine, or see Memory.")
    steps = "" if report["steps"] is None else f" · {report['steps']:,} steps"
    counts = (
        f"{report['student']['trainable']:,} weights trained{steps} · prompts of {report['prompt_tokens']:,} tokens"
    )
    return (
        f'{HEAD}{markup.tiles(tiles)}{fits}<p class="lead small">{counts}</p>'
        f"<details><summary>On other machines</summary>{_table(rows)}</details>"
    )


def _table(rows: list[dict]) -> str:
    cells = [
        (row["name"], size(row["memory"]), "yes" if row["fits"] else "no", hours(row["hours"]), money(row["cost"]))
        for row in rows
    ]
    return markup.table(("Machine", "Memory", "Fits", "Time", "Cost"), cells)


def size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count < 100 * GIB else f"{count / GIB:.0f} GiB"


def hours(value: float | None) -> str:
    return "unknown" if value is None else duration(max(1, 3600 * value))


def money(value: float | None) -> str:
    if value is None:
        return "?"
    return "nothing" if value == 0 else "under $0.01" if value < 0.01 else f"${value:,.2f}"
