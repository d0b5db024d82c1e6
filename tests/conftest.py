"""What every test is owed: one thread a process, and the Hub's clients as they were found. Long files come first."""

import os

# sums come out bit for bit the same only with the same number of threads, here and in the processes that tests start;
# torch reads this once, when it is imported
os.environ["OMP_NUM_THREADS"] = "1"

import datasets
import huggingface_hub
import pytest

# the files that take longest, so that two workers that take a file at a time end together
LONG = (
    "test_studio_browser.py", "test_trainer.py", "test_studio_inspect.py", "test_cli.py", "test_sharding.py",
    "test_hf_job.py", "test_studio_hub.py", "test_kills.py", "test_studio_users.py", "test_memory_estimate.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def online_again(monkeypatch):
    """A command that finds no Hub goes offline for its whole process; a test must not leave that to the next."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", huggingface_hub.constants.HF_HUB_OFFLINE)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", datasets.config.HF_HUB_OFFLINE)


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the tests of a file."""
    from tests.support import studio_page

    with studio_page.browser() as opened:
        yield opened
