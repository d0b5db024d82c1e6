"""A model as people write it."""

import pytest

from simct.hub.repo_ids import is_folder, split_revision


def test_names_with_revisions(tmp_path):
    assert split_revision("org/model@main") == ("org/model", "main")
    assert split_revision("org/model") == ("org/model", None)
    assert split_revision(" org/model@refs/pr/1 ") == ("org/model", "refs/pr/1")
    assert split_revision(None) == ("", None)
    (tmp_path / "me@home").mkdir()
    assert split_revision(str(tmp_path / "me@home")) == (str(tmp_path / "me@home"), None)


@pytest.mark.parametrize("half", ["@main", "org/model@", "@"])
def test_half_a_name_is_left_alone(half):
    assert split_revision(half) == (half, None)


def test_what_is_written_like_a_folder_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert all(map(is_folder, ("/models/a", "./a", "../a", "~/a", "mine")))
    assert not is_folder("org/model")
