"""The README's pictures, taken from the running studio: `python -m tools.screenshots` writes docs/images/*.webp.

It takes the embedded pair through every step, in a browser, from the choice of models to a published student.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.support import studio_page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1280, 860
MAX_BYTES = 300_000
STEPS = 60
PROMPT = "Say it plainly: The constable may sell the light key on Saturday."


def save(studio: studio_page.Studio, name: str, height: int = HEIGHT) -> None:
    """Save what the window shows down to `height` as WebP; exits with a message above MAX_BYTES."""
    studio.page.mouse.move(0, 0)
    window = studio.page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    picture = Image.open(io.BytesIO(window)).convert("RGB")
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
        save(studio, "pair")
        studio.step("Inspect")
        expect(studio.at(".unit").first).to_be_visible()
        studio.at(".unit.recovered").first.focus()
        save(studio, "inspect")
        studio.step("Data")
        expect(studio.at("#data-readings .read i").first).to_be_visible()
        expect(studio.at("#prompt-note .note-ok")).to_be_visible()
        save(studio, "data")
        studio.step("Train")
        studio.set("Steps", str(STEPS))
        expect(studio.at("#run-yaml")).to_contain_text(f"steps: {STEPS}")
        expect(studio.at("#train-estimate")).to_contain_text(f"{STEPS} steps")
        studio.at("h2 >> visible=true").first.click()
        # above run.yaml, which contains paths of this machine
        box = studio.at("#run-yaml").bounding_box()
        save(studio, "train", int(box["y"]) - 10 if box else HEIGHT)
        studio.at("#launch").click()
        expect(studio.at("#run-head .pill")).to_have_text("finished", timeout=600 * studio_page.SECONDS)
        save(studio, "runs")
        studio.step("Compare")
        expect(studio.at("#compare-sides input").first).to_be_visible()
        studio.at("#compare-prompt textarea").fill(PROMPT)
        studio.at("#compare-ask").click()
        expect(studio.at(".answer[data-side=after] .said i").first).to_be_visible()
        save(studio, "compare")
        studio.step("Publish")
        expect(studio.at("#card h1")).to_be_visible()
        save(studio, "publish")
        dark = studio_page.visitor(opened, url, WIDTH, HEIGHT, "dark").open("?step=inspect")
        expect(dark.at(".unit").first).to_be_visible()
        dark.at(".unit.recovered").first.focus()
        save(dark, "inspect-dark")
        studio.close()
        dark.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
