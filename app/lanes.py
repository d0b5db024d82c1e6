"""Both segmentations over the same text: two lanes, cut into aligned units, coloured by kind."""

from collections.abc import Iterable
from html import escape

from app import markup

KINDS = {
    "shared": "Shared: one token on each side, the same bytes",
    "recovered": "Recovered: lost to exact matching, one aligned unit to SimCT",
    "outside": "Outside: not supervised",
}

# One unit is in the tab order; arrows move between units, and the line under the lanes tells about the one in hand.
SCRIPT = """
const tell = (unit) => {
  const line = element.querySelector('.unit-line');
  if (!unit || !line) return;
  line.textContent = unit.title = unit.dataset.told;
  element.querySelectorAll('.unit.now').forEach(other => other.classList.remove('now'));
  unit.classList.add('now');
};
element.addEventListener('mouseover', event => tell(event.target.closest('.unit')));
element.addEventListener('focusin', event => tell(event.target.closest('.unit')));
element.addEventListener('click', event => tell(event.target.closest('.unit')));
element.addEventListener('keydown', event => {
  const unit = event.target.closest('.unit');
  if (!unit) return;
  const all = [...element.querySelectorAll('.unit')];
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  const edge = {Home: 0, End: all.length - 1}[event.key];
  const next = all[edge !== undefined ? edge : step ? all.indexOf(unit) + step : -1];
  if (!next) return;
  event.preventDefault();
  unit.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
"""


def unit(pair, segment: dict) -> dict:
    """One segment of `coverage.segments` with its pieces drawn from the tokens' exact bytes."""
    sides = {
        side: [
            (token_id, markup.visible_bytes(tokens.bytes_of[token_id] or b"")) for token_id in segment[f"{side}_ids"]
        ]
        for side, tokens in (("student", pair.student), ("teacher", pair.teacher))
    }
    return {**sides, "kind": segment["kind"], "reason": segment["reason"], "bytes": segment["bytes"]}


def lanes(units: Iterable[dict]) -> str:
    """The legend, the lanes and the line that tells about a unit. Lines of the text stay lines."""
    lines: list[list[str]] = [[]]
    counts = dict.fromkeys(KINDS, 0)
    for index, item in enumerate(units):
        counts[item["kind"]] += 1
        lines[-1].append(_unit(item, first=index == 0))
        if item["bytes"].endswith("0a"):
            lines.append([])
    body = "".join(f'<div class="text-line">{"".join(parts)}</div>' for parts in lines if parts)
    legend = "".join(
        f'<span class="key-{kind}" title="{escape(told)}"><i></i>{kind} <b>{counts[kind]:,}</b></span>'
        for kind, told in KINDS.items()
    )
    return (
        f'<div class="legend">{legend}<span class="which">upper lane: student · lower lane: teacher</span></div>'
        f'<div class="lanes" role="group" aria-label="Aligned units; arrow keys move between them">{body}</div>'
        '<p class="unit-line" aria-live="polite">Point at a unit, or use the arrow keys, for its ids and bytes.</p>'
    )


def _unit(item: dict, first: bool) -> str:
    told = _told(item)
    rows = "".join(
        f'<span class="lane">{"".join(f"<i>{escape(piece)}</i>" for _, piece in item[side])}</span>'
        for side in ("student", "teacher")
    )
    return f'<span class="unit {item["kind"]}" tabindex="{0 if first else -1}" data-told="{escape(told)}">{rows}</span>'


def _told(item: dict) -> str:
    student, teacher = (
        " | ".join(f"{piece} {token_id}" for token_id, piece in item[side]) for side in ("student", "teacher")
    )
    spaced = " ".join(item["bytes"][i : i + 2] for i in range(0, len(item["bytes"]), 2))
    shape = f"{len(item['student'])}×{len(item['teacher'])}"
    reason = f" ({item['reason']})" if item["reason"] else ""
    return f"{item['kind']}{reason}, {shape} · student: {student} · teacher: {teacher} · bytes {spaced}"
