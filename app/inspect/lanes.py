"""Both segmentations over the same text: two lanes, cut into aligned units, colored by kind or by a model's score."""

from collections.abc import Sequence
from html import escape

from app.page import markup
from app.page.line_charts import number

KINDS = {
    "shared": "Shared: one token on each side, the same bytes",
    "recovered": "Recovered: lost to exact matching, one aligned unit to SimCT",
    "outside": "Outside: not supervised",
}
# what can shade a unit: name -> (field of a score, the value of the deepest shade, explanation)
SHADES = {
    "KL": ("kl", 8.0, "reverse KL between the candidates at the unit's start; deepest at 8 nats"),
    "Student": ("student_logprob", -8.0, "how little the student expected it; deepest at a log-probability of −8"),
    "Teacher": ("teacher_logprob", -8.0, "how little the teacher expected it; deepest at a log-probability of −8"),
}

# One unit is in the tab order; arrows move between units, and the line under the lanes tells about the one in hand.
# Choosing one (click, Enter) is told to the server, which does not draw the lanes anew for it.
SCRIPT = """
const tell = (unit) => {
  const line = element.querySelector('.unit-line');
  if (!unit || !line) return;
  line.textContent = unit.title = unit.dataset.told;
};
const now = () => element.querySelector('.unit.now');
const choose = (unit) => {
  if (!unit) return;
  element.querySelectorAll('.unit.now').forEach(other => {
    other.classList.remove('now');
    other.removeAttribute('aria-current');
    other.tabIndex = -1;
  });
  unit.classList.add('now');
  unit.setAttribute('aria-current', 'true');
  unit.tabIndex = 0;
  trigger('select', {unit: Number(unit.dataset.unit)});
};
const show = () => {
  const lanes = element.querySelector('.lanes'), unit = now();
  if (!lanes || !unit) return;
  tell(unit);
  const box = lanes.getBoundingClientRect(), at = unit.getBoundingClientRect();
  if (at.top < box.top || at.bottom > box.bottom) lanes.scrollTop += at.top - box.top - box.height / 3;
};
element.addEventListener('mouseover', event => tell(event.target.closest('.unit')));
element.addEventListener('mouseleave', () => tell(now()));
element.addEventListener('focusin', event => tell(event.target.closest('.unit')));
element.addEventListener('click', event => choose(event.target.closest('.unit')));
element.addEventListener('keydown', event => {
  const unit = event.target.closest('.unit');
  if (!unit) return;
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    return choose(unit);
  }
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
watch('value', show);
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


def lanes(
    units: Sequence[dict],
    counts: dict[str, int] | None = None,
    first: int = 0,
    chosen: int = 0,
    scores: Sequence[dict] = (),
    shade: str | None = None,
    *,
    legend: bool = True,
) -> str:
    """The legend, the lanes and the line that tells about a unit. Lines of the text stay lines.

    `units` are those from index `first` of the text on, `counts` the units of the whole text by kind, `chosen` the
    index of the unit in hand, and `scores` (of the first units, or none) what both models gave them.
    """
    lines: list[list[str]] = [[]]
    seen = dict.fromkeys(KINDS, 0)
    for index, item in enumerate(units):
        seen[item["kind"]] += 1
        score = scores[index] if index < len(scores) else None
        lines[-1].append(_unit(item, first + index, first + index == chosen, score, shade))
        if item["bytes"].endswith("0a"):
            lines.append([])
    body = "".join(f'<div class="text-line">{"".join(parts)}</div>' for parts in lines if parts)
    keys = "".join(
        f'<span class="key-{kind}" title="{escape(told)}"><i></i>{kind} <b>{(counts or seen)[kind]:,}</b></span>'
        for kind, told in KINDS.items()
    )
    if shade and scores:
        keys += f'<span class="key-shade" title="{escape(SHADES[shade][2])}">shade: {escape(SHADES[shade][2])}</span>'
    which = f'<div class="legend">{keys}<span class="which">upper lane: student · lower lane: teacher</span></div>'
    return (
        f"{which if legend else ''}"
        '<div class="lanes" role="group" aria-label="Aligned units; arrow keys move between them, Enter chooses one">'
        f'{body}</div><p class="unit-line" aria-live="polite">Point at a unit, or use the arrow keys, for its ids and '
        "bytes; click or press Enter to look at that position.</p>"
    )


def _unit(item: dict, index: int, chosen: bool, score: dict | None, shade: str | None) -> str:
    told = f"unit {index:,} · {_told(item)}" + (_scored(score) if score else "")
    rows = "".join(
        f'<span class="lane">{"".join(f"<i>{escape(piece)}</i>" for _, piece in item[side])}</span>'
        for side in ("student", "teacher")
    )
    state = ' tabindex="0" aria-current="true"' if chosen else ' tabindex="-1"'
    deep = ""
    if score and shade:
        name, deepest, _ = SHADES[shade]
        share = min(1.0, max(0.0, score[name] / deepest))
        deep = f' style="--heat:{share**0.5:.2f}"'
    kinds = f"{item['kind']}{' now' if chosen else ''}{' shaded' if deep else ''}"
    return f'<span class="unit {kinds}" data-unit="{index}"{state}{deep} data-told="{escape(told)}">{rows}</span>'


def _told(item: dict) -> str:
    student, teacher = (
        " | ".join(f"{piece} {token_id}" for token_id, piece in item[side]) for side in ("student", "teacher")
    )
    spaced = " ".join(item["bytes"][i : i + 2] for i in range(0, len(item["bytes"]), 2))
    shape = f"{len(item['student'])}×{len(item['teacher'])}"
    reason = f" ({item['reason']})" if item["reason"] else ""
    return f"{item['kind']}{reason}, {shape} · student: {student} · teacher: {teacher} · bytes {spaced}"


def _scored(score: dict) -> str:
    masses = f"candidates hold {score['z_s']:.1%} of the student, {score['z_t']:.1%} of the teacher"
    return (
        f" · log p: student {score['student_logprob']:.2f}, teacher {score['teacher_logprob']:.2f}"
        f" · KL {number(score['kl'])} nats · {masses}"
    )
