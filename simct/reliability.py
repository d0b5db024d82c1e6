"""Whether a pair will work, and with which method: measured with both models on a few of the student's own answers.

The student writes, both models read, and every unit is looked at: how much of their probability is where the methods
look, how often a shared token is only the first piece of what the teacher means, and whether recovered units pull the
student where exact matches do. From these follows a verdict in words, with its numbers. Small samples on a CPU will do.
"""

from collections import Counter
from dataclasses import dataclass

import torch

from simct import losses
from simct.config import RunConfig
from simct.errors import DataError
from simct.losses.chunked import HeadSide
from simct.losses.diagnostics import measure_units
from simct.losses.head import Head
from simct.models import hidden_rows, load_model, pad_id_of
from simct.prompts import load_prompts
from simct.samples import Sample, prepare_prompts, to_samples, write_rollouts
from simct.tokenizer_pair import TokenizerPair
from simct.units import build_units

# Where a verdict turns. Set between the embedded pairs on which SimCT works and those on which it does not
# (docs/method.md), with room to spare on both sides.
CONFLICT = 0.05
HINDSIGHT = 0.1
LITTLE_MASS = 0.9
LITTLE_RECOVERED = 0.01


@dataclass(frozen=True)
class Verdict:
    """The recommended method with its options, and the reasons in plain words with their numbers."""

    method: str
    options: dict
    reasons: list[str]

    @property
    def text(self) -> str:
        options = "".join(f", {name}: {str(value).lower()}" for name, value in self.options.items())
        return f"Use {self.method}{options}. " + " ".join(self.reasons)


def measure_pair(config: RunConfig, samples: int = 16, token: str | None = None, device=None) -> dict:
    """Measure the run's two models on `samples` answers of the student to the run's prompts.

    Returns a JSON-able report: masses and shares in 0 … 1, divergences in nats per unit, the cosine between the
    gradients of exact matches and of recovered units, and the verdict. Raises one-line SimCTErrors.
    """
    pair = TokenizerPair.from_pretrained(
        config.teacher.model,
        config.student.model,
        teacher_revision=config.teacher.revision,
        student_revision=config.student.revision,
        token=token,
    )
    prompts, _ = prepare_prompts(load_prompts(config.data, token)[:samples], pair, config, [])
    teacher = load_model(config.teacher, device, token).eval()
    student = load_model(config.student, device, token).eval()
    rollouts = write_rollouts(
        student, pair.student, config, [prompt.student_ids for prompt in prompts], 1, list(range(len(prompts)))
    )
    excluded: Counter = Counter()
    written = to_samples(pair, prompts, rollouts, excluded)
    if not written:
        raise DataError(f"None of the student's {len(rollouts)} answers can be compared: {dict(excluded)}.")
    report = measure_samples(pair, student, teacher, written)
    report |= {"answers": len(written), "excluded": dict(excluded)}
    verdict = judge(report)
    return report | {"verdict": verdict.text, "method": verdict.method, "method_options": verdict.options}


def measure_samples(pair: TokenizerPair, student, teacher, samples: list[Sample]) -> dict:
    """The numbers of `measure_pair` for given answers."""
    student_ids = [sample.student_ids for sample in samples]
    teacher_ids = [sample.teacher_ids for sample in samples]
    units = build_units(pair, list(zip(teacher_ids, student_ids, strict=True)))
    with torch.no_grad():
        teacher_hidden_TH, _ = hidden_rows(
            teacher, [s.prompt.teacher_ids for s in samples], teacher_ids, _pad(pair.teacher)
        )
    student_prompts = [sample.prompt.student_ids for sample in samples]
    student_hidden_SH, _ = hidden_rows(student, student_prompts, student_ids, _pad(pair.student))
    teacher_head, student_head = Head.of(teacher), Head.of(student)

    def gradient(method: str) -> tuple[torch.Tensor, dict]:
        student.zero_grad(set_to_none=True)
        result = losses.compute_from_hidden(
            method, pair, student_hidden_SH, student_head, teacher_hidden_TH, teacher_head, student_ids, teacher_ids,
            diagnostics=False,
        )  # fmt: skip
        (gradient_SH,) = torch.autograd.grad(result.loss_sum, student_hidden_SH, retain_graph=True)
        parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        pulled = torch.autograd.grad(student_hidden_SH, parameters, gradient_SH, retain_graph=True, allow_unused=True)
        return torch.cat([part.flatten() for part in pulled if part is not None]).double(), result.stats

    strict_G, _ = gradient("strict")
    simct_G, stats = gradient("simct")
    recovered_G = simct_G - strict_G
    sides = [
        HeadSide(student_hidden_SH.detach(), student_head, pair.shared_student_ids),
        HeadSide(teacher_hidden_TH, teacher_head, pair.shared_teacher_ids),
    ]
    for side in sides:
        side.want_gradients((False,) * len(side.tensors))
    with torch.no_grad():
        measured = measure_units(pair, units, torch.arange(len(units)), *sides)
    tokens = sum(map(len, student_ids))
    recovered_tokens = int((units.student_size_U * ~units.single_U).sum())
    names = ("kl_shared", "kl_recovered", "units_shared", "units_recovered")
    return {
        **{name: float(value) for name, value in measured.items()},
        **{name: stats[name] for name in names},
        "recovered_share": recovered_tokens / max(tokens, 1),
        "gradient_cosine": _cosine(strict_G, recovered_G),
    }


def _pad(tokens) -> int:
    return pad_id_of(tokens.tokenizer, tokens.end_ids)


def _cosine(left_G: torch.Tensor, right_G: torch.Tensor) -> float | None:
    """None where one of the two is zero, as when nothing is recovered."""
    size = float(left_G.norm() * right_G.norm())
    return float(left_G @ right_G) / size if size > 0 else None


def judge(report: dict) -> Verdict:
    """Which method suits a pair, from the numbers of `measure_samples`; each reason carries the number it rests on."""
    conflict, hindsight = report.get("prefix_conflict_mass", 0.0), report.get("hindsight_mass", 0.0)
    reasons = []
    if conflict > CONFLICT:
        reasons.append(
            f"{conflict:.1%} of the student's probability is on shared tokens that are only the first piece of what "
            "the teacher writes whole; methods on shared tokens would forbid them."
        )
    if hindsight > HINDSIGHT:
        reasons.append(
            f"Of what the teacher could mean once its token is written, {hindsight:.1%} goes on past that token: it "
            "splits what the student has whole."
        )
    for name in ("teacher", "student"):
        if report[f"mass_{name}"] < LITTLE_MASS:
            reasons.append(
                f"Only {report[f'mass_{name}']:.1%} of the {name}'s probability is on shared tokens; methods that look "
                "only there leave the rest unguided."
            )
    if reasons:
        return Verdict("marginal", {}, reasons)
    masses = (
        f"{report['mass_teacher']:.1%} of the teacher's and {report['mass_student']:.1%} of the student's probability "
        "is on shared tokens"
    )
    if report["recovered_share"] < LITTLE_RECOVERED:
        reason = (
            f"{report['recovered_share']:.1%} of the student's tokens are outside exact matches: SimCT adds next to "
            "nothing here, and costs nothing."
        )
        return Verdict("simct", {}, [f"{masses}.", reason])
    reasons = [
        f"{masses}, and {conflict:.1%} in prefix conflicts.",
        f"Exact matching would lose {report['recovered_share']:.1%} of the student's tokens, which SimCT recovers.",
    ]
    cosine = report.get("gradient_cosine")
    if cosine is not None and cosine < -0.1:
        reasons.append(f"Recovered units pull against exact matches (gradient cosine {cosine:.2f}): start slowly.")
    options = {"mass_mask": True} if report["candidate_mass"] < LITTLE_MASS else {}
    if options:
        reasons.append(
            f"The teacher gives the candidates {report['candidate_mass']:.1%}; rows below half are left out."
        )
    return Verdict("simct", options, reasons)


def format_reliability(report: dict) -> str:
    """The numbers and the verdict, for a terminal."""
    cosine = report["gradient_cosine"]
    lines = [
        (
            "On shared tokens",
            f"{report['mass_teacher']:.1%} of the teacher, {report['mass_student']:.1%} of the student",
        ),
        ("SimCT's candidates", f"{report['candidate_mass']:.3f} of the teacher's mass"),
        ("Prefix conflicts", f"{report.get('prefix_conflict_mass', 0):.1%} of the student's mass"),
        ("Hindsight", f"{report.get('hindsight_mass', 0):.1%} of the teacher's mass"),
        ("KL of a unit", f"{report['kl_shared']:.3f} shared, {report['kl_recovered']:.3f} recovered (nats)"),
        ("Gradient cosine", "none" if cosine is None else f"{cosine:+.2f} between exact matches and recovered units"),
    ]
    table = "\n".join(f"{name:18} {value}" for name, value in lines)
    return f"{table}\nVerdict            {report['verdict']}"
