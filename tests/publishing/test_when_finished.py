"""A run that publishes itself: checked before it starts, pushed once, and finished whatever the Hub says."""

import os

import pytest

from simct.cli.main import main as command
from simct.config import config_from_dict
from simct.errors import ConfigError, HubError
from simct.jobs.actions import duplicate
from simct.publishing import when_finished
from simct.publishing.card import public_yaml
from simct.publishing.push import publish_run
from simct.publishing.when_finished import announce_publishing, check_publishing, publish_when_finished
from tests.support.hub_runs import finished_run
from tests.support.hub_server import TOKEN
from tests.support.random_pair import save_pair


@pytest.fixture
def hub(hub, monkeypatch):
    hub.add_model("acme/student", files={"README.md": b"---\nlicense: apache-2.0\n---\n"})
    monkeypatch.setattr(when_finished, "WAITS", (0.0, 0.0))
    return hub


def described(evaluation=None, **publish):
    models = {"teacher": "acme/teacher", "student": "acme/student", "data": {"prompts": "acme/prompts"}}
    return config_from_dict({**models, "evaluation": evaluation or {}, "publish": publish})


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run", publish={"repo_id": "tester/tiny", "rollouts": True})


def test_a_run_that_names_no_repository_publishes_nothing(hub, tmp_path):
    run = finished_run(tmp_path / "run")
    announce_publishing(run)
    assert publish_when_finished(run) is None
    assert run.publishing().state == "none" and not hub.requests


def test_it_publishes_what_run_yaml_asks_for(hub, run):
    announce_publishing(run)
    assert (run.publishing().state, run.publishing().pid) == ("publishing", os.getpid())
    assert publish_when_finished(run) == f"Published: {hub.url}/tester/tiny"
    assert hub.repos["tester/tiny"].private and "datasets/tester/tiny-rollouts" in hub.repos
    assert run.publishing().state == "published" and run.status().state == "finished"
    # whoever starts from the published settings does not publish here
    assert "tester/tiny" not in hub.repos["tester/tiny"].files["simct_run.yaml"].decode()


def test_the_same_student_is_never_published_twice(hub, run):
    publish_when_finished(run)
    commits, requests = len(hub.repos["tester/tiny"].commits), len(hub.requests)
    announce_publishing(run)
    assert publish_when_finished(run).startswith("Published before: ")
    assert len(hub.repos["tester/tiny"].commits) == commits and len(hub.requests) == requests
    # one that was trained further is another student
    run.set_status(model_step=9)
    announce_publishing(run)
    assert publish_when_finished(run).startswith("Published: ")


def test_a_student_published_by_hand_meanwhile_is_not_pushed_again(hub, run):
    publish_run(run, "tester/tiny")
    assert publish_when_finished(run).startswith("Published before: ")


def test_a_failed_push_leaves_a_finished_run_that_one_call_publishes(hub, run):
    hub.fail("/commit/", 403, times=9)
    line = publish_when_finished(run)
    assert line.startswith("Not published: ") and "\n" not in line and TOKEN not in line
    assert run.status().state == "finished" and run.publishing().state == "failed"
    hub.faults.clear()
    assert publish_run(run, "tester/tiny") == f"{hub.url}/tester/tiny"


def test_passing_trouble_is_waited_out(hub, run):
    hub.fail("/commit/", 503, times=2)
    assert publish_when_finished(run) == f"Published: {hub.url}/tester/tiny"


@pytest.mark.parametrize("name", ["a b", "x/y/z", "-bad", "owner/na..me"])
def test_names_the_hub_does_not_allow_are_refused(name):
    with pytest.raises(ConfigError, match=r"publish\.repo_id is"):
        described(repo_id=name)


def test_an_improvement_has_to_be_measured():
    with pytest.raises(ConfigError, match=r"publish\.only_if_improved"):
        described({"every": 0}, repo_id="tester/tiny", only_if_improved=True)


def test_the_name_and_the_permission_are_checked_before_launch(hub, monkeypatch):
    assert check_publishing(described()) is None
    assert check_publishing(described(repo_id="tiny")) == "tester/tiny"
    with pytest.raises(HubError, match=r"may not write\. Choose from: tester"):
        check_publishing(described(repo_id="somebody/tiny"))
    hub.add_model("tester/taken", files={"weights.bin": b"x"})
    with pytest.raises(HubError, match="was not made by SimCT Studio"):
        check_publishing(described(repo_id="tester/taken"))
    with pytest.raises(HubError, match="you are not signed in"):
        check_publishing(described(repo_id="tiny"), token=False)
    hub.add_user("reader", "hf_readerreaderreader", role="read")
    with pytest.raises(HubError, match="the token can only read"):
        check_publishing(described(repo_id="tiny"), token="hf_readerreaderreader")
    assert "tester/tiny" not in hub.repos


def test_a_duplicate_publishes_only_where_it_is_told_to(run):
    assert duplicate(run).publish.repo_id is None
    assert duplicate(run, {"publish.repo_id": "tester/second"}).publish.repo_id == "tester/second"
    assert "publish" in public_yaml(run.config())


def test_the_command_trains_and_publishes_with_nobody_watching(hub, tmp_path, capsys):
    teacher, student = save_pair(tmp_path / "pair")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "{number} + 1"}}\n' for number in range(8)))
    named = ["--teacher", str(teacher), "--student", str(student), "--prompts", str(prompts)]
    small = ["--steps", "1", "--set", "training.batch_size=2", "--set", "rollout.max_new_tokens=4"]
    small += ["--set", "data.held_out=0", "--output", str(tmp_path / "run"), "--runs", str(tmp_path)]
    assert command(["distill", *named, *small, "--publish", "tester/auto"]) == 0
    assert f"Published: {hub.url}/tester/auto" in capsys.readouterr().out
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert hub.repos["tester/auto"].files["model.safetensors"] == weights


def measured(step: int, bits: float) -> dict:
    """A line of evaluations.jsonl: 16 prompts whose distances lie around `bits`."""
    one = {"bits_per_byte": bits, "bytes": 99, "bits": {str(index): bits + index / 1000 for index in range(16)}}
    both = {"student_to_teacher": one, "teacher_to_student": one}
    rest = {"tasks": {}, "answers": [], "seconds": 1.0, "prompts": 16, "every": 1}
    return {"step": step, "distance": both, **rest}


@pytest.mark.parametrize(
    ("after", "outcomes", "published"),
    [
        (0.5, None, "Published: "),
        (0.9, None, "Not published: nothing that was measured improved by more than noise."),
        (1.5, None, "Not published: distance student to teacher became worse by more than noise."),
        (0.9, [1] * 16, "Published: "),
        (0.5, [0] * 16, "Not published: demo became worse by more than noise."),
    ],
)
def test_only_a_student_that_improved_is_published(hub, tmp_path, after, outcomes, published):
    run = finished_run(tmp_path / "run", publish={"repo_id": "tester/tiny", "only_if_improved": True})
    run.set_status(model_step=3)
    run.append("evaluations.jsonl", measured(0, 0.9))
    run.append("evaluations.jsonl", measured(3, after))
    half = [1] * 8 + [0] * 8
    scores = {name: {"demo": {"score": sum(each) / 16, "n": 16, "outcomes": each}} for name, each in
              (("before", half), ("after", outcomes or half))}  # fmt: skip
    run.save_evaluation(scores)
    announce_publishing(run)
    assert publish_when_finished(run).startswith(published)
    assert ("tester/tiny" in hub.repos) == published.startswith("Published")
    assert not run.publishing().active
