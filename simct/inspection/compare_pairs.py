"""Several students for a teacher, or teachers for a student, in one table: what their tokenizers share, and verdicts.

A pair that cannot be used is a row with its reason, and the table continues.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from simct.config import RunConfig, config_from_dict
from simct.config.precision import AUTO
from simct.errors import SimCTError, brief
from simct.hub.repo_ids import split_revision
from simct.inspection.corpus import inspect_corpus
from simct.inspection.records import PairReport, PairRow, Reliability
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
    teacher_system: str | None = None,
    dtype: str = AUTO,
    device: torch.device | str | None = None,
    measured: Mapping[tuple[str, str], Reliability] | None = None,
    token: str | bool | None = None,
    sort: str = "strict",
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache_dir: Path | str | None = None,
) -> list[PairRow]:
    """One row for each teacher with each student on `texts`, sorted (see `sort_rows`).

    Models are Hub ids or folders, `id@revision` for a revision. With `samples`, pairs are also measured with weights
    (of `dtype`, on `device`) on that many answers to `prompts`, every teacher reading `teacher_system` before
    them. measured: known reports of `measure_pair`, by (teacher, student). on_progress(pairs done, pairs in all); if
    stopped, it returns the finished rows.
    """
    texts = list(texts)
    sides: dict[str, TokenBytes | SimCTError] = {}
    rows: list[PairRow] = []
    pairs = [(teacher, student) for teacher in teachers for student in students]
    for teacher, student in pairs:
        if should_stop and should_stop():
            break
        row = PairRow(teacher=teacher, student=student)
        try:
            pair = TokenizerPair(_side(teacher, sides, token), _side(student, sides, token))
            report = inspect_corpus(pair, texts, should_stop=should_stop, cache_dir=cache_dir, top=3)
            if report.stopped:
                break
            row = with_coverage(row, report)
            if samples:
                known = (measured or {}).get((teacher, student))
                config = _config(teacher, student, prompts, dtype)
                config.teacher.system = teacher_system
                found = known or measure_pair(config, samples, token, device, should_stop=should_stop)
                row = replace(row, method=found.method, verdict=found.verdict, reliability=found)
        except SimCTError as error:
            row = replace(row, error=str(error))
        except Exception as error:  # a defect with one pair must not cost the others their rows
            row = replace(row, error=f"{type(error).__name__}: {brief(error)}")
        rows.append(row)
        if on_progress:
            on_progress(len(rows), len(pairs))
    return sort_rows(rows, sort)


def sort_rows(rows: Sequence[PairRow], by: str = "strict") -> list[PairRow]:
    """Best first: by share matched exactly, by vocabulary overlap, or by verdict (simct first, fewest conflicts first).

    Rows with an error come last, and rows without a verdict after those with one.
    """

    def key(row: PairRow) -> tuple[int, float, float]:
        if row.error:
            return (2, 0.0, 0.0)
        if by != "verdict":
            first = row.strict if by == "strict" else row.jaccard
            return (0, -(first or 0.0), -(row.jaccard or 0.0))
        if row.reliability is None:
            return (1, -(row.strict or 0.0), 0.0)
        return (0, float(row.method != "simct"), row.reliability.prefix_conflict_mass)

    return sorted(rows, key=key)


def _side(name: str, sides: dict[str, TokenBytes | SimCTError], token: str | bool | None) -> TokenBytes:
    """A tokenizer as bytes, or the reason why it cannot be read, found once for all its pairs."""
    if name not in sides:
        model, revision = split_revision(name)
        try:
            sides[name] = load_tokens(model, revision, token)
        except SimCTError as error:
            sides[name] = error
    found = sides[name]
    if isinstance(found, SimCTError):
        raise found
    return found


def with_coverage(row: PairRow, report: PairReport) -> PairRow:
    """The row with the numbers of the pair's report."""
    return replace(
        row,
        shared_tokens=report.shared_tokens,
        jaccard=report.jaccard,
        of_smaller=report.shared_tokens / min(report.teacher_vocabulary, report.student_vocabulary),
        strict=report.student_strict_coverage,
        recovered=report.student_recovered_coverage,
        teacher_strict=report.teacher_strict_coverage,
        excluded=sum(report.excluded.values()),
    )


def _config(teacher: str, student: str, prompts: str, dtype: str) -> RunConfig:
    described: dict = {"data": {"prompts": prompts}}
    for role, name in (("teacher", teacher), ("student", student)):
        model, revision = split_revision(name)
        described[role] = {"model": model, "revision": revision, "dtype": dtype}
    return config_from_dict(described)
