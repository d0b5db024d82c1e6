"""Runs of six steps on random models, trained in the test's own process, and whether one ended as another."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from simct import train
from simct.config import RunConfig, config_from_dict
from simct.files import read_jsonl
from simct.runs.folder import RunFolder


def write_prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text, "answer": "12"}) for text in ("the cat", "a 12", "1223")))
    return path


def new_config(folders: tuple[str, str], prompts_file: Path | str, **training) -> RunConfig:
    training = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 2, **training}
    return config_from_dict(
        {
            "teacher": folders[0],
            "student": folders[1],
            "data": {"prompts": str(prompts_file)},
            "rollout": {"max_new_tokens": 6},
            "training": {"keep_checkpoints": 3, "samples_every": 1, **training},
        }
    )


def short_run(folders: tuple[str, str], prompts_file: Path, runs_dir: Path) -> RunFolder:
    """A run that nothing happened to."""
    run = RunFolder.create(runs_dir, new_config(folders, prompts_file))
    assert train_here(run) == 0
    return run


def train_here(run: RunFolder, *options: str) -> int:
    return train.main([str(run.path / "run.yaml"), *options])


def assert_same_end(run: RunFolder, straight: RunFolder) -> None:
    """The same weights to the last bit, and every step once in both files."""
    assert run.status().state == "finished"
    expected, found = (load_file(each.model_dir / "model.safetensors") for each in (straight, run))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert [record["step"] for record in read_jsonl(run.path / name)] == [
            record["step"] for record in read_jsonl(straight.path / name)
        ]
    assert [record["loss"] for record in run.metrics()] == [record["loss"] for record in straight.metrics()]
