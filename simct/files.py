"""Files as everything here keeps them: replaced whole or not at all, JSON lines, the end of a log, the cache folder."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` as a whole: a reader or a crash sees the old text or the new, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """What a JSON file holds; empty when it is absent or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_jsonl(path: Path) -> list[dict]:
    """Every whole line; a line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    # not splitlines(), which also splits at characters that JSON strings may hold (U+2028, U+0085)
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def tail(path: Path, lines: int) -> str:
    """The last `lines` of a file, as far as they are of usual length; nothing of one that is absent."""
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 200 * lines))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def cache_folder() -> Path:
    """$SIMCT_CACHE, else simct under $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SIMCT_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simct"
    return base / "bridges"
