"""`simct demo`: the main steps on the embedded pair, without a browser.

Inspects the two tokenizers, distills with each method from the same start, seed and settings, scores before and after,
and prints the results, good or bad. Each run leaves a normal run folder with a loadable student.
"""

import time

from simct.config.sections import DataConfig
from simct.data.prompts import load_prompts
from simct.demo import EVAL, PROMPTS, STUDENT, TEACHER
from simct.errors import RunError
from simct.inspection.coverage import inspect_pair
from simct.jobs.local import job as local_job
from simct.presets import load_preset
from simct.report.text import format_report
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair

METHODS = {
    "simct": "SimCT: shared tokens and recovered multi-token units",
    "strict": "strict: shared tokens only",
    "marginal": "marginal: both models' masses on the same strings",
}
PRESET = "demo-cpu"


def run_tour(runs_dir: str, steps: int | None = None) -> int:
    """Run the demo under `runs_dir` and print its results. Raises SimCTError if a run fails."""
    started = time.monotonic()
    pair = TokenizerPair.from_pretrained(str(TEACHER), str(STUDENT))
    prompts = load_prompts(DataConfig(prompts=str(PROMPTS), limit=500))
    print("1. Where the tokenizers of the embedded pair disagree (no weights needed)\n")
    print(format_report(inspect_pair(pair, [f"{prompt.text} {prompt.answer}" for prompt in prompts], top=8)))
    example = load_prompts(DataConfig(prompts=str(EVAL), limit=1))[0]
    print(f"\n2. The task, for instance\n\n   {example.text}\n   -> {example.answer}")
    print("\n3. The student writes, the teacher grades; the same start, prompts and settings for each method\n")
    runs = {method: _distil(runs_dir, method, steps) for method in METHODS}
    print("\n4. Exact answers on held-out prompts, greedy\n")
    scores = {method: run.evaluation() for method, run in runs.items()}
    first = next(iter(scores.values()))
    size = first["before"]["demo"]["n"]
    print(f"   {'teacher':58} {first['teacher']['demo']['score']:6.1%}")
    print(f"   {'student before':58} {first['before']['demo']['score']:6.1%}")
    for method, evaluation in scores.items():
        gain = evaluation["after"]["demo"]["score"] - evaluation["before"]["demo"]["score"]
        print(f"   after {METHODS[method]:52} {evaluation['after']['demo']['score']:6.1%}  ({gain:+.1%})")
    print(f"\n   {size} prompts, one seed: differences of a few points are noise; docs/method.md has three seeds.")
    _show_changes(scores["simct"])
    print("\nRun folders, each with a student that AutoModelForCausalLM loads from model/:")
    for method, run in runs.items():
        print(f"   {method:9} {run.path}")
    print(f"\n{time.monotonic() - started:.0f} s in all. Next: `simct publish RUN --repo-id me/name`, or `make app`.")
    return 0


def _distil(runs_dir: str, method: str, steps: int | None) -> RunFolder:
    config = load_preset(PRESET)
    config.method = method
    if steps:
        config.training.steps = steps
    run = RunFolder.create(runs_dir, config)
    start = time.monotonic()
    local_job.launch(run)
    status = local_job.wait(run)
    if status.state != "finished":
        raise RunError(f"The {method} run {status.state}: {status.error or status.message}")
    metrics = run.metrics()
    first, last = metrics[: len(metrics) // 5 or 1], metrics[-(len(metrics) // 5 or 1) :]
    mean = [sum(record["loss"] for record in part) / len(part) for part in (first, last)]
    print(
        f"   {method:9} {config.training.steps} steps in {time.monotonic() - start:3.0f} s   "
        f"loss {mean[0]:.3f} -> {mean[1]:.3f}   "
        f"student tokens supervised {_supervised(metrics[-1], method):.1%}",
        flush=True,
    )
    return run


def _supervised(record: dict, method: str) -> float:
    return record["coverage_strict"] + (0 if method == "strict" else record["coverage_recovered"])


def _show_changes(evaluation: dict) -> None:
    before = {sample["prompt"]: sample for sample in evaluation["before"]["demo"]["samples"]}
    changed = [
        (before[sample["prompt"]], sample)
        for sample in evaluation["after"]["demo"]["samples"]
        if before[sample["prompt"]]["completion"] != sample["completion"]
    ]
    if changed:
        print("\n   What SimCT changed, for instance")
    for old, new in changed[:3]:
        print(f"\n   prompt  {new['prompt']}\n   before  {old['completion']}\n   after   {new['completion']}")
