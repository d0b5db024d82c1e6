"""Help: every setting and term has words, and links lead to sections of the documentation that exist."""

import re
from pathlib import Path

import pytest

from app.help import tab, words
from app.train import fields

ROOT = Path(__file__).parents[2]
PAGE = re.compile(rf'"((?:{"|".join(tab.PAGES)})(?:#[\w-]+)?)"')
LINKS = [
    PAGE.search(path.read_text(encoding="utf-8").split("markup.heading(")[1])
    for path in sorted((ROOT / "app").rglob("tab.py"))
    if path.parent.name != "help"
]


def slug(heading: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def test_a_field_of_the_form_has_the_help_of_its_setting():
    said = words.words()["fields"]
    shown = [name for rows in (fields.BASIC, fields.PUBLISH, *fields.FOLDED.values()) for row in rows for name in row]
    assert len(shown) > 40
    for name in shown:
        setting = fields.SETTINGS[name]
        text = said[fields.elem_id(name)]
        assert text.startswith(setting.help.rstrip(".")) and text.endswith(f"In run.yaml: {name}.")
    assert "Default: 100" in said["training-steps"] and "Allowed: 1 or more" in said["training-steps"]


def test_terms_are_defined_as_in_the_glossary():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    defined = dict(re.findall(r"^- \*\*`?([^*`]+)`?\*\*: (.*)$", text, flags=re.M))
    assert len(words.GLOSSARY) >= 10
    for term, said in words.GLOSSARY.items():
        assert said == defined[term.lower()], term


@pytest.mark.parametrize("kind", ["fields", "numbers", "charts", "columns", "places"])
def test_every_text_is_whole_sentences(kind):
    for name, text in words.words()[kind].items():
        assert not text[0].isspace() and text.endswith("."), name
        assert "  " not in text and ".." not in text, name


def test_the_words_cannot_end_their_script(monkeypatch):
    monkeypatch.setitem(words.CHARTS, "Loss", "</script><b>.")
    assert words.script().count("</script>") == 1


def test_every_step_links_to_a_section_that_exists():
    assert len(LINKS) == 7
    for found in LINKS:
        assert found
        page, _, section = found[1].partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), flags=re.M)
        assert not section or section in map(slug, headings), found[1]


def test_every_page_of_the_documentation_is_shown_without_pictures_or_dead_links():
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == set(tab.PAGES)
    for page in tab.PAGES:
        text = tab.text_of(page)
        assert text.startswith("# ") and "![" not in text
        for link in re.findall(r"\]\(([^)]+)\)", text):
            known = link.startswith(("http", "#")) or link.partition("#")[0].removesuffix(".md") in tab.PAGES
            assert known, link


def test_an_installation_without_documentation_says_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(tab, "FOLDER", tmp_path)
    assert "docs" in tab.text_of("running")
