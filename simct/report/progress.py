"""The stage of a run in one line, the same on its page and in the terminal."""

from simct.report.formats import duration, human_size
from simct.runs.progress import Progress
from simct.runs.status import RunStatus


def progress_line(status: RunStatus) -> str:
    """For example "Downloading the teacher: 1.2 of 4.9 GB, 88 MB/s, about 42 s left"; empty where there is no stage."""
    found = Progress.of(status)
    if found is None:
        return ""
    parts = [count_text(found)]
    if found.unit == "bytes" and found.rate:
        parts.append(f"{human_size(found.rate)}/s")
    if found.seconds_left and found.done != found.total:
        parts.append(f"about {duration(found.seconds_left)} left")
    line = ", ".join(part for part in parts if part)
    return f"{found.text}: {line}" if line else found.text


def count_text(found: Progress) -> str:
    """How much is done of how much."""
    if not found.total:
        return ""
    if found.unit == "bytes":
        return f"{human_size(found.done)} of {human_size(found.total)}"
    return f"{found.done:,} of {found.total:,} {found.unit}".rstrip()
