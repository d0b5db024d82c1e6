"""Estimated and measured peak memory: each case trains a few steps in a new process whose peak is read.

    python benchmarks/memory.py [--cases NAME …] [--json FILE]

Peak memory is the resident set's high-water mark on a CPU and what torch and its context hold on a GPU. Cases with
SmolLM2 need the package that carries it (see smollm2.py) and are left out without it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.smollm2 import DEFAULT_FOLDER, smollm2_folder
from simct import demo
from simct.config import RunConfig, config_from_dict, save_config
from simct.estimate.memory import estimate_memory
from simct.runs.folder import RunFolder

# Runs in the measured process: the training entry, then the peak of its memory.
MEASURED = """\
import pathlib, re, sys
from simct.train import main
status = main([sys.argv[1]])
import torch
# not ru_maxrss, which a process has from the one that started it
peak = int(re.search("VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    peak = torch.cuda.max_memory_reserved() + (total - free - torch.cuda.memory_reserved())
open(sys.argv[2], "w").write(str(peak))
sys.exit(status)
"""
LONG_PROMPT = "Write a long story about a lighthouse keeper, the sea, and a letter that came too late."


def cases(smollm2: Path | None) -> dict[str, dict]:
    """Settings of each run by name. A high temperature keeps completions long, which the estimate supposes."""
    embedded = {
        "teacher": str(demo.TEACHER),
        "student": str(demo.STUDENT),
        "data": {"prompts": str(demo.PROMPTS)},
        "training": {"steps": 3, "batch_size": 64, "micro_batch_size": 64, "stop_on_collapse": False},
        "rollout": {"max_new_tokens": 96, "temperature": 3.0, "top_p": 1.0},
    }
    found = {"embedded, SimCT": embedded, "embedded, marginal": embedded | {"method": "marginal"}}
    if smollm2 is None:
        return found
    large = {
        "teacher": str(smollm2),
        "student": str(smollm2),
        "data": {"prompts": "prompts.jsonl"},
        "training": {"steps": 3, "batch_size": 4, "micro_batch_size": 4},
        "rollout": {"max_new_tokens": 96},
    }
    training = large["training"]
    return found | {
        "SmolLM2 -> embedded": embedded | {"teacher": str(smollm2)},
        "SmolLM2 -> SmolLM2": large,
        "SmolLM2 -> SmolLM2, micro-batches": large | {"training": training | {"micro_batch_size": 1}},
        "SmolLM2 -> SmolLM2, checkpointing": large
        | {"training": training | {"batch_size": 8, "micro_batch_size": 8, "gradient_checkpointing": True}},
        "SmolLM2 -> SmolLM2, LoRA": large | {"lora": {"rank": 8}},
        "SmolLM2 -> SmolLM2, bfloat16": large
        | {
            "teacher": {"model": str(smollm2), "dtype": "bfloat16"},
            "student": {"model": str(smollm2), "dtype": "bfloat16"},
        },
    }


def longest_prompt(config: RunConfig) -> int:
    """Tokens of the longest prompt of either model."""
    from simct.data.prompts import load_prompts
    from simct.data.templates import prompt_ids
    from simct.tokenization.token_bytes import load_tokenizer

    tokenizers = [load_tokenizer(config.teacher.model), load_tokenizer(config.student.model)]
    return max(len(prompt_ids(each, prompt.messages)) for prompt in load_prompts(config.data) for each in tokenizers)


def measure(settings: dict, folder: Path) -> dict:
    """{"estimated", "measured"} bytes and their ratio, for one run in `folder`."""
    import torch

    settings = json.loads(json.dumps(settings))
    if settings["data"]["prompts"] == "prompts.jsonl":
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"{LONG_PROMPT} ({n})"}) + "\n" for n in range(16)))
        settings["data"]["prompts"] = str(path)
    config = config_from_dict(settings | {"output": str(folder / "run")})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    estimate = estimate_memory(config, longest_prompt(config), device)
    run = RunFolder.create(folder, config)
    save_config(config, run.path / "run.yaml")
    report = folder / "peak"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(run.path / "run.yaml"), str(report)],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"The measured run failed: {done.stderr[-2000:]}")
    measured = int(report.read_text())
    return {
        "device": device,
        "estimated": estimate.peak,
        "measured": measured,
        "ratio": estimate.peak / measured,
        "phases": estimate.phases,
        "parts": estimate.parts,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Estimated against measured peak memory.")
    parser.add_argument("--cases", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument(
        "--smollm2", type=Path, default=DEFAULT_FOLDER, help="where SmolLM2 is, or is to be converted to"
    )
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    results = {}
    print(f"{'case':38} {'estimated':>10} {'measured':>10} {'ratio':>6}  peak in", flush=True)
    for name, settings in cases(smollm2_folder(options.smollm2)).items():
        if options.cases and not any(part in name for part in options.cases):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = results[name] = measure(settings, Path(folder))
        phase = max(result["phases"], key=result["phases"].get)
        estimated, measured = result["estimated"] / 1e6, result["measured"] / 1e6
        print(f"{name:38} {estimated:7.0f} MB {measured:7.0f} MB {result['ratio']:6.2f}  {phase}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
