"""How time and memory grow with rows, vocabulary, answer length, corpus and number of runs.

    nice python -m benchmarks.growth [--what rows,answer,…] [--json OUT]     # a few minutes

Every cell runs in its own process. Seconds are CPU time on a CPU (other work on the machine then hardly shows) and
wall clock on a GPU; memory is the peak beyond what was there before (weights, hidden states, the text). Growth is the
factor by which a cell takes longer than the one before it, next to the factor by which its size grew: linear where both
are equal.

- rows, vocabulary: one loss, forward and backward, from hidden states of size 64 to gradients (benchmarks/loss.py).
- answer: eight answers of exactly this many tokens, written by the decode loop with a random model of two layers; and
  one such answer read forward and backward. Both read all earlier positions for every token, so attention has a
  quadratic part; the memory of a read is linear.
- corpus: a text of this many bytes, counted with the embedded pair's tokenizers and no cached counts.
- runs: listing this many run folders, once with and once without cached statuses.
- processes: a step of the embedded pair, divided over this many training processes with one core each, or with as many
  answers for each of them: the median of wall clock, and the memory of one process, which loads both models. It needs
  as many idle cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.loss import cell as loss_cell
from benchmarks.loss import memory, wait
from simct import demo
from simct.config import config_from_dict
from simct.inspection.corpus import inspect_corpus, pieces_of, sample_texts
from simct.models.rollout import generate
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses
from simct.tokenization.pair import TokenizerPair

VOCABULARIES = {16_384: "16384x16384", 65_536: "65536x65536", 262_144: "262144x262144"}
LOSSES = ("simct", "marginal")
PRELOADED = ["benchmarks.loss", "transformers.models.llama", "simct.inspection.corpus", "simct.models.rollout"]
# what: (the column, its sizes, what is measured at each)
GROWTH: dict[str, tuple[str, list[int], tuple[str, ...]]] = {
    "rows": ("student rows (vocabulary 16,384)", [512, 4_096, 32_768], LOSSES),
    "vocabulary": ("tokens of each vocabulary (512 rows)", list(VOCABULARIES), LOSSES),
    "answer": ("tokens of an answer", [512, 2_048, 8_192], ("write eight", "train on one")),
    "corpus": ("bytes of text", [2**18, 2**20, 2**22], ("count",)),
    "runs": ("run folders", [100, 1_000, 10_000], ("list first", "list again")),
    "processes": ("processes", [1, 2], ("64 answers", "64 answers each")),
}


def loss_settings(kind: str, size: int, what: str) -> dict:
    vocabularies, rows = (VOCABULARIES[size], 512) if kind == "vocabulary" else (VOCABULARIES[16_384], size)
    return {
        "device": "cuda" if torch.cuda.is_available() else "cpu", "dtype": "float32", "vocabularies": vocabularies,
        "rows": rows, "multi": 0.15, "hidden": 64, "what": what, "diagnostics": False, "chunk_rows": None,
        "repeats": 1, "patience": 5.0,
    }  # fmt: skip


def measured(work: Callable[[], object]) -> dict:
    """Seconds and peak MiB of one call."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base, clock = memory(device, reset=True), time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    work()
    wait(device)
    return {"seconds": clock() - started, "peak_mib": max(0, memory(device) - base) / 2**20}


def answer_cell(size: int, what: str) -> dict:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1_024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16_384,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to("cuda" if torch.cuda.is_available() else "cpu")
    prompts = [[7 + number] * 16 for number in range(8)]
    if what == "write eight":
        generate(model, prompts, (), 0, config.vocab_size, 2)
        return measured(lambda: generate(model, prompts, (), 0, config.vocab_size, size))
    ids_1L = torch.randint(0, config.vocab_size, (1, size), device=model.device)

    def train() -> None:
        model(input_ids=ids_1L, labels=ids_1L, use_cache=False).loss.backward()

    return measured(train)


def corpus_cell(size: int) -> dict:
    pair = TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))
    sample = "\n".join(sample_texts())
    # numbers between the copies, so that no two pieces of the text are the same
    text, number = "", 0
    while len(text) < size:
        text, number = f"{text}{sample}{number}\n", number + 1
    pieces = list(pieces_of(text.encode()[:size].decode("utf-8", "ignore")))
    with tempfile.TemporaryDirectory() as folder:
        return measured(lambda: inspect_corpus(pair, pieces, cache_dir=folder))


def runs_cell(size: int, what: str) -> dict:
    status = json.dumps({"state": "finished", "created_at": 1.0, "step": 150, "total_steps": 150})
    with tempfile.TemporaryDirectory() as folder:
        for number in range(size):
            run = Path(folder) / f"run-{number:06d}"
            run.mkdir()
            (run / "status.json").write_text(status)
        if what == "list again":
            list_statuses(folder)
        return measured(lambda: list_statuses(folder))


def processes_cell(size: int, what: str, steps: int = 12) -> dict:
    answers = 64 * size if what == "64 answers each" else 64
    config = config_from_dict(
        {
            "teacher": {"model": str(demo.TEACHER)},
            "student": {"model": str(demo.STUDENT)},
            "data": {"prompts": str(demo.PROMPTS)},
            "training": {"steps": steps, "batch_size": answers, "stop_on_collapse": False},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(folder, config)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, "-m", "simct.train", str(run.path / "run.yaml")], env=environment, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        records = run.metrics()[2:]
    most = max(record["memory"] for record in records) / 2**20
    return {"seconds": statistics.median(record["seconds"] for record in records), "peak_mib": most}


def cell(kind: str, size: int, what: str) -> dict:
    """One measurement in this process, or in those that it starts."""
    if kind == "processes":
        return processes_cell(size, what)
    if kind == "corpus":
        return corpus_cell(size)
    if kind == "runs":
        return runs_cell(size, what)
    return answer_cell(size, what) if kind == "answer" else loss_cell(loss_settings(kind, size, what))


def table(results: list[dict]) -> str:
    """A table for each kind of growth."""
    lines: list[str] = []
    for kind in dict.fromkeys(row["kind"] for row in results):
        lines += ["", f"| {GROWTH[kind][0]} | what | seconds | growth | of size | peak MiB |"]
        lines.append("| ---: | --- | ---: | ---: | ---: | ---: |")
        before: dict[str, dict] = {}
        for row in (row for row in results if row["kind"] == kind):
            last = before.get(row["what"])
            growth = f"{row['seconds'] / last['seconds']:.1f} | {row['size'] / last['size']:.0f}" if last else "|"
            lines.append(
                f"| {row['size']:,} | {row['what']} | {row['seconds']:.3f} | {growth} | {row['peak_mib']:.0f} |"
            )
            before[row["what"]] = row
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default=",".join(GROWTH), help="comma-separated (default: all)")
    parser.add_argument("--json", metavar="OUT")
    options = parser.parse_args()
    # a fresh process for each cell, forked from one that has only imported what they need
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    results = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for kind in options.what.split(","):
            _, sizes, measures = GROWTH[kind]
            for what in measures:
                for size in sizes:
                    found = pool.submit(cell, kind, size, what).result()
                    row = {"kind": kind, "size": size, "what": what}
                    results.append(row | {name: found[name] for name in ("seconds", "peak_mib")})
                    print(f"{kind} {size:,} {what}: {found['seconds']:.3f} s", file=sys.stderr, flush=True)
                    if options.json:
                        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
