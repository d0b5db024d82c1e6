"""The estimate next to the form: memory, time and cost of the run, on this machine and on those of Hugging Face
Jobs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.data import prompt_source
from app.page import markup
from app.page.markup import one_line
from app.reading.setup import explicit_token
from app.server.machine import this_machine
from app.server.model_facts import allowed, joined
from app.server.studio import Studio
from app.server.work import Work, follow
from app.train.checklist_view import FIELDS
from app.train.where import HERE, Place
from simct.config import RunConfig
from simct.config.teachers import teachers_of, with_one_teacher
from simct.errors import ConfigError, SimCTError
from simct.report import estimates
from simct.report.formats import size

if TYPE_CHECKING:
    from simct.estimate.records import Estimate, MachineEstimate

HEAD = "<h3>What it will take</h3>"
ASSUMED_PROMPT = 256


@dataclass(frozen=True)
class Shown:
    """The estimate as HTML, and the run's steps; `done` once it is the estimate of the requested version."""

    html: str
    steps: int | None = None
    done: bool = True


def prompt_facts(
    studio: Studio, config: RunConfig, token: str | bool | None, rows: int | None
) -> tuple[int, int | None]:
    """(tokens of the longest prompt read here, number of prompts), as far as they are known."""
    # the longest prompt is about equally long in any teacher's template
    teacher, *_, student = _names(config)
    try:
        first = with_one_teacher(config, teachers_of(config)[0])
        source, report = prompt_source.report(studio, teacher, student, config.data, first, token)
    except SimCTError:
        return ASSUMED_PROMPT, rows
    known = source.total or rows or source.count
    if known <= source.summary.rows:  # all of the prompts were read
        known = len(report.trained_rows) + report.held_out
    longest = min(report.longest, config.data.max_tokens or report.longest)
    return longest or ASSUMED_PROMPT, min(known, config.data.limit or known)


def estimate(studio: Studio, config: RunConfig, token: str | bool | None, rows: int | None = None) -> "Estimate":
    """The estimate of a run on every known machine, with this one as `here`. Raises a one-line SimCTError.

    `rows` is the number of rows of the dataset, if known.
    """
    from app.reading import runs
    from simct.estimate.machines import MACHINES

    for model in config.models:
        allowed(studio, model.model)
    prompt_tokens, n_prompts = prompt_facts(studio, config, token, rows)
    here = studio.kept(this_machine)() if studio.trains_here else None
    known = here is not None and here.name in ("cpu", *(machine.name for machine in MACHINES))
    asked = (config, explicit_token(token), prompt_tokens, n_prompts, here.name if here and known else None)
    return studio.workers.run(runs.estimate, *asked, what="The estimate", near=("estimate", *_names(config)))


def _names(config: RunConfig) -> tuple[str, ...]:
    return tuple(joined(model.model, model.revision) for model in config.models)


def views(
    studio: Studio,
    describe: Callable[[], RunConfig],
    token: str | bool | None,
    rows: int | None,
    before: str,
    place: Place,
) -> Iterator[Shown]:
    """The estimate of the run that `describe()` returns; while it is computed, the previous one, dimmed."""

    def estimated(work: Work) -> Shown:
        try:
            config = describe()
        except ConfigError:
            # the error is shown next to its field
            return Shown(f"{HEAD}{markup.note('quiet', 'There is an estimate once all settings are valid.')}")
        try:
            found = estimate(studio, config, token, rows)
        except SimCTError as error:
            return Shown(f"{HEAD}{markup.note('quiet', one_line(error))}")
        return Shown(view(found, place), found.steps)

    for work in follow(estimated):
        if work.running:
            yield Shown(markup.stale(HEAD, before, "Estimating…"), done=False)
        else:
            yield work.result or Shown(f"{HEAD}{markup.note('error', work.error)}")


def _machine(found: "Estimate", place: Place) -> "MachineEstimate | None":
    """The machine at the chosen place: this one, or a rented one by the name of its GPU, else the cheapest that
    fits.
    """
    if place.where == HERE and found.here:
        return found.here
    rented = [each for each in found.hardware if (place.flavor or "").startswith(each.name)]
    if place.where != HERE and rented:
        # l40s and not l4
        return max(rented, key=lambda machine: len(machine.name))
    fitting = (machine for machine in found.hardware if machine.fits)
    return min(fitting, key=lambda machine: float("inf") if machine.cost is None else machine.cost, default=None)


def view(found: "Estimate", place: Place) -> str:
    """Tiles for the machine at the chosen place, and a table of the other machines."""
    first = _machine(found, place)
    if first is None:
        head = markup.note("error", f"Needs {size(found.peak)}, more than any known machine has.")
        return f"{HEAD}{head}{_table(found.hardware)}"
    where = "this machine" if first is found.here else f"one {first.name}"
    peak, steps, trained, prompt = estimates.estimate_facts(found)
    *_, time, cost = estimates.machine_facts(first)
    phases = ", ".join(f"{fact.label} {fact.text}" for fact in estimates.memory_facts(found.phases))
    tiles = [
        (
            size(first.peak or found.peak),
            f"{peak.label}, of {size(first.memory)} on {where}",
            f"{peak.explanation}. {phases}",
        ),
        *((fact.text, fact.label, fact.explanation) for fact in (time, cost)),
    ]
    fits = "" if first.fits else markup.note("warn", f"Does not fit {where}. Choose another machine, or see Memory.")
    served = "".join(
        f'<p class="lead small" title="{markup.escape(FIELDS.in_labels(fact.explanation))}">'
        f"{fact.label}: {markup.escape(FIELDS.in_labels(fact.text))}</p>"
        for fact in estimates.served_facts(found)
    )
    counts = f"{trained.text} weights trained{'' if found.steps is None else f' · {steps.text} steps'}"
    formats = f" · precision: {first.precision}" if first.precision else ""
    formats += "" if place.where == HERE else " · and a few minutes to set up the Job"
    return (
        f'{HEAD}{markup.tiles(tiles)}{fits}<p class="lead small">{counts} · prompts of {prompt.text}{formats}</p>'
        f"{served}"
        f"<details><summary>On other machines</summary>{_table(found.hardware)}</details>"
    )


def _table(machines: Sequence["MachineEstimate"]) -> str:
    rows = [(estimates.machine_name(machine), estimates.machine_facts(machine)) for machine in machines]
    headers = ("Machine", *(fact.label for fact in rows[0][1]))
    return markup.table(headers, [(name, *(fact.text for fact in found)) for name, found in rows])
