"""All methods on the embedded pair and on the stress pairs, both directions, over seeds and learning rates.

    python benchmarks/stress.py                                  # what is missing of the default grid, then the table
    python benchmarks/stress.py --pairs student_splits --methods simct,marginal --seeds 0,1,2 --rates 1e-4
    python benchmarks/stress.py --table                          # only rewrite the table from the results kept so far
    python benchmarks/stress.py --distances # repeat runs that have no distance to the teacher

Every run starts from the pair's own student, with the same prompts, steps and settings; only method, seed and learning
rate differ. The score is the share of exact answers on held-out prompts, greedy; next to it is the distance to the
teacher on the first of these prompts, in both directions, in bits per byte. Results are kept run by run in a JSON file,
so an interrupted grid continues where it stopped. The table is made from every stress*.json next to that file and goes
into the marked block of docs/method.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from accelerate import Accelerator

from simct.config import config_from_dict
from simct.config.evaluation import EvaluationConfig
from simct.config.sections import DataConfig, ModelConfig
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts
from simct.data.templates import prompt_ids
from simct.demo import PAIRS
from simct.evaluation.distance import Speaker, distance_of, draw
from simct.evaluation.records import DIRECTIONS
from simct.evaluation.tasks import evaluate_loaded
from simct.models.loading import load_model
from simct.tokenization.pair import TokenizerPair
from simct.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent

# name in the table: (method, divergence, options)
VARIANTS = {
    "strict": ("strict", "reverse_kl", {}),
    "strict, top 16": ("strict", "reverse_kl", {"top_k": 16}),
    "simct": ("simct", "reverse_kl", {}),
    "simct, prefix-free": ("simct", "reverse_kl", {"prefix_free": True}),
    "simct, mass mask": ("simct", "reverse_kl", {"mass_mask": True}),
    "marginal": ("marginal", "reverse_kl", {}),
    "marginal, forward KL": ("marginal", "forward_kl", {}),
    "marginal, forward KL, no bridge": ("marginal", "forward_kl", {"bridge": False}),
    "bpm": ("bpm", "forward_kl", {}),
    "bpm, bridge": ("bpm", "forward_kl", {"bridge": True}),
    "escd": ("escd", "forward_kl", {}),
    "escd, root only": ("escd", "forward_kl", {"child": False}),
    "uld": ("uld", "reverse_kl", {}),
    "gold": ("gold", "reverse_kl", {}),
    "alm": ("alm", "forward_kl", {}),
    "dpca": ("dpca", "reverse_kl", {}),
}
NEW_TOKENS, MEASURED_PROMPTS = 48, 64
CELL = ("pair", "variant", "seed", "rate", "steps", "batch_size")
BEGIN, END = "<!-- stress table: written by benchmarks/stress.py -->", "<!-- end of stress table -->"


def one_run(pair_name: str, variant: str, seed: int, rate: float, steps: int, batch_size: int) -> dict:
    """Train the pair's student once and score it."""
    demo = PAIRS[pair_name]
    method, divergence, options = VARIANTS[variant]
    config = config_from_dict(
        {
            "teacher": str(demo.teacher),
            "student": str(demo.student),
            "data": {"prompts": str(demo.prompts)},
            "method": method,
            "method_options": {**options, "diagnostics": False},
            "divergence": divergence,
            "rollout": {"max_new_tokens": NEW_TOKENS, "temperature": 1.0, "top_p": 1.0},
            "training": {
                "steps": steps, "batch_size": batch_size, "learning_rate": rate, "warmup_ratio": 0.1, "seed": seed,
                "checkpoint_every": steps, "stop_on_collapse": False,
            },
        }
    )  # fmt: skip
    pair = TokenizerPair.from_pretrained(str(demo.teacher), str(demo.student))
    teacher, student = load_model(config.teacher), load_model(config.student)
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, (512, 512))
    started, records = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config, Accelerator(cpu=True), teacher, student, pair, prompts, Path(folder),
            on_step=lambda record, samples: records.append(record),
        ).train()  # fmt: skip
    seconds = time.perf_counter() - started
    return {
        "pair": pair_name, "variant": variant, "seed": seed, "rate": rate, "steps": steps, "batch_size": batch_size,
        "score": score_of(student, pair.student, demo.eval), "seconds": round(seconds, 1),
        "last_loss": records[-1]["loss"], "eos_rate": records[-1]["eos_rate"],
        **distances_of(student, teacher, pair, demo.eval),
    }  # fmt: skip


def distances_of(student, teacher, pair: TokenizerPair, path: Path) -> dict[str, float]:
    """Both directions of the distance to the teacher on the first prompts of a file, in bits per byte."""
    prompts = load_prompts(DataConfig(prompts=str(path), limit=MEASURED_PROMPTS))
    speakers = []
    for model, tokens in ((student, pair.student), (teacher, pair.teacher)):
        ids = [prompt_ids(tokens.tokenizer, prompt.messages) for prompt in prompts]
        speakers.append(Speaker(model.eval(), tokens, ids))
    found = {}
    for name, (writer, reader) in zip(DIRECTIONS, (speakers, speakers[::-1]), strict=True):
        found[name] = round(distance_of(writer, reader, draw(writer, NEW_TOKENS, batch_size=32)).mean, 4)
    return found


def score_of(model, tokens, path: Path) -> float:
    scores = evaluate_loaded(model.eval(), tokens, EvaluationConfig(tasks=[str(path)], max_new_tokens=64))
    return next(iter(scores.values()))["score"]


def starting_scores(pair_name: str) -> dict[str, float]:
    demo, scores = PAIRS[pair_name], {}
    pair = TokenizerPair.from_pretrained(str(demo.teacher), str(demo.student))
    for side, folder, tokens in (("teacher", demo.teacher, pair.teacher), ("student", demo.student, pair.student)):
        scores[side] = score_of(load_model(ModelConfig(model=str(folder))), tokens, demo.eval)
    student, teacher = (load_model(ModelConfig(model=str(folder))) for folder in (demo.student, demo.teacher))
    return scores | distances_of(student, teacher, pair, demo.eval)


def table(kept: dict) -> str:
    """Mean ± standard deviation over seeds, at each learning rate and number of steps."""
    runs = kept["runs"]
    prompts = len(load_prompts(DataConfig(prompts=str(PAIRS["default"].eval))))
    sizes = " or ".join(str(size) for size in sorted({run["batch_size"] for run in runs}))
    lines = [
        f"Exact answers on {prompts} held-out prompts, {sizes} rollouts per step; mean ± standard deviation over seeds "
        "(number of seeds).",
        "",
    ]
    for name in (name for name in PAIRS if name in kept["start"]):
        here = [run for run in runs if run["pair"] == name]
        columns = sorted({(run["rate"], run["steps"]) for run in here})
        start = kept["start"][name]
        lines += [f"**{name}**: teacher {start['teacher']:.3f}, student before {start['student']:.3f}", ""]
        titles = [f"rate {rate:g}, {steps} steps" for rate, steps in columns]
        lines += ["| method | " + " | ".join(titles) + " |", "|---|" + "---|" * len(columns)]
        for variant in VARIANTS:
            cells = []
            for column in columns:
                scores = [r["score"] for r in here if r["variant"] == variant and (r["rate"], r["steps"]) == column]
                spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
                cells.append(f"{statistics.mean(scores):.3f}{spread} ({len(scores)})" if scores else "")
            if any(cells):
                lines.append(f"| {variant} | " + " | ".join(cells) + " |")
        lines += ["", *distance_table(here, columns, start)]
    return "\n".join(lines).rstrip()


def distance_table(runs: list[dict], columns: list[tuple[float, int]], start: dict) -> list[str]:
    """The distances of one pair's runs next to their scores, and how well the two agree; empty if none were
    measured.
    """
    runs = [run for run in runs if set(DIRECTIONS) <= run.keys()]
    if not runs:
        return []
    before = [f"{start[name]:.3f}" if name in start else "" for name in DIRECTIONS]
    heads = ("method", "rate, steps", "exact answers", "student to teacher", "teacher to student")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines.append(f"| before | | {start['student']:.3f} | {before[0]} | {before[1]} |")
    means: list[list[float]] = []
    for column in columns:
        for variant in VARIANTS:
            cell = [run for run in runs if run["variant"] == variant and (run["rate"], run["steps"]) == column]
            if not cell:
                continue
            means.append([statistics.mean(run[name] for run in cell) for name in ("score", *DIRECTIONS)])
            numbers = " | ".join(f"{value:.3f}" for value in means[-1])
            lines.append(f"| {variant} | {column[0]:g}, {column[1]} | {numbers} |")
    if len(means) > 2:
        scores = [row[0] for row in means]
        ranks = [statistics.correlation(ranked(scores), ranked([-row[place] for row in means])) for place in (1, 2)]
        lines += ["", f"Rank correlation of the score with a smaller distance: student to teacher {ranks[0]:.2f}, "
                  f"teacher to student {ranks[1]:.2f}."]  # fmt: skip
    return [*lines, ""]


def ranked(values: list[float]) -> list[float]:
    """The rank of each value, equal ones sharing theirs."""
    return [sum(other < value for other in values) + sum(other == value for other in values) / 2 for value in values]


def all_results(path: Path) -> dict:
    """The results in this file and in the other `stress*.json` files next to it, each run once."""
    kept: dict = {"start": {}, "runs": []}
    runs: dict[tuple, dict] = {}
    for file in sorted({path, *path.parent.glob("stress*.json")}):
        if file.is_file():
            part = json.loads(file.read_text())
            for pair, scores in part["start"].items():
                kept["start"][pair] = kept["start"].get(pair, {}) | scores
            for run in part["runs"]:
                cell = tuple(run[name] for name in CELL)
                runs[cell] = runs.get(cell, {}) | run
    return kept | {"runs": list(runs.values())}


def write_table(kept: dict, path: Path) -> None:
    """Put the table between the two marks of the document."""
    text = path.read_text(encoding="utf-8")
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(f"{text[:before]}\n\n{table(kept)}\n\n{text[after:]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--methods", default=";".join(VARIANTS), help="names of the table, separated by semicolons")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rates", default="1e-4,3e-4")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this long")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "stress.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "method.md")
    parser.add_argument("--distances", action="store_true", help="take runs again that kept no distance")
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    kept = json.loads(arguments.results.read_text()) if arguments.results.is_file() else {"start": {}, "runs": []}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes

    def done(key: dict) -> bool:
        found = [run for run in kept["runs"] if all(run[name] == value for name, value in key.items())]
        return bool(found) and (not arguments.distances or set(DIRECTIONS) <= found[-1].keys())

    # seeds outermost: a grid that is cut short has fewer seeds rather than fewer methods
    cells = [
        {
            "pair": name, "variant": variant.strip(), "seed": int(seed), "rate": float(rate), "steps": arguments.steps,
            "batch_size": arguments.batch_size,
        }
        for seed in arguments.seeds.split(",")
        for rate in arguments.rates.split(",")
        for name in arguments.pairs.split(",")
        for variant in arguments.methods.split(";")
    ]  # fmt: skip
    for cell in [] if arguments.table else cells:
        if done(cell) or time.monotonic() > deadline:
            continue
        if cell["pair"] not in kept["start"]:
            kept["start"][cell["pair"]] = starting_scores(cell["pair"])
        kept["runs"].append(
            one_run(cell["pair"], cell["variant"], cell["seed"], cell["rate"], cell["steps"], cell["batch_size"])
        )
        kept["torch"] = torch.__version__
        arguments.results.write_text(json.dumps(kept, indent=1))
        print(json.dumps(kept["runs"][-1]), file=sys.stderr, flush=True)
    kept = all_results(arguments.results)
    if kept["runs"]:
        if arguments.document.is_file():
            write_table(kept, arguments.document)
        print(table(kept))


if __name__ == "__main__":
    main()
