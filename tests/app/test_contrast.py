"""Every color of the page can be read on whatever it stands on, light and dark, by the formula of WCAG 2."""

import re
from itertools import product

import gradio as gr
import pytest

from app.page.scripts import STATIC
from app.page.theme import theme

CSS = (STATIC / "studio.css").read_text(encoding="utf-8")
TEXT = ("ink", "dim", "blue", "orange", "green", "red")
GRAPHICS = ("gray", "yellow", *(f"series-{number}" for number in range(6)))
# what is set in the theme, as (text, what it is on)
IN_THEME = (
    ("block_title_text_color", "block_background_fill"),
    ("block_info_text_color", "block_background_fill"),
    ("body_text_color_subdued", "body_background_fill"),
    ("input_placeholder_color", "input_background_fill"),
    ("link_text_color", "body_background_fill"),
    ("button_primary_text_color", "button_primary_background_fill"),
    ("button_secondary_text_color", "button_secondary_background_fill"),
    ("button_secondary_text_color", "button_secondary_background_fill_hover"),
)


def luminance(color: str) -> float:
    color = {"white": "#ffffff", "black": "#000000"}.get(color, color).removeprefix("#")
    color = "".join(2 * each for each in color) if len(color) == 3 else color
    parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def variables(scheme: str) -> dict[str, str]:
    """The colors of studio.css; those of the dark scheme replace the light ones."""
    found: dict[str, str] = {}
    for selector, body in re.findall(r"^(:root|\.dark) \{([^}]*)\}", CSS, flags=re.M):
        if selector == ":root" or scheme == "dark":
            found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", body))
    return found


def color(look: gr.themes.Base, name: str, scheme: str) -> str:
    """A color of the theme, its references followed."""
    value = getattr(look, f"{name}_dark", None) if scheme == "dark" else None
    value = value or getattr(look, name)
    return color(look, value.removeprefix("*"), scheme) if value.startswith("*") else value


def test_the_formula_is_that_of_wcag():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_graphics_can_be_told_from_what_they_stand_on(scheme):
    found, look = variables(scheme), theme()
    page = [color(look, name, scheme) for name in ("body_background_fill", "background_fill_primary")]
    for (names, least), (name, on) in (
        *product([(TEXT, 4.5)], [("soft", found["soft"]), *enumerate(page)]),
        *product([(GRAPHICS, 3.0)], enumerate(page)),
    ):
        low = {each: round(contrast(found[each], on), 2) for each in names if contrast(found[each], on) < least}
        assert not low, f"on {name} ({on})"
    for fill in ("blue-fill", "orange-fill"):
        assert contrast(found["ink"], found[fill]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_gradio_draws_can_be_read(scheme):
    look = theme()
    for text, on in IN_THEME:
        colors = color(look, text, scheme), color(look, on, scheme)
        assert contrast(*colors) >= 4.5, (text, on, colors)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_deepest_shade_of_a_unit_leaves_its_text_readable(scheme):
    [light, dark] = re.findall(r"--most-heat: (\d+)%", CSS)
    found, share = variables(scheme), int(dark if scheme == "dark" else light) / 100
    under = color(theme(), "background_fill_primary", scheme)

    def part(each: str, at: int) -> int:
        return int(each.removeprefix("#")[at : at + 2], 16)

    mixed = [round(share * part(found["series-1"], at) + (1 - share) * part(under, at)) for at in (0, 2, 4)]
    assert contrast(found["ink"], "#" + "".join(f"{each:02x}" for each in mixed)) >= 4.5
