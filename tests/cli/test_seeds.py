"""Several seeds by one command: a folder each, continued by the same command, and one table of means."""

import statistics

import pytest

from simct.cli.main import main
from simct.cli.seeds import seeds_table
from simct.config import RunConfig
from simct.demo import PROMPTS, STUDENT, TEACHER
from simct.evaluation.records import DIRECTIONS, evaluations_of
from simct.runs.folder import RunFolder


def finished_run(folder, seed, score, loss):
    config = RunConfig(output=str(folder / f"five-seed-{seed}"))
    config.training.seed = seed
    run = RunFolder.create(folder, config)
    scores = {"before": {"demo": {"score": 0.5}}, "after": {"demo": {"score": score}}}
    run.save_evaluation(scores | {"teacher": {"demo": {"score": 1.0}}})
    run.append("metrics.jsonl", {"step": 1, "loss": loss})
    run.set_status(state="finished")
    return run


def test_the_table_has_mean_and_standard_deviation(tmp_path):
    scores = [0.6, 0.7, 0.9]
    runs = [finished_run(tmp_path, seed, score, 0.1 * seed) for seed, score in enumerate(scores)]
    runs.append(RunFolder.create(tmp_path, RunConfig(output=str(tmp_path / "five-seed-3"))))
    first, head, demo, loss = seeds_table(runs).splitlines()
    assert first.startswith("3 of 4 seeds finished") and head.split("  ")[0] == "task"
    expected = f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f} (3)"
    assert expected in demo and "0.500 ± 0.000 (3)" in demo and "1.000 ± 0.000 (3)" in demo
    assert "0.100 ± 0.100 (3)" in loss
    assert "0 of 1" in seeds_table(runs[3:])


def command(tmp_path, *more):
    flags = ["--teacher", str(TEACHER), "--student", str(STUDENT), "--prompts", str(PROMPTS), "--runs", str(tmp_path)]
    flags += ["--set", "training.batch_size=2", "--set", "rollout.max_new_tokens=8", "--output", str(tmp_path / "two")]
    return ["distill", *flags, "--seeds", "2", *more]


def test_each_seed_has_a_folder_and_the_same_command_continues(tmp_path, capsys):
    assert main(command(tmp_path, "--steps", "1", "--seed", "3")) == 0
    runs = [RunFolder(tmp_path / f"two-seed-{seed}") for seed in (3, 4)]
    assert [run.config().training.seed for run in runs] == [3, 4]
    assert all(run.status().state == "finished" for run in runs)
    printed = capsys.readouterr().out
    assert "2 of 2 seeds finished" in printed and "(2)" in printed
    for name, words in DIRECTIONS.items():
        (row,) = [line for line in printed.splitlines() if line.startswith(words.lower())]
        for place in (0, -1):
            values = [evaluations_of(run)[place].directions[name].mean for run in runs]
            assert f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} (2)" in row
    before = [(run.path / "status.json").read_bytes() for run in runs]
    assert main(command(tmp_path, "--steps", "1", "--seed", "3")) == 0
    assert [(run.path / "status.json").read_bytes() for run in runs] == before
    assert "2 of 2 seeds finished" in capsys.readouterr().out
    # another run is not taken for this one
    assert main(command(tmp_path, "--steps", "1", "--seed", "3", "--method", "strict")) == 2
    error = capsys.readouterr().err
    assert "method = 'simct'" in error and "--output" in error


@pytest.mark.parametrize(
    ("more", "words"), [(["--seeds", "0"], "--seeds must be at least 1"), (["--resume", "x"], "without --resume")]
)
def test_what_does_not_fit_is_one_line(tmp_path, capsys, more, words):
    assert main(command(tmp_path, *more)) == 2
    assert words in capsys.readouterr().err
