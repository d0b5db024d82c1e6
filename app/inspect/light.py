"""A traffic light and one sentence about a measured pair."""

from typing import NamedTuple

from app.page import markup
from simct.inspection.records import Reliability
from simct.inspection.verdict import LITTLE_MASS, LITTLE_RECOVERED
from simct.report import facts
from simct.report.formats import share

# nats per unit below which two models practically agree
NO_DIFFERENCE = 1e-3
# the share of answers that must be measurable before a pair is called good
ENOUGH_ANSWERS = 0.5


class Light(NamedTuple):
    """color: green, yellow or red."""

    color: str
    sentence: str


def light(measured: Reliability) -> Light:
    """Green: the recommended method suits the pair. Yellow: only some methods do. Red: hardly any method can work."""
    if measured.answers < ENOUGH_ANSWERS * measured.answers_written:
        used = f"{measured.answers:,} of {measured.answers_written:,}"
        return Light("red", f"Difficult pair: only {used} answers of the student could be compared.")
    if measured.mass_teacher < LITTLE_MASS:
        return Light(
            "red",
            f"Difficult pair: only {share(measured.mass_teacher)} of the teacher's probability is on tokens that the "
            "student also has.",
        )
    if max(measured.kl_shared, measured.kl_recovered) < NO_DIFFERENCE:
        return Light("yellow", "Nothing to learn: both models already give these answers the same probabilities.")
    if measured.method == "marginal":
        return Light("yellow", "Usable pair, if you compare text: methods that compare shared tokens would mislead it.")
    if measured.recovered_share < LITTLE_RECOVERED:
        matched = share(1 - measured.recovered_share)
        return Light("green", f"Good pair: exact matching already covers {matched} of the student's tokens.")
    if measured.method == "strict":
        return Light("green", "Good pair: nearly all probability is on tokens that both models have.")
    recovered = share(measured.recovered_share)
    return Light("green", f"Good pair: SimCT recovers the {recovered} of tokens that exact matching loses.")


def draw(measured: Reliability) -> str:
    """The light with its sentence, the reasons, and the recommended method."""
    color, sentence = light(measured)
    words = facts.verdict_text(measured)
    return (
        f'<div class="verdict light-{color}" data-testid="light" data-color="{color}">'
        f'<b><i class="light" role="img" aria-label="{color.capitalize()}"></i>{markup.escape(sentence)}</b>'
        f"<p>{markup.escape(words.reasons)}</p>"
        f"<p>Recommended: <strong>{markup.escape(words.use.removeprefix('Use '))}</strong>.</p>"
        f'<p class="under">{markup.escape(facts.sample(measured))}</p></div>'
    )
