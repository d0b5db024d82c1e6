"""The JSON of reports as earlier versions wrote it."""

from simct.estimate.records import MachineEstimate
from simct.inspection.records import (
    KlQuantiles,
    LostRow,
    MassHistogram,
    MeasuredCandidate,
    MeasuredCandidates,
    OtherCandidates,
    Reliability,
    ShownUnit,
    Splits,
    StudentToken,
    TeacherToken,
)

INSPECT = {
    "shared_tokens": 291, "jaccard": 0.75, "teacher_vocabulary": 374, "student_vocabulary": 300,
    "student_strict_coverage": 0.9, "teacher_strict_coverage": 0.95, "student_recovered_coverage": 0.1,
    "unit_shapes": {"1x1": 9, "2x1": 1},
    "by_kind": {"words": {"student_tokens": 11, "strict": 9, "recovered": 2, "outside": 0}},
    "top_disagreements": [
        {"text": "in", "bytes": "696e", "student_tokens": ["i", "n"], "teacher_tokens": ["in"], "count": 1}
    ],
    "disagreements_lost": 0, "excluded": {"a reason": 1}, "texts": 2, "bytes": 20, "student_tokens": 11,
    "teacher_tokens": 10, "strict_tokens": 9, "recovered_tokens": 2,
}  # fmt: skip
UNIT = ShownUnit("in", "696e", 3, 5, "recovered", "", [1, 2], [7], ["i", "n"], ["in"])
MEASURED = MeasuredCandidates(
    index=4, unit=UNIT, shared_candidates=2, candidates=3,
    rows=[MeasuredCandidate("in", "696e", None, None, "unit", 0.1, 0.2, 0.3, 0.4, True)],
    rest=OtherCandidates(2, 0.5, 0.6, 0.7, 0.6), Z_S=0.6, Z_T=0.8, student_shared=0.5, teacher_shared=0.6, kl=1.5,
    thrown_away_by_strict=LostRow(True, 2, 1, 0.1, 0.2, 1.5),
    teacher_outside=[TeacherToken("ab", "6162", 9, 0.1, ["a", "b"], [3, 4])],
    student_outside=[StudentToken("<x>", "", 8, 0.1, [], [])],
)  # fmt: skip
RELIABILITY = Reliability(
    mass_teacher=0.9, units_shared=3, kl_quantiles=KlQuantiles([0.0, 1.0, 2.0]), gradient_cosine=None, answers=2,
    z_t=MassHistogram([0.0, 1.0], [3, 0], [0, 0], 0.0), recovered_kinds={"words": Splits(1, 0, 0)},
    verdict="Use simct.", method="simct", method_options={"mass_mask": True},
    settings={"method": "simct", "rollout.max_new_tokens": 8},
)  # fmt: skip
MACHINE = MachineEstimate("t4", 1, 1e9, True, {"generating": 0.5, "training": 0.5}, None, 0.4, None)
