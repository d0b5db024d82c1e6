"""On-policy training end to end, compared with TRL's GOLDTrainer: the same models, prompts and settings, in one run.

    python benchmarks/training.py                       # the embedded pair, a few minutes
    python benchmarks/training.py --pair wide --steps 6 --batch-size 8 --new-tokens 48
                                                        # random small models with Qwen2.5's and Llama-3's vocabularies

Each trainer runs in its own process on one thread, writes completions with the student at every step and learns
from the teacher on all of them. Tokens are those the student wrote (end of turn included). Seconds are CPU time on a
CPU (other work on the machine then hardly shows) and wall clock on a GPU, over the steps after the first. Peak memory
is the process's own, beyond loaded models. `wide` needs the packages of requirements-test-tokenizers.txt.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TRAINERS = {
    "SimCT Studio, simct": "simct",
    "SimCT Studio, strict": "strict",
    "SimCT Studio, marginal": "marginal",
    "TRL 1.16.0, GOLDTrainer": "trl",
}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}


class Clock:
    """Seconds of each step after the first, and tokens learned from in them."""

    def __init__(self, cuda: bool):
        self.read = time.perf_counter if cuda else time.process_time
        self.steps: list[float] = []
        self.tokens: list[int] = []
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step(self, tokens: int) -> None:
        self.steps.append(self.read())
        self.tokens.append(tokens)

    def report(self) -> dict:
        seconds = self.steps[-1] - self.steps[0]
        tokens = sum(self.tokens[1:])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.memory
        return {
            "seconds_per_step": seconds / (len(self.steps) - 1),
            "tokens_per_second": tokens / seconds,
            "tokens": tokens,
            "peak_mib": peak / 1024,
        }


def wide_pair(folder: Path) -> tuple[str, str]:
    """Random models with real vocabularies: only their time is measured."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.support.real_tokenizers import llama3, qwen25

    for name, tokenizer, seed in (("teacher", qwen25(), 0), ("student", llama3(), 1)):
        if (folder / name / "config.json").exists():
            continue
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **WIDE))
        # predictions as sharp as trained models': most of the probability is on a handful of tokens
        torch.nn.init.constant_(model.model.norm.weight, 25.0)
        model.save_pretrained(folder / name)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        tokenizer.save_pretrained(folder / name)
    return str(folder / "teacher"), str(folder / "student")


def run_ours(settings: dict) -> dict:
    """Our trainer, from loaded models to the last step."""
    import torch
    from accelerate import Accelerator

    from simct.config import config_from_dict
    from simct.data.prompts import load_prompts
    from simct.data.samples import prepare_prompts
    from simct.models.loading import load_model
    from simct.tokenization.pair import TokenizerPair
    from simct.training.trainer import Trainer
    from simct.training.usage import keep_freed_memory

    config = config_from_dict(
        {
            "teacher": settings["teacher"],
            "student": settings["student"],
            "data": {"prompts": settings["prompts"]},
            "method": settings["method"],
            "rollout": {"max_new_tokens": settings["new_tokens"], "temperature": 1.0, "top_p": 0.95},
            "training": {
                "steps": settings["steps"], "batch_size": settings["batch_size"], "learning_rate": 1e-4,
                "micro_batch_size": settings["batch_size"], "checkpoint_every": 10**6, "stop_on_collapse": False,
            },
        }
    )  # fmt: skip
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    cuda = torch.cuda.is_available()
    if not cuda:
        keep_freed_memory()  # as simct.train does
    accelerator = Accelerator(cpu=not cuda)
    teacher, student = (load_model(side, accelerator.device) for side in (config.teacher, config.student))
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, [])
    clock, parts = Clock(cuda), []

    def on_step(record: dict, samples: list[dict]) -> None:
        clock.step(record["tokens"])
        parts.append(record["seconds_generating"] / record["seconds"])

    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config, accelerator, teacher, student, pair, prompts, Path(folder) / "checkpoints", on_step=on_step
        ).train()
    return {**clock.report(), "share_generating": sum(parts[1:]) / len(parts[1:])}


def run_trl(settings: dict) -> dict:
    """TRL's trainer with the same settings; fully on-policy (lmbda 1), its hybrid ULD loss for unlike tokenizers."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.gold import GOLDConfig, GOLDTrainer

    from simct.config.sections import DataConfig
    from simct.data.prompts import load_prompts

    prompts = load_prompts(DataConfig(prompts=settings["prompts"]))
    data = Dataset.from_list(
        [{"messages": [*prompt.messages, {"role": "assistant", "content": prompt.answer or "."}]} for prompt in prompts]
    )
    cuda = torch.cuda.is_available()
    clock, tokens = Clock(cuda), []

    class Counting(GOLDTrainer):
        def compute_loss(self, model, inputs, *arguments, **options):
            tokens.append(int((inputs["labels"] != -100).sum()))
            return super().compute_loss(model, inputs, *arguments, **options)

    class Stamp(TrainerCallback):
        def on_step_end(self, arguments, state, control, **options):
            clock.step(tokens[-1])

    tokenizer = AutoTokenizer.from_pretrained(settings["student"])
    models = [AutoModelForCausalLM.from_pretrained(settings[side]) for side in ("student", "teacher")]
    with tempfile.TemporaryDirectory() as folder:
        arguments = GOLDConfig(
            output_dir=folder, max_steps=settings["steps"], per_device_train_batch_size=settings["batch_size"],
            learning_rate=1e-4, lmbda=1.0, beta=1.0, temperature=1.0, top_p=0.95, use_uld_loss=True,
            max_completion_length=settings["new_tokens"], teacher_tokenizer_name_or_path=settings["teacher"],
            gradient_checkpointing=False, bf16=False, use_cpu=not cuda, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, seed=0, max_length=512,
        )  # fmt: skip
        Counting(
            model=models[0], teacher_model=models[1], args=arguments, train_dataset=data, processing_class=tokenizer,
            callbacks=[Stamp()],
        ).train()  # fmt: skip
    return clock.report()


def measure(settings: dict) -> dict:
    """One trainer in its own process."""
    command = [sys.executable, __file__, "--one", json.dumps(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        sys.exit(f"{settings['name']} failed:\n{process.stderr[-3000:]}")
    return {**settings, **json.loads(process.stdout.strip().splitlines()[-1])}


def table(results: list[dict]) -> str:
    peer = next((r for r in results if r["method"] == "trl"), None)
    lines = ["| trainer | s / step | tokens / s | × TRL | peak MiB | generating |", "|---|---:|---:|---:|---:|---:|"]
    for result in results:
        ratio = f"{result['tokens_per_second'] / peer['tokens_per_second']:.1f}" if peer else ""
        share = f"{result['share_generating']:.0%}" if "share_generating" in result else ""
        lines.append(
            f"| {result['name']} | {result['seconds_per_step']:.2f} | {result['tokens_per_second']:.0f} | {ratio} "
            f"| {result['peak_mib']:.0f} | {share} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", choices=("embedded", "wide"), default="embedded")
    parser.add_argument("--trainers", default=";".join(TRAINERS))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--results", type=Path, help="default: results/training_PAIR.json next to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        settings = json.loads(arguments.one)
        print(json.dumps((run_trl if settings["method"] == "trl" else run_ours)(settings)))
        return
    from simct import demo

    with tempfile.TemporaryDirectory() as folder:
        teacher, student = str(demo.TEACHER), str(demo.STUDENT)
        if arguments.pair == "wide":
            teacher, student = wide_pair(Path(folder))
        results = [
            measure(
                {
                    "name": name, "method": TRAINERS[name], "teacher": teacher, "student": student,
                    "prompts": str(demo.PROMPTS), "steps": arguments.steps, "batch_size": arguments.batch_size,
                    "new_tokens": arguments.new_tokens,
                }
            )
            for name in arguments.trainers.split(";")
        ]  # fmt: skip
    target = arguments.results or ROOT / "benchmarks" / "results" / f"training_{arguments.pair}.json"
    kept = [{k: v for k, v in result.items() if k not in ("teacher", "student", "prompts")} for result in results]
    target.write_text(json.dumps({"pair": arguments.pair, "results": kept}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
