"""What a run saves of its student: model/, adapter/ after LoRA, and checkpoints that load as the student they were."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from simct.errors import RunError
from simct.hub.model_files import ADAPTER_CONFIG
from simct.models.loading import load_model, merged_adapter
from simct.runs.folder import RunFolder
from simct.training.checkpoints import student_at
from tests.support.short_runs import new_config, train_here, write_prompts

CASES = {
    "all weights": {},
    "a running mean": {"training": {"ema_decay": 0.6}},
    "LoRA": {"lora": {"rank": 2}},
    "LoRA and a running mean": {"lora": {"rank": 2}, "training": {"ema_decay": 0.6}},
}


def trained(folders, tmp_path, case) -> RunFolder:
    config = new_config(folders, write_prompts(tmp_path), **CASES[case].get("training", {}))
    config.lora.rank = CASES[case].get("lora", {}).get("rank")
    config.training.learning_rate = 1e-2
    run = RunFolder.create(tmp_path / "runs", config)
    assert train_here(run) == 0
    return run


def close(one, other) -> bool:
    state, expected = one.state_dict(), other.state_dict()
    return state.keys() == expected.keys() and all(
        torch.allclose(state[name], expected[name], atol=1e-6) for name in state
    )


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_loads_as_the_student_it_was(folders, tmp_path, case):
    run = trained(folders, tmp_path, case)
    config = run.config()
    saved = load_model(config.student.model_copy(update={"model": str(run.model_dir)}))
    start = load_model(config.student)
    last = student_at(load_model(config.student), run.checkpoints_dir / "step-6", config)
    earlier = student_at(load_model(config.student), run.checkpoints_dir / "step-2", config)
    assert type(last) is type(start) and not last.training
    assert close(last, saved) and not close(earlier, saved) and not close(earlier, start)
    assert (run.adapter_dir / ADAPTER_CONFIG).is_file() == ("LoRA" in case)
    if "LoRA" in case:
        assert close(merged_adapter(start, str(run.adapter_dir)), saved)


def test_a_checkpoint_of_another_student_is_refused(folders, tmp_path):
    run = trained(folders, tmp_path, "all weights")
    path = run.checkpoints_dir / "step-6" / "trained.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file({each: tensor for each, tensor in weights.items() if each != name}, path)
    with pytest.raises(RunError, match=r"Cannot read the checkpoint step-6: KeyError"):
        student_at(load_model(run.config().student), path.parent, run.config())
