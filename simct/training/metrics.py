"""The numbers of a step: summed over micro-batches and processes, then written to metrics.jsonl and the tracker."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from simct.evaluation.records import Evaluation
from simct.losses import LossResult
from simct.runs.folder import RunFolder
from simct.training.micro_batches import Padding
from simct.training.usage import usage

# the means over the student's answers, and the sums that they are made of
OF_ANSWERS = {
    "response_length": "tokens", "eos_rate": "ended", "canonical_rate": "canonical", "repetition_rate": "repetitive",
}  # fmt: skip


@dataclass
class StepTotals:
    """Sums over the micro-batches of one step on one process. A row counts with the weight of its teacher.

    losses_by, rows_by: the loss's sum without weight, and the rows, by the teacher's name.
    """

    loss_sum: float = 0.0
    rows: int = 0
    weighted_rows: float = 0.0
    losses_by: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    rows_by: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stats: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    weights: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    padding: Padding = field(default_factory=Padding)

    def add(self, result: LossResult, student_tokens: int, teacher: str = "", weight: float = 1.0) -> None:
        loss_sum = float(result.loss_sum.detach())
        self.loss_sum += weight * loss_sum
        self.rows += result.rows
        self.weighted_rows += weight * result.rows
        self.losses_by[teacher] += loss_sum
        self.rows_by[teacher] += result.rows
        for name, value in result.stats.items():
            if name.startswith("units_"):
                self.stats[name] += value
                continue
            # a mean is weighted by the number of its items, so that micro-batches of any size add up
            items = result.stats.get(f"units_{name.removeprefix('kl_')}", result.rows)
            items = result.counts.get(name, items)
            if name.startswith("coverage_"):
                items = student_tokens
            if items and math.isfinite(value):
                self.stats[name] += value * items
                self.weights[name] += items


def gather_record(totals: StepTotals, rollout_sums: dict[str, int], excluded: Counter) -> dict[str, Any]:
    """The step's record over all processes: sums added up, then turned into means and shares.

    `rollout_sums` as data.samples.rollout_statistics returns them; the means over answers are absent in a step in which
    the student wrote none. To be called by all processes.
    """
    sums = {
        "loss_sum": totals.loss_sum,
        "rows": totals.rows,
        "weighted_rows": totals.weighted_rows,
        "read": totals.padding.tokens,
        "padding": totals.padding.places,
        **rollout_sums,
    }
    counters = {"stats": totals.stats, "weights": totals.weights, "excluded": excluded}
    parts = gather_object([sums | counters])
    total = {name: sum(part[name] for part in parts) for name in sums}
    stats, weights, all_excluded = (added([part[name] for part in parts]) for name in counters)
    written = total["rollouts"]
    of_answers = {name: total[sum_name] / written for name, sum_name in OF_ANSWERS.items()} if written else {}
    means = {name: value / weights[name] if name in weights else value for name, value in stats.items()}
    return {
        "loss": total["loss_sum"] / total["weighted_rows"] if total["rows"] else 0.0,
        "rows": total["rows"],
        **means,
        **of_answers,
        "padding_share": Padding(total["read"], total["padding"]).share,
        "excluded": all_excluded,
        "tokens": total["tokens"],
    }


def gather_sums(sums: dict[str, float]) -> dict[str, float]:
    """The sums over all processes, which all call it with the same names; nothing is gathered where there are none."""
    return added(gather_object([sums])) if sums else {}


def gather_by_teacher(totals: StepTotals, names: Sequence[str]) -> dict[str, float]:
    """The fields of a step's record for each of several teachers: `loss_NAME`, and its share of the rows, `share_NAME`.

    Also `weighted_rows`, the rows by which the gradient is divided. To be called by all processes.
    """
    parts = gather_object([{"losses": totals.losses_by, "rows": totals.rows_by, "weighted": totals.weighted_rows}])
    losses, rows = (added(part[name] for part in parts) for name in ("losses", "rows"))
    found = {"weighted_rows": sum(part["weighted"] for part in parts)}
    for name in names:
        if rows.get(name):
            found[f"loss_{name}"] = losses[name] / rows[name]
        found[f"share_{name}"] = rows.get(name, 0) / max(1, sum(rows.values()))
    return found


def added(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each name's numbers."""
    total: dict[str, float] = {}
    for counter in counters:
        for key, value in counter.items():
            total[key] = total.get(key, 0) + value
    return total


def write_record(
    run: RunFolder, accelerator: Accelerator, record: dict[str, Any], total_steps: int, activity: str
) -> None:
    """Write a step's record to metrics.jsonl, the tracker and the status; the memory that is used is added to it.

    To be called by the main process.
    """
    used = usage(accelerator.device)
    record |= {name: used[name] for name in ("memory", "gpu_memory") if name in used}
    run.append("metrics.jsonl", record)
    numbers = {name: value for name, value in record.items() if name not in ("excluded", "step", "warning")}
    accelerator.log(numbers, step=record["step"])
    warning = f". {record['warning']}" if "warning" in record else ""
    message = f"{activity}, step {record['step']} of {total_steps}{warning}"
    run.set_status(step=record["step"], total_steps=total_steps, message=message, progress=None, usage=used)


def write_evaluation(
    run: RunFolder, accelerator: Accelerator, evaluation: Evaluation, record: dict[str, Any] | None
) -> None:
    """Write an evaluation to evaluations.jsonl and the tracker, and its numbers to the step's line of metrics.jsonl.

    `record` is that line as it is, None before training. To be called by the main process.
    """
    run.append("evaluations.jsonl", evaluation.to_dict())
    if record is not None:
        # the later record of a step replaces the earlier one
        run.append("metrics.jsonl", record | evaluation.numbers())
    accelerator.log(evaluation.numbers(), step=evaluation.step)
