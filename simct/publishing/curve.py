"""The loss curve of a run as a PNG, for the model card (the Hub does not reliably show SVG files in cards)."""

import io
import itertools
import math

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 880, 360
# drawn this many times larger and then shrunk, so that lines are smooth
SCALE = 3
LEFT, RIGHT, TOP, BOTTOM = 66, 20, 40, 48
INK, FAINT, GRID, LINE, PALE = "#1f2430", "#5c6472", "#e4e7ec", "#2f5bd7", "#b9c8f4"


def loss_curve(metrics: list[dict]) -> bytes | None:
    """PNG bytes of the loss by step with its running mean, or None if fewer than two steps were recorded.

    `metrics` are records of metrics.jsonl; those without a finite loss are left out.
    """
    points = [
        (int(record["step"]), float(record["loss"]))
        for record in metrics
        if isinstance(record.get("loss"), int | float) and math.isfinite(record["loss"]) and "step" in record
    ]
    if len(points) < 2:
        return None
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    _draw(ImageDraw.Draw(image), *zip(*points, strict=True))
    file = io.BytesIO()
    image.resize((WIDTH * 2, HEIGHT * 2), Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw(draw: ImageDraw.ImageDraw, steps: tuple[int, ...], losses: tuple[float, ...]) -> None:
    """The grid, the losses with their running mean, and the words around them."""
    ticks = nice_ticks(min(0.0, *losses), max(losses))
    low, high = ticks[0], ticks[-1]

    def place(step: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / steps[-1]
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)
        return x * SCALE, y * SCALE

    small, normal = ImageFont.load_default(12 * SCALE), ImageFont.load_default(14 * SCALE)
    for tick in ticks:
        x, y = place(0, tick)
        draw.line([(x, y), (place(steps[-1], tick)[0], y)], fill=GRID, width=SCALE)
        draw.text((x - 8 * SCALE, y), f"{tick:g}", fill=FAINT, font=small, anchor="rm")
    for tick in nice_ticks(0, steps[-1]):
        if tick <= steps[-1]:
            x, y = place(tick, low)
            draw.text((x, y + 8 * SCALE), f"{tick:g}", fill=FAINT, font=small, anchor="mt")
    draw.line([place(*point) for point in zip(steps, losses, strict=True)], fill=PALE, width=2 * SCALE, joint="curve")
    smooth = [place(*point) for point in zip(steps, running_mean(losses), strict=True)]
    draw.line(smooth, fill=LINE, width=3 * SCALE, joint="curve")
    draw.text((LEFT * SCALE, 12 * SCALE), "Distillation loss (mean over rows)", fill=INK, font=normal)
    legend = ((WIDTH - RIGHT) * SCALE, 14 * SCALE)
    draw.text(legend, "pale: each step, dark: running mean", fill=FAINT, font=small, anchor="ra")
    draw.text(((LEFT + WIDTH - RIGHT) / 2 * SCALE, (HEIGHT - 10) * SCALE), "step", fill=FAINT, font=small, anchor="ms")


def running_mean(values: tuple[float, ...]) -> list[float]:
    """The mean around each value, over about a twentieth of the series (less towards its ends)."""
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
