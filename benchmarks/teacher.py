"""The cost of a teacher elsewhere: the error of listed tokens, and the speed and memory of local, offloaded and served
teachers.

    python benchmarks/teacher.py [--listed] [--server URL] [--delay SECONDS] [--kinds served ...] [--json OUT]

--listed prints, for k listed tokens, the error of each method's loss and of its gradient compared with the whole
teacher, on answers of the embedded student. Without it, the same steps are trained with a local teacher, an offloaded
one and one on a server: the one that --server names, or the tests' loopback server in its own process, which --delay
slows down like a remote server. "served" asks for all scores of a step at once, so that the next micro-batches are
scored while one is trained; "served, in turn" asks for those of a micro-batch when its turn comes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LISTED = (8, 16, 64, 256)
KINDS = ("local", "offloaded", "served, in turn", "served")


def new_config(**settings: Any) -> Any:
    """The embedded pair with `settings` by dotted name."""
    from simct import demo
    from simct.config import config_from_dict, set_option

    config = config_from_dict(
        {"teacher": str(demo.TEACHER), "student": str(demo.STUDENT), "data": {"prompts": str(demo.PROMPTS)}}
    )
    for name, value in settings.items():
        set_option(config, name.replace("__", "."), value)
    return config


def listed_errors(answers: int) -> list[dict[str, Any]]:
    """One row for each method and k: relative errors of the loss and of the gradient of the student's hidden states."""
    import torch

    from simct.data.prompts import load_prompts
    from simct.data.samples import prepare_prompts, to_samples, write_rollouts
    from simct.losses import compute_from_rows
    from simct.losses.head import Head
    from simct.losses.teacher_rows import most_likely
    from simct.methods import METHODS
    from simct.models.loading import hidden_rows, load_model, pad_id_of
    from simct.models.teachers import LocalTeacher
    from simct.tokenization.pair import TokenizerPair

    config = new_config(rollout__max_new_tokens=48, rollout__temperature=1.0, rollout__top_p=1.0)
    pair = TokenizerPair.of_run(config)
    teacher, student = LocalTeacher(load_model(config.teacher), pair.teacher), load_model(config.student)
    prompts, _ = prepare_prompts(load_prompts(config.data)[:answers], pair, config, [])
    ids = [prompt.student_ids for prompt in prompts]
    rollouts = write_rollouts(student, pair.student, config, ids, 1, list(range(len(prompts))))
    samples = to_samples(pair, prompts, rollouts, Counter())
    written = [sample.student_ids for sample in samples], [sample.teacher_ids for sample in samples]
    whole = teacher.start([sample.prompt.teacher_ids for sample in samples], written[1])()
    student_prompts = [sample.prompt.student_ids for sample in samples]
    pad_id = pad_id_of(pair.student.tokenizer, pair.student.end_ids)
    with torch.no_grad():
        hidden_SH, _ = hidden_rows(student, student_prompts, written[0], pad_id)
    written_T = torch.tensor([token for each in written[1] for token in each])

    def measured(method: str, rows: Any) -> tuple[float, Any]:
        leaf_SH = hidden_SH.clone().requires_grad_()
        result = compute_from_rows(method, pair, leaf_SH, Head.of(student), rows, *written, diagnostics=False)
        result.loss.backward()
        return float(result.loss.detach()), leaf_SH.grad

    found = []
    for method in (name for name, row in METHODS.items() if row.listed):
        loss, gradient = measured(method, whole)
        for k in (*LISTED, len(pair.teacher.bytes_of)):
            near, near_gradient = measured(method, most_likely(whole, written_T, k, len(pair.teacher.bytes_of)))
            found.append(
                {
                    "method": method,
                    "k": k,
                    "loss": abs(near - loss) / abs(loss),
                    "gradient": float((near_gradient - gradient).norm() / gradient.norm()),
                    "cosine": float(torch.cosine_similarity(near_gradient.flatten(), gradient.flatten(), dim=0)),
                }
            )
    return found


def run_one(kind: str, url: str, steps: int, method: str) -> dict[str, Any]:
    """Train `steps` steps with a teacher of this kind; returns the time of the later ones, and this process's peak
    memory."""
    import torch
    from accelerate import Accelerator

    from simct.data.prompts import load_prompts
    from simct.data.samples import prepare_prompts
    from simct.models.loading import load_model
    from simct.models.teachers import LocalTeacher, load_teacher
    from simct.tokenization.pair import TokenizerPair
    from simct.training.trainer import Trainer

    accelerator = Accelerator()
    config = new_config(
        method=method, training__steps=steps, training__batch_size=16, training__micro_batch_size=4,
        rollout__max_new_tokens=48, teacher__server=url if kind.startswith("served") else None,
    )  # fmt: skip
    pair = TokenizerPair.of_run(config)
    teacher = load_teacher(config.teacher, pair.teacher, accelerator.device)
    if kind == "offloaded" and isinstance(teacher, LocalTeacher):
        teacher.offload(accelerator.device)
    if kind == "served, in turn":
        at_once = teacher.start
        teacher.start = lambda *texts: lambda: at_once(*texts)()  # type: ignore[method-assign]
    student = load_model(config.student, accelerator.device)
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, [])
    records: list[dict[str, Any]] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config, accelerator, teacher, student, pair, prompts, Path(folder),
            on_step=lambda record, samples: records.append(record),
        ).train()  # fmt: skip
    later = records[1:]
    seconds = sum(record["seconds"] for record in later)
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "kind": kind,
        "device": str(accelerator.device),
        "tokens_per_second": sum(record["tokens"] for record in later) / seconds,
        "seconds_per_step": seconds / len(later),
        "share_waiting": sum(record.get("teacher_waited", 0.0) for record in later) / seconds,
        "peak_mib": peak / 2**20,
        "seconds": time.perf_counter() - started,
    }


def side_by_side(url: str | None, steps: int, method: str, kinds: list[str], delay: float) -> list[dict[str, Any]]:
    from simct import demo

    server = None
    if url is None:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.teacher_server", str(demo.TEACHER), str(delay)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        url = server.stdout.readline().strip()
    found = []
    try:
        for kind in kinds:
            command = [sys.executable, __file__, "--one", kind, "--server", url, "--steps", str(steps)]
            process = subprocess.run(
                [*command, "--method", method], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
            )
            if process.returncode:
                sys.exit(process.stderr[-3000:])
            found.append(json.loads(process.stdout.strip().splitlines()[-1]))
    finally:
        if server is not None:
            server.terminate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listed", action="store_true", help="the table of errors by listed tokens")
    parser.add_argument("--answers", type=int, default=32, help="answers for that table (default: %(default)s)")
    parser.add_argument("--server", metavar="URL", help="a server that has the embedded teacher")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the loopback server answers a request")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which teachers (default: all)")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--method", default="marginal")
    parser.add_argument("--json", type=Path, help="write what was measured there, too")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.server, options.steps, options.method)))
        return
    if options.listed:
        found = listed_errors(options.answers)
        print("| method | " + " | ".join(f"k = {k}" for k in LISTED) + " |")
        print("|---|" + "---:|" * len(LISTED))
        for method in dict.fromkeys(row["method"] for row in found):
            rows = {row["k"]: row for row in found if row["method"] == method}
            cells = [f"{rows[k]['loss']:.1%} / {rows[k]['gradient']:.1%}" for k in LISTED]
            print(f"| `{method}` | " + " | ".join(cells) + " |")
    else:
        found = side_by_side(options.server, options.steps, options.method, options.kinds, options.delay)
        print(
            "| teacher | tokens / s | s / step | of which waiting for the teacher | peak MiB |\n"
            "|---|---:|---:|---:|---:|"
        )
        for row in found:
            print(
                f"| {row['kind']} | {row['tokens_per_second']:.0f} | {row['seconds_per_step']:.2f} | "
                f"{row['share_waiting']:.0%} | {row['peak_mib']:,.0f} |"
            )
        took = {row["kind"]: row["seconds_per_step"] for row in found}
        if {"served", "served, in turn"} <= took.keys():
            ratio = took["served, in turn"] / took["served"]
            print(f"A step in turn takes {ratio:.2f} × as long as one whose micro-batches are scored ahead.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
