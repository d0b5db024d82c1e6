"""The embedded pairs: tiny teachers and students that tokenize differently, with prompts and checkable answers.

README.md beside this file says what they show; `python -m tools.demo.build` rebuilds everything from nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from simct.errors import DataError

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
EVAL = FOLDER / "eval.jsonl"
DEFAULT = DemoPair("default", TEACHER, STUDENT, PROMPTS, EVAL)

# Where shared tokens are first pieces of longer ones: the student splits what its teacher has whole, and the mirror.
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


def check_answer(completion: str, answer: str) -> bool:
    """Whether the completion is the answer, white space aside."""
    return completion.split() == answer.split()


def load_exercises(path: Path | str) -> list[dict[str, str]]:
    """The {"prompt", "answer"} records of a JSON-lines file; DataError where the file is missing or is not that."""
    try:
        records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"prompt": record["prompt"], "answer": record["answer"]} for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file of demo exercises ({error}): run python -m tools.demo.build.") from error
