"""What every test is owed: the Hub's clients as they were found."""

import datasets
import huggingface_hub
import pytest


@pytest.fixture(autouse=True)
def online_again(monkeypatch):
    """A command that finds no Hub goes offline for its whole process; a test must not leave that to the next."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", huggingface_hub.constants.HF_HUB_OFFLINE)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", datasets.config.HF_HUB_OFFLINE)
