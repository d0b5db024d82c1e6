"""Keys of teachers' servers that people entered: removed from what belongs to them, and from nothing of others."""

from collections import OrderedDict

import pytest

from simct.errors import HubError
from simct.hub import redact as redacting
from simct.hub.redact import MOST_EACH, MOST_OWNERS, hide, redact
from simct.models import server_keys
from simct.models.server_keys import keep_key, key_of
from simct.publishing.card_edit import check_card

SERVER = "https://teacher.example.com"


@pytest.fixture(autouse=True)
def nothing_entered(monkeypatch):
    monkeypatch.setattr(redacting, "_hidden", OrderedDict())
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())


def test_the_key_of_an_account_is_removed_from_what_is_its_own_and_stays_in_what_others_read():
    keep_key("ann", SERVER, "checkpoint")
    assert redact("wrote a checkpoint", "ann") == "wrote a …"
    assert redact("wrote a checkpoint", "bob") == redact("wrote a checkpoint") == "wrote a checkpoint"


def test_a_word_that_one_account_enters_as_a_key_keeps_no_other_from_publishing():
    card = "---\nlicense: mit\n---\nThe student.\n"
    keep_key("ann", SERVER, "license")
    assert check_card(card, owner="bob") == check_card(card) == {"license": "mit"}
    with pytest.raises(HubError, match="access token"):
        check_card(card, owner="ann")


def test_the_key_of_the_person_who_runs_the_studio_is_removed_from_everything():
    keep_key(None, SERVER, "key-of-this-machine")
    assert redact("Bearer key-of-this-machine", "ann") == redact("Bearer key-of-this-machine") == "Bearer …"


def test_an_account_that_enters_many_keys_replaces_only_its_own():
    keep_key("ann", SERVER, "key-of-ann")
    for number in range(server_keys.MOST_KEYS + 1):
        keep_key("bob", f"https://{number}.example.com", f"key-{number}-of-bob")
    assert key_of("ann", SERVER) == "key-of-ann" and redact("key-of-ann", "ann") == "…"
    assert key_of("bob", "https://0.example.com") is None
    assert key_of("bob", f"https://{server_keys.MOST_KEYS}.example.com")
    assert len(server_keys._keys) == 1 + server_keys.MOST_EACH


def test_what_is_remembered_to_be_removed_is_bounded():
    for number in range(MOST_OWNERS + 5):
        hide(f"key-{number}", f"owner-{number}")
    for number in range(3 * MOST_EACH):
        hide(f"key-{number}", "ann")
    assert len(redacting._hidden) == MOST_OWNERS and len(redacting._hidden["ann"]) == MOST_EACH
