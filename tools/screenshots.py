"""The README's pictures, taken from the running studio: `python -m tools.screenshots` writes docs/images/*.webp.

It takes the embedded pair through every step, in a browser, from the choice of models to a published student.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, expect

from tests.support import studio_page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT, TALLEST = 1280, 860, 2600
# below what a picture ends with
MARGIN = 6
MAX_BYTES = 300_000
# milliseconds in which bars and charts come to rest
STILL = 1500
STEPS = 60
REPOSITORY = "your-name/plain-words"
PROMPT = "Say it plainly: The constable may sell the light key on Saturday."


def save(studio: studio_page.Studio, name: str, last: Locator | None = None) -> None:
    """Save the page down to the end of `last` as WebP, once nothing moves; exits with a message above MAX_BYTES.

    Without `last` it is as much as a window shows.
    """
    studio.page.set_viewport_size({"width": WIDTH, "height": HEIGHT if last is None else TALLEST})
    studio.page.mouse.move(0, 0)
    studio.page.evaluate("scrollTo(0, 0)")
    studio.page.wait_for_timeout(STILL)
    box = last.bounding_box() if last else None
    height = int(box["y"] + box["height"]) + MARGIN if box else HEIGHT
    shown = studio.page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    picture = Image.open(io.BytesIO(shown)).convert("RGB")
    path = IMAGES / f"{name}.webp"
    picture.save(path, quality=88, method=6)
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"screenshots: {path} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}.")
    print(path, f"{path.stat().st_size:,} bytes")


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as runs,
        studio_page.running_studio(Path(runs)) as url,
        studio_page.browser() as opened,
    ):
        studio = studio_page.visitor(opened, url, WIDTH, HEIGHT).open()
        expect(studio.at("#pair-summary .tile").first).to_be_visible()
        save(studio, "pair", studio.at("#pair-summary table"))
        studio.step("Inspect")
        expect(studio.at(".unit").first).to_be_visible()
        studio.at(".unit.recovered").first.focus()
        save(studio, "inspect", studio.at("#inspect-lanes .lanes"))
        studio.step("Data")
        expect(studio.at("#data-readings .read i").first).to_be_visible()
        expect(studio.at("#prompt-note .note-ok")).to_be_visible()
        save(studio, "data", studio.at("#data-lengths .charts"))
        studio.step("Train")
        studio.set("Steps", str(STEPS))
        expect(studio.at("#run-yaml")).to_contain_text(f"steps: {STEPS}")
        expect(studio.at("#train-estimate")).to_contain_text(f"{STEPS} steps")
        expect(studio.at("#launch")).to_be_enabled()
        studio.at("h2 >> visible=true").first.click()
        # above run.yaml, which contains paths of this machine
        save(studio, "train", studio.at("#check-again"))
        studio.at("#launch").click()
        expect(studio.at("#run-head .pill")).to_have_text("finished", timeout=600 * studio_page.SECONDS)
        expect(studio.at("#run-charts .plot").first).to_be_visible()
        save(studio, "runs", studio.at("#run-charts .chart").nth(3))
        studio.step("Compare")
        expect(studio.at("#compare-sides input").first).to_be_visible()
        studio.at("#compare-prompt textarea").fill(PROMPT)
        studio.at("#compare-ask").click()
        expect(studio.at(".answer[data-side=after] .said i").first).to_be_visible()
        expect(studio.at("#compare-answers .legend")).to_be_visible()
        save(studio, "compare", studio.at("#compare-answers .legend"))
        studio.step("Publish")
        studio.at("#publish-repo").locator("input, textarea").fill(REPOSITORY)
        expect(studio.at("#card h1")).to_have_text(REPOSITORY.split("/")[1])
        save(studio, "publish")
        dark = studio_page.visitor(opened, url, WIDTH, HEIGHT, "dark").open("?step=inspect")
        expect(dark.at(".unit").first).to_be_visible()
        dark.at(".unit.recovered").first.focus()
        save(dark, "inspect-dark", dark.at("#inspect-lanes .lanes"))
        studio.close()
        dark.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
