"""What every test is owed: one thread a process, and the Hub's clients as they were found."""

import os

# sums come out bit for bit the same only with the same number of threads, here and in the processes that tests start;
# torch reads this once, when it is imported
os.environ["OMP_NUM_THREADS"] = "1"

import datasets
import huggingface_hub
import pytest


@pytest.fixture(autouse=True)
def online_again(monkeypatch):
    """A command that finds no Hub goes offline for its whole process; a test must not leave that to the next."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", huggingface_hub.constants.HF_HUB_OFFLINE)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", datasets.config.HF_HUB_OFFLINE)
