"""bpm: byte-prefix marginalization. Each teacher string goes to the longest student token that is a prefix of it.

Rows are the student's boundaries; inside a teacher token, only teacher tokens that start with the bytes written so far
count. The student is compared, over its own tokens, with the masses so collected. Student tokens that no teacher string
reaches are one class. This is `marginal` without joined classes and without rows inside student tokens.
"""

from simct.errors import ConfigError
from simct.losses.marginal import Rules, accumulate_text
from simct.losses.side import Totals
from simct.tokenization.units import UnitBatch

DIVERGENCE = "forward_kl"


def accumulate(
    pair, units: UnitBatch, student, teacher, settings, bridge: bool = False, min_mass: float = 1e-4
) -> Totals:
    """Sum of divergences over student boundaries. `bridge` and `min_mass` are those of `marginal`."""
    if not 0.0 <= min_mass < 1.0:
        raise ConfigError(f"min_mass must lie in [0, 1), got {min_mass}.")
    return accumulate_text(pair, units, student, teacher, settings, Rules(bridge, False, False, 1.0, min_mass))
