"""The decode loop compared with transformers' `generate` and with one read of the weights per step.

    python -m benchmarks.decoding [--model smollm2-135m|embedded|FOLDER] [--prompts 48] [--batch 16] [--tokens 128]
                                  [--json OUT]

Both write with the same random numbers. Answers end at different places: one id of every `--length` ends an answer.
*Bound* is the time that no loop can avoid: the bare products of all weight matrices with as many rows as the loop had
sequences in each of its steps, and with the tokens of the prompts. Seconds are CPU time on a CPU, so that other work on
the machine hardly matters, and wall clock on a GPU; the fastest of several repetitions counts. `smollm2-135m` has that
model's shape and random weights that predict as sharply as trained ones. Rounding depends on how many sequences share a
batch, so a random number exactly between two tokens can select either; the number of equal answers is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from simct import demo
from simct.losses.products import linear, multiply_faster
from simct.models import rollout
from simct.models.sampling import uniforms
from simct.training.usage import keep_freed_memory

SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49_152, "tie_word_embeddings": True,
}  # fmt: skip


def model_of(name: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    if name == "smollm2-135m":
        model: Any = LlamaForCausalLM(LlamaConfig(**SMOLLM2))
        # among thousands of tokens of nearly equal probability, rounding would decide which is drawn
        torch.nn.init.constant_(model.model.norm.weight, 25.0)
    else:
        model = AutoModelForCausalLM.from_pretrained(str(demo.STUDENT) if name == "embedded" else name)
    multiply_faster(model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu", dtype).eval()


def fastest(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest of several rounds, in which all take turns."""
    cuda = torch.cuda.is_available()
    clock, best = time.perf_counter if cuda else time.process_time, dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            started = clock()
            work()
            if cuda:
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - started)
    return best


def passes_of(model: Any, work: Callable[[], object]) -> Counter[tuple[int, int]]:
    """How often the model was called with each (tokens, those of them that the lm_head read)."""
    seen: Counter[tuple[int, int]] = Counter()
    hook = model.register_forward_hook(
        lambda _module, _arguments, options, output: seen.update(
            [(options["input_ids"].numel(), output.logits[..., 0].numel())]
        ),
        with_kwargs=True,
    )
    work()
    hook.remove()
    return seen


def bare_passes(model: Any, passes: Counter[tuple[int, int]]) -> Callable[[], None]:
    """The products of these passes: every weight matrix with all tokens, the lm_head with the last of each."""
    head = model.get_output_embeddings().weight
    inner = [p for n, p in model.named_parameters() if p.dim() == 2 and p is not head and "embed" not in n]
    widths = {weight.shape[1] for weight in (*inner, head)}

    @torch.inference_mode()
    def run() -> None:
        for (tokens, rows), count in passes.items():
            states = {width: head.new_ones(tokens, width) for width in widths}
            for _ in range(count):
                for weight in inner:
                    linear(states[weight.shape[1]], weight)
                linear(states[head.shape[1]][:rows], head)

    return run


def measure(options: argparse.Namespace) -> dict:
    model = model_of(options.model, getattr(torch, options.dtype))
    known = model.config.vocab_size
    coin = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(0, known, (20 + 4 * (number % 16),), generator=coin).tolist() for number in range(options.prompts)
    ]
    ends = tuple(range(0, known, options.length))
    drawn_NM = uniforms(0, 1, list(range(len(prompts))), options.tokens)

    def write(loop: bool) -> list[rollout.Rollout]:
        decides, rollout.can_decode = rollout.can_decode, rollout.can_decode if loop else lambda *_: False
        try:
            return rollout.generate(
                model, prompts, ends, 0, known, options.tokens, 1.0, 1.0, drawn_NM, batch_size=options.batch
            )
        finally:
            rollout.can_decode = decides

    written = write(True)
    passes = passes_of(model, lambda: write(True))
    seconds = fastest(
        {"generate": lambda: write(False), "loop": lambda: write(True), "bound": bare_passes(model, passes)},
        options.repeats,
    )
    return {
        "model": options.model, "dtype": options.dtype, "device": str(model.device), "threads": torch.get_num_threads(),
        "prompts": len(prompts), "batch": options.batch, "tokens": sum(len(each.completion_ids) for each in written),
        "same": sum(one == other for one, other in zip(written, write(False), strict=True)), **seconds,
        "ratio": seconds["loop"] / seconds["bound"], "times_generate": seconds["generate"] / seconds["loop"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--length", type=int, default=48, help="mean length of an answer (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", metavar="OUT")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        keep_freed_memory()  # as simct.train does
    row = measure(options)
    print(
        f"{row['tokens']:,} tokens: generate {row['generate']:.2f} s, loop {row['loop']:.2f} s, bound "
        f"{row['bound']:.2f} s; the loop takes {row['ratio']:.2f} times its bound and generate "
        f"{row['times_generate']:.2f} times the loop; {row['same']} of {row['prompts']} answers are the same"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
