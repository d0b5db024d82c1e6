"""What every test gets: one thread per process, clean Hub clients, shared fixtures. Long files run first."""

import os
from pathlib import Path

# sums come out bit for bit the same only with the same number of threads, here and in the processes that tests start;
# torch reads this once, when it is imported
os.environ["OMP_NUM_THREADS"] = "1"

import datasets
import huggingface_hub
import pytest

from simct import demo
from simct.jobs.local import job as local_job
from simct.runs.listing import list_statuses
from simct.tokenization.pair import TokenizerPair
from tests.support import stand_in_runs
from tests.support.hub_server import HubServer
from tests.support.random_pair import save_pair

TESTS = Path(__file__).parent
# the files that take longest, so that two workers that take a file at a time finish together
LONG = (
    "app/test_studio_browser.py", "training/test_trainer.py", "app/test_accessibility_browser.py",
    "app/test_runs_browser.py", "app/test_answering_browser.py", "app/test_studio_inspect.py",
    "app/test_hostile_files.py", "cli/test_main.py", "training/test_sharding.py", "jobs/hf/test_job.py",
    "app/test_studio_hub.py", "jobs/local/test_kills.py", "app/test_studio_users.py", "estimate/test_memory.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def online_again(monkeypatch):
    """A command that cannot reach the Hub goes offline for its whole process; the next test starts online again."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", huggingface_hub.constants.HF_HUB_OFFLINE)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", datasets.config.HF_HUB_OFFLINE)


@pytest.fixture
def hub(monkeypatch):
    """A loopback Hub that this process and its children use."""
    with HubServer() as server:
        server.use(monkeypatch)
        yield server


@pytest.fixture
def runs_dir(tmp_path, monkeypatch):
    """A folder for runs whose training is stood in for; what still runs here at the end is killed."""
    stand_in_runs.use(monkeypatch)
    yield tmp_path / "runs"
    for run, status in list_statuses(tmp_path / "runs"):
        if status.active_here:
            local_job.kill(run)


@pytest.fixture(scope="session")
def embedded_pair() -> TokenizerPair:
    return TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[str, str]:
    """The folders of a random teacher and a random student, with weights; nothing may be written to them."""
    return save_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder, for tests of what is computed once."""
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
