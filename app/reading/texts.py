"""Texts under a pair of tokenizers: one text unit by unit, a position in it, a corpus, several pairs on one corpus."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from app.reading.models import pair_of
from app.reading.records import Source, TextPair, TextReading, TextsAt, TextTokens
from simct.errors import AlignmentError, DataError
from simct.inspection.candidates import candidates_at
from simct.inspection.corpus import dataset_texts, inspect_corpus
from simct.inspection.coverage import inspect_pair, spell
from simct.inspection.records import Candidates, PairReport
from simct.tokenization.token_bytes import TokenBytes
from simct.workers.child import Worker


def read_text(worker: Worker, teacher: Source, student: Source, text: str, top: int) -> TextReading:
    """The text as both sides split it. Raises a one-line SimCTError."""
    pair = pair_of(worker, teacher, student)
    worker.step(f"This text, cut by {teacher.name!r} and {student.name!r},")
    try:
        spelled = spell(pair, text)
    except AlignmentError as error:
        raise DataError(f"This text cannot be compared: {str(error).rstrip('.')}.") from error
    sides = TextPair(_tokens(pair.teacher, spelled.teacher_ids), _tokens(pair.student, spelled.student_ids))
    return TextReading(sides, spelled, inspect_pair(pair, [text], top=top))


def _tokens(tokens: TokenBytes, ids: list[int]) -> TextTokens:
    return TextTokens({token_id: tokens.bytes_of[token_id] for token_id in set(ids)})


def read_position(worker: Worker, teacher: Source, student: Source, text: str, unit: int, top: int) -> Candidates:
    """What is compared at a unit of the text, without weights. Raises a one-line SimCTError."""
    pair = pair_of(worker, teacher, student)
    return candidates_at(pair, None, None, text, unit, top)


def measure_texts(
    worker: Worker, teacher: Source, student: Source, texts: TextsAt, top: int, total: int | None
) -> PairReport:
    """The report of a corpus, or of the counts so far if the parent stops it. Rows without text are counted.

    Raises a one-line SimCTError.
    """
    pair = pair_of(worker, teacher, student)
    worker.step(f"The texts of {texts.source!r}")
    skipped: Counter[str] = Counter()
    found = _texts(texts, skipped)
    report = inspect_corpus(pair, found, worker.progress, worker.should_stop, top=top, total=total)
    return replace(report, excluded=dict(report.excluded) | skipped)


def compare_texts(worker: Worker, teacher: Source, student: Source, texts: TextsAt, top: int) -> PairReport:
    """The same for one of several pairs; `stopped` if the parent stopped it."""
    pair = pair_of(worker, teacher, student)
    return inspect_corpus(pair, _texts(texts), should_stop=worker.should_stop, top=top)


def one_text(worker: Worker, texts: TextsAt, skip: int, most: int, name: str) -> str:
    """The texts after the first `skip`, joined into one. Raises DataError for more than `most` characters."""
    worker.step(f"{name!r}")
    found = ""
    for piece in islice(_texts(texts), skip, None):
        found += piece
        if len(found) > most:
            raise DataError(f"{name} has more than {most:,} characters. Measure it under Corpus.")
    return found


def _texts(texts: TextsAt, skipped: Counter[str] | None = None) -> Iterator[str]:
    where = texts.source, texts.column, texts.split, texts.limit, texts.token
    return dataset_texts(*where, config_name=texts.config_name, skipped=skipped)
