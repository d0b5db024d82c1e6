"""Time and peak memory of a distillation loss, forward and backward, from hidden states to gradients.

    python benchmarks/loss.py                       # small grid, a few minutes on two cores
    python benchmarks/loss.py --grid full           # N to 16k, vocabularies to 262k (a GPU, or an afternoon)
    python benchmarks/loss.py --rows 512 --vocabularies 151936x256000 --hidden 2048 --methods simct,marginal

Every cell runs in its own process. Next to a method are (c) the bare lm_head products that it cannot avoid (shared
columns for single-token units, whole rows for the others; forward, and both backward products of the student), (b) the
same method computed densely with autograd on whole logits, and (a) TRL's GOLD loss on whole logits where trl is
installed. Seconds are CPU time of all threads on a CPU, so that other work on the machine hardly matters, and wall
clock on a GPU.
Shapes: N student rows, V vocabulary, H hidden size, C shared columns. Peak memory does not include weights and hidden
states.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import linear, log_softmax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simct.losses import compute_from_hidden
from simct.losses.head import Head
from simct.methods import METHODS
from simct.tokenization.alignment import align_boundaries
from simct.tokenization.units import build_units, row_ranges

GRIDS = {
    "small": ([128, 512], ["32000x50000", "151936x256000"], 1024),
    "full": ([128, 512, 2048, 8192, 16384], ["32000x50000", "128256x151936", "151936x256000", "262144x262144"], 2048),
}
SHARED = 0.6  # of the smaller vocabulary
PIECE = 3  # bytes of a shared token; every other token is two shared ones in a row


class SyntheticPair:
    """Vocabularies of the given sizes with a known share in common, as the losses see a TokenizerPair."""

    def __init__(self, student_size: int, teacher_size: int, seed: int = 0):
        generator = np.random.default_rng(seed)
        shared = int(SHARED * min(student_size, teacher_size))
        codes = generator.permutation(256**PIECE)[:shared]
        self.pieces = [int(code).to_bytes(PIECE, "big") for code in codes]
        self.shared, doubles = shared, generator.integers(0, shared, (2, student_size + teacher_size))
        self.student = self._side(student_size, doubles[:, :student_size])
        self.teacher = self._side(teacher_size, doubles[:, student_size:])
        self.shared_student_ids = self.shared_teacher_ids = torch.tensor([*range(1, shared + 1), 0])
        self.student_to_shared, self.teacher_to_shared = self._columns(student_size), self._columns(teacher_size)

    def _side(self, size: int, doubles: np.ndarray) -> SimpleNamespace:
        made = {self.pieces[left] + self.pieces[right]: (left, right) for left, right in doubles.T}
        extra = list(made.items())[: size - 1 - self.shared]
        bytes_of = [None, *self.pieces, *(data for data, _ in extra)]
        lengths = np.array([0, *map(len, bytes_of[1:])], dtype=np.int64)
        return SimpleNamespace(bytes_of=bytes_of, lengths=lengths, end_ids=(0,), parts=[parts for _, parts in extra])

    def _columns(self, size: int) -> torch.Tensor:
        columns = torch.full((size,), -1)
        columns[self.shared_student_ids] = torch.arange(self.shared + 1)
        return columns

    def align(self, teacher_ids, student_ids):
        return align_boundaries(self.teacher.lengths[list(teacher_ids)], self.student.lengths[list(student_ids)])

    def text(self, rows: int, multi: float, seed: int = 1) -> tuple[list[int], list[int]]:
        """(teacher_ids, student_ids) with `rows` student ids; a share `multi` of units has two tokens on one side."""
        generator = np.random.default_rng(seed)
        teacher, student = [], []
        while len(student) < rows:
            draw = generator.random()
            if draw > multi or len(student) + 2 > rows:
                token = int(generator.integers(1, self.shared + 1))
                teacher.append(token)
                student.append(token)
            else:
                one, two, side = (
                    (student, teacher, self.student) if draw < multi / 2 else (teacher, student, self.teacher)
                )
                number = int(generator.integers(len(side.parts)))
                one.append(1 + self.shared + number)
                two += [int(part) + 1 for part in side.parts[number]]
        return teacher, student


def dense_simct(pair, units, student_SV, teacher_TV):
    """Reverse-KL SimCT by autograd on whole logits, vectorized in the most obvious way."""
    log_s, log_t = log_softmax(student_SV.float(), -1), log_softmax(teacher_TV.float(), -1)

    def scores(logp, ids, start_U, end_U, shared_ids):
        rows, owner = row_ranges(start_U, end_U)
        own = logp[rows, ids[rows]] / (end_U - start_U)[owner]
        unit_U = torch.zeros(len(start_U), device=logp.device).index_add(0, owner, own)
        unit_U = unit_U.masked_fill(units.single_U, -1e9)
        return log_softmax(torch.cat([logp[start_U][:, shared_ids], unit_U[:, None]], 1), -1)

    device = student_SV.device
    q_s = scores(
        log_s, units.student_ids_S, units.student_start_U, units.student_end_U, pair.shared_student_ids.to(device)
    )
    q_t = scores(
        log_t, units.teacher_ids_T, units.teacher_start_U, units.teacher_end_U, pair.shared_teacher_ids.to(device)
    )
    return (q_s.exp() * (q_s - q_t)).sum(1).mean()


def gold_by_trl(pair, student_ids, teacher_ids, student_SV, teacher_TV):
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gold.gold_trainer import ULDLoss

    config = SimpleNamespace(
        uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=1.0,
        uld_teacher_temperature=1.0, uld_skip_student_eos=False, uld_skip_teacher_eos=False,
        uld_token_merge_strategy="bayesian", use_extended_uld=True, uld_use_hybrid_loss=True,
        uld_hybrid_matched_weight=None, uld_hybrid_unmatched_weight=None, beta=0.5,
    )  # fmt: skip
    vocabularies = [
        SimpleNamespace(get_vocab=lambda side=side, name=name: {
            (str(i) if 0 < i <= pair.shared else f"{name}{i}"): i for i in range(len(side.bytes_of))
        })
        for name, side in (("s", pair.student), ("t", pair.teacher))
    ]  # fmt: skip
    loss = ULDLoss(config, *vocabularies, device=student_SV.device)

    def inputs(side, ids):
        ends = np.cumsum(side.lengths[ids])
        spans = np.stack([np.r_[0, ends[:-1]], ends], 1)
        return torch.tensor([[-100, *ids]]), torch.tensor([[0, *ids]]), torch.tensor([[[0, 0], *spans.tolist()]])

    def padded(logits):
        return torch.cat([logits, logits[:1] * 0.0])[None]

    s_labels, s_ids, s_spans = inputs(pair.student, student_ids)
    t_labels, t_ids, t_spans = inputs(pair.teacher, teacher_ids)
    return loss(padded(student_SV), padded(teacher_TV), s_labels, t_labels, s_ids, t_ids, s_spans, t_spans)


def bare_products(pair, units, hidden_s, weight_s, hidden_t, weight_t):
    """Only the matrix products: shared columns where both sides have one token, whole rows elsewhere."""
    columns_s, columns_t = (ids.to(hidden_s.device) for ids in (pair.shared_student_ids, pair.shared_teacher_ids))
    shared_s, shared_t = weight_s.detach()[columns_s], weight_t[columns_t]
    single, gradient = units.single_U, torch.zeros_like(weight_s)
    one_s, one_t = hidden_s.detach()[units.student_start_U[single]], hidden_t[units.teacher_start_U[single]]
    many_s = hidden_s.detach()[row_ranges(units.student_start_U[~single], units.student_end_U[~single])[0]]
    many_t = hidden_t[row_ranges(units.teacher_start_U[~single], units.teacher_end_U[~single])[0]]

    def run():
        for rows_s, rows_t, w_s, w_t in (
            (one_s, one_t, shared_s, shared_t),
            (many_s, many_t, weight_s.detach(), weight_t),
        ):
            for begin in range(0, len(rows_s), 1024):
                piece = rows_s[begin : begin + 1024]
                logits = piece @ w_s.T
                logits @ w_s
                gradient[: len(w_s)].addmm_(logits.T, piece)
            for begin in range(0, len(rows_t), 1024):
                rows_t[begin : begin + 1024] @ w_t.T

    return run


def cell(settings: dict) -> dict:
    """One measurement in this process."""
    device = torch.device(settings["device"])
    dtype = getattr(torch, settings["dtype"])
    student_size, teacher_size = map(int, settings["vocabularies"].split("x"))
    pair = SyntheticPair(student_size, teacher_size)
    teacher_ids, student_ids = pair.text(settings["rows"], settings["multi"])
    units = build_units(pair, [(teacher_ids, student_ids)]).to(device)
    torch.manual_seed(0)
    width = settings["hidden"]

    def tensor(rows):
        return torch.randn(rows, width, device=device, dtype=dtype) * width**-0.5

    weight_s, weight_t = tensor(student_size).requires_grad_(), tensor(teacher_size)
    hidden_s, hidden_t = tensor(len(student_ids)).requires_grad_(), tensor(len(teacher_ids))
    what = settings["what"]
    if what == "bare products":
        run = bare_products(pair, units, hidden_s, weight_s, hidden_t, weight_t)
    elif what == "dense simct":

        def run():
            dense_simct(pair, units, linear(hidden_s, weight_s), linear(hidden_t, weight_t)).backward()
    elif what == "trl gold":

        def run():
            logits = linear(hidden_s, weight_s), linear(hidden_t, weight_t)
            gold_by_trl(pair, student_ids, teacher_ids, *logits).backward()
    else:
        options = {} if settings["diagnostics"] else {"diagnostics": False}
        method, _, names = what.partition("+")
        options |= {"chunk_rows": settings["chunk_rows"]} if settings["chunk_rows"] else {}
        options |= {name: True for name in names.split("+") if name}
        teacher_head = Head(weight_t)  # one for the whole run, as in training

        def run():
            compute_from_hidden(
                method, pair, hidden_s, Head(weight_s), hidden_t, teacher_head, student_ids, teacher_ids, **options
            ).loss.backward()

    times, base = [], memory(device, reset=True)
    for _ in range(settings["repeats"] + 1):
        weight_s.grad = hidden_s.grad = None
        gc.collect()
        wait(device)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        started = clock()
        run()
        wait(device)
        times.append(clock() - started)
        if times[0] > settings["patience"]:
            break
    # the first run builds tables and warms up; it counts only if it is the only one
    return {**settings, "seconds": min(times[1:] or times), "peak_mib": max(0, memory(device) - base) / 2**20}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def memory(device: torch.device, reset: bool = False) -> int:
    """Bytes at the highest point so far, or now if `reset`."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak of set-up
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:" if reset else "VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(settings: dict) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, "--cell", json.dumps(settings)], capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {**settings, "seconds": None, "peak_mib": None, "reason": reason[:200]}
    return json.loads(lines[-1])


def table(results: list[dict]) -> str:
    floors = {
        (r["rows"], r["vocabularies"]): r["seconds"] for r in results if r["what"] == "bare products" and r["seconds"]
    }
    lines = [
        "| student × teacher vocabulary | rows | what | seconds | × bare products | peak MiB beyond weights |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for r in results:
        if r["seconds"] is None:
            lines.append(f"| {r['vocabularies']} | {r['rows']} | {r['what']} | not run: {r['reason']} | | |")
            continue
        floor = floors.get((r["rows"], r["vocabularies"]))
        ratio = f"{r['seconds'] / floor:.2f}" if floor else ""
        lines.append(
            f"| {r['vocabularies']} | {r['rows']} | {r['what']} | {r['seconds']:.3f} | {ratio} | {r['peak_mib']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--grid", choices=GRIDS, default="small")
    parser.add_argument("--rows", help="student rows, comma-separated")
    parser.add_argument("--vocabularies", help="student x teacher sizes, comma-separated")
    parser.add_argument("--hidden", type=int)
    parser.add_argument(
        "--methods", default="simct,strict,marginal", help=f"of {', '.join(METHODS)}; simct+prefix_free"
    )
    parser.add_argument("--multi", type=float, default=0.15, help="share of units of several tokens")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="float32 on a CPU, bfloat16 on a GPU unless given")
    parser.add_argument("--chunk-rows", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--diagnostics", action="store_true", help="leave the step's diagnostics on")
    parser.add_argument("--skip", default="", help="of dense, trl")
    parser.add_argument(
        "--largest-dense", type=int, default=512, help="rows up to which whole logits are tried on a CPU"
    )
    parser.add_argument("--json", default="benchmarks/results/loss.json")
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(cell(json.loads(arguments.cell))))
        return
    rows, vocabularies, hidden = GRIDS[arguments.grid]
    rows = [int(n) for n in arguments.rows.split(",")] if arguments.rows else rows
    vocabularies = arguments.vocabularies.split(",") if arguments.vocabularies else vocabularies
    common = {
        "hidden": arguments.hidden or hidden, "device": arguments.device, "multi": arguments.multi,
        "dtype": arguments.dtype or ("bfloat16" if arguments.device == "cuda" else "float32"),
        "chunk_rows": arguments.chunk_rows, "repeats": arguments.repeats, "diagnostics": arguments.diagnostics,
        "patience": 30.0, "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    results = []
    for sizes in vocabularies:
        for count in rows:
            whole = count <= arguments.largest_dense or arguments.device == "cuda"
            kinds = ["bare products", *arguments.methods.split(",")]
            kinds += [kind for kind in ("dense simct", "trl gold") if whole and kind.split()[0] not in arguments.skip]
            for kind in kinds:
                results.append(measure({**common, "vocabularies": sizes, "rows": count, "what": kind}))
                print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))
    Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
