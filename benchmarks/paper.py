"""The experiment of SimCT's paper with one command: a warm-up, every method with five seeds, the scores, one table.

    python benchmarks/paper.py qwen2.5-7b-to-gemma-2-2b                      # on a GPU of this machine
    python benchmarks/paper.py qwen2.5-7b-to-gemma-2-2b --gpus 4             # on four of them
    python benchmarks/paper.py qwen2.5-7b-to-gemma-2-2b --on jobs --flavor h200 --timeout 24h --spend-limit 900
    python benchmarks/paper.py embedded --seeds 2                            # the same path in two minutes on a CPU
    python benchmarks/paper.py qwen2.5-7b-to-gemma-2-2b --table              # only print the table of what is there

The settings are those of the preset of the same name (Table 4 of arXiv 2605.07711). Every run has its own folder under
--folder, and the same command continues what is there: runs that finished are kept, others are resumed. Scores are
greedy (the authors' script samples at temperature 0.6), as mean and standard deviation over seeds. --published FILE
prints the paper's numbers next to ours: a CSV file with the columns method, task, mean, sd, copied from its Table 1.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simct.cli.main import main as simct
from simct.jobs import actions
from simct.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("gsm8k", "minerva_math500", "mbpp", "livecodebench_v6")


@dataclass(frozen=True)
class Plan:
    """A pair's preset, the tasks that its student is scored on, and settings in addition to the preset's."""

    preset: str
    tasks: tuple[str, ...] = TASKS
    settings: tuple[str, ...] = ("evaluation.max_new_tokens=4096", "evaluation.allow_code_execution=true")
    of_warmup: tuple[str, ...] = ("warmup.allow_code_execution=true",)


SMALL = (
    "data.limit=64", "training.steps=4", "training.batch_size=4", "rollout.max_new_tokens=16", "evaluation.samples=8",
    "evaluation.every=0",
)  # fmt: skip
PLANS = {
    name: Plan(name) for name in ("qwen2.5-7b-to-gemma-2-2b", "phi-4-mini-to-gemma-2-2b", "qwen2.5-7b-to-phi-4-mini")
}
PLANS["embedded"] = Plan(
    "demo-cpu",
    ("demo",),
    SMALL,
    ("warmup.samples_per_prompt=2", "warmup.checker=text", "warmup.keep=shortest", "warmup.epochs=0.5"),
)  # fmt: skip
# exact matching, the baselines of the paper that exist here, and SimCT
METHODS = "strict,uld,alm,simct"


def run_warmup(plan: Plan, folder: Path, where: Sequence[str]) -> Path:
    """The student that has imitated the teacher's checked answers; made, resumed, or as it is there."""
    run = RunFolder(folder / "warmup")
    command = ["warmup", *where]
    if not run.exists:
        command += ["--preset", plan.preset, "--output", str(run.path)]
        command += settings_of((*plan.settings, *plan.of_warmup))
        simct_or_exit(command)
    elif run.status().state != "finished":
        simct_or_exit([*command, "--resume", str(run.path)])
    return Path(actions.fetch_model(run))


def run_method(plan: Plan, folder: Path, method: str, student: Path, seeds: int, where: Sequence[str]) -> None:
    """Distill the warmed-up student with a method, once per seed."""
    command = ["distill", *where, "--preset", plan.preset, "--output", str(folder / method), "--seeds", str(seeds)]
    command += ["--student", str(student), "--method", method]
    simct_or_exit([*command, *settings_of((*plan.settings, f"evaluation.tasks={','.join(plan.tasks)}"))])


def settings_of(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def simct_or_exit(command: list[str]) -> None:
    print(f"simct {' '.join(command)}", flush=True)
    status = simct(command)
    if status:
        raise SystemExit(status)


def finished_runs(folder: Path, method: str) -> list[dict]:
    """The evaluations of a method's seeds that have finished."""
    runs = [RunFolder(path) for path in sorted(folder.glob(f"{method}-seed-*"))]
    return [run.evaluation() for run in runs if run.exists and run.status().state == "finished"]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation in percent, and the number of seeds."""
    if not values:
        return "–"
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation} ({len(values)})"


def scores(records: list[dict], side: str, task: str) -> list[float]:
    found = [record.get(side, {}).get(task, {}).get("score") for record in records]
    return [score for score in found if score is not None]


def published_numbers(path: Path | None) -> dict[tuple[str, str], str]:
    """{(method, task): "mean ± sd"} of a CSV file. Raises KeyError for one without the columns."""
    if path is None:
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {(row["method"], row["task"]): f"{row['mean']} ± {row['sd']}" for row in csv.DictReader(file)}


def table(plan: Plan, folder: Path, methods: Sequence[str], published: dict[tuple[str, str], str]) -> str:
    """A row for the teacher, the student before, and for each method what we measured and what the paper has."""

    def rows() -> Iterator[list[str]]:
        everything = {method: finished_runs(folder, method) for method in methods}
        # every run starts from the same student, so one record of it is enough
        first = next((records[:1] for records in everything.values() if records), [])
        for name, side in (("teacher", "teacher"), ("after the warm-up", "before")):
            yield [name, *(spread(scores(first, side, task)) for task in plan.tasks)]
        for method, records in everything.items():
            yield [method, *(spread(scores(records, "after", task)) for task in plan.tasks)]
            if any(key[0] == method for key in published):
                yield [f"{method}, paper", *(published.get((method, task), "–") for task in plan.tasks)]

    lines = [f"| | {' | '.join(plan.tasks)} |", f"|---|{'---:|' * len(plan.tasks)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows())])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pair", choices=PLANS)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks" / "results" / "paper")
    parser.add_argument("--published", type=Path)
    parser.add_argument("--table", action="store_true", help="run nothing")
    options, where = parser.parse_known_args(arguments)
    plan, folder, methods = PLANS[options.pair], options.folder / options.pair, options.methods.split(",")
    published = published_numbers(options.published)
    if not options.table:
        student = run_warmup(plan, folder, where)
        for method in methods:
            run_method(plan, folder, method, student, options.seeds, where)
    print(table(plan, folder, methods, published))
    return 0


if __name__ == "__main__":
    sys.exit(main())
