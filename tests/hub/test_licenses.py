"""What is said of two licenses: known terms by name, and nothing concluded from unknown ones."""

from types import SimpleNamespace

import pytest

from simct.hub.licenses import license_compatibility, license_concerns


def got(teacher: str | None, student: str | None) -> str:
    line = license_compatibility(SimpleNamespace(license=teacher), SimpleNamespace(license=student))
    assert "\n" not in line and line.endswith("Not legal advice.") and len(line) < 300
    return line


def test_two_permissive_licenses_leave_nothing_to_look_up():
    for name in ("apache-2.0", "mit", "bsd-3-clause", "bsd-3-clause-clear", "cc-by-4.0", "cc0-1.0"):
        assert license_concerns(SimpleNamespace(license=name), SimpleNamespace(license="mit")) == [], name
        assert "Both licenses are permissive" in got(name, "mit")


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ("llama3", "apache-2.0", "The teacher's license (llama3) forbids using its outputs"),
        ("llama2", "llama2", "Both are under llama2"),
        ("llama3.1", "mit", "begin with “Llama”"),
        ("llama4", "mit", "begin with “Llama”"),
        ("gemma", "mit", "counts a model distilled from it as a derivative"),
        ("cc-by-nc-4.0", "mit", "allows no commercial use, which may bind the student"),
        ("cc-by-nc-nd-4.0", "mit", "forbids sharing adaptations"),
        ("mit", "cc-by-nd-4.0", "keep the result private"),
        ("mit", "cc-by-nc-sa-4.0", "student's license (cc-by-nc-sa-4.0) allows no commercial use"),
        ("bigscience-openrail-m", "mit", "restricts uses"),
        ("mit", "gpl-3.0", "share-alike"),
        ("mit", "llama3.2", "The student's license (llama3.2) stays"),
    ],
)
def test_known_terms_are_named(teacher, student, expected):
    assert expected in got(teacher, student)


@pytest.mark.parametrize("name", [None, "", "unknown", "other", "acme-model-license", "Deepseek"])
def test_unknown_stays_unknown(name):
    for line in (got(name, "mit"), got("mit", name)):
        assert "check whether" in line and "permissive" not in line
        assert any(word in line for word in ("not stated", "a custom license", "not known here"))
