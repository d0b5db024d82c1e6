"""The rows of CSV: the delimiter, names that no two columns share, and quotation marks without a partner.

A row is a dict of texts; a text in its place says why a row cannot be read.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

TableRow = dict[str, str]


def table_rows(text: Iterable[str], delimiter: str) -> Iterator[TableRow | str]:
    """The rows under the header of a table."""
    lines = _RowLines(text)
    reader = csv.reader(lines, delimiter=delimiter)
    names = _column_names(next(reader, []))
    while True:
        lines.of_row.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield from _lines_apart(lines.of_row, names, delimiter, "a row is not valid CSV")
            continue
        if any(cells):
            yield from _cells_as_row(cells, names, delimiter, lines.of_row)


class _RowLines:
    """The lines of a CSV file; it remembers the lines of the row that is being read."""

    def __init__(self, text: Iterable[str]) -> None:
        self.text, self.of_row = iter(text), list[str]()

    def __iter__(self) -> "_RowLines":
        return self

    def __next__(self) -> str:
        line = next(self.text)
        self.of_row.append(line)
        return line


def _column_names(header: list[str]) -> list[str]:
    """The names of the columns; a repeated name gets a number, so that no column hides another."""
    names: list[str] = []
    for name in map(str.strip, header):
        unique, number = name, 1
        while unique in names:
            number += 1
            unique = f"{name} {number}"
        names.append(unique)
    return names


def _cells_as_row(cells: list[str], names: list[str], delimiter: str, lines: Sequence[str]) -> Iterator[TableRow | str]:
    if len(names) == 1:  # there is no delimiter
        cells = [delimiter.join(cells)]
    if len(cells) < len(names) or any(cells[len(names) :]):
        yield from _lines_apart(lines, names, delimiter, "a row and the header have different numbers of cells")
    else:
        yield dict(zip(names, cells, strict=False))


def _lines_apart(lines: Sequence[str], names: list[str], delimiter: str, reason: str) -> Iterator[TableRow | str]:
    """The rows of lines that were read as one row, which is unreadable for this `reason`.

    A quotation mark without its partner makes one row of all lines up to the next one, or up to the end of the file.
    They are rows of their own if most of them have as many cells as the header; else they are one unreadable row.
    """
    apart = [_cells_of(line, delimiter) for line in lines] if len(lines) > 1 else []
    fitting = sum(cells is not None and len(cells) == len(names) for cells in apart[1:])
    if len(names) == 1 or 2 * fitting < max(len(apart), 2):
        yield reason
        return
    for cells in apart:
        if cells is not None and len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))
        elif cells is None or any(cells):
            yield "a quotation mark in a row is not closed"


def _cells_of(line: str, delimiter: str) -> list[str] | None:
    """The cells of one line by itself; None if a quotation mark in it is not closed."""
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def delimiter_of(sample: str) -> str:
    """The character between cells: the one that gives most rows of the sample the same number of cells as the header.

    It may be any character of the header that is not part of a usual column name; it is a comma if none fits.
    """
    header = sample.lstrip().partition("\n")[0]
    found = ",", 0.0
    for candidate in dict.fromkeys(char for char in header if not (char.isalnum() or char in " _-.\"'\r")):
        try:
            rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=candidate) if row]
        except (csv.Error, ValueError, TypeError):
            continue
        # the sample may end within its last row
        body = rows[1:-1] or rows[1:]
        fitting = sum(len(row) == len(rows[0]) for row in body) / len(body) if body else 1.0
        if len(rows[0]) > 1 and (score := fitting + len(rows[0]) / 1000) > found[1]:
            found = candidate, score
    return found[0]
