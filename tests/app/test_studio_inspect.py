"""The Inspect step: what its views compute and draw, and the step in a real browser against a loopback Hub."""

import csv
import io
import json
import re
import threading
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from app.data import choice
from app.inspect import (
    lanes,
    link,
    numbers,
    other_pairs,
    other_pairs_view,
    position_view,
    reliability_view,
    text,
    text_source,
)
from app.inspect.coloring import score_document
from app.inspect.corpus import measure_corpus, report_line
from app.inspect.document import SCORES, read_document, units_csv
from app.inspect.reliability import Measurement, measure_reliability
from app.inspect.text_source import TextSource
from app.page import saving
from app.server import model_facts, weights, work
from app.server.studio import Studio
from app.studio import StudioPage
from app.train.form import starting_config
from simct import demo
from simct.errors import DataError, ModelError
from simct.inspection.candidates import candidates_at
from simct.inspection.coverage import inspect_pair, show_units
from simct.inspection.records import KindTokens, PairReport, PairRow
from simct.report import charts
from simct.report.formats import share
from tests.support.hostile import HOSTILE
from tests.support.hub_server import TOKEN, HubServer

TEACHER, STUDENT = str(demo.TEACHER), str(demo.STUDENT)
TEXT = "Say it plainly: the adolescent should purchase documentation expeditiously. "


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return read_document(Studio(tmp_path_factory.mktemp("long"), public=False), TEACHER, STUDENT, TEXT * 60, None)


def uploaded(monkeypatch, tmp_path, name: str, content: str) -> str:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "abc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


# The text, a page at a time


def test_a_position_of_a_link_beyond_the_text_is_named(local):
    """It was silently moved to the last one."""
    text = StudioPage(local).inspect.text
    asked = {"visitor": local.nobody, "teacher": TEACHER, "student": STUDENT, "unit": 120}
    *_, first = text._refresh(**asked, text="one two", document=None)
    read = first[text.document]
    assert "and none at position 120. This is its last one." in first[text.above] and first[text.at] == len(read) - 1
    *_, shortened = text._refresh(**asked, text="one", document=read)
    assert text.above not in shortened and shortened[text.at] == len(shortened[text.document]) - 1
    *_, emptied = text._refresh(**asked, text=" ", document=read)
    assert "no text to inspect" in emptied[text.note] and emptied[text.at] == 0


def test_pages_hold_every_unit_once_and_in_order(long):
    assert long.pages > 1
    starts = [0]
    while (following := long.turned(starts[-1], 1)) is not None:
        starts.append(following)
    html = "".join(long.page(start) for start in starts)
    assert [int(unit) for unit in re.findall(r'data-unit="(\d+)"', html)] == list(range(len(long)))
    assert long.turned(0, -1) is None and long.turned(starts[-1], -1) == starts[-2]


def test_every_disagreement_is_met_on_the_way_forward_and_back(long, pair):
    expected = [index for index, row in enumerate(show_units(pair, long.text)) if row.kind != "shared"]
    assert len(expected) > 60
    met, at = [], -1
    while (at := long.disagreement(at, 1)) is not None:
        met.append(at)
    assert met == expected
    assert long.disagreement(expected[1], -1) == expected[0] and long.disagreement(expected[0], -1) is None


def test_a_page_marks_the_unit_in_hand_and_counts_the_whole_text(long):
    html = long.page(450)
    assert len(re.findall(r'class="unit [^"]*\bnow\b', html)) == 1
    assert re.search(r'now" data-unit="450" tabindex="0" aria-current="true"', html)
    assert f"<b>{long.counts['recovered']:,}</b>" in html
    assert sum(long.counts.values()) == len(long) == int(np.sum(list(long.report.unit_shapes.values())))


def test_a_position_outside_the_text_becomes_its_nearest_unit(long):
    assert [long.clamp(at) for at in (None, -3, 2, 10**9)] == [0, 0, 2, len(long) - 1]


@pytest.mark.parametrize(
    ("text", "got"), [("  \n", "no text"), ("x" * (text_source.MAX_CHARACTERS + 1), "under Corpus")]
)
def test_texts_that_cannot_be_shown_are_reported(local, text, got):
    with pytest.raises(DataError, match=got):
        read_document(local, TEACHER, STUDENT, text, None)


def test_units_as_csv_give_back_the_text_and_its_ids(local):
    found = read_document(local, TEACHER, STUDENT, TEXT + "=1+1", None)
    rows = list(csv.DictReader(io.StringIO(units_csv(found))))
    assert bytes.fromhex("".join(row["bytes"] for row in rows)).decode() == found.text
    ids = [int(i) for row in rows for i in row["student ids"].split()]
    assert ids == list(found.spelled.student_ids)
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


# Weights


def test_scores_shade_and_tell_every_unit(local):
    found = read_document(local, TEACHER, STUDENT, TEXT, None)
    *_, now = work.follow(lambda task: score_document(local, found, None, task), local.models.turn)
    assert now.error == "" and len(now.result) == len(found)
    found.scores = now.result
    html = found.page(0, "KL")
    assert html.count("--heat:") == len(found) and "log p: student" in html
    assert "--heat:" not in found.page(0, "kind of unit")
    rows = list(csv.DictReader(io.StringIO(units_csv(found))))
    assert [float(row["kl"]) for row in rows] == pytest.approx([score.kl for score in found.scores])
    kept = local.models
    assert kept.pair_of(TEACHER, STUDENT, None) and kept.pair_of(TEACHER, STUDENT, "hf_other") is None
    kept.forget_pair()
    assert kept.pair_of(TEACHER, STUDENT, None) is None


def test_a_position_is_drawn_with_the_masses_that_were_measured(local, long, pair):
    task = work.Work()
    loaded = weights.load(local, TEACHER, STUDENT, None, task)
    unit = long.disagreement(0, 1)
    found = candidates_at(pair, loaded.teacher, loaded.student, TEXT * 2, unit)
    html = position_view.draw(found)
    most_likely = max(found.rows, key=lambda row: row.teacher_mass)
    assert charts.escape(f"teacher {share(most_likely.teacher_mass)}") in html
    assert found.thrown_away_by_strict.row and "Exact matching throws this position away" in html
    assert all(share(row.mass) in html for row in found.teacher_outside)
    rows = list(csv.DictReader(io.StringIO(position_view.candidates_csv(found))))
    assert [row["kind"] for row in rows].count("unit") == 1 and len(rows) == len(found.rows)


def test_after_the_models_are_loaded_the_position_of_that_moment_is_drawn(local, long):
    """It was the position at which loading began, although another one was shown by then."""
    tab = StudioPage(local).inspect.position
    updates = [each for update in tab._load(local.nobody, long, "") for each in update]
    assert tab.loaded in updates and not {tab.around, tab.drawn, tab.found} & set(updates)
    assert local.models.pair_of(TEACHER, STUDENT, local.nobody.token)
    assert list(tab._load(local.nobody, long, "https://example.com")) == [{}]
    assert tab.show.how["concurrency_limit"] == 1


def test_a_position_without_weights_shows_the_candidates_only(long, pair):
    unit = long.disagreement(0, 1)
    found = candidates_at(pair, None, None, long.text, unit)
    html = position_view.draw(found)
    assert f"{found.shared_candidates:,} shared tokens" in html and "appear once the models are loaded" in html
    assert "Z_T" not in html


def test_a_public_studio_loads_the_embedded_pair_and_else_what_its_owner_allows(public, monkeypatch):
    monkeypatch.delenv(weights.ALLOWANCE, raising=False)
    assert weights.allow(public, TEACHER, STUDENT, False) > 0
    monkeypatch.setattr(weights, "size", lambda *_: 3_000_000_000)
    with pytest.raises(ModelError, match="loads no weights"):
        weights.allow(public, "acme/big", STUDENT, False)
    monkeypatch.setenv(weights.ALLOWANCE, "4")
    with pytest.raises(ModelError, match=r"3\.0 GB.*allows 4 GB"):
        weights.allow(public, "acme/big", STUDENT, False)
    monkeypatch.setenv(weights.ALLOWANCE, "8")
    assert weights.allow(public, "acme/big", STUDENT, False) == 3_000_000_000


def test_models_that_do_not_fit_in_memory_are_refused_before_they_are_read():
    room = 10_000_000_000
    assert weights.precision(4_000_000_000, room) == "float32" and weights.precision(8_000_000_000, room) == "bfloat16"
    with pytest.raises(ModelError, match=r"20\.0 GB.*10\.0 GB of memory"):
        weights.precision(20_000_000_000, room)


def test_a_download_is_counted_in_bytes_and_ends_when_it_is_canceled(local, monkeypatch):
    with HubServer() as hub:
        hub.use(monkeypatch)
        filler = bytes(3_000_000)
        hub.add_model("acme/slow", demo.STUDENT, files={"model-filler.safetensors": filler})
        hub.rate = 1_000_000
        seen = []
        following = work.follow(lambda task: weights.load(local, "acme/slow", "acme/slow", TOKEN, task))
        for now in following:
            if now.doing.startswith("Downloading") and now.done:
                seen.append(now.done)
                now.stop()
        assert now.error == "Canceled."
        assert seen and local.models.pair_of("acme/slow", "acme/slow", TOKEN) is None


# Long work


def test_work_is_reported_as_it_goes_and_ends_with_its_result():
    def task(task):
        task.step("Counting:")
        for done in range(1, 5):
            task.progress(done, 4)
            time.sleep(0.2)
        return "done"

    seen = [(now.doing, now.done) for now in work.follow(task)]
    assert ("Counting:", 4) in seen and len({done for _, done in seen}) > 1


def test_work_stops_when_it_is_canceled_or_nobody_follows():
    ended = threading.Event()

    def task(task):
        try:
            while True:
                task.step("Going on")
                time.sleep(0.02)
        finally:
            ended.set()

    following = work.follow(task)
    next(following).stop()
    assert [now.error for now in following][-1] == "Canceled."
    ended.clear()
    following = work.follow(task)
    next(following)
    following.close()
    assert ended.wait(5)


def test_work_that_fails_is_reported_in_one_line():
    def refuse(task):
        raise DataError("There is nothing\nto read.")

    *_, now = work.follow(refuse)
    assert now.error == "There is nothing to read."


def test_one_task_with_weights_at_a_time(local):
    running, most = [0], [0]

    def task(task):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.2)
        running[0] -= 1

    both = [threading.Thread(target=lambda: list(work.follow(task, local.models.turn))) for _ in range(3)]
    [thread.start() for thread in both]
    [thread.join() for thread in both]
    assert most == [1]


# Sources and the corpus


def test_a_public_studio_reads_uploads_and_the_hub_only(public, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("not for visitors")
    with pytest.raises(DataError, match="Hub only"):
        text_source.texts(public, TextSource(text_source.DATASET, dataset=str(secret)), False)
    with pytest.raises(DataError, match="did not arrive"):
        text_source.texts(public, TextSource(text_source.UPLOAD, str(secret)), False)
    with pytest.raises(DataError, match="Hub only"):
        text_source.data_config(public, None, TextSource(text_source.DATASET, dataset=str(tmp_path)))
    with pytest.raises(DataError, match="Hub or an upload only"):
        text_source.data_config(public, {"prompts": str(secret)}, TextSource(text_source.CHOSEN))


@pytest.mark.parametrize(
    ("values", "got"),
    [(TextSource(text_source.UPLOAD), "no file"), (TextSource(text_source.DATASET), "no dataset")],
)
def test_a_source_that_was_not_named_is_reported(local, values, got):
    with pytest.raises(DataError, match=got):
        text_source.texts(local, values, None)


def test_a_file_is_shown_whole_and_a_table_by_its_row(local, monkeypatch, tmp_path):
    text = "".join(f"line {n} of a long text\n" for n in range(3000))
    whole = uploaded(monkeypatch, tmp_path, "long.txt", text)
    assert text_source.one_text(local, TextSource(text_source.UPLOAD, whole, number=7), None) == text
    table = uploaded(monkeypatch, tmp_path, "rows.jsonl", "".join(f'{{"text": "row {n}"}}\n' for n in range(5)))
    assert text_source.one_text(local, TextSource(text_source.UPLOAD, table, number=3), None) == "row 3"
    monkeypatch.setattr(text_source, "MAX_CHARACTERS", 1000)
    with pytest.raises(DataError, match="more than 1,000 characters"):
        text_source.one_text(local, TextSource(text_source.UPLOAD, whole, number=7), None)
    with pytest.raises(DataError, match="fewer than 10"):
        text_source.one_text(local, TextSource(text_source.UPLOAD, table, number=9), None)


def test_a_corpus_is_measured_as_the_library_does_and_a_cancel_keeps_what_was_counted(local, monkeypatch, tmp_path):
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path / "cache"))
    texts = [f"{TEXT}{n}" for n in range(60_000)]
    upload = uploaded(monkeypatch, tmp_path, "c.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts))
    values = TextSource(text_source.UPLOAD, upload, number=300)
    report = measure_corpus(local, TEACHER, STUDENT, values, None, work.Work())
    assert report.texts == 300 and not report.stopped
    expected = inspect_pair(model_facts.pair_of(local, TEACHER, STUDENT, None), texts[:300])
    assert report.by_kind == expected.by_kind and report.unit_shapes == expected.unit_shapes

    class Impatient(work.Work):
        def should_stop(self):
            return self.doing.startswith("Reading and counting") and self.done > 300

    values = TextSource(text_source.UPLOAD, upload, number=60_000)
    stopped = measure_corpus(local, TEACHER, STUDENT, values, None, Impatient())
    assert stopped.stopped and 300 < stopped.texts < 60_000
    assert "Canceled after" in report_line(stopped, "c.jsonl", 1.0)


# Reliability and several models


def measure(local, answers, chosen=choice.START):
    wanted = Measurement(TEACHER, STUDENT, chosen, TextSource(text_source.CHOSEN, number=answers), 24)
    return measure_reliability(local, wanted, None, work.Work())


def test_a_pair_is_measured_on_the_prompts_of_the_data_step(local, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Say it plainly: The cook may sell the key."}\n')
    assert measure(local, 4, {"prompts": str(path), "column": "question"}).answers == 1
    with pytest.raises(DataError, match="There are no prompts"):
        measure(local, 4, {"prompts": ""})


def test_a_measured_pair_is_drawn_kept_and_handed_to_training(local):
    report = measure(local, 4)
    html = reliability_view.draw(report)
    assert f"Use {report.method}" in html and f"{report.mass_teacher:.1%}" in html
    assert html.count("<figure") == 4 and html.count("<svg") == 4
    known = json.loads(json.dumps(reliability_view.keep(TEACHER, STUDENT, report)))
    assert reliability_view.kept(known, TEACHER, STUDENT) == report
    assert reliability_view.kept(known, STUDENT, TEACHER) is None
    assert reliability_view.kept({**known, "report": {"answers": "<b>"}}, TEACHER, STUDENT) is None
    rows = dict(csv.reader(io.StringIO(reliability_view.report_csv(reliability_view.given(known, TEACHER, STUDENT)))))
    assert float(rows["mass_student"]) == pytest.approx(report.mass_student)


def test_the_html_report_holds_the_text_its_scores_and_the_verdict(local, long):
    task, report = work.Work(), measure(local, 2)
    known = reliability_view.keep(TEACHER, STUDENT, report)
    found = read_document(local, TEACHER, STUDENT, TEXT, None)
    found.scores = score_document(local, found, None, task)
    files = {name: make for name, (_, make) in text.FILES.items()}
    made = files["html"](found, known)
    page = made.content
    assert made.name == "report.html" and page.lower().startswith("<!doctype html>") and made.remark == ""
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["units"]) == len(found) and data["report"]["reliability"]["method"] == report.method
    assert not re.search(r'(src|href)="https?:', page)
    saved = json.loads(files["json"](found, None).content)
    assert saved["by_kind"] == found.report.to_dict()["by_kind"] and "reliability" not in saved


def test_recommended_settings_reach_the_run_and_unknown_ones_do_not():
    known = {"settings": {"method": "marginal", "method_options": {"min_mass": 0.5}, "rollout.max_new_tokens": 77}}
    known["settings"]["no.such.setting"] = 1
    config = reliability_view.recommended(starting_config(), known)
    assert (config.method, config.method_options, config.rollout.max_new_tokens) == ("marginal", {"min_mass": 0.5}, 77)
    assert reliability_view.recommended(starting_config(), None).method == starting_config().method


def test_models_are_compared_in_one_table_with_an_error_in_its_row(local):
    stress = demo.STRESS["student_splits"]
    chosen = [STUDENT, "/no/such/<b>folder</b>", str(stress.student), STUDENT]
    rows = other_pairs.inspect_others(local, (TEACHER, STUDENT), other_pairs.STUDENTS, chosen, False, None, work.Work())
    assert len(rows) == 3
    good = [row for row in rows if not row.error]
    assert [row.strict for row in good] == sorted((row.strict for row in good), reverse=True)
    html = other_pairs_view.draw(rows, "student")
    assert html.count("<tr>") == 4 and "no folder" in html and "<b>folder" not in html
    assert 'data-sort="number"' in html


def test_a_public_studio_compares_no_folders(public):
    with_folder = [STUDENT, "/etc"]
    rows = other_pairs.inspect_others(
        public, (TEACHER, STUDENT), other_pairs.STUDENTS, with_folder, False, False, work.Work()
    )
    got = {row.student: row.error for row in rows}
    assert got[STUDENT] is None and "Hub only" in got["/etc"]


# Drawing and taking away


def doing(text):
    task = work.Work()
    task.step(text)
    return task


@pytest.mark.parametrize("make", [
    lambda text: charts.bars(
        text, text, [(text, (0.5, 0.25), text)], ("student", "teacher"), str, key=[("student", text)], note=text
    ).figure(),
    lambda text: charts.coverage_bars(PairReport(student_tokens=2, by_kind={text: KindTokens(2, 1, 1, 0)})).figure(),
    lambda text: charts.histogram(text, text, [0, 0.5, 1], {"value": [1, 2]}, text, note=text).figure(),
    lambda text: charts.Chart(text, text, "", note=text).figure(),
    lambda text: other_pairs_view.draw([PairRow(teacher="t", student=text, error=text)], "student"),
    lambda text: doing(text).line,
])  # fmt: skip
def test_text_from_outside_is_escaped(make):
    html = make(HOSTILE)
    assert "&lt;img" in html
    assert "<img" not in html and "<script" not in html and 'onerror="' not in html


def test_stacked_bars_are_as_wide_as_their_shares(long):
    html = numbers.kinds(long.report)
    words = long.report.by_kind["words"]
    (row,) = re.findall(r">words</text>(.*?)<text", html)
    widths = {kind: float(width) for kind, width in re.findall(r'<rect class="(\w+)"[^>]* width="([\d.]+)"', row)}
    assert widths["recovered"] / sum(widths.values()) == pytest.approx(words.recovered / words.student_tokens, abs=1e-2)


def test_bars_below_zero_end_at_zero():
    rows = [("pull", [-0.5], ""), ("push", [0.5], "")]
    svg = charts.bars("cosine", "Cosine", rows, ("value",), str, highest=1.0, lowest=-1.0).svg
    (x0, w0), (x1, w1) = [
        (float(x), float(w)) for x, w in re.findall(r'<rect class="value" x="([\d.]+)"[^>]* width="([\d.]+)"', svg)
    ]
    assert x0 + w0 == pytest.approx(x1, abs=0.2) and w0 == pytest.approx(w1, abs=0.2)


def test_cells_that_a_spreadsheet_would_run_are_text():
    rows = list(csv.reader(io.StringIO(saving.as_csv(("a",), [("=1+1",), ("@x",), (-2,)]))))
    assert rows == [["a"], ["'=1+1"], ["'@x"], ["-2"]]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("text", 0)),
        ({"part": "position", "at": "17"}, ("position", 17)),
        ({"part": "<b>", "at": "-1"}, ("text", 0)),
        ({"part": "corpus", "at": "9" * 30}, ("corpus", 0)),
        ({"part": "several"}, ("other_pairs", 0)),
    ],
)
def test_an_address_names_a_place_or_the_start(asked, expected):
    assert link.place(asked) == expected


def test_shades_are_fields_of_a_score():
    assert {field for field, _, _ in lanes.SHADES.values()} <= set(SCORES)


# In a browser


playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

expect = playwright.expect
in_browser = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        server.add_model("acme/wordy-teacher", demo.TEACHER)
        server.add_model("acme/tiny-student", demo.STUDENT)
        rows = "".join(json.dumps({"note": f"{TEXT}{n}"}) + "\n" for n in range(3000)).encode()
        server.add_dataset("acme/notes", files={"data/train.jsonl": rows})
        yield server


@pytest.fixture(scope="module")
def address(hub, runs_dir, tmp_path_factory):
    environment = hub.env(XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache")))
    with studio_page.running_studio(runs_dir, environment) as url:
        yield url


@pytest.fixture
def studio(studio):
    studio.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return studio


def saved(studio, selector: str) -> bytes:
    with studio.page.expect_download() as download:
        studio.at(selector).first.click()
    return download.value.path().read_bytes()


@in_browser
@pytest.mark.long
def test_from_a_text_to_a_position_a_saved_chart_and_a_link_that_comes_back(studio, hub):
    pair = "teacher=acme/wordy-teacher&student=acme/tiny-student"
    studio.open(f"?step=inspect&{pair}")
    text = "Please, the adolescent should purchase documentation."
    studio.page.get_by_label("Text", exact=True).fill(text)
    expect(studio.at("#inspect-lanes .unit").first).to_have_text("PP")
    chosen = studio.at("#inspect-lanes .unit.recovered").first
    chosen.focus()
    studio.page.keyboard.press("Enter")
    unit = chosen.get_attribute("data-unit")
    expect(studio.at("#inspect-lanes .unit.now")).to_have_attribute("data-unit", unit)
    studio.at("#inspect-look").click()
    expect(studio.at("#position-seen h3").first).to_contain_text(f"Unit {unit}: recovered")
    expect(studio.at("#position-seen")).to_contain_text("appear once the models are loaded")
    assert not any("safetensors" in request.path for request in hub.requests)
    studio.at("#position-load").click()
    expect(studio.at("#position-seen .tile").first).to_contain_text("Z_T")
    assert any("safetensors" in request.path for request in hub.requests)

    svg = ElementTree.fromstring(saved(studio, "#position-seen button[data-save=svg]"))
    drawn = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "Mass on the candidates" in drawn and {"student", "teacher"} <= set(drawn)
    bars = [rect for rect in svg.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") == "teacher"]
    assert bars and "fill:rgb(" in bars[0].get("style").replace(" ", "")
    assert saved(studio, "#position-seen button[data-save=png]").startswith(b"\x89PNG")
    position = json.loads(saved(studio, "#position-json"))
    assert position["position"] == int(unit) and position["Z_T"] > 0

    studio.at("#inspect-link").click()
    expect(studio.at("#inspect-linked .note-ok")).to_contain_text("It restores the pair, the text and the position")
    link = studio.page.evaluate("navigator.clipboard.readText()")
    assert "#text=" in link and f"at={unit}" in link and "documentation" not in link
    studio.page.goto("about:blank")
    studio.page.goto(link)
    expect(studio.at("#position-seen h3").first).to_contain_text(f"Unit {unit}: recovered")
    expect(studio.at("#position-seen .tile").first).to_contain_text("Z_T")
    studio.page.get_by_role("tab", name="Text").click()
    assert studio.at("#inspect-text textarea").input_value() == text
    expect(studio.at("#inspect-lanes .unit.now")).to_have_attribute("data-unit", unit)


@in_browser
def test_a_corpus_is_canceled_a_pair_is_judged_and_training_takes_it_over(studio, hub):
    studio.open("?step=inspect&part=corpus")
    studio.page.get_by_label("Hub dataset").check()
    studio.at("#corpus-dataset input, #corpus-dataset textarea").fill("acme/nothing")
    studio.at("#corpus-start").click()
    expect(studio.at("#corpus-note .note-error")).to_contain_text("acme/nothing")
    studio.at("#corpus-dataset input, #corpus-dataset textarea").fill("acme/notes")
    hub.rate = 200_000
    studio.at("#corpus-start").click()
    studio.at("#corpus-cancel").click()
    expect(studio.at("#corpus-note")).to_contain_text("Canceled")
    expect(studio.at("#corpus-cancel")).to_be_hidden()
    hub.rate = None
    studio.at("#corpus-limit input").fill("200")
    studio.at("#corpus-start").click()
    expect(studio.at("#corpus-note .note-ok")).to_contain_text("200 texts of acme/notes")
    expect(studio.at("#corpus-charts svg")).to_have_count(3)
    assert json.loads(saved(studio, "#corpus-json"))["texts"] == 200
    page = saved(studio, "#corpus-html").decode()
    assert page.lower().startswith("<!doctype html>") and "acme/notes" in page

    studio.page.get_by_role("tab", name="Reliability").click()
    expect(studio.at("#reliability-train")).to_be_disabled()
    studio.at("#reliability-measure").click()
    expect(studio.at("#reliability-seen .verdict")).to_contain_text("Use simct")
    studio.page.wait_for_function("(sessionStorage.getItem('simct-verdict') ?? '').includes('simct')")
    studio.page.reload()
    expect(studio.at("#reliability-seen .verdict")).to_contain_text("Use simct")
    studio.at("#reliability-train").click()
    expect(studio.at("#method-verdict .note-ok")).to_contain_text("Measured for this pair")
