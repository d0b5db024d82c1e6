"""Names, notes, tags and stars of runs."""

import json

import pytest

from simct.cli.main import main
from simct.errors import RunError
from simct.runs.labels import LABEL_FILE, RunLabel, change_label, read_label, save_label
from tests.support.stand_in_runs import new


@pytest.fixture
def run(tmp_path):
    return new(tmp_path)


def test_a_label_is_kept_and_changed_in_part(run):
    assert read_label(run) == RunLabel()
    save_label(run, RunLabel("  First   try ", "lower rate\nnext\n", (" #a ", "b", "a", ""), True))
    assert read_label(run) == RunLabel("First try", "lower rate\nnext", ("a", "b"), True)
    change_label(run, add_tags=["c"], remove_tags=["#a"], starred=False)
    assert read_label(run) == RunLabel("First try", "lower rate\nnext", ("b", "c"), False)
    assert change_label(run, name="", note="").line == "#b #c"


@pytest.mark.parametrize(
    "label",
    [
        RunLabel(name="x" * 81),
        RunLabel(name="a\x07b"),
        RunLabel(note="x" * 4001),
        RunLabel(tags=("two words",)),
        RunLabel(tags=("<b>",)),
        RunLabel(tags=tuple(f"t{index}" for index in range(13))),
        RunLabel(note="\ud800"),
    ],
)
def test_a_label_that_cannot_be_is_refused_in_one_line(run, label):
    save_label(run, RunLabel("kept"))
    with pytest.raises(RunError) as caught:
        save_label(run, label)
    assert "\n" not in str(caught.value)
    assert read_label(run) == RunLabel("kept")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("{half", RunLabel()),
        ("[]", RunLabel()),
        ('{"name": 3, "note": "n", "tags": "x", "starred": 1}', RunLabel(note="n")),
        ('{"name": "ok", "tags": ["a", 2, "b"], "starred": true, "later": {}}', RunLabel("ok", "", ("a", "b"), True)),
        ('{"name": "ok", "tags": ["no good"]}', RunLabel("ok")),
    ],
)
def test_damaged_labels_are_read_without_what_is_wrong(run, content, read):
    (run.path / LABEL_FILE).write_text(content)
    assert read_label(run) == read


def test_the_command_changes_lists_and_prints_labels(run, tmp_path, capsys):
    where = ["--runs", str(tmp_path)]
    other = new(tmp_path)
    for each in (run, other):
        each.set_status(state="stopped", queued_at=None)
    assert main(["jobs", "label", run.id, *where, "--name", "First", "--tag", "a", "--star", "--note", "why"]) == 0
    assert capsys.readouterr().out == f"{run.id}: ★ First #a\nwhy\n"
    assert main(["jobs", *where, "--star"]) == 0
    listed = capsys.readouterr().out
    assert "★ First #a" in listed and other.id not in listed
    assert main(["jobs", *where, "--json"]) == 0
    records = {record["id"]: record for record in json.loads(capsys.readouterr().out)}
    assert (records[run.id]["name"], records[run.id]["tags"], records[run.id]["starred"]) == ("First", ["a"], True)
    assert (records[other.id]["name"], records[other.id]["note"]) == ("", "")
    assert main(["jobs", "label", run.id, *where, "--tag", "two words"]) == 2
    assert "cannot be a tag" in capsys.readouterr().err
