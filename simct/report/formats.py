"""Numbers as text for people, the same in the terminal, in files and in the studio."""

import math

GIB = 1 << 30


def count(value: int) -> str:
    return f"{value:,}"


def number(value: float) -> str:
    """A short form: 0.0123, 1.5, 1.2e-06, 12,345."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def share(value: float) -> str:
    """A share or a probability, from 0 to 1: small ones with more digits, tiny ones as "< …"."""
    if value == 0:
        return "0%"
    return "<0.01%" if 0 < value < 1e-4 else f"{value:.2%}" if value < 0.01 else f"{value:.1%}"


def signed(value: float) -> str:
    return f"{value:+.2f}"


def size(value: float) -> str:
    """Bytes: 22.5 GiB, 880 MiB."""
    if value < GIB:
        return f"{value / (1 << 20):.0f} MiB"
    return f"{value / GIB:.3g} GiB" if value < 1000 * GIB else f"{value / GIB:,.0f} GiB"


def human_size(value: float) -> str:
    """Bytes in powers of 1000, as the Hub counts them: 1.2 MB, 300 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def hours(value: float) -> str:
    """A duration in the most readable unit."""
    if value * 60 < 2:
        return f"{value * 3600:.0f} s"
    return f"{value * 60:.0f} min" if value < 2 else f"{value:.1f} h"


def duration(value: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
    total = round(value)
    if total < 60:
        return f"{total} s"
    minutes, rest = divmod(total, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def dollars(value: float) -> str:
    return "nothing" if value == 0 else "under $0.01" if value < 0.01 else f"${value:,.2f}"


def at_most(value: float) -> str:
    """Dollars rounded up to a cent, for a limit."""
    return f"${math.ceil(round(100 * value, 6)) / 100:,.2f}"


def yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def plural(value: int, thing: str) -> str:
    """A count with its noun: 1 text, 2 texts."""
    return f"{value:,} {thing}{'' if value == 1 else 's'}"
