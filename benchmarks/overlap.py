"""The time that writing ahead saves: rollouts from a vLLM server, in turn with training and during training.

    python benchmarks/overlap.py --vllm VENV/bin/vllm [--steps 12] [--json OUT]

The server and the trainer have one core each (on GPUs: the devices on which they are started). The script prints the
wall-clock seconds of a step after the second, and how long the trainer waits for rollouts in it. Models are those of
training.py's `wide` pair: small random ones with the vocabularies of Llama-3 (student) and Qwen2.5 (teacher).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PORT = 8123
SKIPPED = 2


@contextmanager
def server(vllm: str, student: str) -> Iterator[str]:
    """The address of a vLLM server with the student, on the first core."""
    from tests.support.servers import serving

    settings = {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    settings |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0"}
    command = [vllm, "serve", student, "--generation-config", "vllm", "--host", "127.0.0.1", "--port", str(PORT)]
    command += ["--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    with serving(command, PORT, os.environ | settings, path="v1/models", seconds=600) as (url, _):
        yield url.rstrip("/")


def run_one(settings: dict) -> dict:
    """Train for some steps; seconds of the later ones, and of waiting in them."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch
    from accelerate import Accelerator

    from simct import demo
    from simct.config import config_from_dict
    from simct.data.prompts import load_prompts
    from simct.data.samples import prepare_prompts
    from simct.models.loading import load_model
    from simct.tokenization.pair import TokenizerPair
    from simct.training.trainer import Trainer

    torch.set_num_threads(1)
    size = settings["batch_size"]
    config = config_from_dict(
        {
            "teacher": settings["teacher"],
            "student": settings["student"],
            "data": {"prompts": str(demo.PROMPTS)},
            "method": settings["method"],
            "rollout": {
                "max_new_tokens": settings["new_tokens"], "temperature": 1.0, "top_p": 1.0, "engine": "vllm",
                "vllm_url": settings["url"], "ahead": settings["ahead"],
            },
            "training": {
                "steps": settings["steps"], "batch_size": size, "micro_batch_size": size, "learning_rate": 1e-5,
                "max_length": 512, "checkpoint_every": 10**6, "stop_on_collapse": False,
            },
        }
    )  # fmt: skip
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, [])
    records: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config, Accelerator(cpu=not torch.cuda.is_available()), load_model(config.teacher),
            load_model(config.student), pair, prompts, Path(folder) / "checkpoints",
            on_step=lambda record, samples: records.append(record),
        ).train()  # fmt: skip
    later = records[SKIPPED:]
    seconds = sum(record["seconds"] for record in later)
    return {
        "ahead": settings["ahead"],
        "seconds_per_step": seconds / len(later),
        "seconds_waiting": sum(record["seconds_generating"] for record in later) / len(later),
        "tokens_per_second": sum(record["tokens"] for record in later) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", help="the command `vllm` of an environment that has it")
    parser.add_argument("--method", default="simct")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2, help="of both, in turn")
    parser.add_argument("--json", type=Path, help="write what was measured there, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(json.loads(options.one))))
        return
    if not options.vllm:
        parser.error("give --vllm")
    from benchmarks.training import wide_pair

    results = []
    with tempfile.TemporaryDirectory() as folder:
        teacher, student = wide_pair(Path(folder))
        with server(options.vllm, student) as url:
            for ahead in [False, True] * options.rounds:
                settings = {
                    "teacher": teacher, "student": student, "url": url, "ahead": ahead, "method": options.method,
                    "steps": options.steps, "batch_size": options.batch_size, "new_tokens": options.new_tokens,
                }  # fmt: skip
                process = subprocess.run(
                    [sys.executable, __file__, "--one", json.dumps(settings)], capture_output=True, text=True
                )
                if process.returncode:
                    sys.exit(process.stderr[-3000:])
                results.append(json.loads(process.stdout.strip().splitlines()[-1]))
                print(results[-1], flush=True)
    print(f"{'':10}{'s / step':>10}{'waiting':>10}{'tokens / s':>12}")
    means = {
        name: {
            key: sum(row[key] for row in results if row["ahead"] == ahead) / options.rounds
            for key in ("seconds_per_step", "seconds_waiting", "tokens_per_second")
        }
        for name, ahead in (("in turn", False), ("ahead", True))
    }
    for name, row in means.items():
        print(f"{name:10}{row['seconds_per_step']:10.2f}{row['seconds_waiting']:10.2f}{row['tokens_per_second']:12.0f}")
    print(f"{'ratio':10}{means['in turn']['seconds_per_step'] / means['ahead']['seconds_per_step']:10.2f}")
    if options.json:
        options.json.write_text(json.dumps({"runs": results, **means}, indent=1) + "\n")


if __name__ == "__main__":
    main()
