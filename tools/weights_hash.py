"""SHA-256 of the student's weights after training the embedded pair, by every method and in every kind of run.

A change that should not affect training must not change these hashes. Run it before and after, on one machine:

    python -m tools.weights_hash --json before.json
    python -m tools.weights_hash --json after.json --against before.json

The weights are equal bit for bit only on the same processor, torch build and number of threads, so no hash is
committed.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VARIANTS: dict[str, list[str]] = {
    "simct": [],
    "strict": ["method=strict"],
    "strict, top 16": ["method=strict", "method_options.top_k=16"],
    "marginal": ["method=marginal"],
    "bpm": ["method=bpm"],
    "uld": ["method=uld"],
    "gold": ["method=gold"],
    "alm": ["method=alm"],
    "dpca": ["method=dpca"],
    "simct, raw logits": ["method_options.scoring=raw_logits"],
    "simct, mass mask": ["method_options.mass_mask=true"],
    "simct, ablations": ["method_options.unit_mask_ratio=0.3", "method_options.random_span_ratio=0.2"],
    "simct, LoRA and running mean": ["lora.rank=8", "lora.dropout=0.1", "training.ema_decay=0.9"],
    "simct, half off-policy": ["rollout.on_policy_fraction=0.5", "training.micro_batch_size=4"],
    "simct, frozen, linear, SGD": [
        "training.freeze=embed", "training.schedule=linear", "training.optimizer=SGD", "training.micro_batch_size=8",
    ],
}  # fmt: skip


def train(command: str, settings: list[str], steps: int, folder: Path) -> str:
    """The hash of the student that one run leaves. Raises CalledProcessError with the run's own output."""
    formats = ["teacher.dtype=float32", "student.dtype=float32", "training.mixed_precision=no"]
    settings = [f"training.steps={steps}", "evaluation.tasks=", "data.held_out=0", *formats, *settings]
    arguments = ["simct", command, "--preset", "demo-cpu", "--output", str(folder)]
    for setting in settings:
        arguments += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of each run (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the hashes here")
    parser.add_argument("--against", metavar="FILE", help="compare with hashes written earlier")
    options = parser.parse_args()
    before = json.loads(Path(options.against).read_text()) if options.against else {}
    hashes: dict[str, str] = {}
    scratch = Path(tempfile.mkdtemp(prefix="simct-weights-"))
    runs = {name: ("distill", settings) for name, settings in VARIANTS.items()}
    warmup = ["data.limit=64", "warmup.max_new_tokens=32", "warmup.epochs=4", "warmup.learning_rate=1e-4"]
    runs["warm-up"] = ("warmup", [*warmup, "warmup.checker=text"])
    try:
        for number, (name, (command, settings)) in enumerate(runs.items()):
            hashes[name] = train(command, settings, options.steps, scratch / str(number))
            same = "" if not before else "  same" if before.get(name) == hashes[name] else "  DIFFERENT"
            print(f"{hashes[name]}  {name}{same}", flush=True)
    finally:
        shutil.rmtree(scratch)
    if options.json:
        Path(options.json).write_text(json.dumps(hashes, indent=1) + "\n")
    return int(bool(before) and before != hashes)


if __name__ == "__main__":
    sys.exit(main())
