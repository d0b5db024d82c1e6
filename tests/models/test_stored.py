"""Scores on disk: a run reads them and trains what it does with the teacher itself, which is then not needed."""

import json

import pytest
import torch
from accelerate import Accelerator

from simct.cli.main import main
from simct.config import RunConfig, config_from_dict, save_config
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError, RunError
from simct.models.loading import load_model
from simct.models.stored import ABOUT, SCORES, StoredTeacher, file_hash
from simct.models.teachers import load_teacher, writes
from simct.preflight.planned import PlannedRun
from simct.preflight.prompts import check_completions
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.train import train_run
from simct.training.teach import teach
from simct.training.trainer import Trainer

GIVEN = [("the cat", "and the hand"), ("a 12", "12 and 23"), ("hand", "the theatre"), ("band", "and band")]


@pytest.fixture
def config(folders, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": prompt, "completion": text}) for prompt, text in GIVEN))
    return config_from_dict(
        {
            "teacher": {"model": str(folders[0]), "top_logprobs": 100_000},
            "student": str(folders[1]),
            "data": {"prompts": str(path), "held_out": 0},
            "method": "marginal",
            "rollout": {"max_new_tokens": 12, "on_policy_fraction": 0, "dataset_fraction": 1},
            "training": {"steps": 2, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "max_length": 64},
        }
    )


def train(config, folder):
    pair = TokenizerPair.of_run(config)
    prompts, _ = prepare_prompts(load_prompts(config.data), pair, config, [])
    student, records = load_model(config.student), []
    teacher = load_teacher(config.teacher, pair.teacher)
    Trainer(
        config, Accelerator(cpu=True), teacher, student, pair, prompts, folder,
        on_step=lambda record, samples: records.append(record),
    ).train()  # fmt: skip
    return student, records


def test_the_folder_is_checked_before_the_teacher_is_loaded(tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("it was loaded")

    monkeypatch.setattr("simct.training.teach.load_teacher", never)
    monkeypatch.setattr("simct.training.teach.TokenizerPair.of_run", never)
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("{}")
    for name, words in (("file", "Cannot write scores"), ("file/below", "Cannot write scores"), ("run", "other files")):
        with pytest.raises(ConfigError, match=words):
            teach(RunConfig(), tmp_path / name)
    # what an interrupted command left is written again
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / ".scores.parquet").touch()
    with pytest.raises(AssertionError, match="it was loaded"):
        teach(RunConfig(), tmp_path / "half")


def test_a_run_on_stored_scores_trains_what_it_does_with_the_teacher(config, tmp_path):
    expected, with_teacher = train(config, tmp_path / "teacher")
    about = teach(config, tmp_path / "scores")
    assert about["texts"] == len(GIVEN) and about["tokens"] > 20
    assert about["sha256"] == file_hash(tmp_path / "scores" / SCORES)
    config.teacher.scores = str(tmp_path / "scores")
    student, records = train(config, tmp_path / "stored")
    assert [each["loss"] for each in records] == pytest.approx([each["loss"] for each in with_teacher], abs=1e-5)
    assert all(record["rows"] > 10 for record in records)
    for found, wanted in zip(student.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_the_command_writes_the_same_folder_twice(config, tmp_path, capsys):
    config.teacher.top_logprobs = 4
    save_config(config, tmp_path / "run.yaml")
    for name in ("one", "two"):
        assert main(["teach", str(tmp_path / "run.yaml"), "--output", str(tmp_path / name)]) == 0
    assert "4 texts" in capsys.readouterr().out
    assert (tmp_path / "one" / ABOUT).read_text() == (tmp_path / "two" / ABOUT).read_text()


def test_what_is_not_this_teachers_or_was_changed_is_refused(config, tmp_path, folders):
    pair = TokenizerPair.of_run(config)
    with pytest.raises(ConfigError, match="holds no scores"):
        StoredTeacher(tmp_path, pair.teacher)
    teach(config, tmp_path / "scores")
    with pytest.raises(ConfigError, match="which has another tokenizer"):
        StoredTeacher(tmp_path / "scores", pair.student)
    stored = StoredTeacher(tmp_path / "scores", pair.teacher)
    assert not writes(stored)
    with pytest.raises(RunError, match="lack a text of this run"):
        stored.start([[1, 2]], [[3, 4]])()
    path = tmp_path / "scores" / SCORES
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="has changed since it was written"):
        StoredTeacher(tmp_path / "scores", pair.teacher)


def test_only_given_completions_have_scores(config):
    described = config.model_dump() | {"rollout": {"on_policy_fraction": 1.0, "max_new_tokens": 8}}
    described["teacher"]["scores"] = "scores"
    with pytest.raises(ConfigError, match=r"teacher\.scores is .*dataset_fraction is 1"):
        config_from_dict(described)


def test_a_whole_run_needs_no_teacher(config, tmp_path):
    """By the entry that trains, with prompts held out, whose distance to the teacher cannot be measured."""
    config.data.held_out, config.training.batch_size, config.training.micro_batch_size = 1, 2, 2
    teach(config, tmp_path / "scores")
    config.teacher.scores = str(tmp_path / "scores")
    run = RunFolder.create(tmp_path / "runs", config)
    assert train_run(run) == "finished"
    assert [record["step"] for record in run.metrics()] == [1, 2]


def test_prompts_without_completion_are_left_out(config, tmp_path, capfd):
    """The student cannot answer them, because its answers have no scores."""
    with open(config.data.prompts, "a") as file:
        file.write("".join("\n" + json.dumps({"prompt": f"and {number}"}) for number in range(4)))
    teach(config, tmp_path / "scores")
    config.teacher.scores = str(tmp_path / "scores")
    config.training.steps, config.evaluation.every = 4, 0
    (checked,) = check_completions(PlannedRun(config))
    assert checked.text.startswith("4 of 8 prompts have no completion and are left out")
    run = RunFolder.create(tmp_path / "runs", config)
    assert train_run(run) == "finished"
    assert "4 of 8 prompts have no completion and are left out" in capfd.readouterr().out


def test_prompts_beyond_the_teachers_context_are_left_out_as_when_they_were_scored(config, tmp_path):
    config.training.max_length = 10_000
    with open(config.data.prompts, "a") as file:
        file.write("\n" + json.dumps({"prompt": "the cat and the hand " * 400, "completion": "12"}))
    pair = TokenizerPair.of_run(config)
    context = load_teacher(config.teacher, pair.teacher).context_length
    longest = len(pair.teacher.tokenizer("the cat and the hand " * 400).input_ids)
    assert context < longest < config.training.max_length
    assert teach(config, tmp_path / "scores")["texts"] == len(GIVEN)
    assert StoredTeacher(tmp_path / "scores", pair.teacher).context_length == context


def test_a_process_with_fewer_micro_batches_needs_no_score_of_a_text_that_was_not_scored(config, tmp_path, monkeypatch):
    """Processes make equally many passes, the last ones over a text that does not count."""
    teach(config, tmp_path / "scores")
    config.teacher.scores = str(tmp_path / "scores")
    expected, before = train(config, tmp_path / "one")
    monkeypatch.setattr("simct.training.trainer.on_all_processes", lambda accelerator, count: count + 1)
    student, records = train(config, tmp_path / "two")
    assert [each["loss"] for each in records] == [each["loss"] for each in before]
    for found, wanted in zip(student.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_the_log_says_how_many_tokens_are_stored_and_those_of_another_model_are_refused(config, tmp_path, capfd):
    config.teacher.top_logprobs = 4
    teach(config, tmp_path / "scores")
    config.teacher.scores, config.teacher.top_logprobs = str(tmp_path / "scores"), 64
    config.training.steps, config.evaluation.every = 1, 0
    run = RunFolder.create(tmp_path / "runs", config)
    assert train_run(run) == "finished"
    assert ", 4 tokens at each position" in capfd.readouterr().out
    pair = TokenizerPair.of_run(config)
    about = json.loads((tmp_path / "scores" / ABOUT).read_text()) | {"model": "owner/large"}
    (tmp_path / "scores" / ABOUT).write_text(json.dumps(about))
    config.teacher.model = "owner/small"
    with pytest.raises(ConfigError, match=r"are of 'owner/large', and teacher\.model is 'owner/small'"):
        load_teacher(config.teacher, pair.teacher)
