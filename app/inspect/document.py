"""The inspected text, tokenized once by both sides and shown one page at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from app.inspect import lanes
from app.inspect.text_source import MAX_CHARACTERS
from app.page import saving
from app.reading.records import TextPair
from app.server import model_facts
from app.server.studio import Studio
from simct.errors import DataError
from simct.inspection.records import PairReport, ShownUnit, UnitScore

if TYPE_CHECKING:
    from simct.inspection.coverage import Spelled

PAGE = 400
TOP = 12
# the most units in the HTML report
REPORTED = 4_000


@dataclass(eq=False)
class Document:
    """One text under one pair. `scores` are both models' scores of its first units, once they have been requested."""

    teacher: str
    student: str
    text: str
    pair: TextPair
    spelled: "Spelled"
    report: PairReport
    scores: list[UnitScore] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.spelled.units)

    @property
    def pages(self) -> int:
        return -(-len(self) // PAGE)

    @property
    def counts(self) -> dict[str, int]:
        """Units of the whole text by kind."""
        shared, recovered = int(self.spelled.shared.sum()), int(self.spelled.recovered.sum())
        return {"shared": shared, "recovered": recovered, "outside": len(self) - shared - recovered}

    def clamp(self, at: float | None) -> int:
        return min(max(int(at or 0), 0), max(len(self) - 1, 0))

    def segments(self, start: int, stop: int) -> list[ShownUnit]:
        """The units from `start` to before `stop`."""
        from simct.inspection.coverage import show_unit

        return [show_unit(self.pair, self.spelled, index) for index in range(start, min(stop, len(self)))]

    def page(self, at: int, shade: str | None = None) -> str:
        """The lanes of the page with unit `at`, shaded if `shade` is one of lanes.SHADES."""
        first = at // PAGE * PAGE
        units = [lanes.unit(self.pair, row) for row in self.segments(first, first + PAGE)]
        return lanes.lanes(
            units, self.counts, first, at, self.scores[first : first + PAGE], shade if shade in lanes.SHADES else None
        )

    def place(self, at: int) -> str:
        """The units on the page of unit `at`, in words."""
        first = at // PAGE * PAGE
        last = min(first + PAGE, len(self))
        return f"Units {first:,}–{last - 1:,} of {len(self):,} · page {first // PAGE + 1:,} of {self.pages:,}"

    def turned(self, at: int, step: int) -> int | None:
        """The first unit of the next page (or of the one before, for step -1), or None."""
        page = at // PAGE + step
        return page * PAGE if 0 <= page < self.pages else None

    def disagreement(self, at: int, step: int) -> int | None:
        """The next unit after `at` (or before, for step -1) that is not shared, or None."""
        found = np.flatnonzero(~self.spelled.shared)
        found = found[found > at] if step > 0 else found[found < at][::-1]
        return int(found[0]) if len(found) else None


def read_document(
    studio: Studio,
    teacher: str,
    student: str,
    text: str,
    token: str | bool | None,
    step: Callable[[str], None] = lambda doing: None,
) -> Document:
    """Raises a one-line SimCTError for an empty or overlong text, or a pair that cannot be read."""
    from app.reading import texts

    if not (text or "").strip():
        raise DataError("There is no text to inspect. Type or paste some.")
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"This text has {len(text):,} characters; {MAX_CHARACTERS:,} fit here. Measure longer ones under Corpus."
        )
    step("Reading both tokenizers…")
    sides = model_facts.source(studio, teacher, token), model_facts.source(studio, student, token)
    found = studio.workers.run(texts.read_text, *sides, text, TOP, what="This text", near=sides)
    return Document(teacher, student, text, found.pair, found.spelled, found.report)


def chosen_unit(event: gr.EventData) -> int | None:
    """The unit that was clicked, or on which Enter was pressed."""
    unit = event._data.get("unit") if isinstance(event._data, dict) else None
    return unit if isinstance(unit, int) else None


def given(found: Document | None) -> Document:
    """The document. Raises DataError if no text has been read."""
    if found is None:
        raise DataError("There is no text to save. Type or paste some.")
    return found


SCORES = ("student_logprob", "teacher_logprob", "kl", "z_s", "z_t")


def units_csv(found: Document) -> str:
    """Every unit of the text, one per line, with both models' scores if there are any."""
    scored = SCORES if found.scores else ()
    rows = []
    for index, row in enumerate(found.segments(0, len(found))):
        ids = (row.student_ids, row.teacher_ids)
        score = found.scores[index].to_dict() if index < len(found.scores) else {}
        shape = f"{len(ids[0])}x{len(ids[1])}"
        written = (" ".join(map(str, side)) for side in ids)
        rows.append((index, row.text, row.bytes, row.kind, shape, *written, *map(score.get, scored)))
    headers = ("unit", "text", "bytes", "kind", "student x teacher tokens", "student ids", "teacher ids", *scored)
    return saving.as_csv(headers, rows)
