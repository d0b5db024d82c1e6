"""The model card as people will see it, without a request to any other machine."""

import base64
import re
from html import escape

from simct.evaluation.records import evaluations_of
from simct.publishing.card import CURVE_FILE
from simct.publishing.card_edit import card_parts
from simct.publishing.curve import loss_curve
from simct.runs.folder import RunFolder

FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\](?:\(([^)\s]*)[^)]*\))?")


def card_preview(run: RunFolder, card: str) -> str:
    """Markdown for the page: the body with the run's own curve in it, then the metadata as a block.

    HTML is shown as text, and only the names of images from elsewhere are shown, because an edited card may contain
    anything.
    """
    front, body = card_parts(card)
    pieces = FENCE.split(body)
    # every second piece is code, which is shown unchanged
    shown = "".join(piece if index % 2 else _tamed(run, piece) for index, piece in enumerate(pieces))
    return f"{shown.strip()}\n\n### Metadata\n\n```yaml\n{front.strip().replace('```', '')}\n```"


def _tamed(run: RunFolder, text: str) -> str:
    def picture(found: re.Match) -> str:
        curve = loss_curve(run.metrics(), evaluations_of(run)) if found[2] == CURVE_FILE else None
        if curve is None:
            return f"*Picture: {found[1]}*"
        return f"![{found[1]}](data:image/png;base64,{base64.b64encode(curve).decode()})"

    # only a `<` that begins markup; quotations and comparisons stay as they are
    text = re.sub(r"<(?=[a-zA-Z/!?])", lambda found: escape(found[0]), text)
    return PICTURE.sub(picture, text)
