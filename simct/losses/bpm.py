"""bpm: byte-prefix marginalization. Each teacher string goes to the longest student token that is a prefix of it.

Rows are the student's boundaries; inside a teacher token, only teacher tokens that start with the bytes written so far
count. The student is compared with these collected masses over its own tokens. Student tokens that no teacher string
reaches are one class. This is `marginal` without joined classes and without rows inside student tokens.
"""

from typing import TYPE_CHECKING

from simct.losses.marginal import Rules, accumulate_text
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    bridge: bool = False,
    min_mass: float = 1e-4,
) -> Totals:
    """Sum of divergences over student boundaries. `bridge` and `min_mass` are those of `marginal`."""
    return accumulate_text(pair, units, student, teacher, settings, Rules(bridge, False, False, 1.0, min_mass))
