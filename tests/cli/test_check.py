"""`simct check`, and the same checks before `simct distill`."""

import json

import pytest

from simct.cli.main import main
from simct.preflight import packages
from tests.support.commands import refused
from tests.support.run_folders import runs_in


@pytest.fixture
def arguments(folders, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"the cat {n}"}) + "\n" for n in range(4)))
    pair = ["--teacher", folders[0], "--student", folders[1], "--prompts", str(path)]
    lengths = ["--set", "rollout.max_new_tokens=8", "--set", "training.max_length=100"]
    return [*pair, "--runs", str(tmp_path / "runs"), *lengths]


def test_a_run_that_can_start(arguments, capsys):
    assert main(["check", *arguments]) == 0
    out, err = capsys.readouterr()
    assert "✓ Teacher" in out and "4 prompts" in out and out.strip().endswith("Ready to start.") and err == ""


def test_problems_come_with_remedies_and_status_2(arguments, capsys, monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda module: False)
    assert main(["check", *arguments, "--set", "training.tracker=trackio", "--set", "training.freeze=nowhere"]) == 2
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if "✕" in line and "package trackio" in line)
    assert "pip install trackio" in lines[at + 1]
    assert any("✕" in line and "nowhere" in line for line in lines)
    assert "2 problems" in lines[-1], lines
    assert "cannot start" in lines[-1]


def test_the_checklist_as_json_also_of_a_run_that_is_not_valid(arguments, capsys, tmp_path):
    assert main(["check", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ready"], found["problems"]) == (True, 0)
    assert {"state", "message", "remedy", "setting", "subject"} <= found["checks"][0].keys()
    assert main(["check", *arguments, "--steps", "0", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["ready"] and found["checks"][0]["setting"] == "training.steps"


def test_a_run_yaml_is_enough(arguments, tmp_path, capsys):
    teacher, student, prompts = arguments[1], arguments[3], arguments[5]
    (tmp_path / "run.yaml").write_text(f"teacher: {teacher}\nstudent: {student}\ndata: {{prompts: {prompts}}}\n")
    assert main(["check", str(tmp_path / "run.yaml"), "--set", "rollout.max_new_tokens=8"]) == 0
    assert main(["check", str(tmp_path / "run.yaml"), "--student", "/nowhere"]) == 2
    assert "not both" in refused(capsys, "check", "a.yaml", "--config", "b.yaml")


def test_distill_refuses_what_check_refuses_unless_told_otherwise(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda module: False)
    command = ["distill", *arguments, "--steps", "1", "--set", "training.tracker=wandb"]
    assert "package wandb is not installed" in refused(capsys, *command)
    assert runs_in(tmp_path / "runs") == []
    # the process that trains finds it as well, before it loads anything
    assert main([*command, "--no-check"]) == 2
    [run] = runs_in(tmp_path / "runs")
    assert "wandb" in run.status().error and "Cannot load" not in run.log_tail()


def test_warnings_are_printed_once_and_stop_nothing(arguments, tmp_path, capfd):
    rows = [{"prompt": "the cat", "notes": "unread text"}, {"prompt": ""}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["distill", *arguments, "--steps", "1", "--set", "training.batch_size=2"]) == 0
    out = capfd.readouterr().out
    assert out.count("warning: Nothing uses the text in notes.") == 1 and out.count("1 row of 2 is skipped") == 1
    assert out.index("warning: Nothing uses") < out.index("run folder:")
