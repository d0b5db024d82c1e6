"""Evaluations along a run: what they measure, that they change nothing, and that no kill or stop loses anything."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from accelerate import Accelerator

from simct.config import config_from_dict
from simct.config.sections import ModelConfig
from simct.data.held_out import split_prompts
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError
from simct.evaluation.distance import Speaker, distance_of, draw
from simct.evaluation.records import DIRECTIONS, evaluations_of
from simct.models.adapters import trainable_student
from simct.models.loading import load_model
from simct.runs.checkpoints import newest_whole
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.train import main, train_run
from simct.training import evaluation as evaluations
from simct.training.evaluation import Evaluator
from simct.training.trainer import Trainer
from tests.support.teacher_server import TeacherServer

TEXTS = [
    f"{what} {number}" for number in (1, 12, 23) for what in ("the cat", "a hand", "and the", "naïve", "12", "band")
]
OWN = ["a theatre", "the hand 3", "and 1223", "cat and the", "the 12", "hand"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Prompts to train on, prompts that are held out, and a task."""
    folder = tmp_path_factory.mktemp("data")
    rows = {
        "prompts": [{"prompt": text} for text in TEXTS],
        "held": [{"prompt": text, "answer": "the"} for text in OWN],
        "task": [{"prompt": text, "answer": "the"} for text in OWN],
    }
    for name, each in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, each)))
    return folder


def new_config(folders, files, training=(), evaluation=(), **changes):
    # evaluations take longer than the steps of so small a student: let them
    evaluation = {"every": 2, "time_share": 0.99, **dict(evaluation)}
    training = {"steps": 6, "batch_size": 4, "learning_rate": 1e-2, "checkpoint_every": 100, **dict(training)}
    return config_from_dict(
        {
            "teacher": folders[0],
            "student": folders[1],
            "data": {"prompts": str(files / "prompts.jsonl"), "held_out_prompts": str(files / "held.jsonl")},
            "rollout": {"max_new_tokens": 8, "temperature": 1.0},
            "training": training,
            "evaluation": evaluation,
            **changes,
        }
    )


class Stopped(Exception):
    """Stands for a kill."""


def train_here(config, run, resume=False, evaluate=True, log=print, **options):
    """A run in this process; returns what came out, its student, and its records."""
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    split = split_prompts(load_prompts(config.data), config.data)
    prompts, held = (prepare_prompts(each, pair, config, [])[0] for each in (split.trained, split.held_out))
    student = trainable_student(load_model(config.student), config)
    accelerator, records = Accelerator(cpu=True), []
    stop = options.get("stop_requested", lambda: False)
    evaluator = Evaluator(run, config, accelerator, pair, held, log, stop) if evaluate else None
    checkpoint = newest_whole(run.checkpoints_dir)[0] if resume else None
    trained = Trainer(
        config, accelerator, load_model(config.teacher), student, pair, prompts, run.checkpoints_dir,
        on_step=lambda record, samples: (records.append(record), run.append("metrics.jsonl", record)),
        resume_from=checkpoint, history=run.metrics() if checkpoint else (), evaluator=evaluator, **options,
    ).train()  # fmt: skip
    return trained, student, records


def same_weights(left, right) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def measured_alone(config, model) -> dict:
    """Both directions for a student in memory, by the plain functions."""
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    split = split_prompts(load_prompts(config.data), config.data)
    held, _ = prepare_prompts(split.held_out, pair, config, [])
    student = Speaker(model.eval(), pair.student, [prompt.student_ids for prompt in held])
    teacher = Speaker(load_model(config.teacher), pair.teacher, [prompt.teacher_ids for prompt in held])
    found = []
    for writer, reader in ((student, teacher), (teacher, student)):
        found.append(distance_of(writer, reader, draw(writer, config.rollout.max_new_tokens, config.training.seed)))
    return dict(zip(DIRECTIONS, found, strict=True))


@pytest.fixture
def run(tmp_path, folders, files):
    return RunFolder.create(tmp_path, new_config(folders, files))


def test_a_run_is_measured_before_along_the_way_and_at_the_end(folders, files, run):
    config = run.config()
    config.evaluation.tracked_tasks = [str(files / "task.jsonl")]
    _, student, _ = train_here(config, run)
    found = evaluations_of(run)
    assert [each.step for each in found] == [0, 2, 4, 6]
    for each, model in ((found[0], load_model(config.student)), (found[-1], student)):
        for name, expected in measured_alone(config, model).items():
            assert each.directions[name].bits == pytest.approx(expected.bits, abs=1e-4)
            assert each.directions[name].bytes == expected.bytes
    assert all(each.prompts == len(OWN) and len(each.answers) == 4 and each.seconds > 0 for each in found)
    assert {each.tasks[config.evaluation.tracked_tasks[0]]["n"] for each in found} == {len(OWN)}
    by_step = {record["step"]: record for record in run.metrics()}
    assert sorted(by_step) == [1, 2, 3, 4, 5, 6] and "distance_student_to_teacher" not in by_step[1]
    assert by_step[4]["distance_student_to_teacher"] == found[2].directions["student_to_teacher"].mean
    teacher = run.teacher_answers()
    assert len(teacher) == len(OWN) and {each["prompt"] for each in teacher} == set(OWN)
    assert sum("greedy" in each for each in teacher) == 4 and teacher[0]["reference"] == "the"
    distance = run.status().distance
    assert distance["before"] == found[0].distance and distance["now"] == found[-1].distance
    assert distance["best_step"] == min(found[1:], key=lambda each: each.distance).step


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 4, "dropout": 0.3}, "training": {"ema_decay": 0.6}}])
def test_evaluations_do_not_change_what_is_trained(folders, files, tmp_path, settings):
    config = new_config(folders, files, **settings)
    with_them = RunFolder.create(tmp_path / "a", config.model_copy(deep=True))
    without = RunFolder.create(tmp_path / "b", config.model_copy(deep=True))
    _, measured, records = train_here(config, with_them)
    _, plain, others = train_here(config, without, evaluate=False)
    assert len(evaluations_of(with_them)) == 4 and not evaluations_of(without)
    assert same_weights(measured, plain) and not same_weights(
        plain, trainable_student(load_model(config.student), config)
    )
    assert [record["loss"] for record in records] == [record["loss"] for record in others]


def test_what_is_measured_is_the_running_mean_where_one_is_kept(folders, files, tmp_path):
    run = RunFolder.create(tmp_path, new_config(folders, files, training={"ema_decay": 0.6}))
    _, student, _ = train_here(run.config(), run)
    for name, expected in measured_alone(run.config(), student).items():
        assert evaluations_of(run)[-1].directions[name].bits == pytest.approx(expected.bits, abs=1e-4)


def test_a_kill_during_an_evaluation_loses_nothing(folders, files, run, tmp_path, monkeypatch):
    config = run.config()
    straight = RunFolder.create(tmp_path / "straight", config.model_copy(update={"output": None}))
    _, expected, _ = train_here(config, straight)
    read = evaluations.log_probabilities
    passes = iter(range(100))

    def killed(*arguments):
        if next(passes) == 5:  # in the third evaluation, of step 4
            raise Stopped
        return read(*arguments)

    monkeypatch.setattr(evaluations, "log_probabilities", killed)
    with pytest.raises(Stopped):
        train_here(config, run)
    monkeypatch.setattr(evaluations, "log_probabilities", read)
    assert newest_whole(run.checkpoints_dir)[0].name == "step-4"
    assert [each.step for each in evaluations_of(run)] == [0, 2]
    assert [record["step"] for record in run.metrics()] == [1, 2, 3, 4]
    teacher = (run.path / "teacher.jsonl").read_bytes()
    _, student, records = train_here(config, run, resume=True)
    assert [record["step"] for record in records] == [5, 6]
    assert same_weights(student, expected) and (run.path / "teacher.jsonl").read_bytes() == teacher
    assert [each.directions for each in evaluations_of(run)] == [each.directions for each in evaluations_of(straight)]


def test_a_stop_during_an_evaluation_is_heeded_and_the_evaluation_made_up(folders, files, run):
    asked = iter([False] * 3 + [True] * 9)  # before training, at steps 1 and 2, and then in the evaluation of step 2
    trained, _, _ = train_here(run.config(), run, stop_requested=lambda: next(asked))
    assert (trained.step, trained.done) == (2, False) and [each.step for each in evaluations_of(run)] == [0]
    train_here(run.config(), run, resume=True)
    assert [each.step for each in evaluations_of(run)] == [0, 2, 4, 6]


def test_the_best_by_distance_is_kept_and_becomes_the_model(folders, files, tmp_path, monkeypatch):
    values = {0: 5.0, 2: 2.0, 4: 1.0, 6: 3.0}
    monkeypatch.setattr(evaluations.Evaluation, "value", lambda self, best_by: values[self.step])
    config = new_config(folders, files, training={"keep": "best", "keep_checkpoints": 1, "ema_decay": 0.5})
    run = RunFolder.create(tmp_path / "a", config)
    trained, student, _ = train_here(config, run)
    assert (trained.step, trained.model_step, trained.done) == (6, 4, True)
    assert json.loads((run.checkpoints_dir / "best.json").read_text()) == {"step": 4, "by": "distance", "value": 1.0}
    assert {path.name for path in run.checkpoints_dir.glob("step-*")} == {"step-4", "step-6"}
    # the very student that a run of its first four steps would have left
    cut = RunFolder.create(tmp_path / "b", new_config(folders, files, training={"ema_decay": 0.5}))
    answers = iter([False] * 4 + [True] * 9)
    _, expected, _ = train_here(cut.config(), cut, evaluate=False, stop_requested=lambda: next(answers))
    assert same_weights(student, expected)


def test_a_run_ends_early_when_it_no_longer_gets_better(folders, files, tmp_path, monkeypatch):
    values = {0: 5.0, 1: 2.0, 2: 1.0, 3: 3.0, 4: 2.5}
    monkeypatch.setattr(evaluations.Evaluation, "value", lambda self, best_by: values[self.step])
    run = RunFolder.create(tmp_path, new_config(folders, files, evaluation={"every": 1, "patience": 2}))
    trained, _, records = train_here(run.config(), run)
    assert (trained.step, trained.done, trained.ended_early) == (4, True, True) and len(records) == 4


def test_a_run_that_ended_early_and_was_killed_takes_no_further_step(folders, files, tmp_path, monkeypatch):
    values = {0: 5.0, 1: 1.0, 2: 2.0, 3: 3.0}
    monkeypatch.setattr(evaluations.Evaluation, "value", lambda self, best_by: values[self.step])
    config = new_config(folders, files, evaluation={"every": 1, "patience": 2})
    run = RunFolder.create(tmp_path, config)
    trained, student, records = train_here(config, run)
    assert trained.ended_early and [each["step"] for each in records] == [1, 2, 3]
    # as if it had been killed while it saved the student
    again, resumed, records = train_here(config, run, resume=True)
    assert (again.step, again.done, again.ended_early) == (3, True, True) and not records
    assert same_weights(student, resumed)


def test_evaluations_that_measure_nothing_end_no_run(folders, files, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluations.Evaluation, "value", lambda self, best_by: None)
    config = new_config(folders, files, evaluation={"every": 1, "patience": 1})
    trained, _, _ = train_here(config, RunFolder.create(tmp_path, config))
    assert trained.step == config.training.steps and not trained.ended_early


def test_a_task_or_the_loss_may_decide(folders, files, tmp_path):
    task = str(files / "task.jsonl")
    run = RunFolder.create(
        tmp_path / "a", new_config(folders, files, evaluation={"tracked_tasks": [task], "best_by": task})
    )
    train_here(run.config(), run)
    best = json.loads((run.checkpoints_dir / "best.json").read_text())
    scores = {each.step: each.value(task) for each in evaluations_of(run) if each.step}
    assert best["by"] == task and best["value"] == max(scores.values()) == scores[best["step"]]
    run = RunFolder.create(tmp_path / "b", new_config(folders, files, evaluation={"best_by": "loss"}))
    train_here(run.config(), run)
    assert json.loads((run.checkpoints_dir / "best.json").read_text())["by"] == "loss"
    with pytest.raises(ConfigError, match=r"evaluation\.best_by is 'gsm8k'"):
        new_config(folders, files, evaluation={"best_by": "gsm8k"})
    with pytest.raises(ConfigError, match=r"evaluation\.patience"):
        new_config(folders, files, evaluation={"every": 0, "patience": 2})


def test_evaluations_become_fewer_where_they_take_too_long(folders, files, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        evaluations.Evaluator, "log", property(lambda self: lines.append, lambda self, value: None), raising=False
    )
    look = evaluations.Evaluator._student_part

    def slow(self, *arguments):
        time.sleep(0.5)
        return look(self, *arguments)

    monkeypatch.setattr(evaluations.Evaluator, "_student_part", slow)
    config = new_config(folders, files, training={"steps": 8}, evaluation={"every": 1, "time_share": 0.2})
    run = RunFolder.create(tmp_path, config)
    train_here(config, run, log=lines.append)
    assert [each.step for each in evaluations_of(run)][:: len(evaluations_of(run)) - 1] == [0, 8]
    assert len(evaluations_of(run)) < 6
    assert any("so that this takes about 20% of the run's time" in line for line in lines)


def test_the_whole_run_is_kept_with_its_scores(folders, files, tmp_path):
    run = RunFolder.create(tmp_path, new_config(folders, files, training={"keep": "best"}))
    assert train_run(run) == "finished"
    found, best = evaluations_of(run), json.loads((run.checkpoints_dir / "best.json").read_text())
    assert run.status().model_step == best["step"] and len(run.held_out()) == len(OWN)
    at_best = next(each for each in found if each.step == best["step"])
    for name, expected in measured_alone(
        run.config(), load_model(type(run.config().student)(model=str(run.model_dir)))
    ).items():
        assert at_best.directions[name].bits == pytest.approx(expected.bits, abs=1e-4)


def test_two_processes_measure_what_one_does(folders, files, tmp_path):
    one, two = (RunFolder.create(tmp_path / name, new_config(folders, files, training={"steps": 3})) for name in "ab")
    assert main([str(one.path / "run.yaml")]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*command, "-m", "simct.train", str(two.path / "run.yaml")],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    first, second = evaluations_of(one), evaluations_of(two)
    assert [each.step for each in first] == [each.step for each in second] == [0, 2, 3]
    assert [each["ids"] for each in one.teacher_answers()] == [each["ids"] for each in two.teacher_answers()]
    for left, right in zip(first, second, strict=True):
        assert [answer.text for answer in left.answers] == [answer.text for answer in right.answers]
        for name in DIRECTIONS:
            assert left.directions[name].bits == pytest.approx(right.directions[name].bits, abs=1e-3)
            assert left.directions[name].bytes == right.directions[name].bytes


def test_a_teacher_on_a_server_is_measured_as_one_in_memory(folders, files, tmp_path):
    with TeacherServer(folders[0]) as server:
        teacher = {"model": folders[0], "server": server.url, "top_logprobs": 100_000}
        config = new_config(folders, files, training={"steps": 2}, teacher=teacher, method="marginal")
        run = RunFolder.create(tmp_path, config)
        assert train_run(run) == "finished", run.log_tail()
    found = evaluations_of(run)
    assert [each.step for each in found] == [0, 2] and len(run.teacher_answers()) == len(OWN)
    local = run.config()
    local.teacher.server = None
    expected = measured_alone(local, load_model(ModelConfig(model=str(run.model_dir))))
    # the same answers of the student; a server counts the rows of the lm_head that spell nothing, too
    # (the answers of the teacher are drawn by the server)
    direction = "student_to_teacher"
    assert found[-1].directions[direction].bits == pytest.approx(expected[direction].bits, abs=0.05)
    assert found[-1].directions["teacher_to_student"].answers == len(OWN)
