"""The page stands alone: it asks for nothing, shows hostile text as text, and works when opened from disk."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from simct.config.sections import ModelConfig
from simct.demo import PAIRS
from simct.inspection.candidates import candidates_at, score_units
from simct.inspection.coverage import inspect_pair, show_units
from simct.inspection.records import KlQuantiles, MassHistogram, PairReport, PairRow, Reliability
from simct.inspection.text_kinds import TITLES
from simct.models.loading import load_model
from simct.report import charts as report_charts
from simct.report.formats import share
from simct.report.html import drawn, html_report
from simct.tokenization.pair import TokenizerPair
from tests.support.hostile import HOSTILE
from tests.support.random_pair import student_tokenizer, teacher_tokenizer


@pytest.fixture(scope="module")
def pair() -> TokenizerPair:
    return TokenizerPair.from_pretrained(teacher_tokenizer(), student_tokenizer())


def report_of(pair, texts, teacher="t", student="s", **more) -> PairReport:
    return replace(inspect_pair(pair, texts), teacher=teacher, student=student, **more)


def page_of(pair, text=HOSTILE, **more) -> str:
    return html_report(report_of(pair, [text], "<b>teacher</b>", "student", **more), show_units(pair, text))


def embedded(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def test_text_from_outside_stays_text(pair):
    comparison = [
        PairRow(teacher="<u>t</u>", student="s", error="<script>"),
        PairRow(
            teacher="t", student="<u>s</u>", shared_tokens=3, jaccard=0.1, strict=0.5, recovered=0.5, method="simct",
            verdict="Use <simct>.",
        ),
    ]  # fmt: skip
    page = page_of(pair, comparison=comparison)
    for outside in ("<img", "<b>teacher", "<u>t</u>", "<u>s</u>", "<!--", "Use <simct>", "<script>alert"):
        assert outside not in page, outside
    assert len(re.findall("</script>", page)) == 2
    assert "&lt;b&gt;teacher&lt;/b&gt; → student" in page


def test_nothing_is_asked_for(pair):
    page = page_of(pair)
    assert "default-src 'none'" in page
    assert not re.findall(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)|fetch\(|XMLHttp", page)
    markup = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.S)
    assert "<table" in markup and not re.findall(r"""\b(?:src|href|action)\s*=""", markup)


def test_the_units_and_the_report_are_in_it(pair):
    rows = show_units(pair, HOSTILE)
    report = report_of(pair, [HOSTILE])
    data = embedded(html_report(report, rows))
    assert PairReport.from_dict(data["report"]) == report
    assert bytes.fromhex("".join(unit[5] for unit in data["units"])).decode() == HOSTILE
    for unit, row in zip(data["units"], rows, strict=True):
        assert (unit[1], unit[2], unit[6]) == (row.student_ids, row.teacher_ids, row.byte_start)
        assert "".join(unit[3]) == "".join(map(drawn, row.student_pieces))


def test_every_chart_is_sound_svg(pair):
    report = inspect_pair(pair, [HOSTILE])
    z_t = MassHistogram([i / 10 for i in range(11)], [0] * 9 + [90, 3], [1] + [0] * 9 + [6], 0.01)
    measured = Reliability(z_t=z_t, kl_shared=0.5, kl_quantiles=KlQuantiles([0, 0.1, 2], None), gradient_cosine=-0.5)
    for chart in (
        report_charts.coverage_bars(report),
        report_charts.vocabulary_bars(report),
        report_charts.shape_map(report.unit_shapes),
        report_charts.shape_map({}),
        report_charts.mass_bars(measured),
        report_charts.mass_histogram(z_t),
        report_charts.kl_ranges(measured),
        report_charts.cosine_bar(measured),
    ):
        ElementTree.fromstring(chart.svg)
        ElementTree.fromstring(chart.figure())
    titles = re.findall("<title>(.*?)</title>", report_charts.coverage_bars(report).svg)
    assert any(f"{report.strict_tokens:,} of {report.student_tokens:,} student tokens shared" in t for t in titles)
    shapes = report_charts.shape_map({"1x1": 70, "9x1": 20, "7x2": 10}).svg
    assert "6+ student × 1 teacher tokens: 20 units (20.0%)" in shapes
    histogram = report_charts.mass_histogram(z_t).svg
    assert "0 to 0.1: 1 recovered units" in histogram and "1 and more: 6 recovered units" in histogram


def test_an_empty_report_is_still_a_page(pair):
    page = html_report(report_of(pair, []))
    assert 'class="lanes"' not in page and embedded(page)["units"] == []


def test_signs_for_what_cannot_be_seen():
    assert drawn("a b\n\t\u200d\x00") == "a·b⏎⇥⟨200D⟩⟨0⟩"


@pytest.fixture(scope="module")
def full_page(tmp_path_factory):
    """A page with everything in it, of the embedded stress pair, as a file."""
    folders = PAIRS["student_splits"]
    names = str(folders.teacher), str(folders.student)
    pair = TokenizerPair.from_pretrained(*names)
    models = [load_model(ModelConfig(model=name)) for name in names]
    text = "Write in digits: twelve and 34.\n" * 60
    report = report_of(pair, [text], *names)
    rows = show_units(pair, text)
    recovered = next(index for index, row in enumerate(rows) if row.kind == "recovered")
    found = candidates_at(pair, *models, text, recovered)
    page = html_report(replace(report, candidates=found), rows, score_units(pair, *models, text))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, report, rows, found


def test_scores_and_candidates_are_shown(full_page):
    path, _, rows, found = full_page
    page = path.read_text(encoding="utf-8")
    assert f"<b>{share(found.Z_T)}</b>" in page and "throws this position away" in page
    assert all(len(unit[8]) == 4 for unit in embedded(page)["units"])
    assert len(rows) > 500  # more than the lanes show at once


def test_in_a_browser_from_disk(full_page, tmp_path):
    studio_page = pytest.importorskip("tests.support.studio_page", reason="playwright is absent")
    if studio_page.CHROMIUM is None:
        pytest.skip("no Chromium here: see tests/install_browser.sh")
    path, report, rows, found = full_page
    with studio_page.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=studio_page.CHROMIUM, args=studio_page.FLAGS)
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            wrong, asked = [], []
            page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
            page.on("console", lambda message, wrong=wrong: wrong.append(message.text))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(path.as_uri())
            now = page.locator(".unit.now")
            assert now.get_attribute("data-index") == str(found.index)
            line = page.locator(".unit-line")
            assert "recovered" in line.inner_text() and "KL" in line.inner_text()
            now.focus()
            page.keyboard.press("ArrowRight")
            assert page.locator(".unit.now").get_attribute("data-index") == str(found.index + 1)
            assert f"unit {found.index + 1}, byte {rows[found.index + 1].byte_start}" in line.inner_text()
            page.keyboard.press("n")
            at = int(page.locator(".unit.now").get_attribute("data-index"))
            assert rows[at].kind == "recovered" and at > found.index
            page.keyboard.press("End")  # on another page of the lanes
            assert page.locator(".unit.now").get_attribute("data-index") == str(len(rows) - 1)
            page.locator(".unit").first.hover()
            assert "unit 500" in line.inner_text()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for form in ("svg", "png"):
                with page.expect_download() as download:
                    page.click(f"figure[data-name=coverage] button[data-save={form}]")
                download.value.save_as(tmp_path / f"chart.{form}")
            assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
            ElementTree.parse(tmp_path / "chart.svg")
            with page.expect_download() as download:
                page.click("section[data-name=by-kind] button[data-save=csv]")
            download.value.save_as(tmp_path / "kinds.csv")
            with open(tmp_path / "kinds.csv", newline="") as file:
                _, *lines = csv.reader(file)
            assert {line[0]: int(line[1]) for line in lines} == {
                TITLES[kind]: row.student_tokens for kind, row in report.by_kind.items()
            }
            assert not wrong and asked[0] == path.as_uri()
            assert all(url.startswith(("data:", "blob:")) for url in asked[1:])
            page.close()
        browser.close()
