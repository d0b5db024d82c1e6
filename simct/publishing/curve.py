"""The curves of a run as a PNG, for the model card (the Hub does not reliably show SVG files in cards)."""

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from simct.evaluation.records import DIRECTIONS, Evaluation

WIDTH, HEIGHT = 880, 360
# drawn this many times larger and then shrunk, so that lines are smooth
SCALE = 3
LEFT, RIGHT, TOP, BOTTOM = 66, 20, 40, 48
DISTANCE_COLORS = (("#2f5bd7", "#d3ddf8"), ("#b4540a", "#f6dcc8"))
INK, FAINT, GRID, LINE, PALE = "#1f2430", "#5c6472", "#e4e7ec", "#2f5bd7", "#b9c8f4"


def loss_curve(metrics: list[dict], evaluations: Sequence[Evaluation] = ()) -> bytes | None:
    """PNG bytes of the loss by step with its running mean, or None if fewer than two steps were recorded.

    `metrics` are records of metrics.jsonl; those without a finite loss are left out. Where there are at least two
    evaluations with a distance to the teacher, both directions follow below, with bands of two standard errors.
    """
    points = [
        (int(record["step"]), float(record["loss"]))
        for record in metrics
        if isinstance(record.get("loss"), int | float) and math.isfinite(record["loss"]) and "step" in record
    ]
    if len(points) < 2:
        return None
    plots = [_plot()]
    _draw(ImageDraw.Draw(plots[0]), *zip(*points, strict=True))
    measured = [each for each in evaluations if each.directions]
    if len(measured) > 1:
        plots.append(_plot())
        _draw_distances(ImageDraw.Draw(plots[1]), measured)
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE * len(plots)), "white")
    for place, plot in enumerate(plots):
        image.paste(plot, (0, place * HEIGHT * SCALE))
    file = io.BytesIO()
    image.resize((WIDTH * 2, HEIGHT * 2 * len(plots)), Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def _plot() -> Image.Image:
    return Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")


def _draw_distances(draw: ImageDraw.ImageDraw, evaluations: Sequence[Evaluation]) -> None:
    """Both directions by step, each a line with its band."""
    found = {
        name: [(each.step, each.directions[name]) for each in evaluations if name in each.directions]
        for name in DIRECTIONS
    }
    bands = {
        name: [(step, each.mean, 2 * (each.standard_error or 0.0)) for step, each in points]
        for name, points in found.items()
    }
    edges = [mean + sign * error for points in bands.values() for _, mean, error in points for sign in (-1, 1)]
    axes = _Axes(nice_ticks(min(0.0, *edges), max(edges)), max(evaluations[-1].step, 1))
    axes.draw(draw)
    small, normal = ImageFont.load_default(12 * SCALE), ImageFont.load_default(14 * SCALE)
    for (_, points), (_, pale) in zip(bands.items(), DISTANCE_COLORS, strict=True):
        if len(points) > 1:
            above = [axes.place(step, mean + error) for step, mean, error in points]
            below = [axes.place(step, mean - error) for step, mean, error in reversed(points)]
            draw.polygon([*above, *below], fill=pale)
    for number, ((name, points), (color, _)) in enumerate(zip(bands.items(), DISTANCE_COLORS, strict=True)):
        if points:
            draw.line([axes.place(step, mean) for step, mean, _ in points], fill=color, width=3 * SCALE, joint="curve")
        place = ((WIDTH - RIGHT - 160 * (1 - number)) * SCALE, 14 * SCALE)
        draw.text(place, DIRECTIONS[name].lower(), fill=color, font=small, anchor="ra")
    draw.text((LEFT * SCALE, 12 * SCALE), "Distance to the teacher (bits per byte)", fill=INK, font=normal)


@dataclass(frozen=True)
class _Axes:
    """The grid of a plot: its horizontal lines, and the last step."""

    ticks: list[float]
    last: int

    def place(self, step: float, value: float) -> tuple[float, float]:
        low, high = self.ticks[0], self.ticks[-1]
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / self.last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return x * SCALE, y * SCALE

    def draw(self, draw: ImageDraw.ImageDraw) -> None:
        small = ImageFont.load_default(12 * SCALE)
        for tick in self.ticks:
            x, y = self.place(0, tick)
            draw.line([(x, y), (self.place(self.last, tick)[0], y)], fill=GRID, width=SCALE)
            draw.text((x - 8 * SCALE, y), f"{tick:g}", fill=FAINT, font=small, anchor="rm")
        for tick in nice_ticks(0, self.last):
            if tick <= self.last:
                x, y = self.place(tick, self.ticks[0])
                draw.text((x, y + 8 * SCALE), f"{tick:g}", fill=FAINT, font=small, anchor="mt")
        middle = ((LEFT + WIDTH - RIGHT) / 2 * SCALE, (HEIGHT - 10) * SCALE)
        draw.text(middle, "step", fill=FAINT, font=small, anchor="ms")


def _draw(draw: ImageDraw.ImageDraw, steps: tuple[int, ...], losses: tuple[float, ...]) -> None:
    """The grid, the losses with their running mean, and the words around them."""
    axes = _Axes(nice_ticks(min(0.0, *losses), max(losses)), steps[-1])
    axes.draw(draw)
    small, normal = ImageFont.load_default(12 * SCALE), ImageFont.load_default(14 * SCALE)
    every = [axes.place(*point) for point in zip(steps, losses, strict=True)]
    draw.line(every, fill=PALE, width=2 * SCALE, joint="curve")
    smooth = [axes.place(*point) for point in zip(steps, running_mean(losses), strict=True)]
    draw.line(smooth, fill=LINE, width=3 * SCALE, joint="curve")
    draw.text((LEFT * SCALE, 12 * SCALE), "Distillation loss (mean over rows)", fill=INK, font=normal)
    legend = ((WIDTH - RIGHT) * SCALE, 14 * SCALE)
    draw.text(legend, "pale: each step, dark: running mean", fill=FAINT, font=small, anchor="ra")


def running_mean(values: tuple[float, ...]) -> list[float]:
    """The mean around each value, over about a twentieth of the series (less toward its ends)."""
    reach = max(1, len(values) // 40)
    sums = [0.0, *itertools.accumulate(values)]
    smoothed = []
    for index in range(len(values)):
        side = min(reach, index, len(values) - 1 - index)
        first, last = index - side, index + side + 1
        smoothed.append((sums[last] - sums[first]) / (last - first))
    return smoothed


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that cover low..high, about `wanted` of them."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * wanted >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]
