"""A run that trains next to nothing says so from its first step, and ends after three."""

import json

import pytest

from simct.config import config_from_dict
from simct.data import exclusions as reasons
from simct.data import samples
from simct.data.exclusions import excluded_share, exclusion_line, whole_answers
from simct.errors import RunError
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import SPECIAL_INSIDE, TEACHER_CANNOT_SPELL
from simct.tokenization.teacher_ids import TeacherIds
from simct.train import train_run
from simct.training.exclusions import ExclusionWatch
from tests.support.marked_templates import channels, thinks
from tests.support.random_pair import random_model, save_pair


def test_only_whole_answers_count():
    counts = {SPECIAL_INSIDE: 3, reasons.CUT_BYTES: 5, f"{reasons.PART}<|call|>": 7, TEACHER_CANNOT_SPELL: 1}
    assert whole_answers(counts) == {SPECIAL_INSIDE: 3, TEACHER_CANNOT_SPELL: 1}
    assert excluded_share(counts, 16) == 0.25
    assert excluded_share({}, 0) == 0


def test_the_line_says_how_many_why_and_what_to_do():
    assert exclusion_line({SPECIAL_INSIDE: 1}, 10) is None
    line = exclusion_line({TEACHER_CANNOT_SPELL: 1, f"{SPECIAL_INSIDE}: <|x|>": 3}, 16)
    assert line.startswith(f"25% of the answers (4 of 16) are left out: 3 for {SPECIAL_INSIDE}: <|x|>, 1 for")
    assert "student.enable_thinking" in line and "\n" not in line
    for reason in (*reasons._REMEDIES, "something new"):
        assert exclusion_line({reason: 9}, 9).endswith(".")


def test_it_warns_at_once_and_ends_after_three_steps():
    watch = ExclusionWatch(10)
    found = watch.add({"excluded": {SPECIAL_INSIDE: 10}})
    assert found["excluded_share"] == 1 and "10 of 10" in found["warning"]
    watch.check()
    watch.add({"excluded": {SPECIAL_INSIDE: 9}})
    watch.check()
    watch.add({"excluded": {SPECIAL_INSIDE: 9}})
    with pytest.raises(RunError, match=r"In the last 3 steps 93% .*28 of 30.*enable_thinking"):
        watch.check()


def test_nine_tenths_are_not_enough_and_one_tenth_is_no_warning():
    watch = ExclusionWatch(10)
    for _ in range(5):
        assert "warning" in watch.add({"excluded": {SPECIAL_INSIDE: 9}})
        watch.check()
    assert watch.add({"excluded": {SPECIAL_INSIDE: 1}}) == {"excluded_share": 0.1}
    assert watch.add({"excluded": {}}) == {"excluded_share": 0.0}


def test_a_resumed_run_remembers():
    watch = ExclusionWatch(10, [{"excluded": {SPECIAL_INSIDE: 10}}] * 2)
    watch.add({"excluded": {SPECIAL_INSIDE: 10}})
    with pytest.raises(RunError):
        watch.check()


def test_a_run_whose_answers_are_all_left_out_fails_with_the_reason(tmp_path, monkeypatch, capsys):
    """It once ended as Finished, with loss 0 and no rows."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the cat"}\n{"prompt": "a 12"}\n')
    teacher, student = save_pair(tmp_path)
    training = {"steps": 10, "batch_size": 4, "micro_batch_size": 2, "max_length": 64}
    config = config_from_dict(
        {
            "teacher": teacher,
            "student": student,
            "data": {"prompts": str(tmp_path / "prompts.jsonl")},
            "training": training,
            "rollout": {"max_new_tokens": 4},
        }
    )
    run = RunFolder.create(tmp_path / "runs", config)
    monkeypatch.setattr(TokenizerPair, "teacher_ids_for", lambda self, ids: TeacherIds([], SPECIAL_INSIDE, 0, 0))
    monkeypatch.setattr(samples, "needs_placing", lambda writer, reader, ids: False)
    with pytest.raises(RunError, match=r"100% of the answers \(12 of 12\).*special token inside"):
        train_run(run)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert all(record["excluded_share"] == 1 and "4 of 4" in record["warning"] for record in records)
    assert "are left out" in run.status().message
    assert "warning: 100% of the answers" in capsys.readouterr().out


def test_a_run_learns_from_answers_with_control_tokens(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the cat"}\n{"prompt": "a 12"}\n')
    for name, tokens, seed in (("teacher", thinks(), 1), ("student", channels(), 2)):
        tokens.tokenizer.save_pretrained(tmp_path / name)
        random_model(tokens.tokenizer, seed).save_pretrained(tmp_path / name)
    config = config_from_dict(
        {
            "teacher": {"model": str(tmp_path / "teacher"), "device": "cpu"},
            "student": {"model": str(tmp_path / "student"), "device": "cpu"},
            "data": {"prompts": str(tmp_path / "prompts.jsonl")},
            "training": {"steps": 2, "batch_size": 16, "micro_batch_size": 8, "max_length": 128},
            "rollout": {"max_new_tokens": 60},
        }
    )
    run = RunFolder.create(tmp_path / "runs", config)
    train_run(run)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    # among hundreds of random tokens are some of the six control tokens
    parts = [reason for record in records for reason in record["excluded"] if reason.startswith(reasons.PART)]
    assert parts and all(record["rows"] > 0 and record["loss"] > 0 for record in records)
    assert (run.path / "model" / "model.safetensors").is_file()
