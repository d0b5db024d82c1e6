"""The embedded pairs: tiny teachers and students that tokenize differently, with prompts and checkable answers.

Data only: README.md next to this file explains what the pairs show, and tools/demo/ builds them.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class DemoPair:
    """Folders of two models for AutoModelForCausalLM, and files of {"prompt", "answer"} records."""

    name: str
    teacher: Path
    student: Path
    prompts: Path
    eval: Path


TEACHER = FOLDER / "teacher"
STUDENT = FOLDER / "student"
PROMPTS = FOLDER / "prompts.jsonl"
# what `simct inspect --weights 16` measures on the embedded pair, as a record of Reliability
MEASURED = FOLDER / "measured.json"
EVAL = FOLDER / "eval.jsonl"
DEFAULT = DemoPair("default", TEACHER, STUDENT, PROMPTS, EVAL)

# In these pairs, shared tokens are the first pieces of longer tokens: one model splits what is one token for the other.
STRESS_FOLDER = FOLDER / "stress"
STRESS = {
    name: DemoPair(
        name,
        STRESS_FOLDER / name / "teacher",
        STRESS_FOLDER / name / "student",
        STRESS_FOLDER / "prompts.jsonl",
        STRESS_FOLDER / "eval.jsonl",
    )
    for name in ("student_splits", "teacher_splits")
}
PAIRS = {DEFAULT.name: DEFAULT, **STRESS}
