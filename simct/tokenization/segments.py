"""Answers with control tokens: the text before, between and after them, read by the other model in its own markup.

The writer's ids stay as they were sampled. Their text is cut at control tokens into segments; a segment is reasoning,
an answer, or text that its template has no place for. The reader's context is its own markup with the same text,
segment by segment, so that every span that is supervised spells the same bytes on both sides and never crosses a
control token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from simct.errors import AlignmentError
from simct.tokenization.answer_layout import AnswerLayout, Marker, added_ids, answer_layout, read_marker
from simct.tokenization.teacher_ids import ends_in_valid_utf8
from simct.tokenization.token_bytes import TokenBytes

REASONING, ANSWER, OTHER = "reasoning", "answer", "other"
NO_PLACE = "text that the other template has no place for"
NO_SPELLING = "text the other vocabulary cannot spell"


class Side:
    """A model as it writes or reads an answer, in the layout of its chat template.

    controls: ids by name of the tokens at which its answers are cut. Those are tokens without bytes, and with
    `cut_markup` also the added tokens with bytes that its template writes around reasoning, such as Qwen's <think>.
    inside: the controls that its template writes into assistant messages.
    """

    def __init__(self, tokens: TokenBytes, layout: AnswerLayout, cut_markup: bool = False) -> None:
        self.tokens, self.layout = tokens, layout
        around = "".join(filter(None, (layout.plain, layout.opening, layout.turning)))
        self.controls = {
            name: token_id
            for name, token_id in added_ids(tokens).items()
            if not tokens.is_text(token_id) or (cut_markup and name in around)
        }
        self.inside = {name for name in self.controls if name in layout.written}
        self.names = {token_id: name for name, token_id in self.controls.items()}
        self.opening, self.turning, self.plain = map(self.marker, (layout.opening, layout.turning, layout.plain))

    def marker(self, literal: str | None) -> Marker:
        """The markup as this model reads it; empty if there is none or its vocabulary cannot spell it."""
        try:
            return read_marker(self.tokens, literal or "", self.controls)
        except AlignmentError:
            return Marker([], [], b"", b"")

    def is_text(self, token_id: int) -> bool:
        """Whether an id is text at which answers are not cut."""
        return token_id not in self.names and self.tokens.is_text(token_id)

    @property
    def lead(self) -> list[int]:
        """The ids before an answer without reasoning, if they include control tokens (a channel)."""
        return self.plain.ids if self.plain.core else []

    @property
    def starts_in_reasoning(self) -> bool:
        """Whether the prompt opens the reasoning, so that answers begin inside it."""
        return self.layout.opening is not None and not self.opening.core and bool(self.turning.core)


def sides_of(
    teacher: TokenBytes, student: TokenBytes, thinking: tuple[bool | None, bool | None] = (None, None)
) -> tuple[Side, Side]:
    """Both models of a pair. If both reason and their markup differs, even markup with bytes is cut."""
    layouts = [answer_layout(tokens, each) for tokens, each in zip((teacher, student), thinking, strict=True)]
    there, here = (layout.reasoning for layout in layouts)
    differ = there is not None and here is not None and there != here
    return Side(teacher, layouts[0], differ), Side(student, layouts[1], differ)


def needs_placing(writer: Side, reader: Side, ids: Sequence[int]) -> bool:
    """Whether an answer (without its end of turn) is more than plain text that the reader can read unchanged."""
    if not ids or not 0 <= min(ids) <= max(ids) < len(writer.tokens.bytes_of):
        return False
    if writer.starts_in_reasoning and writer.layout.reasoning != reader.layout.reasoning:
        return True
    return not all(map(writer.is_text, ids))


@dataclass
class Placed:
    """An answer as both models read it: the ids of each, and their spans that spell the same text.

    spans: ((start, end) of the writer's ids, (start, end) of the reader's). left_out: segments without a place, by the
    control token that opens them or the reason. cut_bytes: the bytes of an unfinished character at the end.
    """

    ids: list[int]
    reader_ids: list[int] = field(default_factory=list)
    spans: list[tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    cut_bytes: int = 0


@dataclass
class _Segment:
    """Ids start … end - 1 of text. `opened_by` is the control token before it, `through` if both models have it."""

    role: str
    start: int
    end: int
    opened_by: str = ""
    through: bool = False
    # whether the template's own white space around the text could be removed from it
    led: bool = True
    trailed: bool = True


def read_plain(writer: Side, reader: Side, ids: Sequence[int], ended: bool) -> tuple[list[int], list[int]]:
    """A plain answer without a character that its end cuts short: the writer's ids, and the reader's for their text.

    Raises AlignmentError for text that the reader's vocabulary cannot spell, and for ids that spell nothing.
    """
    body = list(ids[:-1] if ended else ids)
    kept = len(body) if ended else _whole_characters(writer.tokens, body)
    read = reader.tokens.encode(writer.tokens.decode(body[:kept]))
    return [*ids[: kept + ended]], read + [reader.tokens.end_ids[0]] * ended


def place_answer(writer: Side, reader: Side, ids: Sequence[int], ended: bool) -> Placed:
    """The answer `ids` (with the end of turn last if `ended`) as the reader reads it."""
    body = list(ids[:-1] if ended else ids)
    segments = _segments(writer, reader, body)
    _take_markup_off(writer, segments, body)
    placed = Placed([*body, ids[-1]] if ended else body)
    shown: _Segment | None = None
    for segment in segments:
        last = segment is segments[-1] and not ended
        reason = _no_place(reader, segment, shown) or _add(writer, reader, body, segment, shown, placed, last)
        if reason:
            placed.left_out[reason] += 1
        else:
            shown = segment
    if ended and shown is segments[-1]:
        _add_end(reader, placed, len(body))
    return placed


def _segments(writer: Side, reader: Side, body: list[int]) -> list[_Segment]:
    passable = writer.inside & reader.inside
    passable -= {name for name, token_id in reader.controls.items() if token_id in reader.tokens.end_ids}
    turning = writer.turning.core
    role, at = _start(writer, body)
    found, current = [], _Segment(role, at, at)
    while at < len(body):
        if writer.is_text(body[at]):
            at += 1
            continue
        current.end = at
        # markup directly before other markup introduces no answer
        if at > current.start or current.role != ANSWER:
            found.append(current)
        if turning and current.role != ANSWER and body[at : at + len(turning)] == turning:
            at += len(turning)
            current = _Segment(ANSWER, at, at)
            continue
        name = writer.names.get(body[at], f"id {body[at]}")
        through = name in passable and current.role != OTHER
        at += 1
        current = _Segment(current.role if through else OTHER, at, at, name, through)
    current.end = len(body)
    return [*found, current]


def _start(writer: Side, body: list[int]) -> tuple[str, int]:
    """What an answer starts with, and where its text begins."""
    starts = [(len(writer.opening.core), writer.opening, REASONING), (len(writer.plain.core), writer.plain, ANSWER)]
    for length, marker, role in sorted(starts, key=lambda each: -each[0]):
        if length and body[:length] == marker.core:
            return role, length
    return (REASONING if writer.starts_in_reasoning else ANSWER), 0


def _take_markup_off(writer: Side, segments: list[_Segment], body: list[int]) -> None:
    """Assign the writer's white space around text to the markup, where whole tokens consist of it."""
    reasoned = False
    for place, segment in enumerate(segments):
        if segment.role == OTHER or segment.through:
            continue
        marker = writer.opening if segment.role == REASONING else writer.turning if reasoned else writer.plain
        if marker.after:
            taken = _spelled_by(writer.tokens, body[segment.start : segment.end], marker.after)
            segment.start, segment.led = segment.start + taken, taken > 0
        if segment.role == REASONING:
            reasoned = True
            turned = place + 1 < len(segments) and segments[place + 1].role == ANSWER
            if writer.turning.before and turned:
                backward = body[segment.start : segment.end][::-1]
                taken = _spelled_by(writer.tokens, backward, writer.turning.before, backward=True)
                segment.end, segment.trailed = segment.end - taken, taken > 0


def _spelled_by(tokens: TokenBytes, ids: Sequence[int], edge: bytes, backward: bool = False) -> int:
    """How many of the first ids spell exactly `edge`; 0 if they do not."""
    spelled = b""
    for count, token_id in enumerate(ids, start=1):
        data = tokens.bytes_of[token_id] or b""
        spelled = data + spelled if backward else spelled + data
        if spelled == edge:
            return count
        if len(spelled) >= len(edge):
            break
    return 0


def _no_place(reader: Side, segment: _Segment, shown: _Segment | None) -> str | None:
    """Why the reader's template has no place for a segment after the previous one; None if it has one."""
    if segment.role == OTHER:
        return segment.opened_by
    if segment.through:
        return None if shown is not None and shown.role == segment.role else segment.opened_by
    if segment.role == REASONING and (reader.layout.opening is None or shown is not None):
        return NO_PLACE
    if shown is not None and (shown.role != REASONING or reader.layout.turning is None):
        return NO_PLACE
    return None


def _add(
    writer: Side,
    reader: Side,
    body: list[int],
    segment: _Segment,
    shown: _Segment | None,
    placed: Placed,
    last: bool,
) -> str | None:
    """Add a segment to what the reader reads; returns the reason if it cannot read it."""
    ids = body[segment.start : segment.end]
    kept = _whole_characters(writer.tokens, ids) if last else len(ids)
    try:
        spelled = reader.tokens.encode(writer.tokens.decode(ids[:kept]))
    except AlignmentError:
        return NO_SPELLING
    if last:
        placed.cut_bytes = len(writer.tokens.decode(ids[kept:]))
        placed.ids = placed.ids[: segment.start + kept]
    placed.reader_ids += _markup(reader, segment, shown)
    start = len(placed.reader_ids)
    placed.reader_ids += spelled
    if spelled:
        placed.spans.append(((segment.start, segment.start + kept), (start, start + len(spelled))))
    return None


def _markup(reader: Side, segment: _Segment, shown: _Segment | None) -> list[int]:
    """The reader's ids before a segment, with white space only if the writer's was removed from the text."""
    if segment.through:
        return [reader.controls[segment.opened_by]]
    if shown is None:
        literal = reader.layout.opening if segment.role == REASONING else reader.layout.plain
    else:
        literal = reader.layout.turning
    literal = literal or ""
    if shown is not None and not shown.trailed:
        literal = literal.lstrip()
    return reader.marker(literal if segment.led else literal.rstrip()).ids


def _whole_characters(tokens: TokenBytes, ids: list[int]) -> int:
    """The number of ids before the character that the end of the text cuts short."""
    kept, data = len(ids), tokens.decode(ids)
    while kept and not ends_in_valid_utf8(data[-4:]):
        kept -= 1
        data = data[: len(data) - len(tokens.bytes_of[ids[kept]] or b"")]
    return kept


def _add_end(reader: Side, placed: Placed, end: int) -> None:
    """The end of turn, which both share, as the last event of the last span, or as a span of its own."""
    placed.reader_ids.append(reader.tokens.end_ids[0])
    reader_end = len(placed.reader_ids)
    start, reader_start = end, reader_end - 1
    if placed.spans and placed.spans[-1][0][1] == end and placed.spans[-1][1][1] == reader_start:
        (start, _), (reader_start, _) = placed.spans.pop()
    placed.spans.append(((start, end + 1), (reader_start, reader_end)))
