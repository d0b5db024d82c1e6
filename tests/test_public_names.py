"""`from simct import …` gives the public names; neither `simct` nor the command's parser loads anything slow."""

import subprocess
import sys
from pathlib import Path

import pytest

import simct

SLOW = ("torch", "transformers", "datasets", "tokenizers", "huggingface_hub", "gradio", "accelerate", "numpy")


def loaded_after(statement: str) -> set[str]:
    """Which slow packages are imported in a new process after `statement`."""
    script = f"import sys; {statement}; print(*set({SLOW}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", simct.__all__)
def test_public_names_exist_and_are_listed(name):
    assert getattr(simct, name) is not None
    assert name in dir(simct)


def test_public_names_are_those_of_their_modules():
    from simct import RunConfig, TokenizerPair, inspect_pair, losses, measure_pair
    from simct.config import RunConfig as Config
    from simct.inspection.coverage import inspect_pair as inspect
    from simct.inspection.reliability import measure_pair as measure
    from simct.losses import compute
    from simct.tokenization.pair import TokenizerPair as Pair

    assert (RunConfig, TokenizerPair, inspect_pair, measure_pair) == (Config, Pair, inspect, measure)
    assert losses.compute is compute


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Teacher'"):
        simct.Teacher  # noqa: B018
    with pytest.raises(ImportError):
        from simct import Teacher  # noqa: F401


def test_importing_simct_loads_nothing_slow():
    assert loaded_after("import simct") == set()
    assert "torch" in loaded_after("from simct import losses")


def test_the_parser_of_the_command_loads_nothing_slow():
    assert loaded_after("from simct.cli.main import build_parser; build_parser()") == set()


def test_python_m_simct_is_the_command():
    command = [sys.executable, "-m", "simct"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and done.stdout.startswith("usage: simct")
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and "invalid choice" in done.stderr
