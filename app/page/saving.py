"""Taking things home: charts as SVG or PNG and numbers as files, made in the visitor's own browser."""

import json
from collections.abc import Sequence

from simct.report import charts

SCRIPT = charts.SCRIPT.read_text(encoding="utf-8")

# The file goes by way of a hidden field, so nothing of it stays on the server.
TAKE = """(made) => {
  if (!made) return;
  const {name, type, content} = JSON.parse(made);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 4000);
}"""


def as_json(report: dict) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def as_csv(headers: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Comma-separated lines. Cells that a spreadsheet would run as formulas are set in text."""
    import csv
    import io

    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(headers)
    for row in rows:
        writer.writerow(
            [f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell for cell in row]
        )
    return lines.getvalue()
