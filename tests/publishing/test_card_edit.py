"""A card that a person edited: kept with the run, checked by field, and gone again when it is reset."""

import pytest

from simct.errors import HubError, RunError
from simct.publishing.card_edit import (
    CARD_FILE,
    PLACEHOLDER,
    card_of,
    card_parts,
    check_card,
    edited_card,
    reset_card,
    save_card,
)
from simct.publishing.push import publish_run
from tests.support.hub_runs import finished_run
from tests.support.hub_server import HubServer

GOOD = "---\nlicense: apache-2.0\nbase_model: acme/student\nbase_model_relation: finetune\n---\n# Mine\n"


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run")


def test_an_edited_card_goes_along_when_the_name_changes_until_it_is_reset(run):
    generated = card_of(run, "me/first", "mit")
    assert edited_card(run) is None and 'model_id = "me/first"' in generated
    save_card(run, generated.replace("## Limits", "## Mine\r\n\r\n## Limits"), "me/first")
    assert (run.path / CARD_FILE).exists() and "me/first" not in edited_card(run) and "\r" not in edited_card(run)
    again = card_of(run, "me/second")
    assert "## Mine" in again and 'model_id = "me/second"' in again and PLACEHOLDER not in again
    reset_card(run)
    assert card_of(run, "me/first", "mit") == generated
    reset_card(run)  # nothing to do is fine


def test_generated_cards_pass(run):
    assert check_card(card_of(run, "me/x", "mit"))["base_model"] == "acme/student"
    assert check_card(GOOD)["license"] == "apache-2.0"
    assert card_parts("no metadata") == ("", "no metadata")


@pytest.mark.parametrize(
    ("front", "got"),
    [
        ("license: apache2", "license is 'apache2'"),
        ("license: [mit]", "license is"),
        ("license: other", "license_name"),
        ("base_model: not a name", "base_model is 'not a name'"),
        ("base_model: [acme/x, '../y']", "base_model is '../y'"),
        ("datasets: a/b/c", "datasets is 'a/b/c'"),
        ("base_model: a/b\nbase_model_relation: child", "base_model_relation is 'child'"),
        ("base_model_relation: finetune", "without a base_model"),
        ("library_name: [transformers]", "library_name"),
        ("tags: [[x]]", "tags"),
        ("language: {en: 1}", "language"),
        ("license: mit: x", "not YAML (line 2)"),
        ("just words", "`name: value` lines"),
        ("model-index: 5", "model-index"),
    ],
)
def test_what_the_hub_would_refuse_is_named_by_field(front, got):
    with pytest.raises(HubError) as error:
        check_card(f"---\n{front}\n---\n# A card\n")
    assert got in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_card_without_metadata_or_words_is_refused():
    with pytest.raises(HubError, match="no metadata"):
        check_card("# Only words\n")
    with pytest.raises(HubError, match="has no text below"):
        check_card("---\nlicense: mit\n---\n\n")


def test_a_license_the_hub_gave_passes_although_it_is_new():
    with pytest.raises(HubError):
        check_card("---\nlicense: llama9\n---\nx\n")
    check_card("---\nlicense: llama9\n---\nx\n", "llama9")


def test_a_card_far_too_long_is_refused(run):
    with pytest.raises(RunError, match="Shorten"):
        save_card(run, "x" * 300_000)


def test_the_edited_card_is_what_is_published_and_a_wrong_one_changes_nothing(run, monkeypatch):
    with HubServer() as hub:
        hub.use(monkeypatch)
        hub.add_model("acme/student", files={"README.md": b"---\nlicense: mit\n---\n"})
        publish_run(run, "tester/tiny", card=GOOD)
        assert hub.repos["tester/tiny"].files["README.md"].decode() == GOOD
        before = hub.repos["tester/tiny"].head.sha
        wrong_license, wrong_base = GOOD.replace("apache-2.0", "nonsense"), GOOD.replace("acme/student", "acme/none")
        for wrong, got in ((wrong_license, "license"), (wrong_base, "no such model")):
            with pytest.raises(HubError, match=got):
                publish_run(run, "tester/tiny", card=wrong)
            assert run.publishing().state == "failed" and hub.repos["tester/tiny"].head.sha == before
        reset_card(run)
        publish_run(run, "tester/tiny")
        assert "How it was trained" in hub.repos["tester/tiny"].files["README.md"].decode()
