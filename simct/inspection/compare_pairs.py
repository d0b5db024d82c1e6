"""Several students for a teacher, or teachers for a student, in one table: what their tokenizers share, and verdicts.

One pair that cannot be used is a row with its reason, not the end of the table.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from simct.config import DataConfig, ModelConfig, RunConfig, validate
from simct.errors import SimCTError, brief
from simct.inspection.corpus import inspect_corpus
from simct.inspection.reliability import measure_pair
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

SORTS = ("strict", "jaccard", "verdict")


def compare_pairs(
    teachers: Sequence[str],
    students: Sequence[str],
    texts: Iterable[str],
    *,
    samples: int = 0,
    prompts: str = "",
    dtype: str = "float32",
    device=None,
    measured: dict[tuple[str, str], dict] | None = None,
    token: str | None = None,
    sort: str = "strict",
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache_dir: Path | str | None = None,
) -> list[dict]:
    """One row for each teacher with each student, sorted (see `sort_rows`). JSON-able.

    Models are Hub ids or folders, `id@revision` for a revision. A row has teacher, student, shared_tokens, jaccard,
    strict and recovered (shares of the student's tokens in `texts`), teacher_strict, excluded, method, verdict and
    reliability (where `samples` answers to `prompts` were measured with weights, else None), and error: one line, or
    None. dtype, device: of the weights. measured: reports of `measure_pair` that are known already, by (teacher,
    student). on_progress(pairs done, pairs in all); a stopped comparison has the rows that were finished.
    """
    texts = list(texts)
    sides: dict[str, TokenBytes | SimCTError] = {}
    rows: list[dict] = []
    pairs = [(teacher, student) for teacher in teachers for student in students]
    for teacher, student in pairs:
        if should_stop and should_stop():
            break
        row = _empty_row(teacher, student)
        try:
            pair = TokenizerPair(_side(teacher, sides, token), _side(student, sides, token))
            report = inspect_corpus(pair, texts, should_stop=should_stop, cache_dir=cache_dir, top=3)
            if report["stopped"]:
                break
            row |= _tokens(report)
            if samples:
                known = (measured or {}).get((teacher, student))
                config = _config(teacher, student, prompts, dtype)
                row |= _verdict(known or measure_pair(config, samples, token, device, should_stop=should_stop))
        except SimCTError as error:
            row["error"] = str(error)
        except Exception as error:  # a defect with one pair must not cost the others their rows
            row["error"] = f"{type(error).__name__}: {brief(error)}"
        rows.append(row)
        if on_progress:
            on_progress(len(rows), len(pairs))
    return sort_rows(rows, sort)


def sort_rows(rows: Sequence[dict], by: str = "strict") -> list[dict]:
    """Best first: by share matched exactly, by vocabulary overlap, or by verdict (simct first, fewest conflicts first).

    Rows with an error come last, and rows without a verdict after those with one.
    """

    def key(row: dict) -> tuple:
        if row["error"]:
            return (2, 0.0, 0.0)
        if by != "verdict":
            return (0, -(row[by] or 0.0), -(row["jaccard"] or 0.0))
        if not row["method"]:
            return (1, -row["strict"], 0.0)
        return (0, float(row["method"] != "simct"), row["reliability"].get("prefix_conflict_mass", 0.0))

    return sorted(rows, key=key)


def split_revision(name: str) -> tuple[str, str | None]:
    """`id@revision` as its two parts; a folder that has an @ in its name is left alone."""
    if Path(name).expanduser().exists():
        return name, None
    head, mark, revision = name.rpartition("@")
    return (head, revision) if mark and head else (name, None)


def _side(name: str, sides: dict, token: str | None) -> TokenBytes:
    """A tokenizer as bytes, read once for all its pairs; so is the reason why it cannot be."""
    if name not in sides:
        model, revision = split_revision(name)
        try:
            sides[name] = load_tokens(model, revision, token)
        except SimCTError as error:
            sides[name] = error
    if isinstance(sides[name], SimCTError):
        raise sides[name]
    return sides[name]


def _empty_row(teacher: str, student: str) -> dict:
    names = ("shared_tokens", "jaccard", "strict", "recovered", "teacher_strict", "method", "verdict", "reliability")
    return {"teacher": teacher, "student": student, **dict.fromkeys(names), "excluded": 0, "error": None}


def _tokens(report: dict) -> dict:
    return {
        "shared_tokens": report["shared_tokens"],
        "jaccard": report["jaccard"],
        "strict": report["student_strict_coverage"],
        "recovered": report["student_recovered_coverage"],
        "teacher_strict": report["teacher_strict_coverage"],
        "excluded": sum(report["excluded"].values()),
    }


def _config(teacher: str, student: str, prompts: str, dtype: str) -> RunConfig:
    teacher_model, student_model = (ModelConfig(*split_revision(name), dtype) for name in (teacher, student))
    return validate(RunConfig(teacher_model, student_model, DataConfig(prompts)))


def _verdict(measured: dict) -> dict:
    return {"method": measured["method"], "verdict": measured["verdict"], "reliability": measured}
